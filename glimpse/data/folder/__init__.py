"""A user's own images, in folders as people have them."""

from glimpse.data.folder.labels import LabelTable
from glimpse.data.folder.reading import FITS, image_folder, labelled_files

__all__ = [
    "FITS",
    "LabelTable",
    "image_folder",
    "labelled_files",
]
