"""A user's own images, in folders as people have them."""

from glimpse.data.folder.labels import LabelTable
from glimpse.data.folder.reading import image_folder, labelled_files

__all__ = [
    "LabelTable",
    "image_folder",
    "labelled_files",
]
