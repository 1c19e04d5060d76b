"""Pixels: decoding, fitting, reading by windows, coordinates and the crop in numpy. No torch."""

from glimpse.images.lazy import LazyImage, open_lazily
from glimpse.images.pixels import ImageError, decode, fit

__all__ = [
    "ImageError",
    "LazyImage",
    "decode",
    "fit",
    "open_lazily",
]
