"""The canvas of a folder's images: its size follows from theirs."""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

LONGEST_CANVAS_SIDE = 640
"""Longest side that is chosen, pixels."""
LEAST_CANVAS_SIDE = 32
"""Shortest side that is chosen, and the step between longer ones, pixels."""
FINE_STEP = 16
"""The step between sides of less than twice the least, pixels."""


class CanvasSize(NamedTuple):
    """A canvas, and why it was chosen."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    reason: str
    """In words."""


def canvas_size(sizes: Sequence[tuple[int, int]], most_pixels: int) -> CanvasSize:
    """Choose a canvas for images: their median proportions, and the median of their sizes.

    An image's size is the square root of its area. Each side is a multiple of 32 pixels, or of 16 below 64, at least
    32 and at most 640.

    Args:
        sizes: Each image's (height, width), pixels; at least one.
        most_pixels: A canvas with more than memory has room for is reduced, until its sides are the least ones.
    """
    size = median(math.sqrt(height * width) for height, width in sizes)
    # Of the logarithm, so that as many tall images as wide ones make a square.
    stretch = math.exp(median(math.log(width / height) for height, width in sizes) / 2)
    middle = (size / stretch, size * stretch)
    scale = min(1.0, LONGEST_CANVAS_SIDE / max(middle))
    limit = f", at most {LONGEST_CANVAS_SIDE} a side" if scale < 1 else ""
    height, width = (_rounded(scale * side) for side in middle)
    while height * width > most_pixels and max(height, width) > LEAST_CANVAS_SIDE:
        scale *= 0.95
        height, width = (_rounded(scale * side) for side in middle)
        limit = ", so that all of them fit into memory"
    sides = [side for of_image in sizes for side in of_image]
    return CanvasSize(
        height,
        width,
        f"images of {min(sides)} to {max(sides)} pixels a side, {middle[0]:.0f}x{middle[1]:.0f} in the middle: scaled "
        f"to {height}x{width}{limit}",
    )


def _rounded(side: float) -> int:
    step = FINE_STEP if side < 2 * LEAST_CANVAS_SIDE else LEAST_CANVAS_SIDE
    return max(LEAST_CANVAS_SIDE, step * math.floor(side / step + 0.5))
