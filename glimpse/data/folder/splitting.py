"""Parts of a folder that are not laid out: files are split off the training part, a group of files never in two parts.

A number in [0, 1) that follows from a file's (or its group's) name alone determines the part. Adding files therefore
moves no other file to another part, and the parts have their shares whatever the files are called. There are two
exceptions. With so few groups that chance would give a part less than half or more than one and a half times its share,
the groups are dealt out in the order of their numbers until each part has its share. And where a class is so small that
a part would have no image of it, the group whose number lies nearest to that part is moved there.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from glimpse.data.folder.tree import PARTS, TEST, TRAIN, VALIDATION

SHARES = {TEST: 0.2, VALIDATION: 0.1}
"""Shares of the images that are split off for parts that are not laid out."""

TOLERATED = (0.5, 1.5)
"""How many times its share a part may have by chance."""

Files = Mapping[str, list[Path]]
"""The files of each class."""


def split_off(
    files: Files, shares: Mapping[str, float], group: Callable[[Path], str]
) -> dict[str, dict[str, list[Path]]]:
    """Split parts off the training part.

    Args:
        files: The files of each class.
        shares: The share of each part that is split off, in (0, 1), in all less than 1.
        group: The name of a file's group, from its path. Files of one group stay in one part.

    Returns:
        The files of each class by part: the parts of ``shares``, and ``train`` for the rest. A class with fewer groups
        than parts has no files in some of them.
    """
    members: dict[str, dict[str, list[Path]]] = {}
    for name, paths in files.items():
        for path in paths:
            members.setdefault(group(path), {}).setdefault(name, []).append(path)
    ranks = {key: _rank(key) for key in members}
    bounds, start = {}, 0.0
    for part in (TEST, VALIDATION):
        if part in shares:
            bounds[part] = (start, start + shares[part])
            start += shares[part]
    bounds[TRAIN] = (start, 1.0)
    low, high = TOLERATED
    places = {
        key: next(part for part, (start, end) in bounds.items() if start <= rank < end) for key, rank in ranks.items()
    }
    sizes = {key: sum(map(len, of_class.values())) for key, of_class in members.items()}
    if any(not low <= _share(part, places, sizes) / (end - start) <= high for part, (start, end) in bounds.items()):
        places = _dealt_out(sizes, ranks, bounds)
    _give_each_class_every_part(members, places, ranks, bounds)
    split: dict[str, dict[str, list[Path]]] = {part: {name: [] for name in files} for part in PARTS if part in bounds}
    for key, of_class in members.items():
        for name, paths in of_class.items():
            split[places[key]][name] += paths
    return {part: {name: sorted(paths) for name, paths in named.items()} for part, named in split.items()}


def _share(part: str, places: Mapping[str, str], sizes: Mapping[str, int]) -> float:
    """The share of the images that a part has."""
    return sum(size for key, size in sizes.items() if places[key] == part) / sum(sizes.values())


def _dealt_out(
    sizes: Mapping[str, int], ranks: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]
) -> dict[str, str]:
    """The part of each group: the one within whose bounds its middle image lies, in the order of the numbers."""
    total, before, places = sum(sizes.values()), 0, {}
    for key in sorted(sizes, key=ranks.__getitem__):
        middle = (before + sizes[key] / 2) / total
        places[key] = next(part for part, (start, end) in bounds.items() if start <= middle < end)
        before += sizes[key]
    return places


def _give_each_class_every_part(
    members: Mapping[str, Mapping[str, list[Path]]],
    places: dict[str, str],
    ranks: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> None:
    """Move groups, as few as possible, so that each class with enough groups is in every part."""
    own: dict[str, list[str]] = {}
    for key in sorted(members, key=ranks.__getitem__):
        for name in members[key]:
            own.setdefault(name, []).append(key)

    def movable(key: str) -> bool:
        return all(sum(places[other] == places[key] for other in own[name]) > 1 for name in members[key])

    for keys in own.values():
        for part, (start, end) in bounds.items():
            if any(places[key] == part for key in keys):
                continue
            candidates = [key for key in keys if movable(key)]
            if candidates:
                places[min(candidates, key=lambda key: max(start - ranks[key], ranks[key] - end))] = part


def _rank(key: str) -> float:
    """A number in [0, 1) that follows from a name alone, spread evenly over names."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:6]) / 2**48
