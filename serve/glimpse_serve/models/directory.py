"""A directory of models that is watched: what lies in it is served, and what changes is served anew.

``NAME.onnx`` is version 1 of the model NAME, and ``NAME/3/model.onnx`` (Triton's layout, as ``glimpse export --to
triton`` writes it) its version 3. It is looked at by its names and file times every second or so, which works on every
file system, those mounted by Kubernetes included.
"""

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

from glimpse_serve.models.names import ModelError
from glimpse_serve.models.registry import Registry

FILE = "model.onnx"

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A model's file in the directory."""

    name: str
    version: int
    path: Path
    signature: tuple[int, ...]
    """What changes when the file does: its times, its size, and which file it is."""


class ModelDirectory:
    """Keeps a registry as the directory is.

    A file that is still being written is left until it rests. One that is refused is not tried again until it changes,
    and what was served before it goes on.

    Args:
        directory: The directory.
        registry: What is to be as the directory is. Models that came from elsewhere are not touched.
    """

    def __init__(self, directory: Path, registry: Registry) -> None:
        self._directory, self._registry = directory, registry
        self._served: dict[tuple[str, int], Found] = {}
        self._tried: dict[Path, tuple[int, ...]] = {}
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._readable = True

    async def look(self, rested: bool = False) -> None:
        """Look once, load what is new or has changed, and take out what is gone.

        Args:
            rested: Whether files are to be taken as complete; otherwise only those that are as they were last time.
        """
        try:
            listed = await asyncio.to_thread(scan, self._directory)
        except OSError as error:
            if self._readable:
                _log.error(
                    "can't read the model directory %s (%s); what is served goes on", self._directory, error.strerror
                )
            self._readable = False
            return
        self._readable = True
        before, self._seen = self._seen, {found.path: found.signature for found in listed}
        self._forget(before)
        for found in listed:
            quiet = rested or before.get(found.path) == found.signature
            if quiet and self._tried.get(found.path) != found.signature:
                self._tried[found.path] = found.signature
                if self._is_taken(found):
                    continue
                try:
                    await self._registry.load(found.name, found.version, found.path)
                except ModelError:
                    continue  # the registry has noted and told it
                self._served[found.name, found.version] = found

    def _is_taken(self, found: Found) -> bool:
        """Whether what a file would be called is served from another one, of which one would take the other out."""
        own = self._served.get((found.name, found.version))
        if found.version not in self._registry.versions(found.name) or (own and own.path == found.path):
            return False
        self._registry.refuse(
            found.name,
            found.path,
            f"expected version {found.version} of {found.name!r} once, and it is served from "
            f"{str(own.path) if own else 'a file that was named'!r}; rename one of them, or take it away",
        )
        return True

    def _forget(self, before: dict[Path, tuple[int, ...]]) -> None:
        """Take out what is missing for the second time: a file that is replaced may be missing for a moment."""
        gone = [path for path in self._tried if path not in self._seen and path not in before]
        for path in gone:
            del self._tried[path]
            self._registry.refused.pop(str(path), None)
        for key in [key for key, found in self._served.items() if found.path in gone]:
            del self._served[key]
            self._registry.unload(*key)
            # Another file of that name may take its place.
            for file in [file for file in self._tried if str(file) in self._registry.refused]:
                del self._tried[file]

    async def run(self, seconds: float) -> None:
        """Look again and again, until cancelled.

        Args:
            seconds: How long to wait between.
        """
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - what is served must go on, whatever befalls the watch
                _log.exception("looking at the model directory failed; it is tried again")


def scan(directory: Path) -> list[Found]:
    """List the models' files in a directory, by name and version.

    Args:
        directory: The directory. Hidden files and whatever has another layout are passed over.

    Raises:
        OSError: When it can't be read.
    """
    found = []
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.suffix == ".onnx":
            found += _found(entry.stem, 1, entry)
        elif entry.is_dir():
            try:
                versions = sorted(entry.iterdir())
            except PermissionError:  # such as lost+found on a volume of its own
                continue
            for version in versions:
                if (
                    version.name.isascii()
                    and version.name.isdecimal()
                    and len(version.name) <= 18
                    and int(version.name)
                ):
                    found += _found(entry.name, int(version.name), version / FILE)
    return found


def _found(name: str, version: int, path: Path) -> list[Found]:
    try:
        about = path.stat()
    except OSError:
        return []  # gone meanwhile, or an empty folder
    return [Found(name, version, path, (about.st_mtime_ns, about.st_size, about.st_ino, about.st_dev))]
