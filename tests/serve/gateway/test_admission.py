import pytest

from glimpse_serve.gateway.admission import GRACE_SECONDS, HEALTH_PATH, HEALTH_PLACES, Admission, Connection, admit


class Held(Connection):
    def __init__(self, accepted_at: float, begun: bool = False) -> None:
        self.accepted_at, self.begun = accepted_at, begun
        self.ended = False

    def make_room(self) -> None:
        self.ended = True


def newest(held: list[Held], most: int) -> Admission:
    """What the last of the connections may do."""
    return admit(held, held[-1], most)


def test_all_are_admitted_while_there_are_places():
    assert newest([Held(0.0) for _ in range(3)], 3) is Admission.ALL


def test_the_oldest_that_have_begun_nothing_make_room():
    held = [Held(3.0), Held(1.0, begun=True), Held(2.0), Held(99.0)]
    assert newest(held, 3) is Admission.ALL
    assert [each.ended for each in held] == [False, False, True, False]
    assert newest([*held, Held(99.0)], 3) is Admission.ALL
    assert [each.ended for each in held] == [True, False, True, False]


def test_those_that_have_just_come_and_those_at_work_stay():
    held = [Held(99.0 - GRACE_SECONDS / 2), Held(0.0, begun=True), Held(99.0)]
    assert newest(held, 2) is Admission.HEALTH
    assert not any(each.ended for each in held)


def test_in_the_places_of_health_checks_the_oldest_makes_room_at_once():
    held = [Held(98.9 + number / 1000) for number in range(2 + HEALTH_PLACES)]
    for _ in range(5):
        held.append(Held(99.0))
        assert newest(held, 2) is Admission.HEALTH
    assert [each.ended for each in held] == [True] * 5 + [False] * (2 + HEALTH_PLACES)


def test_nothing_is_left_when_all_are_at_work():
    held = [Held(1.0, begun=True) for _ in range(2 + HEALTH_PLACES)]
    assert newest([*held, Held(99.0)], 2) is Admission.NOTHING
    assert not any(each.ended for each in held)


def test_other_objects_count_as_connections_at_work():
    last = Held(99.0)
    assert admit([object(), last], last, 1) is Admission.HEALTH


def test_a_connection_says_how_it_ends():
    with pytest.raises(NotImplementedError):
        Connection().make_room()


def test_health_checks():
    assert HEALTH_PATH.fullmatch("/v2/health/live")
    assert not HEALTH_PATH.fullmatch("/v2/health/live/x")
