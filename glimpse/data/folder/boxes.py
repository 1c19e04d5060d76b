"""Where objects are in a folder's images, as boxes: from a table, or from masks. They teach a gaze where to look.

A *table* is a CSV file in the folder with the columns ``path`` and ``left, top, right, bottom`` (or ``xmin, ymin, xmax,
ymax``), one line a box, in pixels of the upright image. *Masks* are images of the images' size that are not zero where
an object is; they lie in a folder that mirrors the images (:func:`glimpse.data.folder.tree.masks_within`), and each of
their connected regions is a box.
"""

import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from glimpse.contract.texts import visible
from glimpse.data.datasets import DataError
from glimpse.data.folder.tables import columns_of, read_table
from glimpse.data.folder.tree import masks_within, named_as_images
from glimpse.errors import Argument, Setting
from glimpse.images.formats import IMAGE_SUFFIXES
from glimpse.images.geometry import Box
from glimpse.images.pixels import FORMATS, ImageError, decode, upright_size

NO_BOXES = "none"
"""Given in place of a table or a folder of masks: those that are there are not read."""
MOST_BOXES = 16
"""Boxes that an image has at most; the largest are kept."""
JOINED = 4
"""Regions of a mask that are so many pixels apart, or fewer, are one object."""
_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path")
_SIDES = (("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_MASK_ENDINGS = re.compile(r"[ _-](mask|gt|ground_?truth|segmentation)$", re.IGNORECASE)
_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif")
_SHOWN_FAULTS = 10

Boxes = Mapping[Path, list[Box]]
"""The boxes of each image, in pixels of the upright image."""


@dataclass(frozen=True)
class ObjectBoxes:
    """Where objects are in a folder's images.

    Attributes:
        source: The table, or the folder of masks, the first where there are several.
        of: The boxes of each image that has any, in fractions of the image in [0, 1], (left, top, right, bottom).
    """

    source: Path
    of: Mapping[Path, Float[np.ndarray, "boxes 4"]]

    def rows(self, files: Iterable[Path]) -> Float[Tensor, "images most 4"]:
        """Return the boxes of the given images; rows without a box are NaN.

        Args:
            files: The images, in their order.
        """
        files = list(files)
        rows = torch.full((len(files), max(map(len, self.of.values()), default=1), 4), torch.nan)
        for place, path in enumerate(files):
            if path in self.of:
                rows[place, : len(self.of[path])] = torch.from_numpy(self.of[path])
        return rows

    def note(self, files: Iterable[Path]) -> str:
        """Return how many of the images that are trained on and chosen by have boxes, in words.

        Args:
            files: These images.
        """
        files = list(files)
        count = sum(path in self.of for path in files)
        use = "they teach the gaze" if count else "none teaches the gaze"
        name = visible(self.source.name) + "/" * self.source.is_dir()
        return f"boxes of objects for {count:,} of {len(files):,} images ({name}); {use}"


def find_boxes(root: Path, top: Path, files: Iterable[Path], given: str | None = None) -> ObjectBoxes | None:
    """Find and read where objects are in a folder's images.

    Args:
        root: The folder.
        top: The folder in which its parts or classes lie: ``root``, or one below it.
        files: Its images.
        given: A table or a folder of masks; a relative path is looked for in the folder first. ``none`` for no boxes.
            Left out, a table in the folder is taken, or else masks that mirror its images.

    Returns:
        The boxes; None when there are none.

    Raises:
        DataError: When what is given is not there, or states boxes that can't be; all faults at once.
    """
    if given == NO_BOXES:
        return None
    files = list(files)
    if given is not None:
        source = root / given if (root / given).exists() else Path(given).expanduser()
        if not source.exists():
            raise DataError(
                "expected ",
                Argument("boxes"),
                f" as a table or a folder of masks, got {given!r}, which is not there; correct it, or give "
                f"{NO_BOXES} for none",
            )
        if source.is_dir():
            mirrored = [*_image_folders(source.parent), top, root]
            masks = next(filter(None, (_masks_of(files, source, folder) for folder in mirrored)), {})
            if not masks:
                raise DataError(
                    f"expected a folder of masks that are named as the images of {root} are, found none in {source}; "
                    "lay them out in the same folders under the same names, or give another with ",
                    Argument("boxes"),
                )
            return _read_masks(source, masks)
        return _read_table(source, root, files)
    places = _places(root, top)
    tables = [path for place in places for path in sorted(place.glob("*.csv")) if _box_columns(columns_of(path))]
    if len(tables) > 1:
        raise DataError(
            f"expected one table with boxes of objects, found {', '.join(map(str, tables))}; name one of them with ",
            Argument("boxes"),
        )
    if tables:
        return _read_table(tables[0], root, files)
    found: dict[Path, Path] = {}
    sources: list[Path] = []
    for folder in sorted({*places, *_between(root, {path.parent for path in files})}):
        if pair := masks_within(folder):
            more = _masks_of(files, *pair)
            found |= more
            sources += [pair[0]] if more else []
    return _read_masks(sources[0], found) if found else None


def on_canvas(
    boxes: Float[Tensor, "images most 4"], places: Int64[Tensor, "images 4"], height: int, width: int
) -> Float[Tensor, "images most 4"]:
    """Convert boxes from fractions of an image to fractions of a canvas that it lies on, or hangs over.

    Args:
        boxes: (left, top, right, bottom), in fractions of the images; NaN rows stay so.
        places: Where each image lies: (left, top, right, bottom) in pixels of the canvas.
        height: Of the canvas, pixels.
        width: Of the canvas, pixels.

    Returns:
        What is on the canvas, in [0, 1]; NaN where nothing of a box is.
    """
    start = places[:, None, :2].to(boxes)
    size = places[:, None, 2:].to(boxes) - start
    corners = (boxes.unflatten(2, (2, 2)) * size[:, :, None] + start[:, :, None]) / boxes.new_tensor([width, height])
    clipped = corners.clamp(0, 1)
    seen = (clipped[:, :, 1] > clipped[:, :, 0]).all(dim=2)
    moved: Tensor = clipped.flatten(2).where(seen[..., None], torch.nan)
    return moved


def _between(root: Path, folders: Iterable[Path]) -> set[Path]:
    """The given folders, which lie below another, and those between."""
    return {place for folder in folders for place in (folder, *folder.parents) if root in place.parents}


def _places(root: Path, top: Path) -> list[Path]:
    """The folders that may hold a table or masks: the given one, those down to the classes, what ``images`` is in."""
    places = [root, *sorted(_between(root, [top]))]
    return [*places, root.parent] if named_as_images(root) else places


def _image_folders(folder: Path) -> list[Path]:
    return [below for below in sorted(folder.iterdir()) if below.is_dir() and named_as_images(below)]


def _box_columns(columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """The columns of the path and of a box's sides, or None."""
    path = next((name for name in _PATH_COLUMNS if name in columns), None)
    sides = next((names for names in _SIDES if set(names) <= set(columns)), None)
    return None if path is None or sides is None else (path, *sides)


def _read_table(table: Path, root: Path, files: list[Path]) -> ObjectBoxes:
    """Read a table, and check its boxes against the sizes of the images."""
    columns, rows = read_table(table, "a table of boxes")
    names = _box_columns(columns)
    if names is None:
        raise DataError(
            f"expected a table with the columns path, left, top, right and bottom at {table}, found "
            f"{', '.join(columns) or 'no line'}; name the columns in the first line"
        )
    known = set(files)
    stated: list[tuple[int, Path, Box]] = []
    faults: list[str] = []
    for line, row in enumerate(rows, start=2):
        shown, *sides = (row[name] for name in names)
        path = _image_of(shown, (table.parent, root))
        if path is None:
            faults.append(f"line {line} names {visible(shown) or 'no image'}, which is not there")
        elif any(sides):
            try:
                box = Box(*map(float, sides))
            except ValueError:
                faults.append(f"line {line} has the box {visible(', '.join(sides))}, which is no four numbers")
            else:
                stated.append((line, path, box))
    sizes = _sizes({path for _, path, _ in stated} & known)
    boxes: dict[Path, list[Box]] = {}
    for line, path, box in stated:
        if path not in sizes:
            continue  # left out of the classes, or can't be read: reported where it is read
        width, height = sizes[path]
        if not (box.right - box.left >= 1 and box.bottom - box.top >= 1):
            faults.append(f"line {line} has the box {_text(box)}, less than a pixel wide or high")
        elif not (box.left >= 0 and box.top >= 0 and box.right <= width and box.bottom <= height):
            faults.append(
                f"line {line} has the box {_text(box)}, not within the {width}x{height} pixels (width x height) of "
                f"{visible(path.name)}"
            )
        else:
            boxes.setdefault(path, []).append(box)
    _refuse(faults, f"each line of {table} to name an image and a box in its pixels (left, top, right, bottom)")
    return _in_fractions(table, boxes, sizes)


def _image_of(name: str, folders: tuple[Path, ...]) -> Path | None:
    """The image that a table's line names, or None."""
    if not name:
        return None
    candidates = (Path(os.path.normpath(folder / name.replace("\\", "/"))) for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


def _masks_of(files: list[Path], masks: Path, mirrored: Path) -> dict[Path, Path]:
    """The mask of each image below a folder that has one in the folder of masks."""
    named: dict[Path, dict[str, Path]] = {}
    found = {}
    for path in files:
        if mirrored not in path.parents or masks in path.parents:
            continue
        folder = masks / path.parent.relative_to(mirrored)
        if folder not in named:
            named[folder] = _by_name(folder)
        if mask := named[folder].get(path.stem):
            found[path] = mask
    return found


def _by_name(folder: Path) -> dict[str, Path]:
    """The masks in a folder by the name of the image, ``7`` for ``7.png`` or ``7_mask.png``."""
    if not folder.is_dir():
        return {}
    masks = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return {_MASK_ENDINGS.sub("", path.stem): path for path in masks} | {path.stem: path for path in masks}


def _read_masks(source: Path, masks: Mapping[Path, Path]) -> ObjectBoxes:
    """Read masks, and check their sizes against those of the images."""
    sizes = _sizes(masks)
    faults: list[str] = []
    boxes: dict[Path, list[Box]] = {}

    def read(path: Path) -> tuple[Path, list[Box] | str]:
        try:
            mask = _mask(masks[path])
        except ImageError as error:
            return path, str(error)
        width, height = sizes[path]
        if mask.shape != (height, width):
            shown = f"{visible(str(masks[path]))} has {mask.shape[1]}x{mask.shape[0]} pixels"
            return path, f"{shown}, its image {visible(path.name)} has {width}x{height}"
        return path, boxes_in(mask)

    with ThreadPoolExecutor() as pool:
        for path, found in pool.map(read, sizes):
            if isinstance(found, str):
                faults.append(found)
            elif found:
                boxes[path] = found
    _refuse(faults, "masks that can be read, each of its image's size")
    return _in_fractions(source, boxes, sizes)


def boxes_in(mask: npt.NDArray[np.bool_]) -> list[Box]:
    """Box each connected region of a mask, the largest box first, at most :data:`MOST_BOXES`.

    Regions that are at most :data:`JOINED` pixels apart count as one.

    Args:
        mask: (height, width), true where an object is.
    """
    if not mask.any():
        return []
    from scipy import ndimage

    near = ndimage.maximum_filter(mask, JOINED + 1, mode="constant")
    regions, _ = ndimage.label(near, np.ones((3, 3)))
    found = ndimage.find_objects(np.where(mask, regions, 0))
    boxes = [Box(*map(float, (columns.start, rows.start, columns.stop, rows.stop))) for rows, columns in found]
    return sorted(boxes, key=_area, reverse=True)[:MOST_BOXES]


def _mask(path: Path) -> npt.NDArray[np.bool_]:
    """Where a mask is not zero; where it is at least half of white, if its file's format changes values a little."""
    pixels = decode(path).max(axis=2)
    with Image.open(path, formats=FORMATS) as picture:
        if picture.mode.startswith("I"):  # numbers of objects, which would be scaled to 8 bits
            pixels = np.asarray(picture)
    mask: npt.NDArray[np.bool_] = pixels >= (128 if path.suffix.lower() in _LOSSY else 1)
    return mask


def _sizes(files: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Width and height of each upright image in pixels; images that can't be read are reported where they are."""
    sizes = {path: _size(path) for path in files}
    return {path: size[::-1] for path, size in sizes.items() if size is not None}


def _in_fractions(source: Path, boxes: Boxes, sizes: Mapping[Path, tuple[int, int]]) -> ObjectBoxes:
    largest = {path: sorted(of_image, key=_area, reverse=True)[:MOST_BOXES] for path, of_image in boxes.items()}
    return ObjectBoxes(
        source,
        {
            path: (np.array(of_image) / (*sizes[path], *sizes[path])).astype(np.float32)
            for path, of_image in largest.items()
        },
    )


def _area(box: Box) -> float:
    return float((box.right - box.left) * (box.bottom - box.top))


def _text(box: Box) -> str:
    return ", ".join(f"{side:g}" for side in box)


def _refuse(faults: list[str], expected: str) -> None:
    """Raise one error for all faults of a table or of masks, if there are any."""
    if faults:
        more = f"; and {len(faults) - _SHOWN_FAULTS} more faults" if len(faults) > _SHOWN_FAULTS else ""
        raise DataError(
            f"expected {expected}; {'; '.join(faults[:_SHOWN_FAULTS])}{more}; mend or remove them, or train without "
            "boxes by ",
            Setting("boxes", NO_BOXES),
        )


def _size(path: Path) -> tuple[int, int] | None:
    """Height and width of an image, pixels; None when its header can't be read, which reading the image reports."""
    try:
        return upright_size(path)
    except ImageError:
        return None
