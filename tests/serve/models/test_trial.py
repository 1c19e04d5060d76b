import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from glimpse.contract.seal import read_seal
from glimpse_serve.models import trial
from glimpse_serve.models.names import ModelError
from glimpse_serve.models.trial import Trial
from tests.support import hostile, toys

pytestmark = [pytest.mark.child, pytest.mark.slow]


@pytest.mark.parametrize("card", [toys.ADAPTIVE, toys.EPISODE, toys.STEP], ids=lambda card: card.graph)
def test_a_file_in_order_passes_and_its_seal_is_returned(tmp_path, card):
    path = toys.write_toy(tmp_path / "Büro nr. 1.onnx", card)
    sha256 = read_seal(path.read_bytes())
    assert Trial(30.0, 1024).run_blocking(path) == sha256
    assert asyncio.run(Trial(30.0, 1024).run(path)) == sha256


@pytest.mark.parametrize("costly", [hostile.endless_loop, hostile.endless_while, hostile.nested_loops])
def test_what_takes_too_long_is_ended(tmp_path, costly):
    path = hostile.write(tmp_path / "model.onnx", costly)
    with pytest.raises(ModelError, match=r"within 1 s of processor time .*model\.onnx' took longer; .*--load-seconds"):
        Trial(1.0, 1024).run_blocking(path)


@pytest.mark.parametrize("costly", [hostile.memory, hostile.memory_in_steps])
def test_what_needs_too_much_memory_is_ended(tmp_path, costly):
    path = hostile.write(tmp_path / "model.onnx", costly)
    with pytest.raises(ModelError, match=r"1,024 MiB of memory, and the trial of .* needed more memory; .*-megabytes"):
        Trial(30.0, 1024).run_blocking(path)


def test_what_waits_without_working_is_ended_by_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "CLOCK_FACTOR", 1)
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(3600)", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trial, "_MODULE", "sleeper")
    with pytest.raises(ModelError, match="took longer"):
        Trial(1.0, 1024).run_blocking(tmp_path)


def test_the_error_of_a_damaged_file_is_the_loaders_own(tmp_path):
    path = toys.write_toy(tmp_path / "model.onnx", toys.EPISODE)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="damaged at byte"):
        Trial(30.0, 1024).run_blocking(path)


def test_the_child_gets_no_settings_of_the_service_and_leaves_none_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("GLIMPSE_SERVE_KEYS", "secret")
    seen = tmp_path / "environment.py"
    seen.write_text("import json, os; print(json.dumps({'error': json.dumps(sorted(os.environ))}))", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trial, "_MODULE", "environment")
    with pytest.raises(ModelError) as told:
        Trial(30.0, 1024).run_blocking(tmp_path / "any")
    names = json.loads(str(told.value))
    assert "PATH" in names
    assert not [name for name in names if name.startswith("GLIMPSE_SERVE")]


def children() -> set[int]:
    own = str(os.getpid())
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            parents[int(entry.name)] = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except (ValueError, OSError):
            continue
    return {pid for pid, parent in parents.items() if parent == own}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="lists processes by /proc")
def test_a_trial_that_is_cancelled_leaves_no_process(tmp_path):
    path = hostile.write(tmp_path / "model.onnx", hostile.endless_loop)
    before = children()

    async def main() -> None:
        task = asyncio.create_task(Trial(600.0, 1024).run(path))
        while children() == before:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    for _ in range(200):
        if children() <= before:
            return
        time.sleep(0.05)
    assert children() <= before


def test_a_bad_file_does_not_delay_the_trials_of_others(tmp_path):
    bad = hostile.write(tmp_path / "bad.onnx", hostile.endless_loop)
    good = toys.write_toy(tmp_path / "good.onnx", replace(toys.EPISODE, data="good"))

    async def main() -> None:
        tries = Trial(600.0, 1024)
        stuck = asyncio.create_task(tries.run(bad))
        await asyncio.sleep(0)
        assert await tries.run(good) == read_seal(good.read_bytes())
        assert not stuck.done()
        stuck.cancel()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "words"),
    [(-signal.SIGXCPU, "took longer"), (-signal.SIGSEGV, "was ended by SIGSEGV"), (3, "ended with status 3")],
)
def test_how_a_child_ended_is_said_in_words(status: int, words: str):
    ending: Callable[[int], str] = trial._ending
    assert ending(status).startswith(words)
