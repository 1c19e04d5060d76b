"""The places for streaming sessions: when all are taken, a session that waits for its client makes room."""

import time
from collections import Counter
from collections.abc import Callable

from glimpse_serve.errors import HTTPError

PATIENCE_SECONDS = 2.0
"""How long a client may let its session wait before it may have to make room."""


class SessionPlace:
    """The place of one session.

    Attributes:
        address: Address of the client.
        waiting_since: Since when the session waits for its client, by :func:`time.monotonic`; None while it computes.

    Args:
        address: Address of the client.
        give_up: Called when the session must end.
    """

    def __init__(self, address: str, give_up: Callable[[], None]) -> None:
        self.address, self._give_up = address, give_up
        self.waiting_since: float | None = time.monotonic()

    def end(self) -> None:
        """End the session in favour of another one."""
        self._give_up()


class StreamingPlaces:
    """The sessions of a process.

    Args:
        most: Number of sessions at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: list[SessionPlace] = []

    def take(self, address: str, give_up: Callable[[], None]) -> SessionPlace:
        """Take a place; if there is none, that of the client with the most sessions which waits longest.

        Args:
            address: Address of the client.
            give_up: Called when the session must end for another one.

        Raises:
            HTTPError: 503 when no session has waited for long.
        """
        if len(self._places) >= self._most:
            self._make_room()
        place = SessionPlace(address, give_up)
        self._places.append(place)
        return place

    def release(self, place: SessionPlace) -> None:
        """Give a place back; one that was taken by another session is gone already."""
        if place in self._places:
            self._places.remove(place)

    def _make_room(self) -> None:
        sessions = Counter(place.address for place in self._places)
        late = time.monotonic() - PATIENCE_SECONDS
        waiting = [(sessions[each.address], -each.waiting_since, each) for each in self._places if each.waiting_since]
        found = [(count, -since, each) for count, since, each in waiting if -since <= late]
        if not found:
            raise HTTPError(
                503,
                f"expected fewer than {self._most} streaming sessions at once, got one more; try again in 1 s",
                "overload",
                {"Retry-After": "1"},
            )
        _, _, place = max(found, key=lambda each: (each[0], -each[1]))
        self._places.remove(place)
        place.end()
