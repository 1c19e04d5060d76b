"""The callbacks of a run: Ctrl-C is the command's after the first time; another run's files go when this one begins."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glimpse.cli.train.run.callbacks import SaveRun, SecondInterrupt


def test_after_an_interrupt_the_command_has_its_handler_back(monkeypatch: pytest.MonkeyPatch) -> None:
    own = signal.getsignal(signal.SIGINT)
    callback, nothing = SecondInterrupt(), Any
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
        callback.on_exception(nothing, nothing, ValueError())  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        callback.on_exception(nothing, nothing, KeyboardInterrupt())  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, own)


def test_the_files_of_another_run_go_when_this_one_begins_and_no_sooner(tmp_path: Path, monkeypatch) -> None:
    former = tmp_path / "best.ckpt"
    former.touch()
    saved: list[str] = []
    callback = SaveRun.__new__(SaveRun)
    callback.former = [former]
    monkeypatch.setattr(callback, "save_config", lambda trainer, model, stage: saved.append(stage))
    trainer: Any = SimpleNamespace(is_global_zero=True)
    callback.setup(trainer, None, "fit")  # type: ignore[arg-type]
    assert former.exists()
    assert not saved
    callback.on_train_start(trainer, None)  # type: ignore[arg-type]
    assert not former.exists()
    assert saved == ["fit"]
