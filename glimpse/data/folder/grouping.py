"""Groups of files that must stay in one part: named by the user, told by the files' names, or found to be alike."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from glimpse.data.datasets import DataError
from glimpse.data.folder.tree import PARTS
from glimpse.errors import Argument

_MARKS = ("_", "-", ".", " ")
_FEWEST_PAIRS = 20
_TELLING = 0.7
_RARE = 0.05
_LARGEST = 0.1


class Groups:
    """The groups of a folder's files.

    Args:
        root: The folder.
        files: All files.
        named: The name of the group of each file that has one.
    """

    def __init__(self, root: Path, files: Iterable[Path], named: Mapping[Path, str]) -> None:
        self._root = root
        self._named = named
        self._first: dict[str, str] = {}
        files = list(files)
        with ThreadPoolExecutor() as pool:
            digests = list(pool.map(_digest, files))
        same: dict[bytes, list[Path]] = {}
        for path, digest in zip(files, digests, strict=True):
            if digest:
                same.setdefault(digest, []).append(path)
        self.identical = [paths for paths in same.values() if len(paths) > 1]
        """Files with the same bytes."""
        for paths in self.identical:
            self.join(paths)

    def of(self, path: Path) -> str:
        """Return the name of a file's group: that of all files which must be in the same part.

        Args:
            path: One of the files.
        """
        return self._top(self._own(path))

    def join(self, paths: Iterable[Path]) -> None:
        """Make one group of the groups of several files.

        Args:
            paths: Some of the files.
        """
        tops = sorted({self.of(path) for path in paths})
        for key in tops[1:]:
            self._first[key] = tops[0]

    def _own(self, path: Path) -> str:
        named = self._named.get(path)
        return f"group {named}" if named is not None else path.relative_to(self._root).as_posix()

    def _top(self, key: str) -> str:
        while (upper := self._first.get(key, key)) != key:
            key = upper
        return key


def groups_by_pattern(pattern: str, root: Path, files: Iterable[Path]) -> dict[Path, str]:
    """Name groups after a part of each file's path.

    Args:
        pattern: A regular expression. It is searched for in the path below the root, with ``/`` between folders. The
            group's name is what its first pair of parentheses matches, or else the whole match.
        root: The folder.
        files: All files.

    Returns:
        The name of the group of each file whose path matches.

    Raises:
        DataError: When it is no regular expression, or no path matches.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(
            "expected ", Argument("group"), f" as a regular expression, got {pattern!r} ({error}); correct it"
        ) from error
    found, example = {}, ""
    for path in files:
        example = path.relative_to(root).as_posix()
        if match := compiled.search(example):
            found[path] = match.group(1 if compiled.groups else 0) or ""
    if not found:
        raise DataError(
            "expected ",
            Argument("group"),
            f" to match paths such as {example!r}, got {pattern!r}, which matches none; correct it, or leave it out",
        )
    return found


class TellingNames(NamedTuple):
    """Names of files that tell which of them show one object."""

    mark: str
    """The group's name is what stands before the last one of these in a file's name; all of it where none is there."""
    agreement: float
    """The share of near-duplicates that have the same name of a group, in (0, 1]."""
    chance: float
    """The share of any two images that have it."""
    groups: dict[Path, str]
    """The name of each file's group."""


def telling_names(
    root: Path, files: Sequence[Path], cells: Sequence[str], first: Sequence[int], second: Sequence[int]
) -> TellingNames | None:
    """Find out whether the files' names tell groups, such as ``00012_00003.png``, frame 3 of track 12.

    They do where near-duplicates have the same beginning of their names, and others do not. A class of fewer groups
    than there are parts keeps none, so that it can still be in every part.

    Args:
        root: The folder.
        files: All files.
        cells: The class of each file; its class and part, where parts are laid out.
        first: The place of one image of each pair of near-duplicates.
        second: The place of the other.

    Returns:
        The finest such groups; None where names don't tell any.
    """
    if len(first) < _FEWEST_PAIRS:
        return None
    found = []
    for mark in _MARKS:
        for within_folders in (True, False):
            names = [_beginning(path, root, mark, within_folders) for path in files]
            sizes = Counter(names)
            agreement = sum(names[one] == names[other] for one, other in zip(first, second, strict=True)) / len(first)
            chance = sum(size * (size - 1) for size in sizes.values()) / (len(files) * (len(files) - 1))
            if agreement >= _TELLING and chance <= _RARE * agreement and max(sizes.values()) <= len(files) * _LARGEST:
                found.append(TellingNames(mark, agreement, chance, _of_large_classes(files, names, cells)))
    return min(found, key=lambda names: names.chance, default=None)


def _of_large_classes(files: Sequence[Path], names: Sequence[str], cells: Sequence[str]) -> dict[Path, str]:
    """The groups of the classes that have one for each part."""
    spread: dict[str, set[str]] = {}
    for name, cell in zip(names, cells, strict=True):
        spread.setdefault(cell, set()).add(name)
    named = zip(files, names, cells, strict=True)
    return {path: name for path, name, cell in named if len(spread[cell]) >= len(PARTS)}


def _beginning(path: Path, root: Path, mark: str, within_folders: bool) -> str:
    """What stands before the last mark in a file's name, after its folder where groups lie within folders."""
    start = path.stem.rpartition(mark)[0] or path.stem
    return (path.relative_to(root).parent / start).as_posix() if within_folders else start


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return b""  # reported when the image is read
