"""The loop over the glimpses, for when each call of the graph takes one.

It is for step graphs, for a limited time, for scans that yield each glimpse, and for images of which only the pixels
under the windows are read. It computes what an adaptive graph computes in its own loop.
"""

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from glimpse.contract.card import ModelCard, RetinaGeometry
from glimpse.contract.tensors import GLIMPSE, INPUT, LOCATION, NEXT_LOCATION, NEXT_STATE, PROBABILITIES, STATE
from glimpse.images import crop, geometry
from glimpse.runtime.graph import Arrays, Call
from glimpse.runtime.inputs import ImageView, Locations
from glimpse.runtime.limits import Limits
from glimpse.runtime.prediction import Glance, Prediction, concatenate
from glimpse.runtime.whole_episode import (
    batch_of,
    clipped,
    one_nchw,
    prediction_of,
    step_inputs,
    widest_window,
    window_inputs,
)


class GlimpseResult(NamedTuple):
    """What one more glimpse of some images leads to."""

    prediction: Prediction
    """With a time of one."""
    state: Float32[np.ndarray, "batch state"]
    next_location: Float32[np.ndarray, "batch 2"]


GlimpseFunction = Callable[
    [Int64[np.ndarray, " rows"], Float32[np.ndarray, "rows 2"], Float32[np.ndarray, "rows state"]],
    GlimpseResult,
]
"""Takes one glimpse of the images of these indices, at these locations, with this state of the model."""


class StepState(NamedTuple):
    """What is known of every image of a batch after one more glimpse of those that had not stopped before."""

    prediction: Prediction
    """With a time of one; of each image the last glimpse that was taken."""
    glimpses: Int64[np.ndarray, " batch"]
    """Taken of each image so far."""
    reasons: tuple[str | None, ...]
    """Why no further glimpse of each image is taken; None while there are more to come."""
    seconds: float
    """Since the beginning."""


def step_through(
    take_glimpse: GlimpseFunction,
    batch: int,
    state_size: int,
    limit: Limits,
    started: float | None = None,
    first: Locations | None = None,
) -> Iterator[StepState]:
    """Take glimpses of a batch of images until each is confident or a limit is reached.

    Args:
        take_glimpse: How to take one glimpse.
        batch: How many images there are, at least 1.
        state_size: Length of the model's state.
        limit: When to stop.
        started: When the time began to run, on :func:`time.perf_counter`; by default when the first step is requested.
        first: Where to begin, (x, y); at their middles when left out.
    """
    started = time.perf_counter() if started is None else started
    rows = np.arange(batch)
    locations = np.zeros((batch, 2), np.float32) if first is None else first.copy()
    state = np.zeros((batch, state_size), np.float32)
    glimpses = np.zeros(batch, np.int64)
    reasons: list[str | None] = [None] * batch
    prediction: Prediction | None = None
    while len(rows):
        result = take_glimpse(rows, locations[rows], state[rows])
        locations[rows], state[rows] = result.next_location, result.state
        prediction = result.prediction if prediction is None else _updated(prediction, rows, result.prediction)
        glimpses[rows] += 1
        confident = limit.early_exit(result.prediction.probabilities[:, 0])
        seconds = time.perf_counter() - started
        reached = _reached_limit(int(glimpses.max()), seconds, limit)
        for row, is_confident in zip(rows, confident, strict=True):
            reasons[row] = "confident" if is_confident else reached
        rows = rows[~confident] if reached is None else rows[:0]
        yield StepState(prediction, glimpses.copy(), tuple(reasons), seconds)


def collect(steps: Iterator[StepState]) -> Prediction:
    """Run all steps, and join their glimpses.

    Args:
        steps: What :func:`step_through` returned.
    """
    listed = list(steps)
    reasons = tuple(str(reason) for reason in listed[-1].reasons)
    return concatenate([step.prediction for step in listed], axis=1)._replace(
        glimpses=listed[-1].glimpses, reasons=reasons
    )


def replay(prediction: Prediction, started: float) -> Iterator[StepState]:
    """Yield a prediction for one image glimpse by glimpse, as if each glimpse were a step.

    Args:
        prediction: Of all its glimpses.
        started: When it was requested, on :func:`time.perf_counter`.
    """
    seconds = time.perf_counter() - started
    last = prediction.probabilities.shape[1] - 1
    for index in range(last + 1):
        reasons = prediction.reasons if index == last else (None,)
        step = Prediction(*prediction.map_arrays(operator.itemgetter((slice(None), slice(index, index + 1)))))
        yield StepState(step, np.array([index + 1]), reasons, seconds)


def glance_of(time: int, step: StepState, prediction: Prediction) -> Glance:
    """The first image's part of a step.

    Args:
        time: Which glimpse it was, from 0.
        step: The step.
        prediction: That of the step, in the frame in which the glance has its location and its boxes.
    """
    probabilities, location, boxes, map_ = prediction.map_arrays(operator.itemgetter((0, 0)))
    label = int(probabilities.argmax())
    sure = float(probabilities[label])
    return Glance(time, location, boxes, map_, probabilities, label, sure, step.seconds, step.reasons[0])


def from_images(graph: Call, images: npt.NDArray[Any]) -> GlimpseFunction:
    """Take glimpses of whole images with an adaptive graph.

    Args:
        graph: The graph.
        images: As the graph takes them, (batch, channels, height, width).
    """

    def take_glimpse(rows: Any, locations: Any, state: Any) -> GlimpseResult:
        return _result_of(graph({INPUT: _select(images, rows), **step_inputs(locations, state)}))

    return take_glimpse


def from_windows(graph: Call, card: ModelCard, views: Sequence[ImageView]) -> GlimpseFunction:
    """Take glimpses of images of any size with an adaptive graph, which gets only the pixels under the widest window.

    Args:
        graph: The graph.
        card: The model's card; a model without a retina gets the whole images.
        views: The images.

    Raises:
        ImageError: When a glimpse is taken and the attention maps are not of one size, or a whole image has too many
            pixels.
    """

    def of_one(view: ImageView, location: Any, state: Any) -> GlimpseResult:
        if card.retina:
            return _result_of(graph(window_inputs(card.retina, view, location, state)))
        return _result_of(graph({INPUT: one_nchw(view.whole()), **step_inputs(location, state)}))

    def take_glimpse(rows: Any, locations: Any, state: Any) -> GlimpseResult:
        results = [
            of_one(views[row], locations[place : place + 1], state[place : place + 1]) for place, row in enumerate(rows)
        ]
        return GlimpseResult(
            batch_of([result.prediction for result in results]),
            np.concatenate([result.state for result in results]),
            np.concatenate([result.next_location for result in results]),
        )

    return take_glimpse


def from_step_graph(graph: Call, card: ModelCard, images: npt.NDArray[Any] | Sequence[ImageView]) -> GlimpseFunction:
    """Take glimpses of images with a step graph, which are cropped here.

    Args:
        graph: The graph.
        card: The model's card.
        images: Images of one size, uint8 or float32 (batch, channels, height, width), or views of any size, of which
            only the pixels under the widest windows are read.

    Raises:
        ValueError: When the model has no retina.
    """
    retina = card.retina
    if retina is None:
        raise ValueError(f"expected the card of a model with a retina, got that of a {card.model!r} model")

    def take_glimpse(rows: Any, locations: Any, state: Any) -> GlimpseResult:
        if isinstance(images, np.ndarray):
            glimpses = crop.extract_glimpse(_select(images, rows), locations, *retina)
            height, width = images.shape[2:]
        else:
            views = [images[row] for row in rows]
            glimpses = np.concatenate([_crop(retina, *each) for each in zip(views, locations[:, None], strict=True)])
            height, width = np.array([(view.height, view.width) for view in views], np.float32).T
        outputs = graph({GLIMPSE: glimpses, LOCATION: locations, STATE: state})
        windows = geometry.boxes(locations, height, width, *retina)
        boxes = np.stack([np.stack(box, axis=-1) for box in windows], axis=1)
        prediction = Prediction(outputs[PROBABILITIES][:, None], locations[:, None], boxes[:, None])
        return GlimpseResult(prediction, outputs[NEXT_STATE], outputs[NEXT_LOCATION])

    return take_glimpse


def _select(images: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return images if len(rows) == len(images) else images[rows]


def _reached_limit(taken: int, seconds: float, limit: Limits) -> str | None:
    if taken >= limit.max_glimpses:
        return "budget"
    return "time" if limit.seconds is not None and seconds >= limit.seconds else None


def _updated(prediction: Prediction, rows: npt.NDArray[np.int64], of_rows: Prediction) -> Prediction:
    """The prediction for every image, with new values for some of them."""

    def update(before: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        after = before.copy()
        after[rows] = values
        return after

    return Prediction(*prediction.map_arrays(update, of_rows))


def _result_of(outputs: Arrays) -> GlimpseResult:
    return GlimpseResult(prediction_of(outputs), outputs[NEXT_STATE], outputs[NEXT_LOCATION])


def _crop(
    retina: RetinaGeometry, view: ImageView, location: npt.NDArray[np.float32]
) -> Float32[np.ndarray, "1 scales channels size size"]:
    """Crop one glimpse, reading no more than the pixels under the widest window."""
    box = widest_window(retina, view, location)
    part = clipped(box, view)
    pixels = view.read(part)
    window = np.zeros((1, pixels.shape[2], box.bottom - box.top, box.right - box.left), pixels.dtype)
    top, left = part.top - box.top, part.left - box.left
    if 0 <= top < window.shape[2] and 0 <= left < window.shape[3]:
        window[0, :, top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels.transpose(2, 0, 1)
    return crop.pool(window, *retina)
