"""A user's own images: found, split into parts, checked and read, with all faults of a folder reported at once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from glimpse.contract.card import FIT, SQUASH, CanvasShape
from glimpse.contract.texts import visible
from glimpse.data.boxes import ObjectBoxes, find_boxes, on_canvas
from glimpse.data.datasets import SPLIT_SEED, DataError, Source, Split
from glimpse.data.grouping import Groups, groups_by_pattern
from glimpse.data.labels import read_labels
from glimpse.data.sizes import canvas_size
from glimpse.data.splitting import SHARES, split_off
from glimpse.data.tree import PARTS, TRAIN, VALIDATION, Tree, read_tree
from glimpse.errors import Argument, Setting
from glimpse.images.pixels import ImageError, decode, fit, placement, upright_size

MEMORY_LIMIT = 8 * 2**30
"""Bytes that a folder's images may take in memory once scaled."""
FITS = {"squash": SQUASH, "letterbox": FIT}
"""The card's size policy for each way to bring a folder's images onto the canvas."""
_SHOWN = 5
"""Files that a sentence names at most."""

Parts = Mapping[str, Mapping[str, list[Path]]]
"""The files of each class, by part."""


def image_folder(
    root: Path,
    height: int | None,
    width: int | None,
    channels: int,
    group: str | None = None,
    labels: str | None = None,
    skip_unreadable: bool = False,
    boxes: str | None = None,
    size_policy: str = FIT,
) -> Source:
    """Read a folder of classes, in one of the shapes of :mod:`glimpse.data.tree`.

    Parts that are not laid out are split off the training part; see :mod:`glimpse.data.splitting`. Files with the same
    bytes stay in one part.

    Args:
        root: The folder.
        height: Height of the canvas onto which every image is brought, pixels; when None, both its sides follow from
            the sizes of the training folder's images, see :func:`glimpse.data.sizes.canvas_size`.
        width: Width of the canvas, pixels; None where the height is None.
        channels: 1 for grey, 3 for colour.
        group: A regular expression for the files' groups, each of which stays in one part: frames of a track,
            photographs of one object; see :func:`glimpse.data.grouping.groups_by_pattern`.
        labels: A CSV file of labels, in place of folders; see :mod:`glimpse.data.labels`. A relative path is looked for
            in the folder first.
        skip_unreadable: Whether to leave out images that can't be read.
        boxes: Where objects are: a table or a folder of masks, or ``none``; found by itself when left out. See
            :func:`glimpse.data.boxes.find_boxes`.
        size_policy: How an image of another size comes onto the canvas, one of
            :data:`glimpse.contract.card.SIZE_POLICIES`.

    Returns:
        The images, with notes on what was split off, left out and found twice.

    Raises:
        DataError: When the folder is not there or has another shape, a class has too few images, images can't be read,
            or they would not fit into memory, or boxes can't be those of the images.
    """
    tree, named = _tree(root, labels)
    files = [path for of_class in tree.parts.values() for paths in of_class.values() for path in paths]
    if group is not None:
        named |= groups_by_pattern(group, root, files)
    chosen: list[str] = []
    if height is None or width is None:
        sizes = _sizes(path for paths in tree.parts[TRAIN].values() for path in paths)
        height, width, reason = canvas_size(sizes, MEMORY_LIMIT // (len(files) * channels))
        chosen.append(reason)
    needed = len(files) * channels * height * width
    if needed > MEMORY_LIMIT:
        raise DataError(
            f"{len(files)} images of {height}x{width} pixels need {needed / 2**30:.1f} GiB of memory, more than "
            f"{MEMORY_LIMIT / 2**30:.0f}; lower ",
            Argument("image_height"),
            " and ",
            Argument("image_width"),
        )
    groups = Groups(root, files, named)
    parts, notes = _split(tree, groups)
    _check_classes(parts, tree)
    objects = find_boxes(root, tree.top, files, boxes)
    faults: dict[Path, str] = {}
    read = {
        part: _read(of_class, tree.classes, CanvasShape(height, width, channels, size_policy), objects, faults)
        for part, of_class in parts.items()
    }
    if faults:
        if not skip_unreadable:
            raise DataError(
                f"expected images that can be read, found {len(faults)} that can't: {_few(faults.values(), '; ')}; "
                "mend or remove them, or leave them out with ",
                Setting("skip_unreadable", True),
            )
        notes.append(f"unreadable and left out: {len(faults)} images: {_few(faults.values(), '; ')}")
        parts = {
            part: {name: [path for path in paths if path not in faults] for name, paths in of_class.items()}
            for part, of_class in parts.items()
        }
        _check_classes(parts, tree)
    notes = [_counts(parts), *chosen, *notes, *_left_out(tree, objects), *_found_twice(parts, groups, root)]
    if objects is not None:
        notes.append(
            objects.note(path for part in (TRAIN, VALIDATION) for paths in parts[part].values() for path in paths)
        )
    return Source(read["train"], read["validation"], read["test"], tree.classes, tuple(notes))


def folder_classes(root: Path, labels: str | None = None) -> tuple[str, ...]:
    """Return the names of a folder's classes, without reading an image.

    Args:
        root: The folder.
        labels: As in :func:`image_folder`.

    Raises:
        DataError: When the folder is not there or has another shape.
    """
    return _tree(root, labels)[0].classes


def _tree(root: Path, labels: str | None) -> tuple[Tree, dict[Path, str]]:
    """The files of a folder, and the names of their groups in the table of labels."""
    if labels is None:
        return read_tree(root), {}
    table = root / labels if (root / labels).is_file() else Path(labels)
    tree, groups = read_labels(table, root)
    return tree, groups


def _split(tree: Tree, groups: Groups) -> tuple[Parts, list[str]]:
    """All three parts, and a note on what was split off."""
    missing = {part: SHARES[part] for part in PARTS if part not in tree.parts}
    if not missing:
        return tree.parts, []
    split = split_off(tree.parts[TRAIN], missing, lambda _, path: groups.of(path))
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
        found = "; ".join(f"none of {_few(names, ', ')} in the {part} part" for part, names in lacking.items())
        raise DataError(
            f"expected images of every class in each part of {tree.root}, found {found}; "
            "add some (three a class at least; files of one group, or with the same bytes, count as one), "
            "or remove the class"
        )


def _read(
    of_class: Mapping[str, list[Path]],
    classes: Iterable[str],
    canvas: CanvasShape,
    objects: ObjectBoxes | None,
    faults: dict[Path, str],
) -> Split:
    """Read a part's images in an order that mixes the classes, so that the first few are a sample.

    Images that can't be read are left out, and noted in ``faults``.
    """
    ordered = [(path, label) for label, name in enumerate(classes) for path in of_class.get(name, ())]
    mixed = torch.randperm(len(ordered), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    listed = [ordered[place] for place in mixed]
    images = torch.empty(len(listed), canvas.channels, canvas.height, canvas.width, dtype=torch.uint8)
    pixels = images.numpy()
    places = torch.zeros(len(listed), 4, dtype=torch.int64)

    def read(place: int) -> None:
        path = listed[place][0]
        try:
            image = decode(path)
            pixels[place] = fit(image, *canvas).transpose(2, 0, 1)
        except ImageError as error:
            faults[path] = str(error)
        else:
            left, top, across, down = placement(
                image.shape[0], image.shape[1], canvas.height, canvas.width, canvas.size_policy
            )
            places[place] = torch.tensor([left, top, left + across, top + down])

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read, range(len(listed))):
            pass
    boxes = None
    if objects is not None:
        boxes = on_canvas(objects.rows(path for path, _ in listed), places, canvas.height, canvas.width)
    split = Split(images, torch.tensor([label for _, label in listed]), boxes)
    kept = [place for place, (path, _) in enumerate(listed) if path not in faults]
    return split if len(kept) == len(listed) else split.take(torch.tensor(kept, dtype=torch.int64))


def _sizes(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """The (height, width) of the images whose headers can be read; a single pixel when there is none."""

    def read(path: Path) -> tuple[int, int] | None:
        try:
            return upright_size(path)
        except ImageError:
            return None

    with ThreadPoolExecutor() as pool:
        return [size for size in pool.map(read, paths) if size is not None] or [(1, 1)]


def _counts(parts: Parts) -> str:
    """How many images each part has, and between which numbers those of a class lie."""
    described = []
    for part, of_class in parts.items():
        counts = {name: len(paths) for name, paths in of_class.items()}
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        spread = f"{counts[fewest]:,} of {fewest} to {counts[most]:,} of {most}"
        if counts[fewest] == counts[most]:
            spread = f"{counts[most]:,} a class"
        described.append(f"{sum(counts.values()):,} in the {part} part ({spread})")
    return f"{len(next(iter(parts.values())))} classes; images: {', '.join(described)}"


def _left_out(tree: Tree, objects: ObjectBoxes | None) -> list[str]:
    left_out = {path: why for path, why in tree.left_out.items() if objects is None or path != objects.source}
    reasons = Counter(left_out.values())
    examples = {reason: path for path, reason in reversed(list(left_out.items()))}
    return [
        f"left out: {count} x {reason}, such as {visible(str(examples[reason]))}" for reason, count in reasons.items()
    ]


def _found_twice(parts: Parts, groups: Groups, root: Path) -> list[str]:
    """Notes on files with the same bytes in several classes, and on groups in several parts."""
    place = {
        path: (part, name) for part, of_class in parts.items() for name, paths in of_class.items() for path in paths
    }
    notes = []
    mislabelled = [paths for paths in groups.identical if len({place[path][1] for path in paths if path in place}) > 1]
    if mislabelled:
        shown = _few((" = ".join(str(path.relative_to(root)) for path in paths[:2]) for paths in mislabelled), ", ")
        notes.append(f"the same image under several classes, {len(mislabelled)} times: {shown}; one label is wrong")
    spread: dict[str, set[str]] = {}
    for path, (part, _) in place.items():
        spread.setdefault(groups.of(path), set()).add(part)
    leaking = sorted(group for group, of_group in spread.items() if len(of_group) > 1)
    if leaking:
        notes.append(
            f"{len(leaking)} groups or identical files lie in several parts, such as {leaking[0]}: "
            "figures of the held-out parts look better than they are"
        )
    return notes


def _few(texts: Iterable[str], separator: str) -> str:
    texts = list(texts)
    more = f"{separator}and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return separator.join(texts[:_SHOWN]) + more
