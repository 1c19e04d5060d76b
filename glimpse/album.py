"""A folder of pictures: each is named after its image, written whole or not at all, and replaces none but our own."""

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError

_SOFTWARE = "Glimpse"
"""Marks the pictures that we drew, the only files that a later run may replace."""


class Album:
    """A folder that pictures are written into. It is made when it isn't there.

    Args:
        folder: The folder.
        sources: Files that must not be replaced, whatever they are.

    Raises:
        OSError: When the folder can't be made.
    """

    def __init__(self, folder: Path, sources: Iterable[Path] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._sources = {path.resolve() for path in sources}
        self._drawn: set[str] = set()

    def add(self, picture: Image.Image, stem: str) -> Path:
        """Write a picture as PNG.

        Args:
            picture: The picture.
            stem: Its name, which is numbered where it is taken.

        Returns:
            The file.

        Raises:
            OSError: When it can't be written.
        """
        path = self._free_path(stem)
        mark = PngImagePlugin.PngInfo()
        mark.add_text("Software", _SOFTWARE)
        unfinished = path.with_name(f".glimpse-{os.getpid()}.tmp")
        try:
            picture.save(unfinished, "PNG", pnginfo=mark)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        self._drawn.add(path.name.casefold())
        return path

    def _free_path(self, stem: str) -> Path:
        number = 1
        while True:
            path = self.folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            taken = path.name.casefold() in self._drawn or path.resolve() in self._sources
            if not taken and _is_replaceable(path):
                return path
            number += 1


def _is_replaceable(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return bool(picture.info.get("Software") == _SOFTWARE)
    except (UnidentifiedImageError, OSError):
        return False
