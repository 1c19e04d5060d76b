"""Which connections are accepted when there are many.

A connection counts from the moment it is accepted, before its TLS handshake. When all places are taken, the oldest
connections that have not begun a request make room, as in nginx ("reusing connections"); a few further places are for
health checks, so that a full service is not taken for a dead one. In these places the oldest makes room at once: a
flood of connections that send nothing keeps no health check out.
"""

import re
from collections.abc import Iterable
from enum import Enum

GRACE_SECONDS = 0.5
"""Time that a connection has for its request before it may have to make room for others than health checks."""
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


def admit(connections: Iterable[object], newest: Connection, most: int) -> Admission:
    """Decide about the newest connection; another one may be ended for it.

    Args:
        connections: All connections, the newest included. Those that are no :class:`Connection` have begun.
        newest: The one that has just been accepted.
        most: Number of connections at once.
    """
    staying = [each for each in connections if not (isinstance(each, Connection) and each.leaving)]
    surplus = len(staying) - most
    if surplus <= 0:
        return Admission.ALL
    silent = [each for each in staying if isinstance(each, Connection) and not each.begun and each is not newest]
    for each in sorted(silent, key=lambda each: each.accepted_at)[:surplus]:
        if each.accepted_at <= newest.accepted_at - GRACE_SECONDS or surplus > HEALTH_PLACES:
            each.leaving = True
            each.make_room()
            surplus -= 1
    if surplus <= 0:
        return Admission.ALL
    return Admission.HEALTH if surplus <= HEALTH_PLACES else Admission.NOTHING
