"""What decoding an image will cost, estimated from its header before any pixel is decoded.

The figures are of Pillow 13 on one core of a server at about 3 GHz, rounded up. A file written to be slow takes up to
the estimate, an ordinary one a half or a third of it; who needs better figures scales it by what was measured.
"""

from typing import NamedTuple

from PIL import Image

from glimpse.images.structure import Structure

ORDINARY_SCANS = 20
"""Scans of a JPEG that an image of the greatest size may have; a smaller image may have more."""
MAX_PIXEL_SCANS = ORDINARY_SCANS * 2**26
"""Scans times pixels of a JPEG that are always decoded: 20 scans of 8192 x 8192 pixels."""


class _Rate(NamedTuple):
    """Nanoseconds of processor time."""

    pixel: float
    byte: float


_ORDINARY = _Rate(40, 10)
_RATES = {
    "jpeg": _Rate(30, 15),
    "raw": _Rate(20, 2),
    "zip": _Rate(50, 20),
    "bmp_rle": _Rate(350, 150),  # written in Python, as the next two
    "ppm": _Rate(1800, 0),
    "ppm_plain": _Rate(1200, 10),
}
"""By the name of Pillow's decoder."""
_SCAN = 1.5
"""Nanoseconds a pixel that each scan of a JPEG after the first costs."""
_READ = 10.0
"""Nanoseconds a byte that every file costs: it is searched for marks, read, and copied."""
_PART = 5000.0
"""Nanoseconds that each part costs which Pillow takes in Python."""
_INFLATED = 2.5
"""Nanoseconds a byte of inflated metadata."""


def estimate_reading(size: int, structure: Structure = Structure()) -> float:  # noqa: B008 - it can't be changed
    """Estimate the processor time that a file costs without its pixels.

    Args:
        size: Its bytes.
        structure: What its marks announce; before they are read, those of an ordinary file.

    Returns:
        Seconds.
    """
    return (size * _READ + structure.parts * _PART + structure.inflated * _INFLATED) / 1e9


def estimate_seconds(picture: Image.Image, pixels: int, size: int, structure: Structure) -> float:
    """Estimate the processor time of decoding an opened picture.

    Args:
        picture: What Pillow made of the header; not loaded yet.
        pixels: How many it announces.
        size: Bytes of its file.
        structure: What the marks of its file announce.

    Returns:
        Seconds, never less than :func:`estimate_reading`.
    """
    tiles = getattr(picture, "tile", ())
    rate = _RATES.get(tiles[0][0] if tiles else "", _ORDINARY)
    decoding = pixels * (rate.pixel + _SCAN * (structure.scans - 1)) + size * max(0.0, rate.byte - _READ)
    return estimate_reading(size, structure) + decoding / 1e9
