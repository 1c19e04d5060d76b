"""Groups of files that must stay in one part: named by the user, and files with the same bytes."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glimpse.data.datasets import DataError
from glimpse.errors import Argument


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
            self._join([self._own(path) for path in paths])

    def of(self, path: Path) -> str:
        """Return the name of a file's group: that of all files which must be in the same part.

        Args:
            path: One of the files.
        """
        return self._top(self._own(path))

    def _own(self, path: Path) -> str:
        named = self._named.get(path)
        return f"group {named}" if named is not None else path.relative_to(self._root).as_posix()

    def _top(self, key: str) -> str:
        while (upper := self._first.get(key, key)) != key:
            key = upper
        return key

    def _join(self, keys: list[str]) -> None:
        tops = sorted({self._top(key) for key in keys})
        for key in tops[1:]:
            self._first[key] = tops[0]


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


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return b""  # reported when the image is read
