"""Callbacks of a training from the command line: the recipe beside the run, and a second Ctrl-C."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import SaveConfigCallback

import glimpse
from glimpse.cli.train.recipes import CONFIG_FILE
from glimpse.files import write_whole


class SaveRun(SaveConfigCallback):
    """Save the resolved configuration beside the run, without what belongs to this one run alone.

    It is written when training starts, after every check has passed, and only then replaces the files of another run.
    """

    former: Sequence[Path] = ()
    """The files of another run, which are removed."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet: a checkpoint may still turn out not to fit."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the other run's files, and write."""
        if trainer.is_global_zero:
            for file in self.former:
                file.unlink(missing_ok=True)
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml``, a recipe of which the same run can be made again; its head tells what it ran on."""
        config = self.config.clone()
        for name in ("config", "output", "resume", "overwrite", "ckpt_path"):
            config.pop(name, None)
        text = self.parser.dump(config, skip_unset=True, skip_validation=True)
        file = Path(trainer.default_root_dir) / CONFIG_FILE
        write_whole(file, f"# glimpse=={glimpse.__version__}\n# computed in {trainer.precision}\n{text}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the precision in which the run computes, which its recipe may leave to the hardware."""
        checkpoint["precision"] = trainer.precision


class SecondInterrupt(Callback):
    """Leave it to the command what a second Ctrl-C does: Lightning ignores every one after the first."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGINT)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give SIGINT its handler back."""
        if isinstance(exception, KeyboardInterrupt):
            signal.signal(signal.SIGINT, self._handler)
