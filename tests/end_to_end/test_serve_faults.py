"""What the service does when things go wrong, in short form; ``benchmarks/serving/faults`` is the long one."""

import asyncio
from typing import Any

import pytest

from benchmarks.serving.faults.__main__ import FAULTS
from benchmarks.serving.faults.sizes import SHORT

pytestmark = [pytest.mark.slow, pytest.mark.child]


def played(name: str) -> dict[str, Any]:
    found: dict[str, Any] = asyncio.run(FAULTS[name](SHORT))  # type: ignore[arg-type]
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


def test_workers_end_when_their_supervisor_is_killed():
    found = played("orphans")
    assert (found["workers"], found["left"], found["wrong"]) == (2, 0, 0)
    assert found["answered"] > 0


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


def test_bytes_without_end_take_no_memory_and_no_time_of_others():
    for name, found in played("endless").items():
        assert found["health_checks"] > 0, name
        assert found["health_checks_failed"] == 0, name
        assert found["resident_most_mebibytes"] < found["resident_before_mebibytes"] + 20, name


def test_a_body_behind_upgrade_is_no_request():
    found = played("upgrade")
    assert found["bodies_taken_for_requests"] == 0
    assert found["images_answered"] == found["images"] == 5
    assert found["failed_then"] == 0


def test_handshakes_that_never_begin_keep_no_probe_out():
    found = played("handshakes")
    assert found["probes_answered"] == found["probes"]
    assert found["files_open"] < 300
    assert found["probe_then"] == 200


def test_scan_bombs_are_refused_and_images_of_others_classified():
    found = played("scan_bombs")
    assert found["bombs_by_status"] == {"422": found["bombs"]}
    assert found["answered_beside"] > 0
    assert (found["failed_beside"], found["wrong_beside"]) == (0, 0)


def test_too_many_large_images_are_answered_or_refused_at_once():
    for name, found in played("large_images").items():
        assert set(found["by_status"]) <= {"200", "503"}, name
        assert found["by_status"]["200"] > 0, name
        assert found["health_checks_failed"] == 0, name


def test_hostile_models_are_refused_and_stop_neither_the_watch_nor_the_exit():
    found = played("hostile_models")
    assert found["not_refused"] == []
    assert found["good_model_loaded_then"]
    assert found["ready_status"] == 200
    assert found["answered"] > 0
    assert (found["failed"], found["wrong"]) == (0, 0)
    assert found["exit_status_in_a_load"] == 0


def test_slow_images_are_decoded_and_their_cost_is_estimated():
    found = played("decoding")
    assert len(found) == 11
    assert all(figures["estimated_seconds"] > 0 and figures["processor_seconds"] > 0 for figures in found.values())


def test_files_of_metadata_are_refused_or_estimated():
    found = played("metadata")
    assert found["files"] > 60
    assert found["refused_at_once"] > 20
    assert found["most_taken_of_estimate"] > 0
