"""The reconstruction of an image from glimpses. No torch.

Pixels outside all windows are unknown; those inside coarse windows only have their resolution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8


class PlacedGlimpse(NamedTuple):
    """One glimpse, with its windows in the image."""

    location: tuple[float, float]
    """The fixation, (x, y) in [-1, 1]."""
    boxes: Int64[np.ndarray, "scales 4"]
    """Its windows, pixels, (left, top, right, bottom), finest scale first; they may extend beyond the image."""
    pixels: UInt8[np.ndarray, "scales size size channels"]
    """The output of the retina, 0 to 255, grey or RGB."""
    time: float
    """Seconds since the image was displayed."""


class RevealedImage(NamedTuple):
    """The parts of an image that glimpses have revealed."""

    image: UInt8[np.ndarray, "height width 3"]
    """RGB; 0 for unknown pixels."""
    visible: Bool[np.ndarray, "height width"]
    """Pixels inside any window."""


def reveal(glimpses: Sequence[PlacedGlimpse], height: int, width: int) -> RevealedImage:
    """Combine glimpses; each pixel has the value of the finest window that contains it, the latest one of equals.

    Args:
        glimpses: The glimpses.
        height: Height of the image, pixels.
        width: Width of the image, pixels.
    """
    image = np.zeros((height, width, 3), np.uint8)
    visible = np.zeros((height, width), bool)
    scales = len(glimpses[0].boxes) if glimpses else 0
    for scale in reversed(range(scales)):
        for glimpse in glimpses:
            left, top, right, bottom = glimpse.boxes[scale].tolist()
            rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
            factor = (right - left) // glimpse.pixels.shape[1]
            blocks = glimpse.pixels[scale].repeat(factor, axis=0).repeat(factor, axis=1)
            image[rows, columns] = blocks[rows.start - top : height - top, columns.start - left : width - left]
            visible[rows, columns] = True
    return RevealedImage(image, visible)
