"""The registry of served models, by name and version: loading, replacing, unloading."""

import asyncio
import ctypes
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from glimpse.contract.texts import visible
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.batcher import JobExecutor
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.models.bundled import is_bundled
from glimpse_serve.models.loading import open_model
from glimpse_serve.models.names import ModelError, check_served_name
from glimpse_serve.models.trial import Trial

TRIM_SECONDS = 2.0
"""Time after which the memory of a replaced model is trimmed; its requests have ended by then."""

_log = logging.getLogger(__name__)


class LoadedModel(NamedTuple):
    """A model and the executor that runs its jobs."""

    model: ServedModel
    executor: JobExecutor
    loaded_at: float
    """Seconds since the epoch."""


@runtime_checkable
class LoadObserver(Protocol):
    """Receives the events of a registry."""

    def loaded(self, name: str, version: int, sha256: str) -> None:
        """A model was loaded, and serves from now on."""

    def unloaded(self, name: str, version: int) -> None:
        """A model was unloaded."""

    def load_rejected(self, name: str) -> None:
        """A file was rejected."""


class Registry:
    """Models by name and version. It belongs to one event loop; files are opened in threads.

    A request may go on using its :class:`LoadedModel` after another one has replaced it: the old model is freed when
    its last request has ended, so no request fails because of a change.

    Args:
        make_executor: Makes the executor of a model.
        observer: Receives the events.
        provider: The execution provider of the models.
        threads: Threads within an operator.
        trial: Tries the files before they are loaded, but for the bundled ones; none when left out.
    """

    def __init__(
        self,
        make_executor: Callable[[ServedModel], JobExecutor],
        observer: LoadObserver,
        provider: str = "cpu",
        threads: int = 1,
        trial: Trial | None = None,
    ) -> None:
        self._make_executor, self._observer = make_executor, observer
        self._provider, self._threads, self._trial = provider, threads, trial
        self._models: dict[str, dict[int, LoadedModel]] = {}
        self.rejected: dict[str, str] = {}
        """Rejected files, with the error message."""

    def __iter__(self) -> Iterator[LoadedModel]:
        """Every model: names in the order in which their loading began, versions ascending."""
        for versions in list(self._models.values()):
            for version in sorted(versions):
                yield versions[version]

    @property
    def names(self) -> list[str]:
        """Names of the models, in the order in which their loading began."""
        return [name for name, versions in self._models.items() if versions]

    def versions(self, name: str) -> list[int]:
        """Served versions of a model, ascending."""
        return sorted(self._models.get(name, ()))

    def find(self, name: str | None = None, version: str | None = None) -> LoadedModel:
        """Find a model.

        Args:
            name: Its name; by default the first of :attr:`names`.
            version: Its version as the client sent it; the greatest by default.

        Raises:
            HTTPError: 404 when there is no such model; 503 while no model at all is served.
        """
        versions = self._models.get(name) if name is not None else next(filter(None, self._models.values()), None)
        if not versions:
            names = self.names
            if not names:
                raise HTTPError(
                    503, "expected a model to be served, and none is yet; try again soon", "model", {"Retry-After": "1"}
                )
            raise HTTPError(
                404, f"expected a model out of {_listed(names)}, got {name!r:.80}; choose one of them", "model"
            )
        if version is None:
            return versions[max(versions)]
        if not (version.isascii() and version.isdecimal()) or len(version) > 18 or int(version) not in versions:
            known = ", ".join(map(str, sorted(versions)))
            raise HTTPError(
                404,
                f"expected a version of the model {name or self.names[0]!r} out of {known}, got {version!r:.80}; "
                "choose one of them",
                "model",
            )
        return versions[int(version)]

    async def load(self, name: str, version: int, path: Path) -> LoadedModel:
        """Try a model's file, open it, run it, and only then serve it.

        Loads may run side by side; when one is cancelled, its trial is ended.

        Args:
            name: Its name in requests.
            version: At least 1; a loaded model of the same name and version is replaced.
            path: An ONNX file written by ``glimpse export``.

        Raises:
            ModelError: When the file can't be served; it is recorded in ``rejected``, and the old model stays.
        """
        try:
            check_served_name(name)
            self._models.setdefault(name, {})
            session = await self._open(path)
            model = ServedModel(name, version, session)
            loaded = LoadedModel(model, self._make_executor(model), time.time())
            replaced = version in self._models.get(name, {})
            self._models.setdefault(name, {})[version] = loaded
        except ModelError as error:
            self.reject(name, path, str(error))
            raise
        finally:
            if not self._models.get(name):
                self._models.pop(name, None)
        if replaced:
            # By then the requests of the old model have ended.
            loop = asyncio.get_running_loop()
            loop.call_later(TRIM_SECONDS, loop.run_in_executor, None, trim_memory)
        self.rejected.pop(str(path), None)
        self._observer.loaded(name, version, session.sha256)
        _log.info(
            "serving %s version %d", name, version, extra={"model": name, "file": str(path), "sha256": session.sha256}
        )
        return loaded

    def reject(self, name: str, path: Path, message: str) -> None:
        """Record and log that a file is not served.

        Args:
            name: The name that its model would have had.
            path: The file.
            message: The reason.
        """
        message = visible(message)
        self.rejected[str(path)] = message
        self._observer.load_rejected(name)
        shown = {"model": visible(name), "file": visible(str(path))}
        _log.error("rejected the model %s: %s", shown["model"], message, extra=shown)

    def unload(self, name: str, version: int) -> None:
        """Unload a model; requests that use it run to their end.

        Args:
            name: Its name.
            version: Its version.
        """
        versions = self._models.get(name, {})
        if versions.pop(version, None) is not None:
            self._observer.unloaded(name, version)
            _log.info("no longer serving %s version %d", name, version, extra={"model": name})
        if not versions:
            self._models.pop(name, None)

    async def _open(self, path: Path) -> GlimpseSession:
        trusted = self._trial is None or await asyncio.to_thread(is_bundled, path)
        sha256 = None if trusted or self._trial is None else await self._trial.run(path)
        try:
            return await asyncio.to_thread(open_model, path, self._threads, self._provider, sha256)
        except MemoryError as error:
            raise ModelError(f"{str(path)!r} needs more memory than there is; use a smaller model") from error


def trim_memory() -> bool:
    """Return free memory to the system, which the C library would keep: some 20 MB after a model was replaced.

    Returns:
        Whether the C library has ``malloc_trim``.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return trim is not None


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
