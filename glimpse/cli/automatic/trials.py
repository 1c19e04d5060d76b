"""The trainings of an automatic choice: their length, and the figures by which they are compared."""

import math
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.train.recipes import CONFIG_FILE, read_recipe
from glimpse.cli.train.run.training import train
from glimpse.data.datamodule import ImageData
from glimpse.evaluation.scores import is_unbalanced
from glimpse.training.callbacks import LAST_FILE, METRICS_FILE, read_metrics
from glimpse.training.classifier import BALANCED_ERROR, VALIDATION_ERROR

_PROGRAM = "glimpse train"
WARM_UP_BATCHES, TIMED_BATCHES = 4, 12
"""Training batches before the clock counts, and those that it counts."""
MOST_EPOCHS = 300
LOG_FILE = "log.txt"


@dataclass(frozen=True)
class CandidateTrial:
    """A candidate after a training.

    Attributes:
        candidate: What was trained.
        folder: The run's folder.
        epochs: How long.
        seconds: Wall time of the training.
        error: Error of its last model on the validation images, in [0, 1].
        balanced_error: The mean over the classes of it.
    """

    candidate: Contender
    folder: Path
    epochs: int
    seconds: float
    error: float
    balanced_error: float

    def measure(self, balanced: bool) -> float:
        """The error that is compared.

        Args:
            balanced: Whether the classes are unbalanced, so that every class is to count alike.
        """
        return self.balanced_error if balanced else self.error

    @property
    def checkpoint(self) -> Path:
        """Its last model."""
        return self.folder / LAST_FILE


def seconds_an_epoch(
    candidate: Contender, options: Sequence[str], folder: Path, images: int, validation_images: int
) -> float:
    """Estimate the wall time of an epoch, by training a few batches.

    Args:
        candidate: What is trained.
        options: The data set's options.
        folder: A folder for the training.
        images: Training images.
        validation_images: Validation images, each of which takes a third of a training image's time.

    Raises:
        UsageError: When an option does not fit.
        RunError: When the training fails.
    """
    taken = {}
    for count in (WARM_UP_BATCHES, WARM_UP_BATCHES + TIMED_BATCHES):
        limits = ("--trainer.max_epochs=1", f"--trainer.limit_train_batches={count}", "--trainer.limit_val_batches=0")
        _run([*candidate.options, *options, *limits, f"--output={folder}", "--overwrite"], folder / LOG_FILE)
        taken[count] = read_metrics(folder / METRICS_FILE)[-1]["seconds"]
    one = max(1e-4, (taken[WARM_UP_BATCHES + TIMED_BATCHES] - taken[WARM_UP_BATCHES]) / TIMED_BATCHES)
    size = read_recipe(folder / CONFIG_FILE)["data"]["init_args"]["batch_size"]
    return float(one * (images + validation_images / 3) / size)


def run_trial(
    candidate: Contender,
    options: Sequence[str],
    folder: Path,
    seconds: float,
    data: ImageData,
    least_epochs: int = 0,
    is_shown: bool = False,
) -> CandidateTrial:
    """Train a candidate for about so long.

    Args:
        candidate: What is trained.
        options: The data set's options, and those of the whole choice.
        folder: The run's folder.
        seconds: The time. One epoch is trained at least.
        data: The folder's images.
        least_epochs: Epochs that are trained in any case.
        is_shown: Whether what the training prints is shown; else it goes to ``log.txt`` in the folder.

    Raises:
        UsageError: When an option does not fit.
        RunError: When the training fails.
    """
    start = time.monotonic()
    if is_unbalanced(data.class_counts):
        options = ("--model.class_weights=balanced", *options)
    epochs = 1
    if not candidate.is_pretrained:
        an_epoch = seconds_an_epoch(candidate, options, folder, len(data.source.train), len(data.source.validation))
        left = seconds - (time.monotonic() - start)
        epochs = max(1, least_epochs, min(MOST_EPOCHS, math.floor(left / an_epoch)))
    arguments = [*candidate.options, *options, f"--trainer.max_epochs={epochs}", f"--output={folder}", "--overwrite"]
    _run(arguments, None if is_shown else folder / LOG_FILE)
    last: dict[str, Any] = read_metrics(folder / METRICS_FILE)[-1]
    figures = last[VALIDATION_ERROR], last[BALANCED_ERROR]
    return CandidateTrial(candidate, folder, epochs, time.monotonic() - start, *figures)


def _run(arguments: Sequence[str], log: Path | None) -> None:
    """Train; what it prints goes into a file, or is shown where there is none."""
    if log is None:
        train(arguments, _PROGRAM)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream, redirect_stdout(stream):
        train(arguments, _PROGRAM)
