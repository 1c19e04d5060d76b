"""The registry of served models, by name and version: loading, replacing, unloading."""

import asyncio
import ctypes
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from glimpse.contract.card import ContractError
from glimpse.runtime.providers import ProviderError
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.batcher import JobExecutor
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.models.names import ModelError, check_served_name

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
    """

    def __init__(
        self,
        make_executor: Callable[[ServedModel], JobExecutor],
        observer: LoadObserver,
        provider: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._make_executor, self._observer = make_executor, observer
        self._provider, self._threads = provider, threads
        self._models: dict[str, dict[int, LoadedModel]] = {}
        self.rejected: dict[str, str] = {}
        """Rejected files, with the error message."""

    def __iter__(self) -> Iterator[LoadedModel]:
        """Every model: names in the order of loading, versions ascending."""
        for versions in list(self._models.values()):
            for version in sorted(versions):
                yield versions[version]

    @property
    def names(self) -> list[str]:
        """Names of the models, in the order of loading."""
        return list(self._models)

    def versions(self, name: str) -> list[int]:
        """Served versions of a model, ascending."""
        return sorted(self._models.get(name, ()))

    def find(self, name: str | None = None, version: str | None = None) -> LoadedModel:
        """Find a model.

        Args:
            name: Its name; by default the model that was loaded first.
            version: Its version as the client sent it; the greatest by default.

        Raises:
            HTTPError: 404 when there is no such model; 503 while no model at all is served.
        """
        models = self._models
        if not models:
            raise HTTPError(
                503, "expected a model to be served, and none is yet; try again soon", "model", {"Retry-After": "1"}
            )
        if name is None:
            name = next(iter(models))
        versions = models.get(name)
        if versions is None:
            raise HTTPError(
                404, f"expected a model out of {_listed(models)}, got {name!r:.80}; choose one of them", "model"
            )
        if version is None:
            return versions[max(versions)]
        if not (version.isascii() and version.isdecimal()) or len(version) > 18 or int(version) not in versions:
            known = ", ".join(map(str, sorted(versions)))
            raise HTTPError(
                404,
                f"expected a version of the model {name!r} out of {known}, got {version!r:.80}; choose one of them",
                "model",
            )
        return versions[int(version)]

    async def load(self, name: str, version: int, path: Path) -> LoadedModel:
        """Open a model's file, check it, run it once, and only then serve it.

        Args:
            name: Its name in requests.
            version: At least 1; a loaded model of the same name and version is replaced.
            path: An ONNX file written by ``glimpse export``.

        Raises:
            ModelError: When the file can't be served; it is recorded in ``rejected``, and the old model stays.
        """
        try:
            check_served_name(name)
            session = await asyncio.to_thread(self._open, path)
        except ModelError as error:
            self.reject(name, path, str(error))
            raise
        model = ServedModel(name, version, session)
        loaded = LoadedModel(model, self._make_executor(model), time.time())
        replaced = version in self._models.get(name, {})
        self._models.setdefault(name, {})[version] = loaded
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
        self.rejected[str(path)] = message
        self._observer.load_rejected(name)
        _log.error("rejected the model %s: %s", name, message, extra={"model": name, "file": str(path)})

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

    def _open(self, path: Path) -> GlimpseSession:
        try:
            session = GlimpseSession(path, self._threads, self._provider)
            _check_probabilities(session)
        except (ContractError, ProviderError) as error:
            raise ModelError(str(error)) from error
        except Exception as error:  # onnxruntime raises exceptions of any type for a damaged file
            raise ModelError(f"{str(path)!r} can't be served ({error}); export the model again") from error
        return session


def trim_memory() -> bool:
    """Return free memory to the system, which the C library would keep: some 20 MB after a model was replaced.

    Returns:
        Whether the C library has ``malloc_trim``.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return trim is not None


def _check_probabilities(session: GlimpseSession) -> None:
    """Check that a model returns probabilities for random pixels, for one image and for a batch."""
    card = session.card
    noise = np.random.default_rng(0).integers(0, 256, (2, card.height, card.width, card.channels), np.uint8)
    for images in (noise[:1], noise):
        found: Any = session.run(images).probabilities
        total = found.sum(-1)
        if not np.isfinite(found).all() or np.abs(total - 1).max() > 1e-2:
            raise ModelError(
                f"expected probabilities that sum to one from {str(session.path)!r}, got {total.min():g} to "
                f"{total.max():g}; export the model again"
            )


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
