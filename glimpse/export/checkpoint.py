"""What ``glimpse evaluate`` and ``glimpse export`` do with a checkpoint: compose data, model and figures."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from glimpse.contract.card import ModelCard
from glimpse.data.datamodule import ImageData
from glimpse.evaluation.calibration import budget_table, fit_temperature
from glimpse.evaluation.evaluate import beliefs, costs_of, errors_of
from glimpse.export.graph.fragment import state_sizes
from glimpse.export.graph.precision import round_weights
from glimpse.export.model import WORSE, ExportError, beliefs_of_file, check_options, export_model, versions
from glimpse.export.parity import Parity
from glimpse.export.program import ProgramParity, check_program_file, export_program
from glimpse.models.hard import HardObserver
from glimpse.runtime.model_file import load_model_file
from glimpse.training.checkpoint import load_with_data
from glimpse.training.classifier import ClassifierTraining

PARITY_IMAGES = 1000
"""Test images on which an exported file is compared with its model."""
WEIGHTS = ("float32", "float16")
"""What the weights of a file that computes in float32 may be rounded to and stored as."""


@dataclass(frozen=True)
class ExportOptions:
    """What is written of a model.

    Attributes:
        graph: One of :data:`glimpse.contract.card.GRAPHS`; the adaptive one of a model that looks through a retina, and
            the episode of any other, when left out.
        input_type: What the graph takes, one of :data:`glimpse.contract.card.INPUT_TYPES`.
        precision: What it computes in, one of :data:`glimpse.contract.card.PRECISIONS`.
        chosen_target: What it is to run on, one of :data:`glimpse.contract.card.TARGETS`; a GPU when left out and
            the precision is float16, else a processor.
        license: Under which the model may be used.
        weights: What the weights are rounded to and stored as: ``float32``, which leaves them as they are, or
            ``float16``, of a file that computes in float32.
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
        """What the graph is to run on."""
        return self.chosen_target or ("gpu" if self.precision == "float16" else "cpu")

    def of(self, card: ModelCard) -> ModelCard:
        """A card of this form."""
        graph = self.graph or card.graph
        return replace(
            card,
            graph=graph,
            input_type=self.input_type,
            precision=self.precision,
            target=self.target,
            state_size=None if graph == "episode" else card.state_size,
            license=self.license,
            recipe=card.recipe | ({"weights": self.weights} if self.weights != "float32" else {}) | _made(self.made_by),
        )


def _made(by: str | None) -> dict[str, str]:
    """What a card's recipe says of how a model was made."""
    return {"made_by": by} if by is not None else {}


class Exported(NamedTuple):
    """An exported file and what was found out about it."""

    path: Path
    card: ModelCard
    parity: Parity


def export_checkpoint(
    checkpoint: Path, output: Path | None = None, root: str | None = None, form: ExportOptions | None = None
) -> Exported:
    """Write a trained model as one ONNX file.

    Its test error, and its temperature and budgets, which are found on the validation images, go into its card.

    Args:
        checkpoint: A checkpoint that training wrote.
        output: The file to write; ``model.onnx`` beside the checkpoint when left out.
        root: Where the data set lies, when not where it lay in training.
        form: What is written; the form that suits the model when left out.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data are not what it was trained on.
        DataError: When the data are not there.
        ExportError: When there is no such form of the model, or the file would not answer as the model does.
        StorageError: When a weight is too large for the type that it is to be rounded to.
    """
    path, form = output or checkpoint.parent / "model.onnx", form or ExportOptions()
    check_output(path)
    _check_weights(form)
    training, data = load_with_data(checkpoint, root)
    observer = training.observer
    if form.weights == "float16":
        round_weights(observer)
    card = form.of(card_of(training, data))
    check_options(observer, card)
    card = _measured(card, training, data)
    parity = export_model(observer, card, path, _shown(data))
    return Exported(path, load_model_file(path).card, parity)


def _check_weights(form: ExportOptions) -> None:
    if form.weights not in WEIGHTS:
        raise ExportError(f"expected weights in one of {', '.join(WEIGHTS)}; got {form.weights!r}")
    if form.weights != "float32" and form.precision != "float32":
        raise ExportError(
            f"expected a file that computes in float32 with --weights {form.weights}, got --type {form.precision}, "
            "which stores the weights in its own way; leave one of the two out"
        )


def check_output(path: Path) -> None:
    """Refuse a file that an export could not write, before minutes go into measuring the model.

    Args:
        path: Where the ONNX file is to go.

    Raises:
        ExportError: When its name does not end in ``.onnx``, its folder is missing, or it is a folder itself.
    """
    if path.suffix != ".onnx":
        raise ExportError(f"expected a file name that ends in .onnx, got {path}; change --output")
    if not path.parent.is_dir():
        raise ExportError(
            f"expected a folder {path.parent} to write {path.name} into; make it first, or change --output"
        )
    if path.is_dir():
        raise ExportError(f"expected a file to write the model to, got the folder {path}; change --output")


def export_as_program(
    checkpoint: Path,
    path: Path,
    root: str | None = None,
    license: str | None = None,  # noqa: A002
    made_by: str | None = None,
) -> tuple[ModelCard, ProgramParity]:
    """Write a trained model's episode as a program of torch.export, on the same terms as :func:`export_checkpoint`.

    Args:
        checkpoint: A checkpoint that training wrote.
        path: The file to write, ending in ``.pt2``.
        root: Where the data set lies, when not where it lay in training.
        license: Under which the model may be used.
        made_by: How the model was made.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data are not what it was trained on.
        DataError: When the data are not there.
        ProgramError: When the program would not answer as the model does, or can't be written there.
    """
    check_program_file(path)
    training, data = load_with_data(checkpoint, root)
    card = ExportOptions("episode", license=license, made_by=made_by).of(card_of(training, data))
    card = _measured(card, training, data)
    return card, export_program(training.observer, card, path, _shown(data))


def _measured(card: ModelCard, training: ClassifierTraining, data: ImageData) -> ModelCard:
    """A card with the test error, and with the temperature and the budgets that the validation images tell.

    They are those of the file: of one of less precision than float32 they are measured with that.

    Raises:
        ExportError: When less precision is worse by more than ``WORSE``.
    """
    in_torch = partial(beliefs, training.observer)
    exact = card.precision == "float32"
    believed = in_torch if exact else beliefs_of_file(training.observer, card, _shown(data))
    test_error = errors_of(*believed(data.test_dataloader()))[-1]
    if not exact:
        allowed = errors_of(*in_torch(data.test_dataloader()))[-1] + WORSE
        if test_error > allowed:
            raise ExportError(
                f"expected a file in {card.precision} to be wrong on at most {allowed:.2%} of the test images, got "
                f"{test_error:.2%}, so it was not written; choose another --type"
            )
    logits, labels = believed(data.val_dataloader())
    temperature = fit_temperature(logits, labels)
    budgets = budget_table(logits, labels, temperature, card.multiply_accumulates)
    return replace(card, test_error=test_error, temperature=temperature, budgets=budgets)


def _shown(data: ImageData) -> Tensor:
    """The test images on which what is written is compared with the model."""
    return torch.cat([images for images, _ in islice(data.test_dataloader(), 2)])[:PARITY_IMAGES]


def card_of(training: ClassifierTraining, data: ImageData) -> ModelCard:
    """Describe a trained model and the graph that suits it; nothing of it is measured.

    Args:
        training: The model and its recipe.
        data: What it was trained on.
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
        glimpse_size=retina.size if retina else None,
        num_scales=retina.num_scales if retina else None,
        zoom=retina.zoom if retina else None,
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
