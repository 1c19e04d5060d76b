"""Callbacks of a training: progress, log, checkpoints, a warning of a collapsed gaze, pictures after the fit."""

import csv
import io
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch import Tensor

from glimpse.data.datamodule import ImageData
from glimpse.data.held_out import LabelledBatch
from glimpse.drawing.album import save_picture
from glimpse.drawing.charts import draw_confusion, draw_learning_curves
from glimpse.errors import Argument, Sentence, Spelling, in_python
from glimpse.evaluation.scores import count_confusion
from glimpse.files import whole_file, whole_text
from glimpse.training.checkpoint import CheckpointError
from glimpse.training.classifier import (
    BALANCED_ERROR,
    GAZE_FIGURES,
    VALIDATION_ERROR,
    ClassifierTraining,
    schedule_steps,
)

METRICS_FILE = "metrics.csv"
BEST_FILE, LAST_FILE = "best.ckpt", "last.ckpt"
CURVES_FILE, CONFUSION_FILE = "learning-curves.png", "confusion.png"
VALIDATION_FIGURES = (VALIDATION_ERROR, BALANCED_ERROR, *GAZE_FIGURES)

COLLAPSED_SPREAD = 0.03
"""Spread of the fixations over images and time, in half images, below which they all lie at one place."""
UNMOVED_REACTION = 0.02
"""Spread over images at the same time step, in half images, below which all scanpaths are the same."""
CLAMPED_SHARE = 0.95
"""Share of the fixations on the image's border from which on the gaze has collapsed onto the border."""
BORDER_SAMPLE = 8
"""Every 8th validation image is classified a second time, to count the fixations on the border."""
PATIENT_EPOCHS, PATIENT_STEPS = 3, 200
"""Epochs and steps before the first warning: the means of an untrained policy all lie at one place."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint whole or not at all.

    Lightning writes a checkpoint into the system's folder for temporary files first. If that is on another file system,
    the move from there is a copy, and an interrupted copy leaves half a checkpoint in place of the last good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; ``storage_options`` belongs to Lightning's interface and is not used."""
        # In memory first: where torch can't write on, an error of its own hides the reason, such as a full disk.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(Path(path)) as stream:
            stream.write(content.getbuffer())


class WholeCheckpoints(Callback):
    """Make the trainer write its checkpoints with :class:`WholeCheckpointIO`, unless the user chose another plugin."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Replace Lightning's default plugin."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()


def checkpoints(output: Path, validates: bool = True, measure: str = VALIDATION_ERROR) -> list[Callback]:
    """Keep the best model on the validation images, and the last one.

    Args:
        output: The run's folder.
        validates: Whether there are validation images; without them only the last model is kept.
        measure: The figure that is least for the best model.
    """
    best = ModelCheckpoint(
        dirpath=output, filename=Path(BEST_FILE).stem, monitor=measure, mode="min", enable_version_counter=False
    )
    last = ModelCheckpoint(dirpath=output, filename=Path(LAST_FILE).stem, enable_version_counter=False)
    return [WholeCheckpoints(), best, last] if validates else [WholeCheckpoints(), last]


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Read the log of a run, one row for each epoch, NaN where nothing was measured.

    Args:
        file: A ``metrics.csv`` that :class:`EpochLog` wrote; a missing file has no rows.
    """
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return [{name: float(value or math.nan) for name, value in row.items()} for row in csv.DictReader(stream)]


class EpochLog(Callback):
    """Write one row for each epoch to ``metrics.csv``, and print it as one line.

    A run that resumes from a checkpoint keeps the rows of the earlier epochs.

    Args:
        output: The run's folder.
    """

    def __init__(self, output: Path) -> None:
        self.file = output / METRICS_FILE
        self.rows: list[dict[str, float]] = []
        self._row: dict[str, float] = {}
        self._start = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the rows of the epochs before the checkpoint from which the run resumes."""
        self.rows = [row for row in read_metrics(self.file) if row["epoch"] <= trainer.current_epoch]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the epoch's clock."""
        self._start = time.monotonic()
        self._row = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Record the figures of the validation."""
        if not trainer.sanity_checking:
            self._record(trainer, VALIDATION_FIGURES)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write and print the epoch's row."""
        figures = pl_module.figures if isinstance(pl_module, ClassifierTraining) else ()
        self._record(trainer, figures)
        epoch = trainer.current_epoch + 1
        self._row.update(epoch=epoch, seconds=round(time.monotonic() - self._start, 2))
        self.rows.append(self._row)
        if trainer.is_global_zero:
            self._write(("epoch", "seconds", *VALIDATION_FIGURES, *figures))
            of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
            print(f"epoch {epoch}{of}  {self._row['seconds']:.1f} s  {in_words(self._row)}", flush=True)

    def _record(self, trainer: lightning.Trainer, names: tuple[str, ...]) -> None:
        found = trainer.callback_metrics
        self._row.update({name: float(found[name]) for name in names if name in found})

    def _write(self, columns: tuple[str, ...]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with whole_text(self.file) as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            for row in self.rows:
                writer.writerow({name: f"{value:.6g}" for name, value in row.items() if not math.isnan(value)})


def in_words(metrics: dict[str, float]) -> str:
    """Write an epoch's figures as text; those that were not measured are left out."""
    shown = (
        (VALIDATION_ERROR, "validation error {:.2%}"),
        (BALANCED_ERROR, "balanced {:.2%}"),
        ("train_loss", "loss {:.3f}"),
        ("train_reward", "reward {:.3f}"),
        ("baseline_error", "baseline error {:.3f}"),
        ("gaze_spread", "spread of the gaze {:.3f}"),
    )
    return "  ".join(text.format(metrics[name]).replace("%", " %") for name, text in shown if name in metrics)


class EpochBar(RichProgressBar):
    """A progress bar for terminals, with the figures of the last epoch beside it."""

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Error, reward, baseline error and spread of the gaze."""
        shown = {
            VALIDATION_ERROR: ("error", "{:.2%}"),
            "train_reward": ("reward", "{:.3f}"),
            "baseline_error": ("baseline error", "{:.3f}"),
            "gaze_spread": ("gaze", "{:.3f}"),
        }
        found = trainer.callback_metrics
        return {title: form.format(float(found[name])) for name, (title, form) in shown.items() if name in found}


class CollapseWarning(Callback):
    """Warn once when the gaze has collapsed: to one place, to the same path on every image, or onto the border.

    Args:
        spelling: Writes the names of the arguments that the warning advises to change.
    """

    def __init__(self, spelling: Spelling = in_python) -> None:
        self.spelling = spelling
        self.warned = False
        self._clamped = 0
        self._fixations = 0

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Reset the counts."""
        self._clamped = self._fixations = 0

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: LabelledBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the fixations on the border, on a sample of every batch."""
        if self._is_due(trainer, pl_module):
            with torch.no_grad():
                chosen = pl_module(batch[0][::BORDER_SAMPLE]).locations[:, 1:]
            clamped = (chosen.abs() >= 1).any(-1)
            self._clamped += int(clamped.sum())
            self._fixations += clamped.numel()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the warning when the gaze has collapsed."""
        if not self._is_due(trainer, pl_module):
            return
        found = trainer.callback_metrics
        sentence = collapse(
            float(found["gaze_spread"]),
            float(found.get("gaze_reaction", math.nan)),
            self._clamped / max(1, self._fixations),
            explored_by(pl_module.hparams),
        )
        if sentence:
            self.warned = True
            text = sentence.render(self.spelling)
            print(f"warning after epoch {trainer.current_epoch + 1}: {text}", file=sys.stderr, flush=True)

    def _is_due(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> bool:
        return (
            not self.warned
            and trainer.is_global_zero
            and not trainer.sanity_checking
            and trainer.current_epoch + 1 >= PATIENT_EPOCHS
            and trainer.global_step >= PATIENT_STEPS
            and isinstance(pl_module, ClassifierTraining)
            and pl_module.observer.retina is not None
            and pl_module.observer.num_glimpses > 1
        )


def explored_by(options: Mapping[str, Any]) -> Sentence:
    """The arguments that widen a model's exploration."""
    if str(options.get("relaxation", "")).startswith("gumbel"):
        return Sentence(Argument("softness"))
    if options.get("policy") == "grid":
        return Sentence(Argument("spread"), " or ", Argument("entropy_weight"))
    return Sentence(Argument("spread"))


def collapse(spread: float, reaction: float, clamped: float, explore: Sentence) -> Sentence | None:
    """Return the warning of a collapsed gaze and the advice, in one line; None if the gaze has not collapsed.

    Args:
        spread: Standard deviation of the chosen fixations over images and time, in half images.
        reaction: Their standard deviation over images at the same time step, in half images; NaN where unknown.
        clamped: Share of them that lie on the image's border, in [0, 1].
        explore: The arguments that widen the exploration, see :func:`explored_by`.
    """
    if clamped >= CLAMPED_SHARE:
        return Sentence(
            f"the gaze has collapsed onto the image's border ({clamped:.0%} of the fixations), where little is to be "
            "seen; lower ",
            Argument("learning_rate"),
            " or ",
            Argument("spread"),
            ", or raise ",
            Argument("num_scales"),
            " so that the retina sees from afar where to look",
        )
    if not spread >= COLLAPSED_SPREAD:
        what = f"nearly the same place all the time (spread {spread:.3f}, expected at least {COLLAPSED_SPREAD})"
    elif reaction < UNMOVED_REACTION:
        what = f"the same places whatever the image (reaction {reaction:.3f}, expected at least {UNMOVED_REACTION})"
    else:
        return None
    return Sentence(
        f"the gaze has collapsed: it looks at {what}; raise ",
        explore,
        ", lower ",
        Argument("learning_rate"),
        ", or raise ",
        Argument("num_scales"),
        " so that the retina sees from afar where to look",
    )


class ScheduleCheck(Callback):
    """Reject a checkpoint whose learning-rate schedule has another length than that of the run that resumes from it."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare the length of the checkpoint's schedule with that of this run."""
        if trainer.ckpt_path is None:
            return
        steps = schedule_steps(trainer)
        for config in trainer.lr_scheduler_configs:
            planned = getattr(config.scheduler, "total_steps", steps)
            if planned != steps:
                raise CheckpointError(
                    f"{trainer.ckpt_path} is of a run of {planned} steps, and this one was to have {steps}: its "
                    "learning rate would follow another course; leave ",
                    Argument("max_epochs"),
                    " and the data's options as they were, or start anew without ",
                    Argument("ckpt_path"),
                )


class FitReport(Callback):
    """After the fit, draw the learning curves and the confusion matrix of the validation images.

    Args:
        output: The run's folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write ``learning-curves.png`` and ``confusion.png``."""
        if not trainer.is_global_zero:
            return
        rows = read_metrics(self.output / METRICS_FILE)
        if curves := panels(rows):
            save_picture(draw_learning_curves([row["epoch"] for row in rows], curves), self.output / CURVES_FILE)
        data = getattr(trainer, "datamodule", None)
        if isinstance(pl_module, ClassifierTraining) and isinstance(data, ImageData):
            matrix = final_confusion(pl_module, data)
            save_picture(draw_confusion(matrix.cpu().numpy(), pl_module.classes), self.output / CONFUSION_FILE)


def panels(rows: list[dict[str, float]]) -> dict[str, dict[str, list[float]]]:
    """The learning curves by panel, without the figures that were never measured.

    Args:
        rows: The rows that :func:`read_metrics` returned.
    """

    def column(name: str, factor: float = 1.0) -> list[float]:
        return [factor * row.get(name, math.nan) for row in rows]

    every = {
        "validation error, %": {"error": column(VALIDATION_ERROR, 100.0), "balanced": column(BALANCED_ERROR, 100.0)},
        "training": {
            "classification loss": column("train_loss"),
            "reward": column("train_reward"),
            "coverage penalty": column("coverage_penalty"),
        },
        "baseline": {"squared error": column("baseline_error")},
        "entropy of the attention, nats": {"entropy": column("attention_entropy")},
        "softness of the choice": {"softness": column("softness")},
        "gaze, half images": {"spread": column("gaze_spread"), "reaction": column("gaze_reaction")},
    }
    measured = {
        title: {name: values for name, values in curves.items() if not all(map(math.isnan, values))}
        for title, curves in every.items()
    }
    return {title: curves for title, curves in measured.items() if curves}


def final_confusion(training: ClassifierTraining, data: ImageData) -> Tensor:
    """The confusion matrix of the trained model: that of the last validation, where that was of all its images.

    Args:
        training: The model, after its fit.
        data: Source of the validation images.
    """
    is_latest = training.validated_step == training.global_step
    is_whole = int(training.confusion.sum()) == len(data.source.validation)
    return training.confusion if is_latest and is_whole else confusion(training, data)


def confusion(training: ClassifierTraining, data: ImageData) -> Tensor:
    """Count the predicted classes for the validation images of each class: the confusion matrix.

    Args:
        training: The model; its fixations are deterministic.
        data: Source of the validation images.

    Returns:
        int64 (classes, classes), a row for each true class, a column for each prediction.
    """
    classes = len(training.classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=training.device)
    was_training = training.training
    training.eval()
    with torch.no_grad():
        for images, labels in data.val_dataloader():
            predictions = training(images.to(training.device)).logits[:, -1].argmax(1)
            counts += count_confusion(predictions, labels.to(training.device), classes)
    training.train(was_training)
    return counts
