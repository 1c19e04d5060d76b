"""What a model answers, and when it may stop looking. Plain arrays, no torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from glimpse.runtime.limits import Limits

REASONS = ("confident", "budget", "time")
"""Why a model stops looking at an image: the confidence that was asked for was reached, the number of glimpses was
reached, or the time ran out."""


class Prediction(NamedTuple):
    """What a model believes of each image of a batch, and where it looked, after each glimpse.

    The time axis is as long as the longest look of the batch. What follows an image's last glimpse repeats it, so that
    the last time holds the answer for every image.
    """

    probabilities: Float[np.ndarray, "batch time classes"]
    """In [0, 1]; the last time holds the answer."""
    locations: Float[np.ndarray, "batch time 2"]
    """Fixations, (x, y); the image's edges lie at -1 and 1, x to the right, y down."""
    boxes: Float[np.ndarray, "batch time scales 4"] | None = None
    """Windows in pixels, (left, top, right, bottom), finest scale first, not clipped to the image; None for a model
    without a retina."""
    maps: Float[np.ndarray, "batch time map_height map_width"] | None = None
    """Attention weights over equal cells of what the model was shown, which sum to one; None for a model without
    maps."""
    glimpses: Int[np.ndarray, " batch"] | None = None
    """How many glimpses each image took; a session always says it."""
    reasons: tuple[str, ...] = ()
    """Why the model stopped looking at each image, one of ``REASONS``; a session always says it."""

    def row(self, index: int) -> "Prediction":
        """One image's part: a batch of one, with the glimpses that it took.

        Args:
            index: Of the image in the batch.
        """
        here = slice(index, index + 1)
        taken = None if self.glimpses is None else int(self.glimpses[index])
        return Prediction(
            self.probabilities[here, :taken],
            self.locations[here, :taken],
            None if self.boxes is None else self.boxes[here, :taken],
            None if self.maps is None else self.maps[here, :taken],
            None if self.glimpses is None else self.glimpses[here],
            self.reasons[here],
        )


class ImagePrediction(NamedTuple):
    """A :class:`Prediction` for one image, without the batch axis."""

    probabilities: Float[np.ndarray, "time classes"]
    locations: Float[np.ndarray, "time 2"]
    boxes: Float[np.ndarray, "time scales 4"] | None = None
    maps: Float[np.ndarray, "time map_height map_width"] | None = None
    glimpses: int | None = None
    reasons: str | None = None


class Glance(NamedTuple):
    """What a model believes after one more glimpse of one image."""

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
    """Since the first glance was asked for."""
    reason: str | None
    """None while it goes on; else why it stopped, one of ``REASONS``."""


def truncate(prediction: Prediction, limit: Limits) -> Prediction:
    """Leave out the glimpses of a finished episode that the limits, but for the time, would not have allowed.

    Args:
        prediction: Every glimpse of every image.
        limit: When to stop; its time does not count.
    """
    probabilities = prediction.probabilities[:, : limit.max_glimpses]
    batch, time = probabilities.shape[:2]
    if limit.confidence is None:
        shown = slice(time)
        return Prediction(
            probabilities,
            prediction.locations[:, shown],
            None if prediction.boxes is None else prediction.boxes[:, shown],
            None if prediction.maps is None else prediction.maps[:, shown],
            np.full(batch, time),
            ("budget",) * batch,
        )
    told = limit.told(probabilities)
    ever = np.asarray(told.any(1))
    glimpses = np.where(ever, told.argmax(1) + 1, time)
    kept = (np.arange(batch)[:, None], np.minimum(np.arange(glimpses.max()), glimpses[:, None] - 1))
    return Prediction(
        probabilities[kept],
        prediction.locations[kept],
        None if prediction.boxes is None else prediction.boxes[kept],
        None if prediction.maps is None else prediction.maps[kept],
        glimpses,
        stop_reasons(ever),
    )


def stop_reasons(told: Bool[np.ndarray, " batch"]) -> tuple[str, ...]:
    """Say why a model that had all the time stopped looking at each image.

    Args:
        told: Whether the confidence that was asked for was reached.
    """
    return tuple("confident" if is_told else "budget" for is_told in told)


def concatenate(predictions: Sequence[Prediction], axis: int) -> Prediction:
    """Put predictions behind one another, without their glimpses and reasons.

    Args:
        predictions: At least one, of shapes that are the same along the other axes.
        axis: 0 for further images, 1 for further glimpses of the same.
    """
    first = predictions[0]
    return Prediction(
        np.concatenate([part.probabilities for part in predictions], axis),
        np.concatenate([part.locations for part in predictions], axis),
        None if first.boxes is None else np.concatenate([part.boxes for part in predictions], axis),
        None if first.maps is None else np.concatenate([part.maps for part in predictions], axis),
    )
