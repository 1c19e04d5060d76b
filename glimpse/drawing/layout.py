"""Sizes in drawings: the room around and between their parts, and how pictures are enlarged and reduced."""

import math

from PIL import Image

PADDING = 20
"""Around a drawing, pixels."""
GAP = 16
"""Between the panels of a drawing, pixels."""
WINDOW_GAP = 8
"""Between the windows of a retina, pixels."""
BADGE_RADIUS = 11
"""Of the disc with a glimpse's number, pixels."""


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Multiply a size, to whole pixels, at least 1.

    Args:
        size: Width and height, pixels.
        scale: Above 0.
    """
    width, height = (max(1, round(length * scale)) for length in size)
    return width, height


def even_size(size: tuple[int, int]) -> tuple[int, int]:
    """Round a size up to even sides, as H.264 needs them: its usual form halves the resolution of colours.

    Args:
        size: Width and height, pixels.
    """
    width, height = (length + length % 2 for length in size)
    return width, height


def display_size(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Size at which a picture's pixels can be seen and the picture fits a screen.

    Args:
        size: Its width and height, pixels.
        shortest: A smaller long side is multiplied by a whole number until it has so many pixels.
        longest: A larger long side is reduced to so many pixels.
    """
    long_side = max(size)
    enlargement = max(1, math.ceil(shortest / long_side))
    return scaled_size(size, min(float(enlargement), longest / long_side))


def resize(
    picture: Image.Image, size: tuple[int, int], reducing: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """Resize a picture; where it is enlarged, its pixels stay rectangles of one colour.

    Args:
        picture: In any of Pillow's modes.
        size: Width and height of the result, pixels.
        reducing: The filter for a picture that gets smaller.
    """
    enlarged = size[0] >= picture.width and size[1] >= picture.height
    return picture.resize(size, Image.Resampling.NEAREST if enlarged else reducing)
