"""What decoding an image will cost, estimated from its header before any pixel is decoded.

The figures are of Pillow 13 on one core of a server at about 3 GHz, rounded up. A file written to be slow takes up to
the estimate, an ordinary one a half or a third of it; who needs better figures scales it by what was measured.
"""

from typing import NamedTuple

from PIL import Image

from glimpse.images.structure import Stream

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
_TILE = 5000.0
"""Nanoseconds that each strip or tile costs which Pillow decodes on its own."""


def estimate_seconds(picture: Image.Image, pixels: int, scans: int, stream: Stream) -> float:
    """Estimate the processor time of decoding an opened picture.

    Args:
        picture: What Pillow made of the header; not loaded yet.
        pixels: How many it announces.
        scans: How often its decoder goes over the pixels.
        stream: The file.

    Returns:
        Seconds.
    """
    tiles = getattr(picture, "tile", ())
    codec = tiles[0][0] if tiles else ""
    rate = _RATES.get(codec, _ORDINARY)
    place = stream.tell()
    size = stream.seek(0, 2)
    stream.seek(place)
    return (pixels * (rate.pixel + _SCAN * (scans - 1)) + size * rate.byte + len(tiles) * _TILE) / 1e9
