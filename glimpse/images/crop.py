"""The retina in numpy: :func:`extract_glimpse` is the function of that name in :mod:`glimpse.nn.retina`, without torch.

The two are held together by a parity test. Only the pixels under the largest window are ever read, so that the cost
does not depend on the image's size.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32

from glimpse.images.geometry import window_start, windows


def extract_glimpse(
    images: npt.NDArray[Any], location: Float[np.ndarray, "batch 2"], size: int, num_scales: int, zoom: int
) -> Float32[np.ndarray, "batch scales channels size size"]:
    """Crop nested windows around one location in each image and average each down to the same size.

    What lies outside an image is black.

    Args:
        images: (batch, channels, height, width); uint8 from 0 to 255, or floating point in [0, 1].
        location: (x, y) in [-1, 1], x to the right and y down, (0, 0) the image's middle. A window whose location lies
            beyond an edge is cropped all the same.
        size: Side of the finest window, and of every scale after averaging, pixels.
        num_scales: How many windows there are.
        zoom: How many times wider each window is than the one before it.

    Returns:
        Values in [0, 1], finest scale first.

    Raises:
        ValueError: When the images are no such batch, or the locations are not finite or not one for each image.
    """
    scales = windows(size, num_scales, zoom)
    if images.ndim != 4 or not (images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating)):
        raise ValueError(
            "expected images as uint8 or floating point (batch, channels, height, width), "
            f"got {images.dtype} {images.shape}; put the channels first"
        )
    if location.shape != (len(images), 2) or not np.isfinite(location).all():
        raise ValueError(
            f"expected one finite (x, y) location for each of {len(images)} images, got shape {location.shape} "
            f"with {np.count_nonzero(~np.isfinite(location))} values that are not finite"
        )
    height, width = images.shape[2:]
    rows, inside_rows = _span(location[:, 1], height, scales[-1].width)
    columns, inside_columns = _span(location[:, 0], width, scales[-1].width)
    batch = np.arange(len(images))[:, None, None, None]
    channels = np.arange(images.shape[1])[None, :, None, None]
    largest = images[batch, channels, rows[:, None, :, None], columns[:, None, None, :]].astype(np.float32)
    largest *= inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    if images.dtype == np.uint8:
        largest /= np.float32(255)
    return pool(largest, size, num_scales, zoom)


def pool(
    largest: npt.NDArray[Any], size: int, num_scales: int, zoom: int
) -> Float32[np.ndarray, "batch scales channels size size"]:
    """Make glimpses of the pixels under their largest windows: cut the nested windows and average each down.

    Args:
        largest: (batch, channels, width, width), width that of the largest window; uint8 from 0 to 255, or floating
            point in [0, 1].
        size: Side of the finest window, and of every scale after averaging, pixels.
        num_scales: How many windows there are.
        zoom: How many times wider each window is than the one before it.

    Returns:
        Values in [0, 1], finest scale first.
    """
    scales = windows(size, num_scales, zoom)
    if largest.dtype == np.uint8:
        largest = largest / np.float32(255)
    pooled = []
    for window in scales:
        middle = slice(window.offset, window.offset + window.width)
        factor = window.width // size
        blocks = largest[:, :, middle, middle].reshape(*largest.shape[:2], size, factor, size, factor)
        pooled.append(blocks.mean(axis=(3, 5), dtype=np.float32))
    return np.stack(pooled, axis=1)


def _span(
    unit: Float[np.ndarray, " batch"], length: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Index the pixels under a window along one axis, and mark those that lie in the image."""
    index = window_start(unit, length, width).astype(np.int64)[:, None] + np.arange(width)
    return np.clip(index, 0, length - 1), (index >= 0) & (index < length)
