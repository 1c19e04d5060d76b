"""The export of a model as one ONNX file with the same outputs.

The graph of a model with a retina is assembled from its step (:mod:`glimpse.export.graph`); any other model is exported
as a whole. Before a file is kept, it is loaded again and compared with the model, in batches and one by one.
"""

import math
import platform
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
from glimpse.contract.tensors import FIRST_LOCATION, INPUT, LOGITS, MAX_GLIMPSES
from glimpse.errors import Argument, ArgumentError, Sentence, Setting
from glimpse.evaluation.evaluate import RANDOM_FIRST_LOCATIONS, first_locations
from glimpse.export.graph.annotations import drop_annotations
from glimpse.export.graph.assembly import GraphPlan, assemble, metadata
from glimpse.export.graph.fragment import Fragment, export_step, state_sizes
from glimpse.export.graph.passes import simplify
from glimpse.export.graph.precision import store_as_float16, to_float16, to_int8
from glimpse.export.graph.whole import export_whole_episode
from glimpse.export.parity import Parity, compare_with_file, session_of
from glimpse.files import whole_path, write_problem
from glimpse.models.hard import HardObserver
from glimpse.models.observer import Observer
from glimpse.nn.retina import PIXEL_MAX, fractions
from glimpse.runtime.providers import open_session, processor

PROBABILITY_TOLERANCE = 1e-4
"""Largest difference in a probability, or in an attention weight, between a float32 file and the model."""
LOCATION_TOLERANCE = 1e-2
"""Largest difference in a location (half images) or a state. Each location depends on the one before, so that rounding
errors grow along a scanpath; a wrong box differs by a whole pixel."""
MAX_CHANGED_LABELS = 0.05
"""Share of the labels that a file of less precision may change."""
MAX_ERROR_INCREASE = 0.005
"""By how much the test error of such a file may exceed the model's, as a share of the images."""
TIED_SHARE = 0.01
"""Share of the images whose fixations may fall within a rounding error of two pixels."""
TIMED_RUNS = 40


class ExportError(ArgumentError):
    """A file whose outputs would differ from the model's, or that can't be made."""


def versions() -> dict[str, str]:
    """The versions of the packages that make an export."""
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
    """Write a model as ONNX, and keep the file only if its outputs equal the model's.

    Args:
        observer: The model to write.
        card: The file's card, which selects graph, input type, precision and target. The milliseconds of its budgets
            are measured here, of a file for processors: one image on one thread.
        path: The file; an existing one is replaced only when the comparison succeeds.
        images: Real images, at least 2, on which the file is compared with the model.

    Raises:
        ExportError: When the model has no such graph, the file can't be written, or it differs from the model, rounding
            ties excepted. In float32, it differs by more than ``PROBABILITY_TOLERANCE`` in a probability, by more than
            ``LOCATION_TOLERANCE`` in a location or a state, or in any label; with less precision, in more than
            ``MAX_CHANGED_LABELS`` of the labels.
    """
    check_export_options(observer, card)
    if problem := write_problem(path):
        raise ExportError(problem)
    model = build_graph(observer, card, images)
    store_as_float16(model)
    drop_annotations(model)
    if card.budgets:
        card = replace(card, **_timed_budgets(card, model, images))
    del model.metadata_props[:]
    helper.set_model_props(model, metadata(card))
    onnx.checker.check_model(model, full_check=True)
    with whole_path(path) as draft:
        draft.write_bytes(seal(model.SerializeToString()))
        parity = compare_with_file(observer, card, draft.read_bytes(), images)
        _check_parity(parity, card, path)
    return parity


def build_graph(
    observer: Observer,
    card: ModelCard,
    images: UInt8[Tensor, "batch channels height width"],
    outputs: tuple[str, ...] | None = None,
) -> onnx.ModelProto:
    """Make a model's graph, unsealed.

    Args:
        observer: The model.
        card: Its card, which selects the graph.
        images: At least 2 images, with which torch traces a model without a retina.
        outputs: Names of the wanted outputs, for a model with a retina; all of the card's when left out.
    """
    if isinstance(observer, HardObserver):
        retina = observer.retina
        fragment = export_step(observer.model, (retina.num_scales, card.channels, retina.size, retina.size))
        simplify(fragment, 1 / PIXEL_MAX if card.input_type == "uint8" and card.graph != "step" else 1.0)
        _convert(fragment, card.precision)
        return assemble(GraphPlan(fragment, state_sizes(observer.model), card, outputs))
    return export_whole_episode(observer, card, images)


def check_export_options(observer: Observer, card: ModelCard) -> None:
    """Reject a graph, an input type, a precision or a target that a model can't be exported with.

    Args:
        observer: The model.
        card: Its card, which names them.

    Raises:
        ExportError: With the choices that there are.
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
    same = parity.difference <= PROBABILITY_TOLERANCE and parity.other_difference <= LOCATION_TOLERANCE
    good = same and not parity.labels_differ and parity.ties <= TIED_SHARE * parity.images
    near = parity.labels_differ <= MAX_CHANGED_LABELS * parity.images and not math.isnan(parity.difference)
    if good if exact else near:
        return
    allowed = f"within {PROBABILITY_TOLERANCE}" if exact else f"in all but {MAX_CHANGED_LABELS:.0%} of the labels"
    raise ExportError(
        f"expected the exported file to answer as the model does, {allowed}; on {parity.images} images it differed by "
        f"up to {parity.difference:.1e}, by {parity.other_difference:.1e} in its locations and states, in "
        f"{parity.labels_differ} labels, and in {parity.ties} fixations that fell between two pixels, so {path} was "
        "not written; ",
        "report this together with the recipe" if exact else Sentence("choose another ", Argument("precision")),
    )


def logits_of_file(
    observer: Observer, card: ModelCard, images: UInt8[Tensor, "batch channels height width"]
) -> Callable[[Iterable[tuple[Tensor, Tensor]]], tuple[Tensor, Tensor]]:
    """A function that computes the logits of a model in the precision of its file.

    Args:
        observer: The model.
        card: Its card, which names precision and input type; the graph is always an episode.
        images: At least 2 images, with which torch traces a model without a retina.

    Returns:
        A function from batches of images and labels to logits (images, time, classes) and labels, like
        :func:`glimpse.evaluation.evaluate.beliefs`.
    """
    session = session_of(
        build_graph(observer, replace(card, graph="episode", state_size=None), images).SerializeToString()
    )

    def predict(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        logits, labels = [], []
        generator = np.random.default_rng(RANDOM_FIRST_LOCATIONS)
        for pixels, batch_labels in batches:
            inputs = pixels if card.input_type == "uint8" else fractions(pixels)
            feeds = {INPUT: inputs.numpy()}
            if card.has_retina:
                feeds[FIRST_LOCATION] = first_locations(card.first_location, len(pixels), generator).numpy()
            logits.append(torch.from_numpy(session.run([LOGITS], feeds)[0]))
            labels.append(batch_labels)
        return torch.cat(logits), torch.cat(labels)

    return predict


def _timed_budgets(card: ModelCard, model: onnx.ModelProto, images: Tensor) -> dict[str, Any]:
    """The card's budgets with their time, and the processor that it was measured on; nothing for steps and GPUs."""
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


def _convert(fragment: Fragment, precision: str) -> None:
    if precision == "float16":
        to_float16(fragment)
    elif precision == "int8":
        to_int8(fragment)
