"""The prediction for one image as a JSON object, as the command line prints it and the service returns it."""

from collections.abc import Sequence
from typing import Any

from glimpse.runtime.prediction import Prediction


def image_payload(
    prediction: Prediction, classes: Sequence[str], height: int, width: int, maps: bool = False
) -> dict[str, Any]:
    """Build the JSON object for the prediction for one image.

    Args:
        prediction: A batch of one, with the glimpses that were taken, in the frame of the image.
        classes: Class names, in the order of the probabilities.
        height: Of the image, pixels.
        width: Of the image, pixels.
        maps: Whether each glimpse has its attention map, if the model has maps.

    Returns:
        Its values are those of Python, and scalars and arrays of numpy: ``class``, ``confidence``, ``probabilities``
        (by class), ``width``, ``height``, ``reason`` (one of :data:`glimpse.runtime.prediction.REASONS`, or None) and
        ``glimpses`` (what :func:`glimpse_payloads` returns).
    """
    glimpses = glimpse_payloads(prediction, classes, maps)
    return {
        "class": glimpses[-1]["class"],
        "confidence": glimpses[-1]["confidence"],
        "probabilities": dict(zip(classes, prediction.probabilities[0, -1], strict=True)),
        "width": width,
        "height": height,
        "reason": prediction.reasons[0] if prediction.reasons else None,
        "glimpses": glimpses,
    }


def glimpse_payloads(prediction: Prediction, classes: Sequence[str], maps: bool = False) -> list[dict[str, Any]]:
    """Build the JSON object for each glimpse of one image.

    Args:
        prediction: A batch of one, in the frame of the image.
        classes: Class names, in the order of the probabilities.
        maps: Whether each glimpse has its attention map, if the model has maps.

    Returns:
        Objects with ``time`` (from 0), ``class`` and ``confidence``; ``location`` (x, y) for a model with a retina or
        with maps; ``boxes`` (scales, 4) for one with a retina or windows; ``map`` (map_height, map_width) where
        requested.
    """
    probabilities = prediction.probabilities[0]
    labels, confidences = probabilities.argmax(1).tolist(), probabilities.max(1)
    glimpses: list[dict[str, Any]] = []
    for time, label in enumerate(labels):
        glimpse: dict[str, Any] = {"time": time, "class": classes[label], "confidence": confidences[time]}
        if prediction.boxes is not None or prediction.maps is not None:
            glimpse["location"] = prediction.locations[0, time]
        if prediction.boxes is not None:
            glimpse["boxes"] = prediction.boxes[0, time]
        if maps and prediction.maps is not None:
            glimpse["map"] = prediction.maps[0, time]
        glimpses.append(glimpse)
    return glimpses
