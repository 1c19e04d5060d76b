"""What glimpses have shown of an image, put together again. No torch.

It is unknown where nobody looked, and coarse where only the wide windows did.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8


class SeenGlimpse(NamedTuple):
    """One glimpse, as it was seen."""

    location: tuple[float, float]
    """The fixation, (x, y) in [-1, 1]."""
    boxes: Int64[np.ndarray, "scales 4"]
    """Its windows, pixels, (left, top, right, bottom), finest scale first; they may hang over the image's edges."""
    pixels: UInt8[np.ndarray, "scales size size channels"]
    """What the retina made of them, 0 to 255, grey or RGB."""
    time: float
    """Seconds since the image was shown."""


class RevealedImage(NamedTuple):
    """An image as far as it has been seen."""

    image: UInt8[np.ndarray, "height width 3"]
    """RGB; 0 where nothing was seen."""
    known: Bool[np.ndarray, "height width"]
    """Which pixels lay in any window."""


def reveal(glimpses: Sequence[SeenGlimpse], height: int, width: int) -> RevealedImage:
    """Put glimpses together, each pixel as the finest window saw it that it lay in; of equals the later one counts.

    Args:
        glimpses: What was seen.
        height: Of the image, pixels.
        width: Likewise.
    """
    image = np.zeros((height, width, 3), np.uint8)
    known = np.zeros((height, width), bool)
    scales = len(glimpses[0].boxes) if glimpses else 0
    for scale in reversed(range(scales)):
        for glimpse in glimpses:
            left, top, right, bottom = glimpse.boxes[scale].tolist()
            rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
            factor = (right - left) // glimpse.pixels.shape[1]
            blocks = glimpse.pixels[scale].repeat(factor, axis=0).repeat(factor, axis=1)
            image[rows, columns] = blocks[rows.start - top : height - top, columns.start - left : width - left]
            known[rows, columns] = True
    return RevealedImage(image, known)
