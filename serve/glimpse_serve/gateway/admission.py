"""Which connections are accepted when there are many.

A connection counts from the moment it is accepted, before its TLS handshake. When all places are taken, the oldest
connections that have not begun a request make room, as in nginx ("reusing connections"); a few further places are for
health checks, so that a full service is not taken for a dead one.
"""

import re
from collections.abc import Iterable
from enum import Enum

GRACE_SECONDS = 0.5
"""Time that a connection has for its request before it may have to make room."""
HEALTH_PLACES = 32
"""Connections beyond the limit, for health checks alone."""
HEALTH_PATH = re.compile("/v2/health/(live|ready)")
"""Paths of health checks."""


class Admission(Enum):
    """What a new connection may do."""

    ALL = "all"
    HEALTH = "health"
    NOTHING = "nothing"


class Connection:
    """What is known of a connection that may have to make room.

    Attributes:
        accepted_at: When it was accepted, by the clock of the event loop, s.
        begun: Whether the head of a request has come.
        leaving: Whether it was ended, and is not closed yet.
    """

    accepted_at = 0.0
    begun = False
    leaving = False

    def make_room(self) -> None:
        """End the connection."""
        raise NotImplementedError


def admit(connections: Iterable[object], now: float, most: int) -> Admission:
    """Decide about the newest connection; another one may be ended for it.

    Args:
        connections: All connections, the newest included. Those that are no :class:`Connection` have begun.
        now: The time, by the clock of the event loop, s.
        most: Number of connections at once.
    """
    staying = [each for each in connections if not (isinstance(each, Connection) and each.leaving)]
    surplus = len(staying) - most
    if surplus <= 0:
        return Admission.ALL
    silent = [each for each in staying if isinstance(each, Connection) and not each.begun]
    for each in sorted(silent, key=lambda each: each.accepted_at)[:surplus]:
        if each.accepted_at <= now - GRACE_SECONDS:
            each.leaving = True
            each.make_room()
            surplus -= 1
    if surplus <= 0:
        return Admission.ALL
    return Admission.HEALTH if surplus <= HEALTH_PLACES else Admission.NOTHING
