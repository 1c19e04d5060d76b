"""From a trained model to one ONNX file that answers as it does.

A model that takes glimpses is put together from its step (:mod:`glimpse.export.graph`); any other is exported whole.
Before a file is left behind it is loaded again and compared with the model, in batches and one by one.
"""

import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import UInt8
from onnx import helper
from torch import Tensor

import glimpse
from glimpse.contract.card import GRAPHS, INPUT_TYPES, PRECISIONS, TARGETS, Budget, ModelCard
from glimpse.contract.seal import seal
from glimpse.contract.tensors import INPUT, LOGITS, MAX_GLIMPSES
from glimpse.errors import Argument, ArgumentError, Sentence, Setting
from glimpse.export.graph.annotations import drop_annotations
from glimpse.export.graph.assembly import GraphPlan, assemble, metadata
from glimpse.export.graph.fragment import Fragment, state_sizes, step_of
from glimpse.export.graph.passes import simplify
from glimpse.export.graph.precision import store_in_half, to_half, to_int8
from glimpse.export.graph.whole import whole_of
from glimpse.export.parity import Parity, compare_with_file, session_of
from glimpse.models.hard import HardObserver
from glimpse.models.observer import Observer
from glimpse.nn.retina import PIXEL_MAX, fractions
from glimpse.runtime.providers import open_session, processor

TOLERANCE = 1e-4
"""Largest difference in a probability, or in an attention weight, between a float32 file and the model."""
ASTRAY = 1e-2
"""Largest difference in a location (half images) or a state. Rounding grows along a path of saccades that follow one
from another; a box that is wrong is so by a whole pixel."""
CHANGED = 0.05
"""Share of the labels that a file of less precision may change."""
WORSE = 0.005
"""By how much its test error may exceed the model's, as a share of the images."""
TIED_SHARE = 0.01
"""Share of the images whose fixations may fall within a rounding error of two pixels."""
TIMED_RUNS = 40


class ExportError(ArgumentError):
    """A file that would not answer as the model does, or can't be made."""


def versions() -> dict[str, str]:
    """The versions of what makes an export."""
    return {
        "glimpse": glimpse.__version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "python": platform.python_version(),
    }


def export_model(
    observer: Observer,
    card: ModelCard,
    path: Path,
    images: UInt8[Tensor, "batch channels height width"],
) -> Parity:
    """Write a model as ONNX, and leave the file only if it answers as the model does.

    Args:
        observer: The model to write.
        card: What the file says of itself. Its graph, input type, precision and target are what is written; the
            milliseconds of its budgets are measured here, if it is for processors: one image on one thread.
        path: Where to write; an existing file is replaced, and only by a good one.
        images: Real images, at least 2, on which the file is compared with the model.

    Raises:
        ExportError: When there is no such graph of this model, or the file differs from it, rounding ties apart: in
            float32 by more than ``TOLERANCE`` in a probability, by more than ``ASTRAY`` in where it looks or what it
            hands on, or at all in a label; with less precision in more than ``CHANGED`` of the labels.
    """
    check_options(observer, card)
    if not path.parent.is_dir():
        raise ExportError(
            f"expected a folder {path.parent} to write {path.name} into; make it first, or choose another"
        )
    model = build(observer, card, images)
    store_in_half(model)
    drop_annotations(model)
    if card.budgets:
        card = replace(card, **_measured(card, model, images))
    del model.metadata_props[:]
    helper.set_model_props(model, metadata(card))
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        draft = Path(folder) / path.name
        draft.write_bytes(seal(model.SerializeToString()))
        parity = compare_with_file(observer, card, draft.read_bytes(), images)
        _check_parity(parity, card, path)
        draft.replace(path)
    return parity


def build(
    observer: Observer,
    card: ModelCard,
    images: UInt8[Tensor, "batch channels height width"],
    outputs: tuple[str, ...] | None = None,
) -> onnx.ModelProto:
    """Make a model's graph, unsealed.

    Args:
        observer: The model.
        card: Says which graph.
        images: At least 2, to trace a model without a retina with.
        outputs: Names of the outputs that are wanted, of a model that looks through a retina; all of the card's when
            left out.
    """
    if isinstance(observer, HardObserver):
        retina = observer.retina
        piece = step_of(observer.model, (retina.num_scales, card.channels, retina.size, retina.size))
        simplify(piece, 1 / PIXEL_MAX if card.input_type == "uint8" and card.graph != "step" else 1.0)
        _convert(piece, card.precision)
        return assemble(GraphPlan(piece, state_sizes(observer.model), card, outputs))
    return whole_of(observer, card, images)


def check_options(observer: Observer, card: ModelCard) -> None:
    """Refuse a form that there is not of a model.

    Args:
        observer: The model.
        card: Says which graph, input type, precision and target.

    Raises:
        ExportError: Saying what there is.
    """
    for what, value, choices in (
        ("a graph", card.graph, GRAPHS),
        ("an input type", card.input_type, INPUT_TYPES),
        ("a precision", card.precision, PRECISIONS),
        ("a target", card.target, TARGETS),
    ):
        if value not in choices:
            raise ExportError(f"expected {what} out of {', '.join(choices)}; got {value!r}")
    if not isinstance(observer, HardObserver) and (card.graph != "episode" or card.precision == "int8"):
        raise ExportError(
            f"expected the episode of a {card.model} model in float32 or float16, got the {card.graph} graph in "
            f"{card.precision}; only models that look through a retina have other graphs, and int8"
        )
    if card.precision == "int8" and card.target == "gpu":
        raise ExportError(
            "expected float32 or float16 for a GPU, got int8, whose whole numbers onnxruntime leaves to the processor; "
            "choose another ",
            Argument("precision"),
            ", or ",
            Setting("target", "cpu"),
        )


def _check_parity(parity: Parity, card: ModelCard, path: Path) -> None:
    exact = card.precision == "float32"
    same = parity.difference <= TOLERANCE and parity.elsewhere <= ASTRAY
    good = same and not parity.labels_differ and parity.ties <= TIED_SHARE * parity.images
    near = parity.labels_differ <= CHANGED * parity.images and not math.isnan(parity.difference)
    if good if exact else near:
        return
    allowed = f"within {TOLERANCE}" if exact else f"in all but {CHANGED:.0%} of the labels"
    raise ExportError(
        f"expected the exported file to answer as the model does, {allowed}; on {parity.images} images it differed by "
        f"up to {parity.difference:.1e}, by {parity.elsewhere:.1e} in where it looked and what it handed on, in "
        f"{parity.labels_differ} labels, and in {parity.ties} fixations that fell between two pixels, so {path} was "
        "not written; ",
        "report this together with the recipe" if exact else Sentence("choose another ", Argument("precision")),
    )


def beliefs_of_file(
    observer: Observer, card: ModelCard, images: UInt8[Tensor, "batch channels height width"]
) -> Callable[[Iterable[tuple[Tensor, Tensor]]], tuple[Tensor, Tensor]]:
    """What a model believes in the precision of its file.

    Args:
        observer: The model.
        card: Says which precision and input type; whatever its graph, an episode is asked.
        images: At least 2, to trace a model without a retina with.

    Returns:
        From batches of images and labels to logits (images, time, classes) and labels, as
        :func:`glimpse.evaluation.evaluate.beliefs` has them.
    """
    session = session_of(build(observer, replace(card, graph="episode", state_size=None), images).SerializeToString())

    def believed(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        logits, labels = [], []
        for pixels, shown in batches:
            given = pixels if card.input_type == "uint8" else fractions(pixels)
            logits.append(torch.from_numpy(session.run([LOGITS], {INPUT: given.numpy()})[0]))
            labels.append(shown)
        return torch.cat(logits), torch.cat(labels)

    return believed


def _measured(card: ModelCard, model: onnx.ModelProto, images: Tensor) -> dict[str, Any]:
    """The card's budgets with the time that they take, and where it was measured; nothing where this can't be here."""
    if card.graph == "step" or card.target == "gpu":
        return {}
    sizes = {"batch": 1, "height": card.height, "width": card.width}
    session = open_session(model.SerializeToString(), "cpu", 1, sizes)
    one = (images[:1] if card.input_type == "uint8" else fractions(images[:1])).numpy()
    counts = range(1, card.num_glimpses + 1) if card.graph == "adaptive" else [card.num_glimpses]
    taken = []
    for count in counts:
        feeds = {INPUT: one} | ({MAX_GLIMPSES: np.array(count)} if card.graph == "adaptive" else {})
        runs = []
        for _ in range(TIMED_RUNS):
            start = time.perf_counter()
            session.run(None, feeds)
            runs.append(time.perf_counter() - start)
        taken.append(1000 * float(np.median(runs)))

    def timed(budget: Budget) -> Budget:
        if card.graph == "episode" and budget.glimpses < card.num_glimpses:
            return budget
        return replace(budget, milliseconds=round(float(np.interp(budget.glimpses, list(counts), taken)), 4))

    return {"budgets": tuple(timed(budget) for budget in card.budgets), "measured_on": processor()}


def _convert(piece: Fragment, precision: str) -> None:
    if precision == "float16":
        to_half(piece)
    elif precision == "int8":
        to_int8(piece)
