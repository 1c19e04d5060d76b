import functools
import time

import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.routes import streaming_places
from glimpse_serve.routes.streaming_places import PATIENCE_SECONDS, StreamingPlaces


def test_the_longest_silent_session_of_the_client_with_the_most_makes_room():
    places, ended = StreamingPlaces(4), list[str]()
    clients = {"a": "x", "b": "y", "c": "y", "d": "y"}
    taken = [places.take(address, functools.partial(ended.append, name)) for name, address in clients.items()]
    now = time.monotonic()
    for place, silent in zip(taken, (99, 50, 60, 0), strict=True):
        place.waiting_since = now - silent
    places.take("z", lambda: None)
    assert ended == ["c"]
    places.release(taken[2])
    places.take("z", lambda: None)
    assert ended == ["c", "b"]


def test_sessions_that_compute_or_have_just_asked_stay():
    places = StreamingPlaces(2)
    first, second = (places.take("x", lambda: None) for _ in range(2))
    first.waiting_since, second.waiting_since = None, time.monotonic() - PATIENCE_SECONDS / 2
    with pytest.raises(HTTPError, match="fewer than 2 streaming sessions") as error:
        places.take("y", lambda: None)
    assert (error.value.status, error.value.headers["Retry-After"]) == (503, "1")
    places.release(first)
    places.take("y", lambda: None)


def test_without_places_there_are_no_sessions(monkeypatch):
    monkeypatch.setattr(streaming_places, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(HTTPError):
        StreamingPlaces(0).take("x", lambda: None)
