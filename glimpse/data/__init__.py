"""Data sets, canvases and the LightningDataModule over them. Only ``datamodule`` brings Lightning."""
