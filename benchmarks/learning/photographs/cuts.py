"""The same for hundreds of photographs: a part of a set, its test images as they are, with boxes and masks.

Images are drawn by a fixed seed, class by class, each class with its share of the set. They come in whole groups (the
frames of a track, the photographs of a tile) as long as a class still gets three of them, so that its images can be
split again; a group that is larger gives images that lie evenly over it.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glimpse.data.folder import labelled_files
from glimpse.data.folder.grouping import Groups
from glimpse.data.folder.reading import complete_parts, group_files
from glimpse.data.folder.tree import TEST, TRAIN, masks_within

LEAST = 3
"""Groups and images that a class keeps at least, where it has so many: the product splits them into parts."""


@dataclass(frozen=True)
class PhotoCut:
    """A part of a set of photographs.

    Attributes:
        images: How many images there are to learn from; None for all.
        classes: The classes; none for all.
    """

    images: int | None
    classes: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """What the name of a folder or a file ends with."""
        number = f"-cut{self.images}" if self.images else ""
        return "".join(f"-{name}" for name in self.classes) + number

    def describe(self) -> str:
        """The part in words."""
        learnt = f"{self.images} images to learn from" if self.images else "all images to learn from"
        return learnt + (f", of the classes {', '.join(self.classes)} alone" if self.classes else "")

    def write(self, folder: Path, place: Path) -> None:
        """Make a folder of links to the images of the part, with their boxes and masks.

        Args:
            folder: The photographs.
            place: The folder that is made, in the shape ``train/CLASS/image`` and ``test/CLASS/image``.

        Raises:
            ValueError: When there is no such class, or fewer images are asked for than each class needs.
        """
        found = labelled_files(folder)
        names = found.tree.classes
        strange = [name for name in self.classes if name not in names]
        if strange or len(self.classes) == 1:
            raise ValueError(
                f"--classes: expected two or more of {', '.join(names)}, got {', '.join(strange or self.classes)}"
            )
        names = tuple(name for name in names if name in (self.classes or names))
        groups = group_files(found).groups
        parts = complete_parts(found.tree, groups)[0]
        learnt = {
            name: sorted(path for part in parts if part != TEST for path in parts[part].get(name, ())) for name in names
        }
        counts = {name: len(paths) for name, paths in learnt.items()}
        if self.images is not None:
            if self.images < LEAST * len(names):
                raise ValueError(
                    f"--cut: expected at least {LEAST} images of each of {len(names)} classes, got {self.images}; "
                    "raise it, or name fewer --classes"
                )
            counts = shares_of(counts, self.images)
        generator = np.random.default_rng(0)
        drawn = {name: draw_groups(learnt[name], groups, counts[name], generator) for name in names}
        _link(folder, place, {TRAIN: drawn, TEST: {name: parts[TEST].get(name, []) for name in names}})


def shares_of(counts: Mapping[str, int], images: int) -> dict[str, int]:
    """How many of so many images each class gets: in proportion, but ``LEAST`` at least and no more than it has.

    Args:
        counts: Images of each class.
        images: How many are shared out; all there are, if they are fewer.
    """
    shares = {name: min(LEAST, count) for name, count in counts.items()}
    for _ in range(min(images, sum(counts.values())) - sum(shares.values())):
        shares[min(counts, key=lambda name: (shares[name] + 1) / counts[name])] += 1
    return shares


def draw_groups(files: Sequence[Path], groups: Groups, count: int, generator: np.random.Generator) -> list[Path]:
    """Draw images of a class by groups.

    Args:
        files: All images of the class.
        groups: Their groups.
        count: How many are drawn, at most all of them.
        generator: Draws the order of the groups.
    """
    members: dict[str, list[Path]] = {}
    for path in sorted(files):
        members.setdefault(groups.of(path), []).append(path)
    names = sorted(members)
    order = [members[names[place]] for place in generator.permutation(len(names))]
    most = max(1, count // LEAST)
    first = [_evenly(paths, min(most, len(paths))) for paths in order]
    rest = [path for paths, taken in zip(order, first, strict=True) for path in paths if path not in taken]
    return sorted([*(path for taken in first for path in taken), *rest][:count])


def _evenly(paths: Sequence[Path], count: int) -> list[Path]:
    return [paths[place * len(paths) // count] for place in range(count)]


def _link(folder: Path, place: Path, chosen: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    """Link images into a new folder, and what says where objects are."""
    names = {
        path: f"{part}/{name}/{path.name}"
        for part, of_class in chosen.items()
        for name, paths in of_class.items()
        for path in paths
    }
    links = {place / name: path for path, name in names.items()}
    masked = masks_within(folder)
    if masked is not None:
        masks, images = masked
        mirrored = {path: masks / path.parent.relative_to(images) for path in names}
        of_folder = {
            below: {mask.stem: mask for mask in below.iterdir()} for below in set(mirrored.values()) if below.is_dir()
        }
        for path, below in mirrored.items():
            if mask := of_folder.get(below, {}).get(path.stem):
                links[place / masks.name / Path(names[path]).with_name(mask.name)] = mask
    for link, path in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    for table in folder.glob("*.csv"):
        _cut_table(table, place / table.name, names)


def _cut_table(table: Path, place: Path, names: Mapping[Path, str]) -> None:
    """Copy the lines of a table that are of the images."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        columns = rows.fieldnames or ()
        kept = [{**row, "path": names[path]} for row in rows if (path := table.parent / row["path"]) in names]
    with place.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(kept)
