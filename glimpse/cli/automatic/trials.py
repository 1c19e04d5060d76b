"""The trainings of an automatic choice: their length, and the figures by which they are compared."""

import math
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.train.lightning_setup import without_hardware_messages
from glimpse.cli.train.recipes import CONFIG_FILE, read_recipe
from glimpse.cli.train.run.training import train
from glimpse.data.datamodule import ImageData
from glimpse.evaluation.scores import is_unbalanced
from glimpse.training.callbacks import LAST_FILE, METRICS_FILE, read_metrics
from glimpse.training.classifier import BALANCED_ERROR, VALIDATION_ERROR

_PROGRAM = "glimpse train"
TIMED_EPOCHS, TIMED_BATCHES = 5, 2
"""Epochs that are timed, of which the first doesn't count, and their batches: as many in all as show both parts of a
training that begins on crops."""
FORWARD = 1 / 3
"""Time of an image that is classified, as a share of one that is trained on."""
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


def seconds_an_image(candidate: Contender, options: Sequence[str], folder: Path) -> float:
    """Estimate the wall time that training takes for an image, by training a few batches.

    Args:
        candidate: What is trained.
        options: The data set's options.
        folder: A folder for the training.

    Raises:
        UsageError: When an option does not fit.
        RunError: When the training fails.
    """
    limits = {"max_epochs": TIMED_EPOCHS, "limit_train_batches": TIMED_BATCHES, "limit_val_batches": 0}
    short = [f"--trainer.{name}={value}" for name, value in limits.items()]
    _run([*candidate.options, *options, *short, f"--output={folder}", "--overwrite"], folder / LOG_FILE)
    taken = sum(row["seconds"] for row in read_metrics(folder / METRICS_FILE)[1:])
    size: int = read_recipe(folder / CONFIG_FILE)["data"]["init_args"]["batch_size"]
    return max(1e-7, taken / ((TIMED_EPOCHS - 1) * TIMED_BATCHES * size))


def epochs_within(seconds: float, an_image: float, images: int, validation_images: int) -> int:
    """How many epochs fit into a time: one at least, ``MOST_EPOCHS`` at most.

    Args:
        seconds: The time.
        an_image: What training takes for an image, seconds.
        images: Training images.
        validation_images: Validation images, which each epoch classifies.
    """
    return max(1, min(MOST_EPOCHS, math.floor(seconds / (an_image * (images + validation_images * FORWARD)))))


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
        an_image = seconds_an_image(candidate, options, folder)
        left, source = seconds - (time.monotonic() - start), data.source
        planned = epochs_within(left, an_image, len(source.train), len(source.validation))
        epochs = max(least_epochs, planned)
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
    with log.open("w", encoding="utf-8") as stream, redirect_stdout(stream), without_hardware_messages():
        train(arguments, _PROGRAM, concludes=False)
