"""The number of threads: one by default, what the user says, or all processors where large networks are trained."""

import os

import pytest
import torch

from glimpse.cli import threads


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "_set", set())
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_what_the_user_sets_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    threads.set_defaults()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["KMP_BLOCKTIME"] == "0"
    torch.set_num_threads(1)
    threads.use_all_processors()
    assert torch.get_num_threads() == 1


def test_all_processors_are_used_where_the_user_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads.set_defaults()
    assert os.environ["OMP_NUM_THREADS"] == "1"
    torch.set_num_threads(1)
    threads.use_all_processors()
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert torch.get_num_threads() == expected
