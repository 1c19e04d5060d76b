"""A user's own images: found, split into parts, checked and read, with all faults of a folder reported at once."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from glimpse.contract.card import FIT, SQUASH
from glimpse.data.datasets import SPLIT_SEED, DataError, Source, Split
from glimpse.data.folder.boxes import ObjectBoxes, find_boxes, on_canvas
from glimpse.data.folder.decoding import Decoded, Scaling, decode_files
from glimpse.data.folder.grouping import Groups, groups_by_pattern, telling_names
from glimpse.data.folder.labels import LabelTable, read_labels
from glimpse.data.folder.near_duplicates import THUMBNAIL_SIDE, Pairs, gradient_descriptors, join_pairs, similar_pairs
from glimpse.data.folder.report import Parts, count_note, data_page, duplicate_notes, left_out_notes, some_of
from glimpse.data.folder.sizes import canvas_size
from glimpse.data.folder.splitting import SHARES, split_off
from glimpse.data.folder.tree import PARTS, TRAIN, VALIDATION, Tree, read_tree
from glimpse.errors import Argument, Setting
from glimpse.images.pixels import ImageError, upright_size

MEMORY_LIMIT = 8 * 2**30
"""Bytes that a folder's images may take in memory once scaled."""
FITS = {"squash": SQUASH, "letterbox": FIT}
"""The card's size policy for each way to bring a folder's images onto the canvas."""


class Grouped(NamedTuple):
    """A folder's files in groups, and what was found on the way."""

    files: list[Path]
    """All files."""
    groups: Groups
    """Their groups."""
    pairs: Pairs
    """Near-duplicates, by the files' places; none where they were not looked for."""
    notes: list[str]
    """What was joined."""


def labelled_files(root: Path, labels: str | None = None) -> LabelTable:
    """Find a folder's images, their classes and parts, and the groups that a table names; no image is opened.

    Args:
        root: The folder, in one of the shapes of :mod:`glimpse.data.folder.tree`.
        labels: A CSV file of labels, in place of folders; see :mod:`glimpse.data.folder.labels`. A relative path is
            looked for in the folder first.

    Raises:
        DataError: When the folder is not there or has another shape, or the table has faults.
    """
    if labels is None:
        return LabelTable(read_tree(root), {})
    return read_labels(root / labels if (root / labels).is_file() else Path(labels), root)


def image_folder(
    found: LabelTable,
    height: int | None,
    width: int | None,
    channels: int,
    group: str | None = None,
    skip_unreadable: bool = False,
    boxes: str | None = None,
    size_policy: str = FIT,
    near_duplicates: bool = True,
    cache: Path | None = None,
) -> Source:
    """Read a folder of images.

    Parts that are not laid out are split off the training part; see :mod:`glimpse.data.folder.splitting`. Files with
    the same bytes stay in one part, and so do near-duplicates.

    Args:
        found: The folder's files, from :func:`labelled_files`.
        height: Height of the canvas onto which every image is brought, pixels; when None, both its sides follow from
            the sizes of the training folder's images, see :func:`glimpse.data.folder.sizes.canvas_size`.
        width: Width of the canvas, pixels; None where the height is None.
        channels: 1 for grey, 3 for colour.
        group: A regular expression for the files' groups, each of which stays in one part: frames of a track,
            photographs of one object; see :func:`glimpse.data.folder.grouping.groups_by_pattern`.
        skip_unreadable: Whether to leave out images that can't be read.
        boxes: Where objects are: a table or a folder of masks, or ``none``; found by itself when left out. See
            :func:`glimpse.data.folder.boxes.find_boxes`.
        size_policy: How an image of another size comes onto the canvas, one of
            :data:`glimpse.contract.card.SIZE_POLICIES`.
        near_duplicates: Whether to look for near-duplicates, and to keep them in one part where the files' groups are
            not known; see :mod:`glimpse.data.folder.near_duplicates`.
        cache: A folder in which the decoded images are kept, and from which they are read by batches; None to hold them
            in memory.

    Returns:
        The images, with notes on what was split off, left out and found twice.

    Raises:
        DataError: When a class has too few images, images can't be read, they would not fit into memory and there is no
            cache, the cache can't be written, or boxes can't be those of the images.
    """
    tree = found.tree
    chosen: list[str] = []
    if height is None or width is None:
        count = sum(len(paths) for of_class in tree.parts.values() for paths in of_class.values())
        most = MEMORY_LIMIT // (count * channels) if cache is None else MEMORY_LIMIT
        height, width, reason = canvas_size(
            _sizes(path for paths in tree.parts[TRAIN].values() for path in paths), most
        )
        chosen.append(reason)
    _check_room(tree, (height, width, channels), cache)
    grouped = group_files(found, group, near_duplicates, cache)
    parts, notes = complete_parts(tree, grouped.groups)
    _check_classes(parts, tree)
    objects = find_boxes(tree.root, tree.top, grouped.files, boxes)
    scaling = Scaling(height, width, channels, size_policy)
    splits, decoded = _read(parts, tree.classes, scaling, cache, objects)
    if faults := decoded.faults:
        if not skip_unreadable:
            raise DataError(
                f"expected images that can be read, found {len(faults)} that can't: {some_of(faults.values(), '; ')}; "
                "mend or remove them, or leave them out with ",
                Setting("skip_unreadable", True),
            )
        notes.append(f"unreadable and left out: {len(faults)} images: {some_of(faults.values(), '; ')}")
        parts = {
            part: {name: [path for path in paths if path not in faults] for name, paths in of_class.items()}
            for part, of_class in parts.items()
        }
        _check_classes(parts, tree)
    notes = [
        count_note(parts),
        *chosen,
        *notes,
        *left_out_notes(tree, objects.source if objects else None),
        *grouped.notes,
        *duplicate_notes(parts, grouped.groups, tree.root, grouped.files, grouped.pairs),
    ]
    if objects is not None:
        notes.append(
            objects.note(path for part in (TRAIN, VALIDATION) for paths in parts[part].values() for path in paths)
        )
    page = data_page(parts, decoded.sizes, notes)
    return Source(splits["train"], splits["validation"], splits["test"], tree.classes, tuple(notes), page)


def _check_room(tree: Tree, shape: tuple[int, int, int], cache: Path | None) -> None:
    """Check that the images fit into memory, or into a folder that is none of the images' own."""
    height, width, channels = shape
    count = sum(len(paths) for of_class in tree.parts.values() for paths in of_class.values())
    needed = count * height * width * channels
    if cache is None and needed > MEMORY_LIMIT:
        raise DataError(
            f"{count} images of {height}x{width} pixels need {needed / 2**30:.1f} GiB of memory, more than "
            f"{MEMORY_LIMIT / 2**30:.0f}; lower ",
            Argument("image_height"),
            " and ",
            Argument("image_width"),
            ", or keep them on a disk, in a folder given with ",
            Argument("cache"),
        )
    if cache is not None and cache.resolve().is_relative_to(tree.root.resolve()):
        raise DataError(
            "expected ", Argument("cache"), f" as a folder outside the images' own, got {cache} within {tree.root}"
        )


def group_files(
    found: LabelTable, group: str | None = None, near_duplicates: bool = True, cache: Path | None = None
) -> Grouped:
    """Find the groups of a folder's files: those that are named, and the near-duplicates among the other files.

    Args:
        found: As :func:`image_folder` gets it, as all others.
        group: See there.
        near_duplicates: See there.
        cache: See there.

    Raises:
        DataError: When the regular expression is none, or no path matches it.
    """
    tree, named = found
    listed = [
        (path, f"{part}/{name}")
        for part, of_class in tree.parts.items()
        for name, paths in of_class.items()
        for path in paths
    ]
    files, cells = [path for path, _ in listed], [cell for _, cell in listed]
    if group is not None:
        named = {**named, **groups_by_pattern(group, tree.root, files)}
    pairs = _similar_files(files, cache) if near_duplicates else Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    notes = []
    telling = None if named else telling_names(tree.root, files, cells, pairs.first.tolist(), pairs.second.tolist())
    if telling:
        named = telling.groups
        notes.append(
            f"the files' names tell groups: {telling.agreement:.0%} of the near-duplicates, and {telling.chance:.1%} "
            f"of any two images, have the same name before the last {telling.mark!r}; each of these "
            f"{len(set(named.values())):,} groups stays in one part"
        )
    groups = Groups(tree.root, files, named)
    free = np.array([path not in named for path in files], bool)
    among = free[pairs.first] & free[pairs.second]
    numbers = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}
    joined, refused = join_pairs(Pairs(pairs.first[among], pairs.second[among]), [numbers[cell] for cell in cells])
    for places in joined:
        groups.join(files[place] for place in places)
    if joined:
        kept = f" (but for {refused:,} pairs, whose groups would take up a class)" if refused else ""
        notes.append(
            f"near-duplicates: {sum(map(len, joined)):,} images are in {len(joined):,} groups, the largest of "
            f"{max(map(len, joined)):,}; each group stays in one part{kept}"
        )
    return Grouped(files, groups, pairs, notes)


def _similar_files(files: Sequence[Path], cache: Path | None) -> Pairs:
    """The near-duplicates among files, by their places. Files that can't be read have none."""
    thumbnails = decode_files(files, Scaling(THUMBNAIL_SIDE, THUMBNAIL_SIDE, 1, SQUASH, thumbnail=True), cache)
    found = similar_pairs(gradient_descriptors(thumbnails.images[:, 0].numpy()))
    readable = np.array([place for place, path in enumerate(files) if path not in thumbnails.faults], np.int64)
    return Pairs(readable[found.first], readable[found.second])


def complete_parts(tree: Tree, groups: Groups) -> tuple[Parts, list[str]]:
    """Split off the parts that are not laid out.

    Args:
        tree: The folder's files.
        groups: Their groups, each of which stays in one part.

    Returns:
        All three parts, and notes on what was split off.
    """
    missing = {part: SHARES[part] for part in PARTS if part not in tree.parts}
    if not missing:
        return tree.parts, []
    split = split_off(tree.parts[TRAIN], missing, groups.of)
    parts = {part: split.get(part) or tree.parts[part] for part in PARTS}
    shares = " and ".join(f"{100 * share:.0f} % for the {part} part" for part, share in missing.items())
    return parts, [f"split off the training images by their names: {shares}, of which no folder was found"]


def _check_classes(parts: Parts, tree: Tree) -> None:
    """Check that each part has images of every class; all that is missing in one error."""
    lacking = {
        part: [name for name in tree.classes if not of_class.get(name)]
        for part, of_class in parts.items()
        if not all(of_class.get(name) for name in tree.classes)
    }
    if lacking:
        found = "; ".join(f"none of {some_of(names, ', ')} in the {part} part" for part, names in lacking.items())
        raise DataError(
            f"expected images of every class in each part of {tree.root}, found {found}; "
            "add some (three a class at least; files of one group, or with the same bytes, count as one), "
            "or remove the class"
        )


def in_reading_order(of_class: Mapping[str, Sequence[Path]], classes: Iterable[str]) -> list[tuple[Path, int]]:
    """Return a part's files with their labels in the order of its images, which mixes the classes.

    So the first few are a sample.

    Args:
        of_class: The part's files of each class.
        classes: All classes.
    """
    ordered = [(path, label) for label, name in enumerate(classes) for path in of_class.get(name, ())]
    mixed = torch.randperm(len(ordered), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    return [ordered[place] for place in mixed]


def _read(
    parts: Parts, classes: Iterable[str], scaling: Scaling, cache: Path | None, objects: ObjectBoxes | None
) -> tuple[dict[str, Split], Decoded]:
    """Read all parts, each :func:`in_reading_order`; images that can't be read are left out."""
    listed = {part: in_reading_order(of_class, classes) for part, of_class in parts.items()}
    decoded = decode_files([path for of_part in listed.values() for path, _ in of_part], scaling, cache)
    splits, start = {}, 0
    for part, of_part in listed.items():
        read = [(path, label) for path, label in of_part if path not in decoded.faults]
        rows = slice(start, start + len(read))
        boxes = None
        if objects is not None:
            places = torch.tensor([scaling.place(*size) for size in decoded.sizes[rows].tolist()], dtype=torch.int64)
            rows_of_boxes = objects.rows(path for path, _ in read)
            boxes = on_canvas(rows_of_boxes, places.reshape(-1, 4), scaling.height, scaling.width)
        splits[part] = Split(decoded.images[rows], torch.tensor([label for _, label in read], dtype=torch.int64), boxes)
        start += len(read)
    return splits, decoded


def _sizes(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """The (height, width) of the images whose headers can be read; a single pixel when there is none."""

    def read(path: Path) -> tuple[int, int] | None:
        try:
            return upright_size(path)
        except ImageError:
            return None

    with ThreadPoolExecutor() as pool:
        return [size for size in pool.map(read, paths) if size is not None] or [(1, 1)]
