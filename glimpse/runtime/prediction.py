"""What a model predicts, for a batch, for one image and after each glimpse. Plain arrays, no torch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from glimpse.runtime.limits import Limits

REASONS = ("confident", "budget", "time")
"""Why a model takes no further glimpse of an image: the requested confidence was reached, the number of glimpses was
reached, or the time ran out."""


class Prediction(NamedTuple):
    """Probabilities and fixations for each image of a batch, after each glimpse.

    The time axis is as long as the greatest number of glimpses in the batch. An image's last glimpse is repeated to its
    end, so that the last time holds the result for every image.
    """

    probabilities: Float[np.ndarray, "batch time classes"]
    """In [0, 1]; those of the last time are the result."""
    locations: Float[np.ndarray, "batch time 2"]
    """Fixations, (x, y); the image's edges lie at -1 and 1, x to the right, y down."""
    boxes: Float[np.ndarray, "batch time scales 4"] | None = None
    """Windows in pixels, (left, top, right, bottom), finest scale first, not clipped to the image; None for a model
    without a retina or windows."""
    maps: Float[np.ndarray, "batch time map_height map_width"] | None = None
    """Attention weights over equal cells of the model's input image, which sum to one; None for a model without
    maps."""
    glimpses: Int[np.ndarray, " batch"] | None = None
    """How many glimpses each image took; a session always sets it."""
    reasons: tuple[str, ...] = ()
    """Why the model took no further glimpse of each image, one of ``REASONS``; a session always sets it."""

    def select(self, index: int) -> "Prediction":
        """One image's part: a batch of one, with the glimpses that it took.

        Args:
            index: Of the image in the batch.
        """
        row = slice(index, index + 1)
        taken = None if self.glimpses is None else int(self.glimpses[index])
        arrays = self.map_arrays(lambda array: array[row, :taken])
        return Prediction(*arrays, None if self.glimpses is None else self.glimpses[row], self.reasons[row])

    def first(self) -> "ImagePrediction":
        """The first image's part, without the batch axis."""
        return ImagePrediction(
            self.probabilities[0],
            self.locations[0],
            None if self.boxes is None else self.boxes[0],
            None if self.maps is None else self.maps[0],
            None if self.glimpses is None else int(self.glimpses[0]),
            self.reasons[0] if self.reasons else None,
        )

    def map_arrays(self, function: Callable[..., Any], *others: "Prediction") -> tuple[Any, Any, Any, Any]:
        """Apply a function to the probabilities, the locations, the boxes and the maps.

        Args:
            function: Takes one array of this prediction, and the same one of each of the others.
            others: Predictions of the same model, so that they have boxes and maps where this one has them.

        Returns:
            What the function returned, in this order; None for boxes or maps that are None.
        """
        probabilities, locations, boxes, maps = (
            None if arrays[0] is None else function(*arrays)
            for arrays in zip(self[:4], *(other[:4] for other in others), strict=True)
        )
        return probabilities, locations, boxes, maps


class ImagePrediction(NamedTuple):
    """A :class:`Prediction` for one image, without the batch axis."""

    probabilities: Float[np.ndarray, "time classes"]
    locations: Float[np.ndarray, "time 2"]
    boxes: Float[np.ndarray, "time scales 4"] | None = None
    maps: Float[np.ndarray, "time map_height map_width"] | None = None
    glimpses: int | None = None
    reasons: str | None = None


class Glance(NamedTuple):
    """The prediction for one image after one more glimpse."""

    time: int
    """Which glimpse this was, from 0."""
    location: Float[np.ndarray, "2"]
    """The fixation, (x, y); the image's edges lie at -1 and 1, x to the right, y down."""
    boxes: Float[np.ndarray, "scales 4"] | None
    """Windows in pixels, (left, top, right, bottom), finest scale first; None for a model without a retina."""
    map: Float[np.ndarray, "map_height map_width"] | None
    """Attention weights, which sum to one; None for a model without maps."""
    probabilities: Float[np.ndarray, " classes"]
    """In [0, 1]."""
    label: int
    """Index of the most probable class."""
    confidence: float
    """Its probability."""
    seconds: float
    """Since the first glance was requested."""
    reason: str | None
    """None while it goes on; else why it stopped, one of ``REASONS``."""


def truncate(prediction: Prediction, limit: Limits) -> Prediction:
    """Leave out the glimpses of a finished episode that the limits, but for the time, would not have allowed.

    Args:
        prediction: Every glimpse of every image.
        limit: When to stop; its time does not count.
    """
    batch, time = prediction.probabilities.shape[:2]
    if limit.confidence is None and time <= limit.max_glimpses:
        whole = prediction.probabilities, prediction.locations, prediction.boxes, prediction.maps
        return Prediction(*whole, np.array([time] * batch), ("budget",) * batch)
    probabilities = prediction.probabilities[:, : limit.max_glimpses]
    time = probabilities.shape[1]
    if limit.confidence is None:
        arrays = prediction.map_arrays(lambda array: array[:, :time])
        return Prediction(*arrays, np.full(batch, time), ("budget",) * batch)
    confident = limit.early_exit(probabilities)
    ever = np.asarray(confident.any(1))
    glimpses = np.where(ever, confident.argmax(1) + 1, time)
    kept = (np.arange(batch)[:, None], np.minimum(np.arange(glimpses.max()), glimpses[:, None] - 1))
    return Prediction(*prediction.map_arrays(lambda array: array[kept]), glimpses, stop_reasons(ever))


def stop_reasons(confident: Bool[np.ndarray, " batch"]) -> tuple[str, ...]:
    """Return why a model whose time was not limited took no further glimpse of each image.

    Args:
        confident: Whether the requested confidence was reached.
    """
    return tuple("confident" if is_confident else "budget" for is_confident in confident)


def concatenate(predictions: Sequence[Prediction], axis: int) -> Prediction:
    """Join predictions along an axis, without their glimpses and reasons.

    Args:
        predictions: At least one, of shapes that are the same along the other axes.
        axis: 0 for further images, 1 for further glimpses of the same images.
    """
    first, *others = predictions
    return Prediction(*first.map_arrays(lambda *arrays: np.concatenate(arrays, axis), *others))


def from_glances(glances: Sequence[Glance]) -> Prediction:
    """Join the glances at one image into its prediction, a batch of one.

    Args:
        glances: All that :meth:`glimpse.runtime.session.GlimpseSession.scan` yielded, or the first ones; at least one.
            The boxes and the locations keep the frame that they have in the glances.
    """
    parts = [
        Prediction(
            glance.probabilities[None, None],
            glance.location[None, None],
            None if glance.boxes is None else glance.boxes[None, None],
            None if glance.map is None else glance.map[None, None],
        )
        for glance in glances
    ]
    reasons = () if glances[-1].reason is None else (glances[-1].reason,)
    return concatenate(parts, axis=1)._replace(glimpses=np.array([len(parts)]), reasons=reasons)
