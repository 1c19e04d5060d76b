"""The images that a command line names: files, folders, patterns, lists of paths, and standard input.

Nothing is opened but the lists; a missing image is reported when it is read, so that one wrong
name among thousands stops nothing.
"""

import glob
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import UInt8

from glimpse.images import pixels
from glimpse.images.formats import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from glimpse.images.lazy import LazyImage

STANDARD_INPUT = "-"


class ImagePathError(ValueError):
    """A folder or a pattern without an image, or a list that can't be read."""


class ImageSource(NamedTuple):
    """Where an image comes from."""

    name: str
    """Its name in the output and in error messages: its path, or ``-``."""
    path: Path | None
    """None for the bytes on standard input."""

    @property
    def stem(self) -> str:
        """The stem of the names of its pictures."""
        return "stdin" if self.path is None else self.path.stem


def find_images(
    named: Iterable[str],
    lists: Iterable[str] = (),
    recursive: bool = False,
    suffixes: Iterable[str] = IMAGE_SUFFIXES,
) -> list[ImageSource]:
    """Find the images that a user names, in the order of the names; those of a folder in natural order.

    What exists is taken as it is, whatever its name; so is what does not exist and is no pattern. Of folders and
    patterns the images are taken, by their suffixes, and not those that are hidden.

    Args:
        named: Files, folders, patterns (``*``, ``?``, ``[ab]``, and ``**`` for folders of any depth), or ``-`` for
            the bytes of one image on standard input.
        lists: Files that hold paths of files and folders, one on a line, or ended by NULs where there is one, as
            ``find -print0`` writes them; ``-`` for standard input.
        recursive: Whether folders within a folder count.
        suffixes: Those of images, in small letters.

    Raises:
        ImagePathError: When a name is empty, a folder or a pattern holds no image, there is no such list or it is
            empty, or standard input is named twice.
        OSError: When a folder or a list can't be read.
    """
    named, lists, suffixes = list(named), list(lists), frozenset(suffixes)
    if [*named, *lists].count(STANDARD_INPUT) > 1:
        raise ImagePathError(
            "expected standard input to be named once, got '-' twice; it holds either one image or one list of paths"
        )
    if "" in (*named, *lists):
        raise ImagePathError(
            "expected the name of a file, a folder or a pattern, got an empty one; leave it out, or write . for the "
            "current folder (perhaps a variable of the shell is not set)"
        )
    found: list[ImageSource] = []
    for name in named:
        if name == STANDARD_INPUT:
            found.append(ImageSource(name, None))
        elif glob.has_magic(name) and not os.path.lexists(name):
            found += map(_source, _matches(name, suffixes))
        else:
            found += map(_source, _expand(name, recursive, suffixes))
    for list_ in lists:
        for name in _read_list(list_):
            found += map(_source, _expand(name, recursive, suffixes))
    return found


def natural_order(path: Path) -> list[list[tuple[str, int, str]]]:
    """Key that sorts paths as people do: ``2.png`` before ``10.png``, and capitals beside small letters.

    Args:
        path: The path.
    """
    return [
        [(text.casefold(), int(digits or -1), text) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", part)]
        for part in path.parts
    ]


def _source(path: Path) -> ImageSource:
    return ImageSource(str(path), path)


def _expand(name: str, recursive: bool, suffixes: frozenset[str]) -> list[Path]:
    """The images of a folder; of anything else, itself."""
    folder = Path(name)
    if not folder.is_dir() or folder.suffix.lower() in suffixes:
        return [folder]
    found: list[Path] = []
    for within, folders, files in os.walk(folder, onerror=_raise):
        inside = [entry for entry in (*files, *folders) if not entry.startswith(".")]
        found += [Path(within, entry) for entry in inside if Path(entry).suffix.lower() in suffixes]
        shown = [entry for entry in inside if entry in folders and Path(entry).suffix.lower() not in suffixes]
        folders[:] = shown if recursive else []
        if not recursive and not found and shown:
            raise ImagePathError(
                f"expected images in the folder {name!r}, found none but {len(shown)} "
                f"folder{'s' * (len(shown) > 1)} in it; --recursive looks into them"
            )
    if not found:
        raise ImagePathError(
            f"expected images in the folder {name!r}, found none; their names should end with "
            f"{', '.join(sorted(suffixes))}"
        )
    return sorted(found, key=natural_order)


def _matches(pattern: str, suffixes: frozenset[str]) -> list[Path]:
    """The images that match a pattern."""
    matching = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - Path's takes no absolute one
    found = [path for path in matching if path.suffix.lower() in suffixes]
    if not found:
        others = f"{len(matching)} of other kinds" if matching else "none"
        raise ImagePathError(
            f"expected images that match the pattern {pattern!r}, found {others}; check the pattern, '**' stands for "
            "folders of any depth"
        )
    return sorted(found, key=natural_order)


def _read_list(name: str) -> list[str]:
    """The paths in a list, of lines or ended by NULs."""
    if name == STANDARD_INPUT:
        content, name = sys.stdin.buffer.read(), "standard input"
    elif not Path(name).exists():
        raise ImagePathError(f"expected a list of images in {name!r}, found no such file; check the path after --from")
    else:
        content = Path(name).read_bytes()
    entries = content.split(b"\0") if b"\0" in content else content.splitlines()
    paths = [os.fsdecode(entry) for entry in entries if entry.strip()]
    if not paths:
        raise ImagePathError(f"expected paths of images in {name!r}, one on a line, found none")
    return paths


def _raise(error: OSError) -> None:
    raise error


LAZY_SUFFIXES = frozenset((".npy", ".zarr", ".tif", ".tiff"))
"""What the names of images end with that can be read by parts, in small letters."""


def read_image(source: ImageSource, native: bool = False) -> "UInt8[np.ndarray, 'height width channels'] | LazyImage":
    """Read an image.

    Args:
        source: Where it comes from.
        native: Whether the model takes it in its own size. It is then read by parts, if its format allows that.

    Raises:
        ImageError: When it can't be read.
    """
    if source.path is None:
        return pixels.decode(sys.stdin.buffer.read(), "standard input")
    if not native or source.path.suffix.lower() not in LAZY_SUFFIXES:
        return pixels.decode(source.path)
    from glimpse.images.lazy import open_lazily

    try:
        return open_lazily(source.path)
    except pixels.ImageError as error:
        if not source.path.suffix.lower().startswith(".tif"):
            raise
        try:
            return pixels.decode(source.path)  # a small one, that need not be tiled
        except pixels.ImageError:
            raise error from None
