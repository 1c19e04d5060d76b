"""What the service does when things go wrong, in short form; ``benchmarks/serving/faults.py`` is the long one."""

import asyncio
from typing import Any

import pytest

from benchmarks.serving import faults

pytestmark = [pytest.mark.slow, pytest.mark.child]


def played(name: str) -> dict[str, Any]:
    found: dict[str, Any] = asyncio.run(faults.FAULTS[name](faults.SHORT))  # type: ignore[arg-type]
    return found


def test_under_overload_every_request_is_answered_or_refused():
    found = played("overload")
    assert found["answered"] + found["refused"] == found["sent"] == found["counted"] == 600
    assert found["answered"] > 32
    assert found["refused"] > 0
    assert (found["lost"], found["wrong"]) == (0, 0)


def test_told_to_stop_under_load_it_ends_what_was_begun():
    for found in played("stop").values():
        assert found["exit_status"] == 0
        assert found["answered"] > 0
        assert (found["others"], found["lost"], found["wrong"]) == (0, 0, 0)


def test_a_worker_that_is_killed_takes_no_more_with_it_than_it_had_in_hand():
    found = played("kill")
    assert found["answered"] > 0
    assert found["lost"] <= found["in_hand_at_most"]
    assert (found["others"], found["wrong"], found["exit_status"]) == (0, 0, 0)
    assert found["uncounted"] <= 0


def test_a_damaged_model_is_refused_and_the_old_one_goes_on():
    found = played("corrupt")
    assert found["refused"] == found["dropped"] == 4
    assert found["same_model"]
    assert found["answered"] > 0
    assert (found["failed"], found["wrong"]) == (0, 0)


def test_no_request_fails_while_models_are_replaced():
    found = played("reload")
    assert found["models"] == 2
    assert found["answered"] > 0
    assert found["failed"] == 0


def test_slow_clients_are_closed_and_others_are_answered():
    found = played("slow")
    assert found["closed_with_408"] == found["slow"] == 40
    assert found["answered_beside"] > 0
    assert found["failed_beside"] == 0


def test_nothing_is_left_of_clients_that_leave():
    found = played("leave")
    assert (found["failed_then"], found["wrong"], found["still_running"], found["still_waiting"]) == (0, 0, 0, 0)


def test_all_of_it_together_goes_on():
    found = played("soak")
    assert found["answered"] > 0
    assert found["damaged_refused"] > 0
    assert (found["failed"], found["wrong"], found["exit_status"]) == (0, 0, 0)
    assert found["files_open_at_last"] <= found["files_open_at_first"] + 2
