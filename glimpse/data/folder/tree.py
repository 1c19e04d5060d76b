"""A folder of labelled images as people have it: which files belong to which class and part, and which are left out.

Two shapes are read. *Classes*: ``ROOT/CLASS/.../image``. *Parts*: ``ROOT/train/CLASS/.../image`` with a validation and
a test part beside it, or one of them, or none, under any of their usual names and in any case (``val``, ``valid``,
``Validation``, ``Training``, ``TEST``, ``seg_train``, ``test_set``). Folders that hold nothing but one folder, as
unpacked archives have, are passed through. Links are followed, each folder once.

Masks that state where objects are, in ``ROOT/masks/CLASS/.../image`` beside ``ROOT/images/CLASS/.../image`` or beside
the classes or parts themselves, are no images; :mod:`glimpse.data.folder.boxes` reads them.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glimpse.contract.texts import name_fault, visible
from glimpse.data.datasets import DataError
from glimpse.errors import Argument
from glimpse.images.formats import IMAGE_SUFFIXES, advice_for

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
"""The parts of a data set."""

_PART_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "validate": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
_WORDS = r"(?:seg|set|data(?:set)?|images?|imgs?|split|part)"
_AROUND = re.compile(rf"^{_WORDS}[ _.-]+|[ _.-]*{_WORDS}$")
_IMAGE_FOLDERS = frozenset(("image", "images", "img", "imgs", "jpegimages", "photo", "photos", "picture", "pictures"))
_MASK_FOLDERS = frozenset(("mask", "masks", "groundtruth", "annotation", "annotations"))
"""Names in small letters, without what joins their words."""
_SHOWN_ENTRIES = 6


@dataclass(frozen=True)
class Tree:
    """The labelled images under a folder.

    Attributes:
        root: The folder that was given.
        parts: The files of each class, by part; a part that is not laid out is missing. In a folder of classes all
            files are in the training part.
        top: The folder in which the parts or the classes lie: ``root``, or the only folder within it.
        left_out: What was not taken, each file or folder with the reason.
    """

    root: Path
    top: Path
    parts: Mapping[str, Mapping[str, list[Path]]]
    left_out: Mapping[Path, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in alphabetical order."""
        return tuple(sorted({name for files in self.parts.values() for name in files}))


def part_of(name: str) -> str | None:
    """Return the part that a folder's name stands for, or None.

    Args:
        name: The folder's name, such as ``Training``, ``seg_val`` or ``test-set``.
    """
    word = name.casefold()
    return _PART_NAMES.get(word) or _PART_NAMES.get(_AROUND.sub("", _AROUND.sub("", word)))


def masks_within(folder: Path) -> tuple[Path, Path] | None:
    """Find a folder of masks in a folder: one named ``masks`` (or ``mask``, ``ground_truth``, ``annotations``).

    It stands beside a folder named ``images`` (or much like it), or the folders in it are named as those beside it.

    Args:
        folder: Where to look; not in the folders below it.

    Returns:
        The folder of masks, and the folder of images whose files and folders its own are named after. None when there
        is none: a class may be named ``mask``.
    """
    return _masks_among(folder, _visible_folders(folder))


def named_as_images(folder: Path) -> bool:
    """Whether a folder's name says that it holds images, and nothing else about them: ``images``, ``Photos``."""
    return _plain(folder.name) in _IMAGE_FOLDERS


def read_tree(root: Path) -> Tree:
    """Find the labelled images under a folder; no image is opened.

    Args:
        root: The folder.

    Raises:
        DataError: When there is no such folder, or it has neither of the two shapes: the message shows what was found.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of images at {root}, found none; give one with ", Argument("root"))
    left_out: dict[Path, str] = {}
    top = _passed_through(root)
    folders = _folders(top)
    laid_out: dict[str, Path] = {}
    unlabelled: dict[str, Path] = {}
    for folder in folders:
        part = part_of(folder.name)
        if part is None:
            continue
        within = _passed_through(folder, part)
        if any(True for below in _folders(within) for _ in _images(below, {})):
            if part in laid_out:
                raise DataError(
                    f"expected one folder for the {part} part, found {laid_out[part]} and {within}; "
                    "put their images together, or move one away"
                )
            laid_out[part] = within
        else:
            unlabelled[part] = within
    if TRAIN in laid_out:
        for folder in folders:
            if part_of(folder.name) is None:
                left_out[folder] = "a folder beside the parts"
        for part, folder in unlabelled.items():
            left_out[folder] = f"the {part} part has no folder of a class: its images have no labels"
        parts = {part: _classes(laid_out[part], left_out) for part in PARTS if part in laid_out}
    elif folders and all(part_of(folder.name) for folder in folders):
        raise DataError(
            "expected folders of classes in the part for training (train/CLASS/image), found "
            f"{_drawn(top)}; lay each class's images out in a folder of its own"
        )
    else:
        parts = {TRAIN: _classes(top, left_out)}
    tree = Tree(root, top, parts, left_out)
    if len(tree.classes) < 2:
        raise DataError(
            f"expected at least 2 classes, one folder each, under {root}, found {len(tree.classes)}: {_drawn(top)}; "
            "lay the images out as ROOT/CLASS/image or ROOT/train/CLASS/image"
        )
    return tree


def _passed_through(folder: Path, part: str | None = None) -> Path:
    """The first folder below which is more than one folder, as unpacked archives have; not past a part's own name."""
    while True:
        below = _folders(folder)
        if len(below) != 1 or any(_is_image(Path(entry)) for entry in _names(folder)):
            return folder
        named = part_of(below[0].name)
        images = named_as_images(below[0]) and bool(_folders(below[0]))
        if not images and (named != part or (part is None and not _folders(below[0]))):
            return folder
        folder = below[0]


def _classes(folder: Path, left_out: dict[Path, str]) -> dict[str, list[Path]]:
    """The images of each class: the folders in a folder, each with all that lies below it."""
    for name in _names(folder):
        path = folder / name
        if not path.is_dir():
            left_out[path] = "an image outside the folders of the classes" if _is_image(path) else _reason(path)
    for below in _folders(folder):
        _check_class_name(below)
    return {below.name: sorted(_images(below, left_out)) for below in _folders(folder)}


def _check_class_name(folder: Path) -> None:
    """Raise an error for a folder whose name can't be a class's: it would enter the model's card, pages and logs."""
    fault = name_fault(folder.name)
    if fault is not None:
        raise DataError(
            "expected folders named after their classes in UTF-8 without control characters, got "
            f"{visible(repr(str(folder)))}, which {fault}; rename it (the program convmv renames all folders of an old "
            "encoding)"
        )


def _images(folder: Path, left_out: dict[Path, str]) -> Iterator[Path]:
    """The images in a folder and below it; notes what is left out."""
    seen = {folder.resolve()}

    def note(error: OSError) -> None:
        left_out[Path(error.filename)] = f"a folder that can't be read ({error.strerror})"

    for place, folders, files in os.walk(folder, onerror=note, followlinks=True):
        kept = []
        masks, _ = _masks_among(Path(place), [Path(place, name) for name in folders]) or (None, None)
        for name in folders:
            inner = Path(place, name)
            if not name.startswith(".") and inner != masks:
                if inner.resolve() in seen:
                    left_out[inner] = "a link to a folder that is read already"
                else:
                    seen.add(inner.resolve())
                    kept.append(name)
        folders[:] = sorted(kept)
        for name in files:
            path = Path(place, name)
            if name.startswith("."):
                continue
            if not path.exists():
                left_out[path] = "a link to a file that is not there"
            elif _is_image(path) and path.is_file():
                yield path
            else:
                left_out[path] = _reason(path)


def _names(folder: Path) -> list[str]:
    """What a folder holds, without what is hidden, as what macOS writes beside a file is."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"expected a folder that can be read at {visible(str(folder))}, got: {error.strerror}; change its "
            "permissions"
        ) from error


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that may hold images."""
    folders = _visible_folders(folder)
    masks, _ = _masks_among(folder, folders) or (None, None)
    return [below for below in folders if below != masks]


def _visible_folders(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder) if (folder / name).is_dir() and name != "__MACOSX"]


def _masks_among(folder: Path, folders: list[Path]) -> tuple[Path, Path] | None:
    """The folder of masks out of the folders in a folder, and the folder that it mirrors."""
    for masks in folders:
        if _plain(masks.name) in _MASK_FOLDERS:
            beside = [other for other in folders if other != masks]
            for other in beside:
                if named_as_images(other):
                    return masks, other
            below = {inner.name for inner in _visible_folders(masks)}
            if below and below <= {other.name for other in beside}:
                return masks, folder
    return None


def _plain(name: str) -> str:
    """A folder's name in small letters, without what joins its words."""
    return re.sub(r"[ _.-]", "", name.casefold())


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _reason(path: Path) -> str:
    return (
        advice_for(path.suffix.lower())
        or f"a file ending with {path.suffix.lower() or 'nothing'}, no image format that is read"
    )


def _drawn(folder: Path) -> str:
    """What a folder holds, in a few words: ``cat/ (12 images), dog/ (3 images), 2 .txt files``."""
    folders = _folders(folder)
    described = [f"{below.name}/ ({sum(1 for _ in _images(below, {}))} images)" for below in folders[:_SHOWN_ENTRIES]]
    if len(folders) > _SHOWN_ENTRIES:
        described.append(f"{len(folders) - _SHOWN_ENTRIES} more folders")
    suffixes = Counter(Path(name).suffix.lower() for name in _names(folder) if not (folder / name).is_dir())
    described += [f"{count} {suffix or 'unnamed'} file{'s' * (count > 1)}" for suffix, count in suffixes.items()]
    return ", ".join(described) or "nothing"
