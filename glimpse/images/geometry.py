"""The one coordinate convention.

A *location* is (x, y) in [-1, 1]: the image's centre is (0, 0), x grows to the right and y downwards, and the outer
edges of the image lie at -1 and +1 (the ``align_corners=False`` convention). A *box* is in pixels, (left, top, right,
bottom), with right and bottom exclusive. Windows are nested: the window of scale k is ``size * zoom**k`` pixels wide,
and every smaller window sits in the middle of the largest one.

The functions that take locations accept numpy arrays and torch tensors alike; they use nothing but arithmetic that both
know, so that training, export and the torch-free runtime share them.
"""

import math
from typing import Any, NamedTuple


class RetinaWindow(NamedTuple):
    """One square window of the retina, relative to the upper left corner of the largest one."""

    offset: int
    """Distance in pixels from the largest window's left (and top) edge to this window's."""
    width: int
    """Side length in pixels."""


def windows(size: int, num_scales: int, zoom: int) -> tuple[RetinaWindow, ...]:
    """List the retina's nested windows, finest first.

    Args:
        size: Side length in pixels of the finest window, and of every scale after pooling.
        num_scales: How many windows there are.
        zoom: How many times wider each window is than the one before it.

    Raises:
        ValueError: When a size, a count or the zoom is below 1.
    """
    if size < 1 or num_scales < 1 or zoom < 1:
        raise ValueError(
            "a retina needs size, num_scales and zoom of at least 1; "
            f"got size={size}, num_scales={num_scales}, zoom={zoom}"
        )
    widths = [size * zoom**scale for scale in range(num_scales)]
    return tuple(RetinaWindow((widths[-1] - width) // 2, width) for width in widths)


def to_pixels(unit: Any, length: Any) -> Any:
    """Convert a coordinate in [-1, 1] to pixels in [0, length], measured from the image's left or upper edge."""
    return (unit + 1) * (length * 0.5)


def to_unit(pixels: Any, length: Any) -> Any:
    """Convert a coordinate in pixels, [0, length] from the left or upper edge, to [-1, 1]."""
    return 2 * pixels / length - 1


def window_start(unit: Any, length: Any, width: int) -> Any:
    """First pixel covered by a window of the given width whose middle lies nearest to a coordinate.

    Args:
        unit: Coordinate in [-1, 1] along one axis; any shape.
        length: The image's extent along that axis, pixels.
        width: The window's extent, pixels.

    Returns:
        Whole numbers in the array type (and floating type) of ``unit``. Negative where the window hangs over the edge.
    """
    half = length * 0.5
    start = unit * half + (half - (width - 1) / 2)
    return start.floor() if hasattr(start, "floor") else start // 1


def grid(count: int) -> list[tuple[float, float]]:
    """Middles of the cells of the squarest grid with at least so many cells, row by row, as (x, y) in [-1, 1].

    Args:
        count: How many are wanted; the cells beyond it are left out.
    """
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = [(column, row) for row in range(rows) for column in range(columns)]
    return [(to_unit(column + 0.5, columns), to_unit(row + 0.5, rows)) for column, row in cells[:count]]


class Box(NamedTuple):
    """A window in pixels of the image. Whole numbers, not clipped: a window may hang over the image's edges."""

    left: Any
    top: Any
    right: Any
    """Exclusive."""
    bottom: Any
    """Exclusive."""


def boxes(location: Any, height: Any, width: Any, size: int, num_scales: int, zoom: int) -> tuple[Box, ...]:
    """Box every window of the retina at each location, finest scale first.

    Stack the fields on a last axis, and the scales before it, to get (..., scales, 4).

    Args:
        location: (x, y) on the last axis, in [-1, 1].
        height: The image's height, pixels.
        width: The image's width, pixels.
        size: Side of the finest window, pixels.
        num_scales: How many windows there are.
        zoom: How many times wider each window is than the one before it.

    Returns:
        One box for each scale, whose four fields have the shape of ``location`` less its last axis, and its type.

    Raises:
        ValueError: When a size, a count or the zoom is below 1.
    """
    nested = windows(size, num_scales, zoom)
    left = window_start(location[..., 0], width, nested[-1].width)
    top = window_start(location[..., 1], height, nested[-1].width)
    return tuple(Box(left + offset, top + offset, left + offset + side, top + offset + side) for offset, side in nested)
