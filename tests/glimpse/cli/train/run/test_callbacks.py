"""The callbacks of a run: Ctrl-C is the command's after the first time; another run's files go when this one begins."""

import signal
from pathlib import Path

import pytest
import pytorch_lightning as lightning

from glimpse.cli.train.run.callbacks import SaveRun, SecondInterrupt


def test_after_an_interrupt_the_command_has_its_handler_back(monkeypatch: pytest.MonkeyPatch) -> None:
    own = signal.getsignal(signal.SIGINT)
    callback, trainer, model = SecondInterrupt(), lightning.Trainer(logger=False), lightning.LightningModule()
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
        callback.on_exception(trainer, model, ValueError())
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        callback.on_exception(trainer, model, KeyboardInterrupt())
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
    trainer, model = lightning.Trainer(logger=False), lightning.LightningModule()
    callback.setup(trainer, model, "fit")
    assert former.exists()
    assert not saved
    callback.on_train_start(trainer, model)
    assert not former.exists()
    assert saved == ["fit"]
