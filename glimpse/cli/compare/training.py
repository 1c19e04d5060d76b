"""The trainings of a comparison: running them, the time that they take, and the figures of the trained models."""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from glimpse.cli.compare.report import ComparedModel
from glimpse.cli.train.command import main as train
from glimpse.data.datamodule import ImageData
from glimpse.evaluation.evaluate import ClassifierEvaluation
from glimpse.files import write_whole
from glimpse.training.callbacks import METRICS_FILE, read_metrics
from glimpse.training.checkpoint import read_checkpoint

PROGRAM = "glimpse compare"
TIMES_FILE = "times.json"
"""Holds the time of a training, beside its checkpoint."""


class Candidate(NamedTuple):
    """A model of the comparison, before anything is trained."""

    name: str
    given: str
    """The recipe or the checkpoint, as the user has it."""
    checkpoint: Path
    """Its last model: a file that exists, or that training is going to write."""
    training: tuple[str, ...]
    """The training's command line; empty for a model that is loaded."""
    data: ImageData
    budget: Mapping[str, Any]
    """The options of :data:`glimpse.cli.compare.plan.BUDGET`; none for a checkpoint."""


class Times(NamedTuple):
    """The time of a training, seconds; None where it is unknown."""

    wall: float | None
    cpu: float | None


def train_timed(candidate: Candidate) -> int:
    """Train, and write beside the checkpoint the time that it took.

    Returns:
        The exit status of :func:`glimpse.cli.train.command.main`.
    """
    wall, cpu = time.monotonic(), time.process_time()
    status = train(list(candidate.training), PROGRAM)
    if status == 0:
        measured = {"wall_seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
        written = {"checkpoint_sha256": _digest(candidate.checkpoint)} | {
            what: round(s, 1) for what, s in measured.items()
        }
        write_whole(candidate.checkpoint.parent / TIMES_FILE, json.dumps(written, indent=2) + "\n")
    return status


def times_of(checkpoint: Path) -> Times:
    """The time of a checkpoint's training: measured by a comparison, or else the sum of the wall times in its log.

    Args:
        checkpoint: A file that training wrote.
    """
    file = checkpoint.parent / TIMES_FILE
    noted = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if noted.get("checkpoint_sha256") == _digest(checkpoint):
        return Times(noted["wall_seconds"], noted["cpu_seconds"])
    seconds = [row["seconds"] for row in _epochs_of(checkpoint)]
    return Times(sum(seconds) if seconds else None, None)


def _epochs_of(checkpoint: Path) -> list[dict[str, float]]:
    """The rows of the log beside a checkpoint, as far as the checkpoint goes."""
    reached = read_checkpoint(checkpoint)["epoch"] + 1
    return [row for row in read_metrics(checkpoint.parent / METRICS_FILE) if row["epoch"] <= reached]


def measured_model(candidate: Candidate, family: str, evaluation: ClassifierEvaluation) -> ComparedModel:
    """The figures of a trained model: its evaluation, and what its training took.

    Args:
        candidate: The model.
        family: Its family's name.
        evaluation: Its figures on the test images.
    """
    checkpoint = read_checkpoint(candidate.checkpoint)
    times = times_of(candidate.checkpoint)
    return ComparedModel(
        name=candidate.name,
        family=family,
        given=candidate.given,
        checkpoint=str(candidate.checkpoint),
        trained_now=bool(candidate.training),
        epochs=checkpoint["epoch"] + 1,
        images_seen=images_seen(checkpoint, len(candidate.data.source.train)),
        wall_seconds=times.wall,
        cpu_seconds=times.cpu,
        validation_errors=[
            (int(row["epoch"]), row.get("val_error", math.nan)) for row in _epochs_of(candidate.checkpoint)
        ],
        evaluation=evaluation,
    )


def images_seen(checkpoint: Mapping[str, Any], images: int) -> int | None:
    """How many images a training used, counted with repetition; None where only its weights were kept.

    Args:
        checkpoint: What :func:`glimpse.training.checkpoint.read_checkpoint` read.
        images: Number of training images of the data set.
    """
    if "loops" not in checkpoint:
        return None
    options = checkpoint["datamodule_hyper_parameters"]
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    used: int = batches * min(options["batch_size"], images * options["passes"])
    return used


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
