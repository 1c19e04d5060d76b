"""Data sets, canvases and the LightningDataModule over them."""
