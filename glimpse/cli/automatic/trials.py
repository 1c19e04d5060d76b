"""The trainings of an automatic choice: their length, and the figures by which they are compared."""

import math
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
LEAST_SHARE = 0.3
"""Share of a trial's time that is trained, however long the images took to be read."""
LEAST_BATCHES = 8
"""Batches of an epoch that would take too long as a whole."""
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
        epochs: How many it began.
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


class TrainingLength(NamedTuple):
    """How long a training is."""

    epochs: int
    """At least 1."""
    batches: int | None = None
    """Batches of an epoch; None for all of them."""


def seconds_an_image(candidate: Contender, options: Sequence[str], folder: Path) -> tuple[float, int]:
    """Estimate the wall time that training takes for an image, by training a few batches.

    Args:
        candidate: What is trained.
        options: The data set's options.
        folder: A folder for the training.

    Returns:
        The seconds, and the images of a batch.

    Raises:
        UsageError: When an option does not fit.
        RunError: When the training fails.
    """
    limits = {"max_epochs": TIMED_EPOCHS, "limit_train_batches": TIMED_BATCHES, "limit_val_batches": 0}
    short = [f"--trainer.{name}={value}" for name, value in limits.items()]
    _run([*candidate.options, *options, *short, f"--output={folder}", "--overwrite"], folder / LOG_FILE)
    taken = sum(row["seconds"] for row in read_metrics(folder / METRICS_FILE)[1:])
    size: int = read_recipe(folder / CONFIG_FILE)["data"]["init_args"]["batch_size"]
    return max(1e-7, taken / ((TIMED_EPOCHS - 1) * TIMED_BATCHES * size)), size


def length_within(
    seconds: float, an_image: float, batch_size: int, images: int, validation_images: int
) -> TrainingLength:
    """How much training fits into a time: whole epochs, ``MOST_EPOCHS`` at most, or a part of one.

    Args:
        seconds: The time.
        an_image: What training takes for an image, seconds.
        batch_size: Images in a batch.
        images: Training images.
        validation_images: Validation images, which each epoch classifies.
    """
    validation = an_image * validation_images * FORWARD
    epochs = math.floor(seconds / (an_image * images + validation))
    if epochs > 0:
        return TrainingLength(min(MOST_EPOCHS, epochs))
    part = math.floor((seconds - validation) / (an_image * batch_size))
    return TrainingLength(1, min(max(LEAST_BATCHES, part), math.ceil(images / batch_size)))


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
        seconds: The time; of a large folder a part of an epoch may take it.
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
    length = TrainingLength(1)
    if not candidate.is_pretrained:
        timed, source = seconds_an_image(candidate, options, folder), data.source
        left = max(seconds - (time.monotonic() - start), LEAST_SHARE * seconds)
        length = length_within(left, *timed, len(source.train), len(source.validation))
    if length.epochs < least_epochs:
        length = TrainingLength(least_epochs)
    arguments = [*candidate.options, *options, f"--trainer.max_epochs={length.epochs}"]
    arguments += [] if length.batches is None else [f"--trainer.limit_train_batches={length.batches}"]
    _run([*arguments, f"--output={folder}", "--overwrite"], None if is_shown else folder / LOG_FILE)
    last: dict[str, Any] = read_metrics(folder / METRICS_FILE)[-1]
    figures = last[VALIDATION_ERROR], last[BALANCED_ERROR]
    return CandidateTrial(candidate, folder, length.epochs, time.monotonic() - start, *figures)


def _run(arguments: Sequence[str], log: Path | None) -> None:
    """Train; what it prints goes into a file, or is shown where there is none."""
    if log is None:
        train(arguments, _PROGRAM)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream, redirect_stdout(stream), without_hardware_messages():
        train(arguments, _PROGRAM, concludes=False)
