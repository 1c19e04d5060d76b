"""The export of a checkpoint: load model and data, measure the model, write the file with its card."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from glimpse.contract.bounds import check_card
from glimpse.contract.card import ModelCard
from glimpse.data.datamodule import ImageData
from glimpse.errors import Argument, Setting
from glimpse.evaluation.calibration import budget_table, fit_temperature
from glimpse.evaluation.evaluate import beliefs, costs_of, errors_of
from glimpse.export.graph.fragment import state_sizes
from glimpse.export.graph.precision import round_to_float16
from glimpse.export.model import (
    MAX_ERROR_INCREASE,
    ExportError,
    check_export_options,
    export_model,
    logits_of_file,
    versions,
)
from glimpse.export.parity import Parity
from glimpse.export.program import ProgramParity, check_program_file, export_program
from glimpse.files import write_problem
from glimpse.models.hard import HardObserver
from glimpse.runtime.model_file import load_model_file
from glimpse.training.checkpoint import load_with_data
from glimpse.training.classifier import ClassifierTraining

PARITY_IMAGES = 1000
"""Test images on which an exported file is compared with its model."""
WEIGHTS = ("float32", "float16")
"""The types that the weights of a file that computes in float32 may be rounded to and stored in."""


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export.

    Attributes:
        graph: One of :data:`glimpse.contract.card.GRAPHS`. When left out, the adaptive graph of a model with a retina,
            and the episode of any other model.
        input_type: Type of the graph's images, one of :data:`glimpse.contract.card.INPUT_TYPES`.
        precision: Type that it computes in, one of :data:`glimpse.contract.card.PRECISIONS`.
        chosen_target: Device that it is to run on, one of :data:`glimpse.contract.card.TARGETS`. When left out, a GPU
            if the precision is float16, else a processor.
        license: License of the model.
        weights: Type that the weights are rounded to and stored in: ``float32``, which leaves them as they are, or
            ``float16``, for a file that computes in float32.
        made_by: How the model was made, such as the command of its training.
    """

    graph: str | None = None
    input_type: str = "uint8"
    precision: str = "float32"
    chosen_target: str | None = None
    license: str | None = None
    weights: str = "float32"
    made_by: str | None = None

    @property
    def target(self) -> str:
        """Device that the graph is to run on."""
        return self.chosen_target or ("gpu" if self.precision == "float16" else "cpu")

    def apply_to(self, card: ModelCard) -> ModelCard:
        """A copy of a card with these options.

        Args:
            card: The card of the model.
        """
        graph = self.graph or card.graph
        return replace(
            card,
            graph=graph,
            input_type=self.input_type,
            precision=self.precision,
            target=self.target,
            state_size=None if graph == "episode" else card.state_size,
            license=self.license,
            recipe=card.recipe
            | ({"weights": self.weights} if self.weights != "float32" else {})
            | ({"made_by": self.made_by} if self.made_by is not None else {}),
        )


class Exported(NamedTuple):
    """An exported file, its card, and how it compares with its model."""

    path: Path
    card: ModelCard
    parity: Parity


def export_checkpoint(
    checkpoint: Path, output: Path | None = None, root: str | None = None, options: ExportOptions | None = None
) -> Exported:
    """Write a trained model as one ONNX file.

    The card of the file holds the test error, and the temperature and the budgets, which are measured on the validation
    images.

    Args:
        checkpoint: A checkpoint that training wrote.
        output: The file to write; ``model.onnx`` beside the checkpoint when left out.
        root: Where the data set lies, when not where it lay in training.
        options: The options; the defaults of the model when left out.

    Raises:
        CheckpointError: When the checkpoint was not written by Glimpse, or was trained on other data.
        DataError: When the data are not there.
        ExportError: When the model can't be exported with these options, or the file's outputs differ from the model's.
        ContractError: When an entry of the card is out of its bounds, such as a license with control characters.
        StorageError: When a weight is too large for the type that it is to be rounded to.
    """
    path, options = output or checkpoint.parent / "model.onnx", options or ExportOptions()
    if output is not None or checkpoint.is_file():  # the folder of a missing checkpoint is not the user's mistake
        check_output(path)
    _check_weights(options)
    training, data = load_with_data(checkpoint, root)
    observer = training.observer
    if options.weights == "float16":
        round_to_float16(observer)
    card = options.apply_to(card_of(training, data))
    check_export_options(observer, card)
    check_card(card)
    card = _with_measurements(card, training, data)
    parity = export_model(observer, card, path, _parity_images(data))
    return Exported(path, load_model_file(path).card, parity)


def _check_weights(options: ExportOptions) -> None:
    if options.weights not in WEIGHTS:
        raise ExportError("expected ", Argument("weights"), f" in one of {', '.join(WEIGHTS)}; got {options.weights!r}")
    if options.weights != "float32" and options.precision != "float32":
        raise ExportError(
            "expected a file that computes in float32 with ",
            Setting("weights", options.weights),
            ", got ",
            Setting("precision", options.precision),
            ", which stores the weights in its own way; leave one of the two out",
        )


def check_output(path: Path) -> None:
    """Reject a path that an export could not write, before the model is measured, which takes minutes.

    Args:
        path: The ONNX file to write.

    Raises:
        ExportError: When its name does not end in ``.onnx``, or it can't be written, see
            :func:`glimpse.files.write_problem`.
    """
    if path.suffix != ".onnx":
        raise ExportError(f"expected a file name that ends in .onnx, got {path}; change ", Argument("output"))
    if problem := write_problem(path):
        raise ExportError(problem)


def export_as_program(
    checkpoint: Path,
    path: Path,
    root: str | None = None,
    license: str | None = None,  # noqa: A002
    made_by: str | None = None,
) -> tuple[ModelCard, ProgramParity]:
    """Write a trained model's episode as a program of torch.export, with the same card as :func:`export_checkpoint`.

    Args:
        checkpoint: A checkpoint that training wrote.
        path: The file to write, ending in ``.pt2``.
        root: Where the data set lies, when not where it lay in training.
        license: License of the model.
        made_by: How the model was made.

    Returns:
        The card, and how the program compares with the model.

    Raises:
        CheckpointError: When the checkpoint was not written by Glimpse, or was trained on other data.
        DataError: When the data are not there.
        ProgramError: When the program's outputs differ from the model's, or it can't be written there.
    """
    check_program_file(path)
    training, data = load_with_data(checkpoint, root)
    card = ExportOptions("episode", license=license, made_by=made_by).apply_to(card_of(training, data))
    card = _with_measurements(card, training, data)
    return card, export_program(training.observer, card, path, _parity_images(data))


def _with_measurements(card: ModelCard, training: ClassifierTraining, data: ImageData) -> ModelCard:
    """A card with the test error, and with the temperature and the budgets, measured on the validation images.

    With less precision than float32, they are measured in the precision of the file.

    Raises:
        ExportError: When less precision raises the test error by more than ``MAX_ERROR_INCREASE``.
    """
    in_torch = partial(beliefs, training.observer, first_location=training.first_location)
    exact = card.precision == "float32"
    predict = in_torch if exact else logits_of_file(training.observer, card, _parity_images(data))
    test_error = errors_of(*predict(data.test_dataloader()))[-1]
    if not exact:
        allowed = errors_of(*in_torch(data.test_dataloader()))[-1] + MAX_ERROR_INCREASE
        if test_error > allowed:
            raise ExportError(
                f"expected a file in {card.precision} to be wrong on at most {allowed:.2%} of the test images, got "
                f"{test_error:.2%}, so it was not written; choose another ",
                Argument("precision"),
            )
    logits, labels = predict(data.val_dataloader())
    temperature = fit_temperature(logits, labels)
    budgets = budget_table(logits, labels, temperature, card.multiply_accumulates)
    return replace(card, test_error=test_error, temperature=temperature, budgets=budgets)


def _parity_images(data: ImageData) -> Tensor:
    """The test images on which an exported file is compared with its model."""
    return torch.cat([images for images, _ in islice(data.test_dataloader(), 2)])[:PARITY_IMAGES]


def card_of(training: ClassifierTraining, data: ImageData) -> ModelCard:
    """Describe a trained model, with its default graph; nothing is measured.

    Args:
        training: The model and its recipe.
        data: The data that it was trained on.
    """
    channels, height, width = training.image_shape
    observer, retina = training.observer, training.observer.retina
    with torch.no_grad():
        trace = training(torch.zeros(1, channels, height, width, dtype=torch.uint8, device=observer.device))
    return ModelCard(
        model=training.kind,
        graph="adaptive" if retina else "episode",
        classes=training.classes,
        channels=channels,
        height=height,
        width=width,
        num_glimpses=observer.num_glimpses,
        first_location=training.first_location,
        size_policy=data.size_policy,
        glimpse_size=retina.size if retina else None,
        num_scales=retina.num_scales if retina else None,
        zoom=retina.zoom if retina else None,
        window=observer.window,
        state_size=sum(state_sizes(observer.model)) if isinstance(observer, HardObserver) else None,
        has_maps=trace.maps is not None,
        any_size=observer.any_size,
        multiply_accumulates=costs_of(observer, training.image_shape),
        parameters=sum(parameter.numel() for parameter in observer.parameters()),
        data=data.describe(),
        recipe={
            "model": {
                name: value for name, value in training.hparams.items() if name not in ("classes", "image_shape")
            },
            "data": {name: value for name, value in data.hparams.items() if name not in ("root", "download")},
        },
        versions=versions(),
    )
