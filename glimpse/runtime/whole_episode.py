"""Whole episodes: all glimpses of an image or of a batch, without a limit of time.

Also what calls of graphs for whole episodes and for single glimpses (:mod:`glimpse.runtime.stepping`) have in common:
how images become inputs, and outputs predictions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glimpse.contract.card import ModelCard, RetinaGeometry
from glimpse.contract.tensors import (
    BOXES,
    CHANNELS_LAST,
    CONFIDENCE,
    FIRST_LOCATION,
    FRAME,
    GLIMPSES,
    INPUT,
    LOCATIONS,
    MAPS,
    MAX_GLIMPSES,
    NEXT_LOCATION,
    NEXT_STATE,
    PROBABILITIES,
    STATE,
)
from glimpse.images import geometry
from glimpse.images.pixels import ImageError
from glimpse.runtime.graph import Arrays, Call
from glimpse.runtime.inputs import ImageView, Locations
from glimpse.runtime.limits import Limits
from glimpse.runtime.prediction import Prediction, concatenate, stop_reasons


def run_adaptive(graph: Call, images: npt.NDArray[Any], limit: Limits, options: Arrays | None = None) -> Prediction:
    """Run an adaptive graph on whole images, with the loop over the glimpses in the graph.

    Args:
        graph: The graph.
        images: As the graph takes them, (batch, channels, height, width).
        limit: When to stop; its time does not count.
        options: Further inputs: how the pixels lie in memory, where to begin; their defaults without.
    """
    inputs = {INPUT: images, MAX_GLIMPSES: np.array(limit.max_glimpses, np.int64), **(options or {})}
    if limit.confidence is not None:
        inputs[CONFIDENCE] = np.array(limit.confidence, np.float32)
    outputs = graph(inputs)
    reasons = stop_reasons(limit.early_exit(outputs[PROBABILITIES][:, -1]))
    return prediction_of(outputs)._replace(glimpses=outputs[GLIMPSES], reasons=reasons)


def run_views(
    graph: Call, card: ModelCard, views: Sequence[ImageView], limit: Limits, first: Locations | None = None
) -> Prediction:
    """Run an adaptive graph on images of any size, one after another.

    An image that lies in memory, or is mapped into it, is handed over where it lies, in one call: the graph crops its
    windows out of it, so that the cost doesn't depend on the image's size. Of other images each call gets the pixels
    under the widest window. A model without a retina gets the whole image, in one call.

    Args:
        graph: The graph.
        card: The model's card.
        views: The images.
        limit: When to stop; its time does not count.
        first: Where to begin, (x, y); at their middles when left out.

    Raises:
        ImageError: When the attention maps are not of one size, or a whole image has too many pixels.
    """

    def of_one(place: int, view: ImageView) -> Prediction:
        start: Arrays = {} if first is None else {FIRST_LOCATION: first[place : place + 1]}
        if card.retina is None:
            return run_adaptive(graph, one_nchw(view.whole()), limit)
        pixels = view.pixels
        if pixels is not None and pixels.flags.c_contiguous:
            where_it_lies = pixels.reshape(1, card.channels, view.height, view.width)
            if card.channels == 1:
                return run_adaptive(graph, where_it_lies, limit, start)
            if card.takes_channels_last:
                return run_adaptive(graph, where_it_lies, limit, {**start, CHANNELS_LAST: np.array(1, np.int64)})
        return _through_windows(graph, card.retina, view, limit, start.get(FIRST_LOCATION))

    found = [of_one(place, view) for place, view in enumerate(views)]
    most = max(each.probabilities.shape[1] for each in found)

    def repeat_last(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array[:, np.minimum(np.arange(most), array.shape[1] - 1)]

    return batch_of([Prediction(*each.map_arrays(repeat_last)) for each in found])._replace(
        glimpses=np.array([each.probabilities.shape[1] for each in found]),
        reasons=tuple(each.reasons[0] for each in found),
    )


def _through_windows(
    graph: Call, retina: RetinaGeometry, view: ImageView, limit: Limits, first: Locations | None
) -> Prediction:
    """The prediction for one image, of which each call of an adaptive graph gets the pixels under a window."""
    location = np.zeros((1, 2), np.float32) if first is None else first
    state, taken = None, list[Arrays]()
    confident = np.array([False])
    while not confident[0] and len(taken) < limit.max_glimpses:
        taken.append(graph(window_inputs(retina, view, location, state)))
        location, state = taken[-1][NEXT_LOCATION], taken[-1][NEXT_STATE]
        confident = limit.early_exit(taken[-1][PROBABILITIES][:, 0])
    names = [name for name in (PROBABILITIES, LOCATIONS, BOXES) if name in taken[0]]
    joined = {name: np.concatenate([outputs[name] for outputs in taken], axis=1) for name in names}
    return prediction_of(joined)._replace(reasons=stop_reasons(confident))


def run_one_by_one(graph: Call, views: Sequence[ImageView], first: Locations | None = None) -> Prediction:
    """Run an episode graph on whole images of any size.

    Args:
        graph: The graph.
        views: The images.
        first: Where to begin, (x, y); at their middles when left out.

    Raises:
        ImageError: When one has too many pixels, or their attention maps are not of one size.
    """
    starts: list[Arrays] = [{}] * len(views) if first is None else [{FIRST_LOCATION: each[None]} for each in first]
    return batch_of(
        [
            prediction_of(graph({INPUT: one_nchw(view.whole()), **start}))
            for view, start in zip(views, starts, strict=True)
        ]
    )


def prediction_of(outputs: Arrays) -> Prediction:
    """The prediction in the outputs of a graph that takes images, without the glimpses and the reasons.

    Args:
        outputs: By their names.
    """
    return Prediction(
        outputs[PROBABILITIES],
        outputs[LOCATIONS],
        outputs.get(BOXES),
        outputs.get(MAPS),
    )


def batch_of(predictions: Sequence[Prediction]) -> Prediction:
    """Join the predictions for single images into a batch.

    Args:
        predictions: At least one.

    Raises:
        ImageError: When their attention maps are not of one size.
    """
    sizes = sorted({part.maps.shape[2:] for part in predictions if part.maps is not None})
    if len(sizes) > 1:
        raise ImageError(
            f"expected images whose attention maps are of one size, got maps of {sizes} cells; "
            "hand them over one by one"
        )
    return concatenate(predictions, axis=0)


def step_inputs(locations: npt.NDArray[np.float32], state: npt.NDArray[np.float32] | None) -> Arrays:
    """Inputs with which an adaptive graph takes one glimpse, at these locations and from this state, or the first.

    Args:
        locations: (batch, 2), (x, y) in [-1, 1].
        state: (batch, state_size), None for the first.
    """
    inputs: Arrays = {FIRST_LOCATION: locations, MAX_GLIMPSES: np.array(1, np.int64)}
    return inputs if state is None else {**inputs, STATE: state}


def window_inputs(retina: RetinaGeometry, view: ImageView, location: Any, state: Any) -> Arrays:
    """Inputs with which an adaptive graph takes one glimpse of one image, from its widest window.

    Args:
        retina: How large the windows are.
        view: The image.
        location: (1, 2), (x, y) in [-1, 1].
        state: (1, state_size), None for the first.
    """
    box = clipped(widest_window(retina, view, location), view)
    frame = np.array([box.left, box.top, view.width, view.height], np.float32)
    return {INPUT: one_nchw(view.read(box)), FRAME: frame, **step_inputs(location, state)}


def one_nchw(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One image as a graph takes it: a batch of one, channels first.

    Args:
        pixels: (height, width, channels).
    """
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]


def widest_window(retina: RetinaGeometry, view: ImageView, location: npt.NDArray[np.float32]) -> geometry.Box:
    """The widest window at a location, in whole pixels of the image.

    Args:
        retina: How large the windows are.
        view: The image.
        location: (1, 2), (x, y) in [-1, 1].
    """
    width = retina.size * retina.zoom ** (retina.num_scales - 1)
    left = int(geometry.window_start(location[:, 0], view.width, width).item())
    top = int(geometry.window_start(location[:, 1], view.height, width).item())
    return geometry.Box(left, top, left + width, top + width)


def clipped(box: geometry.Box, view: ImageView) -> geometry.Box:
    """The part of a box that the image has, or the pixel nearest to it where it has none.

    Args:
        box: In pixels of the image.
        view: The image.
    """
    left, top = min(max(box.left, 0), view.width - 1), min(max(box.top, 0), view.height - 1)
    right, bottom = min(max(box.right, left + 1), view.width), min(max(box.bottom, top + 1), view.height)
    return geometry.Box(left, top, right, bottom)
