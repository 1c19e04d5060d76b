"""Looking glimpse by glimpse: the loop over the glimpses for when the graph takes one at a time.

It is for step graphs, for a limited time, for watching a model look, and for images of which only the pixels under the
windows are to be read. It does what an adaptive graph does in its own loop.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from glimpse.contract.card import ModelCard, RetinaGeometry
from glimpse.contract.tensors import (
    BOXES,
    CONFIDENCE,
    FIRST_LOCATION,
    FRAME,
    GLIMPSE,
    GLIMPSES,
    INPUT,
    LOCATION,
    LOCATIONS,
    MAPS,
    MAX_GLIMPSES,
    NEXT_LOCATION,
    NEXT_STATE,
    PROBABILITIES,
    STATE,
)
from glimpse.images import crop, geometry
from glimpse.images.pixels import ImageError
from glimpse.runtime.graph import Arrays, Call
from glimpse.runtime.inputs import ImageView
from glimpse.runtime.limits import Limits
from glimpse.runtime.prediction import Prediction, concatenate, stop_reasons


class GlimpseResult(NamedTuple):
    """What one more glimpse of some images leads to."""

    seen: Prediction
    """With a time of one."""
    state: Float32[np.ndarray, "batch state"]
    next_location: Float32[np.ndarray, "batch 2"]


Look = Callable[
    [Int64[np.ndarray, " rows"], Float32[np.ndarray, "rows 2"], Float32[np.ndarray, "rows state"]],
    GlimpseResult,
]
"""Takes one glimpse of the images of these indices, at these locations, knowing this."""


class StepState(NamedTuple):
    """What is known of every image of a batch after one more glimpse of those that were not told yet."""

    seen: Prediction
    """With a time of one; of each image the last glimpse that was taken."""
    glimpses: Int64[np.ndarray, " batch"]
    """Taken of each image so far."""
    reasons: tuple[str | None, ...]
    """Why each image is looked at no more; None while it is."""
    seconds: float
    """Since the beginning."""


def step_through(
    look: Look, batch: int, state_size: int, limit: Limits, started: float | None = None
) -> Iterator[StepState]:
    """Look at a batch of images until each is told or a limit is reached, from their middles on.

    Args:
        look: How to take one glimpse.
        batch: How many images there are, at least 1.
        state_size: Length of the model's state.
        limit: When to stop.
        started: When the time began to run, on :func:`time.perf_counter`; by default when the first moment is asked
            for.
    """
    started = time.perf_counter() if started is None else started
    rows = np.arange(batch)
    locations, state = np.zeros((batch, 2), np.float32), np.zeros((batch, state_size), np.float32)
    glimpses = np.zeros(batch, np.int64)
    reasons: list[str | None] = [None] * batch
    seen: Prediction | None = None
    while len(rows):
        taken = look(rows, locations[rows], state[rows])
        locations[rows], state[rows] = taken.next_location, taken.state
        seen = taken.seen if seen is None else _renewed(seen, rows, taken.seen)
        glimpses[rows] += 1
        told = limit.told(taken.seen.probabilities[:, 0])
        seconds = time.perf_counter() - started
        over = _over(int(glimpses.max()), seconds, limit)
        for row, is_told in zip(rows, told, strict=True):
            reasons[row] = "confident" if is_told else over
        rows = rows[~told] if over is None else rows[:0]
        yield StepState(seen, glimpses.copy(), tuple(reasons), seconds)


def collect(moments: Iterator[StepState]) -> Prediction:
    """Look to the end, and put all the glimpses together.

    Args:
        moments: What :func:`step_through` returned.
    """
    listed = list(moments)
    reasons = tuple(str(reason) for reason in listed[-1].reasons)
    return concatenate([moment.seen for moment in listed], axis=1)._replace(
        glimpses=listed[-1].glimpses, reasons=reasons
    )


def replay(found: Prediction, started: float) -> Iterator[StepState]:
    """Tell an answer for one image glimpse by glimpse, as if it came so.

    Args:
        found: The answer.
        started: When it was asked for, on :func:`time.perf_counter`.
    """
    seconds = time.perf_counter() - started
    last = found.probabilities.shape[1] - 1
    for moment in range(last + 1):
        now = slice(moment, moment + 1)
        boxes, maps = (None if field is None else field[:, now] for field in (found.boxes, found.maps))
        reasons = found.reasons if moment == last else (None,)
        seen = Prediction(found.probabilities[:, now], found.locations[:, now], boxes, maps)
        yield StepState(seen, np.array([moment + 1]), reasons, seconds)


def run_adaptive(graph: Call, images: npt.NDArray[Any], limit: Limits) -> Prediction:
    """Look at whole images with an adaptive graph, in its own loop.

    Args:
        graph: The graph.
        images: As the graph takes them, (batch, channels, height, width).
        limit: When to stop; its time does not count.
    """
    given = {INPUT: images, MAX_GLIMPSES: np.array(limit.max_glimpses, np.int64)}
    if limit.confidence is not None:
        given[CONFIDENCE] = np.array(limit.confidence, np.float32)
    found = graph(given)
    reasons = stop_reasons(limit.told(found[PROBABILITIES][:, -1]))
    return prediction_of(found)._replace(glimpses=found[GLIMPSES], reasons=reasons)


def run_one_by_one(graph: Call, scenes: Sequence[ImageView]) -> Prediction:
    """Look at whole images of any size with an episode graph.

    Args:
        graph: The graph.
        scenes: The images.

    Raises:
        ImageError: When one has too many pixels, or their attention maps are not of one size.
    """
    return _side_by_side([prediction_of(graph({INPUT: _planes(scene.whole())})) for scene in scenes])


def prediction_of(found: Arrays) -> Prediction:
    """What a graph that takes images found, without the glimpses and the reasons."""
    return Prediction(
        found[PROBABILITIES],
        found[LOCATIONS],
        found.get(BOXES),
        found.get(MAPS),
    )


def from_images(graph: Call, images: npt.NDArray[Any]) -> Look:
    """Look at whole images with an adaptive graph.

    Args:
        graph: The graph.
        images: As the graph takes them, (batch, channels, height, width).
    """

    def look(rows: Any, locations: Any, state: Any) -> GlimpseResult:
        return _taken(graph({INPUT: _some(images, rows), **_onwards(locations, state)}))

    return look


def from_windows(graph: Call, card: ModelCard, scenes: Sequence[ImageView]) -> Look:
    """Look at images of any size with an adaptive graph, giving it only the pixels under the widest window.

    Args:
        graph: The graph.
        card: The model's card; a model without a retina is given the whole images.
        scenes: The images.

    Raises:
        ImageError: As it looks, when the attention maps are not of one size, or a whole image has too many pixels.
    """

    def look_at_one(scene: ImageView, location: Any, state: Any) -> GlimpseResult:
        given = _onwards(location, state)
        if card.retina:
            box = _clipped(_widest(card.retina, scene, location), scene)
            pixels = scene.read(box)
            given[FRAME] = np.array([box.left, box.top, scene.width, scene.height], np.float32)
        else:
            pixels = scene.whole()
        return _taken(graph({INPUT: _planes(pixels), **given}))

    def look(rows: Any, locations: Any, state: Any) -> GlimpseResult:
        parts = [
            look_at_one(scenes[row], locations[place : place + 1], state[place : place + 1])
            for place, row in enumerate(rows)
        ]
        return GlimpseResult(
            _side_by_side([part.seen for part in parts]),
            np.concatenate([part.state for part in parts]),
            np.concatenate([part.next_location for part in parts]),
        )

    return look


def from_step_graph(graph: Call, card: ModelCard, images: npt.NDArray[Any] | Sequence[ImageView]) -> Look:
    """Look at images with a step graph, cutting its glimpses.

    Args:
        graph: The graph.
        card: The model's card.
        images: Images of one size, uint8 or float32 (batch, channels, height, width), or scenes of any size, of which
            only the pixels under the widest windows are read.

    Raises:
        ValueError: When the model has no retina.
    """
    retina = card.retina
    if retina is None:
        raise ValueError(f"expected the card of a model with a retina, got that of a {card.model!r} model")

    def look(rows: Any, locations: Any, state: Any) -> GlimpseResult:
        if isinstance(images, np.ndarray):
            glimpses = crop.extract_glimpse(_some(images, rows), locations, *retina)
            height, width = images.shape[2:]
        else:
            scenes = [images[row] for row in rows]
            glimpses = np.concatenate([_cut(retina, *each) for each in zip(scenes, locations[:, None], strict=True)])
            height, width = np.array([(scene.height, scene.width) for scene in scenes], np.float32).T
        found = graph({GLIMPSE: glimpses, LOCATION: locations, STATE: state})
        windows = geometry.boxes(locations, height, width, *retina)
        boxes = np.stack([np.stack(box, axis=-1) for box in windows], axis=1)
        seen = Prediction(found[PROBABILITIES][:, None], locations[:, None], boxes[:, None])
        return GlimpseResult(seen, found[NEXT_STATE], found[NEXT_LOCATION])

    return look


def _planes(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One image as a graph takes it: a batch of one, channels first."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]


def _some(images: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return images if len(rows) == len(images) else images[rows]


def _side_by_side(found: Sequence[Prediction]) -> Prediction:
    """Put what was found of single images into a batch."""
    sizes = sorted({part.maps.shape[2:] for part in found if part.maps is not None})
    if len(sizes) > 1:
        raise ImageError(
            f"expected images whose attention maps are of one size, got maps of {sizes} cells; "
            "hand them over one by one"
        )
    return concatenate(found, axis=0)


def _over(taken: int, seconds: float, limit: Limits) -> str | None:
    if taken >= limit.max_glimpses:
        return "budget"
    return "time" if limit.seconds is not None and seconds >= limit.seconds else None


def _renewed(seen: Prediction, rows: npt.NDArray[np.int64], now: Prediction) -> Prediction:
    """What was seen of every image, with what was seen of some of them now."""

    def renewed(before: Any, field: Any) -> Any:
        if before is None:
            return None
        after = before.copy()
        after[rows] = field
        return after

    return Prediction(
        renewed(seen.probabilities, now.probabilities),
        renewed(seen.locations, now.locations),
        renewed(seen.boxes, now.boxes),
        renewed(seen.maps, now.maps),
    )


def _onwards(locations: npt.NDArray[np.float32], state: npt.NDArray[np.float32]) -> Arrays:
    """Inputs of an adaptive graph that takes one glimpse and goes on from what is known."""
    one = np.array(1, np.int64)
    return {FIRST_LOCATION: locations, STATE: state, MAX_GLIMPSES: one}


def _taken(found: Arrays) -> GlimpseResult:
    return GlimpseResult(prediction_of(found), found[NEXT_STATE], found[NEXT_LOCATION])


def _widest(retina: RetinaGeometry, scene: ImageView, location: npt.NDArray[np.float32]) -> geometry.Box:
    """The widest window at a location (1, 2), in whole pixels of the image."""
    box = geometry.boxes(location, scene.height, scene.width, *retina)[-1]
    return geometry.Box(*(int(edge.item()) for edge in box))


def _clipped(box: geometry.Box, scene: ImageView) -> geometry.Box:
    """The part of a box that the image has, or the pixel nearest to it where it has none."""
    left, top = min(max(box.left, 0), scene.width - 1), min(max(box.top, 0), scene.height - 1)
    right, bottom = min(max(box.right, left + 1), scene.width), min(max(box.bottom, top + 1), scene.height)
    return geometry.Box(left, top, right, bottom)


def _cut(
    retina: RetinaGeometry, scene: ImageView, location: npt.NDArray[np.float32]
) -> Float32[np.ndarray, "1 scales channels size size"]:
    """Cut one glimpse, reading no more than the pixels under the widest window."""
    box = _widest(retina, scene, location)
    part = _clipped(box, scene)
    pixels = scene.read(part)
    window = np.zeros((1, pixels.shape[2], box.bottom - box.top, box.right - box.left), pixels.dtype)
    top, left = part.top - box.top, part.left - box.left
    if 0 <= top < window.shape[2] and 0 <= left < window.shape[3]:
        window[0, :, top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels.transpose(2, 0, 1)
    return crop.pool(window, *retina)
