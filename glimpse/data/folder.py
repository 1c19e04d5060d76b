"""A user's own images: one folder a class.

Either ``ROOT/CLASS/image`` (each file's name then determines its part, so that adding images does not move others to
another part, unless a class is so small that a part would be empty) or ``ROOT/train/CLASS/image`` with ``validation``
(or ``val``) and ``test`` beside it.
"""

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from glimpse.contract.texts import name_fault, visible
from glimpse.data.datasets import SPLIT_SEED, DataError, Source, Split
from glimpse.errors import Argument
from glimpse.images.pixels import ImageError, decode, fit

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
MEMORY_LIMIT = 8 * 2**30
"""Bytes that a folder's images may take in memory once scaled."""
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1


def image_folder(root: Path, height: int, width: int, channels: int) -> Source:
    """Read a folder of classes.

    Args:
        root: The folder.
        height: Every image is scaled to this height, pixels, keeping its proportions, and centred on black.
        width: Every image is scaled to this width, pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        DataError: When the folder is not there, lacks a class, has too few images, holds an image that can't be read,
            has a class whose name is no printable UTF-8, or would not fit into memory.
    """
    parts = _files(root)
    classes = tuple(sorted({name for files in parts.values() for name in files}))
    for part, files in parts.items():
        lacking = [name for name in classes if not files.get(name)]
        if lacking:
            raise DataError(
                f"expected images of every class in the {part} part of {root}, found none of {', '.join(lacking)}; "
                "add some (three a class at least), or remove the class"
            )
    total = sum(len(found) for files in parts.values() for found in files.values())
    needed = total * channels * height * width
    if needed > MEMORY_LIMIT:
        raise DataError(
            f"{total} images of {height}x{width} pixels need {needed / 2**30:.1f} GiB of memory, more than "
            f"{MEMORY_LIMIT / 2**30:.0f}; lower ",
            Argument("image_height"),
            " and ",
            Argument("image_width"),
        )
    read = {part: _read(files, classes, height, width, channels) for part, files in parts.items()}
    return Source(read["train"], read["validation"], read["test"], classes)


def folder_classes(root: Path) -> tuple[str, ...]:
    """Names of a folder's classes, without reading an image; raises as :func:`image_folder` does."""
    return tuple(sorted({name for files in _files(root).values() for name in files}))


def _files(root: Path) -> dict[str, dict[str, list[Path]]]:
    """The files of each class in each part."""
    if not root.is_dir():
        raise DataError(f"expected a folder of images at {root}, found none; give one with ", Argument("root"))
    if (root / "train").is_dir():
        validation = root / "validation" if (root / "validation").is_dir() else root / "val"
        places = {"train": root / "train", "validation": validation, "test": root / "test"}
        for part, place in places.items():
            if not place.is_dir():
                raise DataError(
                    f"expected a folder {place.name} beside {root / 'train'}, for the {part} part, found none; add one"
                )
        return {part: _classes(place) for part, place in places.items()}
    parts: dict[str, dict[str, list[Path]]] = {"train": {}, "validation": {}, "test": {}}
    for name, files in _classes(root).items():
        ordered = sorted(files, key=_rank)
        ranks = [_rank(file) for file in ordered]
        # Each part gets at least one image, whatever parts the names determine.
        tested = max(0, min(max(1, bisect_left(ranks, TEST_SHARE)), len(ordered) - 2))
        fitted = max(0, min(max(tested + 1, bisect_left(ranks, TEST_SHARE + VALIDATION_SHARE)), len(ordered) - 1))
        parts["test"][name] = ordered[:tested]
        parts["validation"][name] = ordered[tested:fitted]
        parts["train"][name] = ordered[fitted:]
    return parts


def _rank(file: Path) -> float:
    """A number in [0, 1) that follows from the file's name alone."""
    return int.from_bytes(hashlib.sha256(os.fsencode(file.name)).digest()[:6]) / 2**48


def _classes(root: Path) -> dict[str, list[Path]]:
    found = {
        folder.name: sorted(file for file in folder.rglob("*") if _is_image(file, folder))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    for name in found:
        _check_class_name(root, name)
    if len(found) < 2:
        raise DataError(
            f"expected at least 2 classes, one folder each, under {root}, found {len(found)}; "
            "lay the images out as ROOT/CLASS/image"
        )
    return found


def _check_class_name(root: Path, name: str) -> None:
    """Raise an error for a folder whose name can't be a class's: it would enter the model's card, pages and logs."""
    fault = name_fault(name)
    if fault is not None:
        place = visible(repr(str(root / name)))
        raise DataError(
            f"expected folders named after their classes in UTF-8 without control characters, got {place}, which "
            f"{fault}; rename it (the program convmv renames all folders of an old encoding)"
        )


def _is_image(file: Path, folder: Path) -> bool:
    """Whether a path is an image by its name, and not hidden, as what macOS writes beside a file is."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in _SUFFIXES and not hidden and file.is_file()


def _read(files: dict[str, list[Path]], classes: Iterable[str], height: int, width: int, channels: int) -> Split:
    """Read a part's images in an order that mixes the classes, so that the first few are a sample."""
    ordered = [(file, label) for label, name in enumerate(classes) for file in files[name]]
    mixed = torch.randperm(len(ordered), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    listed = [ordered[place] for place in mixed]
    images = torch.empty(len(listed), channels, height, width, dtype=torch.uint8)
    pixels = images.numpy()

    def read(place: int) -> None:
        pixels[place] = fit(decode(listed[place][0]), height, width, channels).transpose(2, 0, 1)

    try:
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(read, range(len(listed))):
                pass
    except ImageError as error:
        raise DataError(f"{error}; mend or remove the file") from error
    return Split(images, torch.tensor([label for _, label in listed]))
