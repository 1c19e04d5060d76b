"""Data sets, canvases and the LightningDataModule over them, which ``datamodule`` has: it imports Lightning."""

from glimpse.data.canvas import Canvas
from glimpse.data.datasets import DataError, Source, Split

__all__ = [
    "Canvas",
    "DataError",
    "Source",
    "Split",
]
