"""Data sets, canvases and the LightningDataModule over them."""

from glimpse.data.canvas import Canvas
from glimpse.data.datamodule import ImageData
from glimpse.data.sources import DataError

__all__ = ["Canvas", "DataError", "ImageData"]
