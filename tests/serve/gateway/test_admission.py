import pytest

from glimpse_serve.gateway.admission import GRACE_SECONDS, HEALTH_PATH, HEALTH_PLACES, Admission, Connection, admit


class Held(Connection):
    def __init__(self, accepted_at: float, begun: bool = False) -> None:
        self.accepted_at, self.begun = accepted_at, begun
        self.ended = False

    def make_room(self) -> None:
        self.ended = True


def test_all_are_admitted_while_there_are_places():
    assert admit([Held(0.0) for _ in range(3)], 99.0, 3) is Admission.ALL


def test_the_oldest_that_have_begun_nothing_make_room():
    held = [Held(3.0), Held(1.0, begun=True), Held(2.0), Held(99.0)]
    assert admit(held, 99.0, 3) is Admission.ALL
    assert [each.ended for each in held] == [False, False, True, False]
    assert admit([*held, Held(99.0)], 99.0, 3) is Admission.ALL
    assert [each.ended for each in held] == [True, False, True, False]


def test_those_that_have_just_come_and_those_at_work_stay():
    held = [Held(99.0 - GRACE_SECONDS / 2), Held(0.0, begun=True), Held(99.0)]
    assert admit(held, 99.0, 2) is Admission.HEALTH
    assert not any(each.ended for each in held)
    many = [Held(99.0) for _ in range(3 + HEALTH_PLACES)]
    assert admit(many, 99.0, 2) is Admission.NOTHING


def test_other_objects_count_as_connections_at_work():
    assert admit([object(), object()], 99.0, 1) is Admission.HEALTH


def test_a_connection_says_how_it_ends():
    with pytest.raises(NotImplementedError):
        Connection().make_room()


def test_health_checks():
    assert HEALTH_PATH.fullmatch("/v2/health/live")
    assert not HEALTH_PATH.fullmatch("/v2/health/live/x")
