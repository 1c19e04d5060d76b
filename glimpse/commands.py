"""What ``glimpse evaluate`` and ``glimpse export`` do with a checkpoint: compose data, model and figures."""

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from glimpse.contract import ModelCard
from glimpse.data.datamodule import ImageData
from glimpse.data.sources import DataError, data_root
from glimpse.evaluate import Evaluation, beliefs, errors_of, evaluate
from glimpse.export import ExportError, Parity, export_episode, versions
from glimpse.training.checkpoint import CheckpointError, load_training
from glimpse.training.classifier import ClassifierTraining

PARITY_IMAGES = 1000
"""Test images on which an exported file is compared with its model."""


class Exported(NamedTuple):
    """An exported file and what was found out about it."""

    path: Path
    card: ModelCard
    parity: Parity


def evaluate_checkpoint(checkpoint: Path, part: str = "test", root: str | None = None) -> Evaluation:
    """Evaluate a trained model on the data that its checkpoint names.

    Args:
        checkpoint: A checkpoint that training wrote.
        part: ``test`` or ``validation``.
        root: Where the data set lies, when not where it lay in training.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data are not what it was trained on.
        DataError: When the data are not there.
    """
    training, data = load_with_data(checkpoint, root)
    batches = data.test_dataloader() if part == "test" else data.val_dataloader()
    return evaluate(training.observer, batches, training.classes, training.image_shape)


def export_checkpoint(checkpoint: Path, output: Path | None = None, root: str | None = None) -> Exported:
    """Write a trained model as one ONNX file; its test error is measured and goes into its card.

    Args:
        checkpoint: A checkpoint that training wrote.
        output: The file to write; ``model.onnx`` beside the checkpoint when left out.
        root: Where the data set lies, when not where it lay in training.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data are not what it was trained on.
        DataError: When the data are not there.
        ExportError: When the file would not answer as the model does.
    """
    path = output or checkpoint.parent / "model.onnx"
    if path.suffix != ".onnx":
        raise ExportError(f"expected a file name that ends in .onnx, got {path}; change --output")
    training, data = load_with_data(checkpoint, root)
    logits, labels = beliefs(training.observer, data.test_dataloader())
    card = card_of(training, data, errors_of(logits, labels)[-1])
    shown = torch.cat([images for images, _ in islice(data.test_dataloader(), 2)])[:PARITY_IMAGES]
    parity = export_episode(training.observer, card, path, shown)
    return Exported(path, card, parity)


def load_with_data(checkpoint: Path, root: str | None = None) -> tuple[ClassifierTraining, ImageData]:
    """Rebuild a trained model, and read the data that its checkpoint names.

    Args:
        checkpoint: A checkpoint that training wrote.
        root: Where the data set lies, when not where it lay in training.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data have other classes or another shape by now.
        DataError: When the data are not there.
    """
    training, data = load_training(checkpoint, root=root)
    try:
        _check_same(checkpoint, training, data)
        data.setup()
    except DataError as error:
        raise DataError(_with_our_options(str(error))) from error
    return training, data


def _check_same(checkpoint: Path, training: ClassifierTraining, data: ImageData) -> None:
    for what, trained, found in (
        ("the classes", training.classes, tuple(data.classes)),
        ("images of the shape", training.image_shape, tuple(data.image_shape)),
    ):
        if found != trained:
            raise CheckpointError(
                f"{checkpoint} was trained on {what} {', '.join(map(str, trained))}; the data under "
                f"{data_root(data.root)} now have {', '.join(map(str, found))}; give the data of the training with "
                "--root, or train again"
            )


def _with_our_options(sentence: str) -> str:
    """A sentence about the data, with the options that evaluate and export have in place of training's."""
    return re.sub(r",? or [^,;]*--data\.download true", "", sentence).replace("--data.root", "--root")


def card_of(training: ClassifierTraining, data: ImageData, test_error: float | None) -> ModelCard:
    """Describe a trained model.

    Args:
        training: The model and its recipe.
        data: What it was trained on.
        test_error: Share of test images that it gets wrong, in [0, 1]; None where it was not measured.
    """
    channels, height, width = training.image_shape
    observer, retina = training.observer, training.observer.retina
    with torch.no_grad():
        trace = training(torch.zeros(1, channels, height, width, dtype=torch.uint8, device=observer.device))
    return ModelCard(
        model=training.kind,
        classes=training.classes,
        channels=channels,
        height=height,
        width=width,
        size_policy="fit",
        num_glimpses=observer.num_glimpses,
        glimpse_size=retina.size if retina else None,
        num_scales=retina.num_scales if retina else None,
        zoom=retina.zoom if retina else None,
        has_maps=trace.maps is not None,
        any_size=observer.any_size,
        data=data.describe(),
        recipe={
            "model": {
                name: value for name, value in training.hparams.items() if name not in ("classes", "image_shape")
            },
            "data": {name: value for name, value in data.hparams.items() if name not in ("root", "download")},
        },
        test_error=test_error,
        versions=versions(),
    )
