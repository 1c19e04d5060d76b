"""Results of the client: predictions, and errors of the service."""

import base64
import contextlib
import json
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class ServiceError(Exception):
    """An error of the service or of the connection to it.

    Attributes:
        status: The HTTP status; 0 without a response.
        message: What was expected, what came, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})" if status else message)
        self.status, self.message = status, message


class GlimpsePrediction(NamedTuple):
    """The prediction after one glimpse."""

    time: int
    """Index of the glimpse, from 0."""
    label: str
    """The predicted class."""
    confidence: float
    """Its probability."""
    location: tuple[float, float] | None
    """Where the model looked, (x, y) in [-1, 1] of the image; None for a model without glimpses."""
    boxes: npt.NDArray[np.float64] | None
    """(scales, 4) windows in pixels, (left, top, right, bottom), finest first; None for a model without any."""
    map: npt.NDArray[np.float64] | None
    """Attention weights over equal cells; None without ``explain="attention"``."""
    milliseconds: float | None
    """When the prediction was ready, from the start of the first glimpse; None if it was not measured."""


class Classification(NamedTuple):
    """The classification of an image."""

    label: str
    """The predicted class."""
    confidence: float
    """Its probability."""
    probabilities: dict[str, float]
    """Probability of each class."""
    glimpses: tuple[GlimpsePrediction, ...]
    reason: str
    """Why the model stopped: ``confident`` or ``budget``."""
    width: int
    height: int
    model: str
    """Name of the model."""
    version: str
    """Version of the model."""
    picture: bytes | None
    """A PNG that explains the prediction; None without ``explain``."""


def read_classification(content: dict[str, Any], model: dict[str, str]) -> Classification:
    """Read a classification.

    Args:
        content: The JSON object of the image.
        model: Name and version of the model.
    """
    picture = base64.b64decode(content["picture"].partition(",")[2]) if "picture" in content else None
    glimpses = tuple(read_glimpse(each) for each in content["glimpses"])
    return Classification(
        content["class"],
        content["confidence"],
        content["probabilities"],
        glimpses,
        content["reason"],
        content["width"],
        content["height"],
        model["name"],
        model["version"],
        picture,
    )


def read_glimpse(content: dict[str, Any]) -> GlimpsePrediction:
    """Read the prediction after a glimpse.

    Args:
        content: The JSON object of the glimpse.
    """
    location, boxes, attention = (content.get(name) for name in ("location", "boxes", "map"))
    return GlimpsePrediction(
        content["time"],
        content["class"],
        content["confidence"],
        None if location is None else (location[0], location[1]),
        None if boxes is None else np.array(boxes, np.float64),
        None if attention is None else np.array(attention, np.float64),
        content.get("milliseconds"),
    )


def read_error(status: int, content: bytes) -> ServiceError:
    """Read an error response.

    Args:
        status: The HTTP status.
        content: The body.
    """
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return ServiceError(status, str(json.loads(content)["error"]))
    return ServiceError(status, f"expected a response of the service, got HTTP status {status} without a message")
