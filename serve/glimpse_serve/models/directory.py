"""A watched directory of models: its files are served, and loaded again when they change.

``NAME.onnx`` is version 1 of the model NAME, and ``NAME/3/model.onnx`` (Triton's layout, as ``glimpse export --to
triton`` writes it) is version 3. The directory is polled: names and file times are compared every second or so, which
works on every file system, those mounted by Kubernetes included.
"""

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

from glimpse.contract.texts import visible
from glimpse_serve.models.names import ModelError
from glimpse_serve.models.registry import Registry

FILE = "model.onnx"

_log = logging.getLogger(__name__)


class VersionedFile(NamedTuple):
    """A model file in the directory, with the name and version that its place gives it."""

    name: str
    version: int
    path: Path
    signature: tuple[int, ...]
    """Modification time, size, inode and device: they change when the file does."""


class _Load(NamedTuple):
    """A file that is being tried and loaded."""

    file: VersionedFile
    task: "asyncio.Task[None]"


class ModelDirectory:
    """Keeps a registry in step with the directory.

    A file is loaded only when it did not change between two scans, so not while it is written. Files are loaded side by
    side, and a scan goes on while one takes long. A rejected file is not tried again until it changes, and the model
    that was served before stays.

    Args:
        directory: The directory.
        registry: The registry to update. Models from elsewhere are not touched.
    """

    def __init__(self, directory: Path, registry: Registry) -> None:
        self._directory, self._registry = directory, registry
        self._served: dict[tuple[str, int], VersionedFile] = {}
        self._loads: dict[tuple[str, int], _Load] = {}
        self._tried: dict[Path, tuple[int, ...]] = {}
        self._signatures: dict[Path, tuple[int, ...]] = {}
        self._readable = True

    async def scan(self, complete: bool = False) -> None:
        """Scan once, and wait until new and changed files are loaded or rejected.

        Args:
            complete: Whether all files count as complete; otherwise only those that are unchanged since the last scan.
        """
        waiting = await self.begin_scan(complete)
        while self._loads:
            await asyncio.wait([load.task for load in self._loads.values()])
            waiting = [file for file in waiting if not self._begin_load(file)]

    async def begin_scan(self, complete: bool = False) -> list[VersionedFile]:
        """Scan once: begin to load new and changed files, and unload the models of deleted files.

        Args:
            complete: As of :meth:`scan`.

        Returns:
            Files whose loading has to wait, since another one of the same name and version is being loaded.
        """
        try:
            listed = await asyncio.to_thread(list_files, self._directory)
        except OSError as error:
            if self._readable:
                _log.error(
                    "can't read the model directory %s (%s); what is served goes on",
                    visible(str(self._directory)),
                    error.strerror,
                )
            self._readable = False
            return []
        self._readable = True
        before, self._signatures = self._signatures, {file.path: file.signature for file in listed}
        self._forget(before)
        due = [
            file
            for file in listed
            if (complete or before.get(file.path) == file.signature) and self._tried.get(file.path) != file.signature
        ]
        return [file for file in due if not self._begin_load(file)]

    async def settle(self, seconds: float) -> None:
        """Wait until all loads that have begun have ended, or a model is served and no other for some time.

        Args:
            seconds: How long to wait for the next load to end.
        """
        while self._loads:
            ended, _ = await asyncio.wait(
                [load.task for load in self._loads.values()], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not ended and self._registry.names:
                return

    def close(self) -> None:
        """End the loads that have begun."""
        for load in self._loads.values():
            load.task.cancel()

    def _begin_load(self, file: VersionedFile) -> bool:
        """Begin to load a file, or reject it; False when it has to wait for another one of its name and version."""
        key = file.name, file.version
        load = self._loads.get(key)
        if load is not None and load.file.path != file.path:
            return False
        if load is not None:
            load.task.cancel()
        self._tried[file.path] = file.signature
        if not self._is_served_elsewhere(file):
            self._loads[key] = _Load(file, asyncio.create_task(self._load(file)))
        return True

    async def _load(self, file: VersionedFile) -> None:
        key = file.name, file.version
        try:
            await self._registry.load(file.name, file.version, file.path)
            self._served[key] = file
        except ModelError:
            pass  # the registry has recorded and logged it
        except Exception:  # noqa: BLE001 - it concerns this file alone
            _log.exception("loading the model %s failed", visible(file.name))
        finally:
            if key in self._loads and self._loads[key].file is file:
                del self._loads[key]

    def _is_served_elsewhere(self, file: VersionedFile) -> bool:
        """Whether another file is already served under this name and version; then this one is rejected."""
        own = self._served.get((file.name, file.version))
        if file.version not in self._registry.versions(file.name) or (own and own.path == file.path):
            return False
        self._registry.reject(
            file.name,
            file.path,
            f"expected version {file.version} of {file.name!r} once, and it is served from "
            f"{str(own.path) if own else 'a file that was named'!r}; rename one of them, or take it away",
        )
        return True

    def _forget(self, before: dict[Path, tuple[int, ...]]) -> None:
        """Unload files that are missing for the second time: a file that is replaced may be missing for a moment."""
        missing = [path for path in self._tried if path not in self._signatures and path not in before]
        for path in missing:
            del self._tried[path]
            self._registry.rejected.pop(str(path), None)
        for load in list(self._loads.values()):
            if load.file.path in missing:
                load.task.cancel()
        for key in [key for key, file in self._served.items() if file.path in missing]:
            del self._served[key]
            self._registry.unload(*key)
            # Another file of that name may take its place.
            for path in [path for path in self._tried if str(path) in self._registry.rejected]:
                del self._tried[path]

    async def run(self, seconds: float) -> None:
        """Scan periodically until cancelled; then the loads that have begun are ended.

        Args:
            seconds: Time between two scans.
        """
        try:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await self.begin_scan()
                except Exception:  # noqa: BLE001 - a failed scan must not end the scanning
                    _log.exception("scanning the model directory failed; it is tried again")
        finally:
            self.close()


def list_files(directory: Path) -> list[VersionedFile]:
    """List the model files in a directory, by name and version.

    Args:
        directory: The directory. Hidden files and files of another layout are ignored.

    Raises:
        OSError: When it can't be read.
    """
    files = []
    for item in sorted(directory.iterdir()):
        if item.name.startswith("."):
            continue
        if item.suffix == ".onnx":
            files += _model_file(item.stem, 1, item)
        elif item.is_dir():
            try:
                versions = sorted(item.iterdir())
            except PermissionError:  # such as lost+found on a volume of its own
                continue
            for version in versions:
                if (
                    version.name.isascii()
                    and version.name.isdecimal()
                    and len(version.name) <= 18
                    and int(version.name)
                ):
                    files += _model_file(item.name, int(version.name), version / FILE)
    return files


def _model_file(name: str, version: int, path: Path) -> list[VersionedFile]:
    try:
        status = path.stat()
    except OSError:
        return []  # deleted meanwhile, or an empty folder
    return [VersionedFile(name, version, path, (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev))]
