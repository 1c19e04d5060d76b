import os
import signal
import subprocess
import sys

import pytest
import torch

from benchmarks.training import surviving


def test_states_are_the_same_bit_by_bit_or_not_at_all():
    state = [{"state": {0: {"step": 3, "mean": torch.ones(2)}}, "lr": 0.1}]
    assert surviving.same(state, [{"state": {0: {"step": 3, "mean": torch.ones(2)}}, "lr": 0.1}])
    assert not surviving.same(state, [{"state": {0: {"step": 3, "mean": torch.ones(2) + 1e-7}}, "lr": 0.1}])
    assert not surviving.same(state, [{"state": {0: {"step": 4, "mean": torch.ones(2)}}, "lr": 0.1}])
    assert not surviving.same(state, [])


@pytest.mark.child
def test_the_time_of_a_process_is_known_while_it_runs():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert (surviving.cpu_seconds(child.pid) or 0) >= 0
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert surviving.cpu_seconds(child.pid) is None
    assert (surviving.cpu_seconds(os.getpid()) or 0) > 0


def test_a_kill_and_an_end_are_a_row_each():
    result = {
        "quick": True,
        "machine": {
            "processor": "some",
            "cores": 2,
            "load_average": [1.0],
            "threads": {},
            "versions": {},
            "commit": "a",
        },
        "load_average_after": [1.0],
        "command": "glimpse train",
        "cpu_seconds_undisturbed": 2.5,
        "kills": [
            {"run": 1, "cpu_seconds": 1.25, "epochs_in_the_log": 4, "files": ["best.ckpt", "config.yaml"], "drafts": 0}
        ],
        "runs": [{"kills": 1, "same_weights": True, "same_optimiser": True, "same_log": False}],
    }
    text = surviving.report(result)
    assert "2.5 CPU-seconds after the start-up" in text
    assert text.splitlines()[-1].split() == ["1", "1", "True", "True", "False"]
    assert "best.ckpt" in text
    assert "config.yaml" not in text
