"""The models that are served, by name and version: how one comes in, takes over, and goes."""

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
from glimpse_serve.inference.batcher import Engine
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.models.names import ModelError, check_name

TRIM_SECONDS = 2.0
"""After a model was replaced, for the requests that it has begun."""

_log = logging.getLogger(__name__)


class LoadedModel(NamedTuple):
    """A model and who answers for it."""

    model: ServedModel
    engine: Engine
    loaded_at: float
    """Seconds since the epoch."""


@runtime_checkable
class LoadObserver(Protocol):
    """Told of models that come and go."""

    def loaded(self, name: str, version: int, sha256: str) -> None:
        """A model takes over."""

    def unloaded(self, name: str, version: int) -> None:
        """A model is taken out."""

    def load_refused(self, name: str) -> None:
        """A file was refused."""


class Registry:
    """Models by name and version. It belongs to one event loop; files are opened in threads.

    Whoever has an :class:`LoadedModel` in hand may go on using it after another took its place: it is gone when the
    last request has let it go, so no request fails because of a change.

    Args:
        engine_of: Makes the engine of a model.
        observer: Told of what happens.
        provider: What models run on.
        threads: Threads within an operator.
    """

    def __init__(
        self,
        engine_of: Callable[[ServedModel], Engine],
        observer: LoadObserver,
        provider: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._engine_of, self._observer = engine_of, observer
        self._provider, self._threads = provider, threads
        self._entries: dict[str, dict[int, LoadedModel]] = {}
        self.refused: dict[str, str] = {}
        """Files that were refused, with the sentence that says why."""

    def __iter__(self) -> Iterator[LoadedModel]:
        """Every model, by name in the order in which the names came, and by version."""
        for versions in list(self._entries.values()):
            for version in sorted(versions):
                yield versions[version]

    @property
    def names(self) -> list[str]:
        """Of the models, in the order in which they came."""
        return list(self._entries)

    def versions(self, name: str) -> list[int]:
        """Versions of a model that are served, ascending."""
        return sorted(self._entries.get(name, ()))

    def find(self, name: str | None = None, version: str | None = None) -> LoadedModel:
        """Find a model.

        Args:
            name: Its name; that which came first by default.
            version: Its version as a client wrote it; the greatest by default.

        Raises:
            Refusal: 404 when there is none; 503 while there is none at all.
        """
        entries = self._entries
        if not entries:
            raise HTTPError(
                503, "expected a model to be served, and none is yet; try again soon", "model", {"Retry-After": "1"}
            )
        if name is None:
            name = next(iter(entries))
        versions = entries.get(name)
        if versions is None:
            raise HTTPError(
                404, f"expected a model out of {_listed(entries)}, got {name!r:.80}; choose one of them", "model"
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
        """Open a model's file, check and warm it, and only then let it take over.

        Args:
            name: By which clients will call it.
            version: At least 1; one of this name and version that is there already is replaced.
            path: An ONNX file written by ``glimpse export``.

        Raises:
            ModelError: When the file can't be served; what was served before goes on. It is noted in ``refused``.
        """
        try:
            check_name(name)
            session = await asyncio.to_thread(self._open, path)
        except ModelError as error:
            self.refuse(name, path, str(error))
            raise
        model = ServedModel(name, version, session)
        entry = LoadedModel(model, self._engine_of(model), time.time())
        replaced = version in self._entries.get(name, {})
        self._entries.setdefault(name, {})[version] = entry
        if replaced:
            # By then the requests of the old one have let it go.
            loop = asyncio.get_running_loop()
            loop.call_later(TRIM_SECONDS, loop.run_in_executor, None, give_back_memory)
        self.refused.pop(str(path), None)
        self._observer.loaded(name, version, session.sha256)
        _log.info(
            "serving %s version %d", name, version, extra={"model": name, "file": str(path), "sha256": session.sha256}
        )
        return entry

    def refuse(self, name: str, path: Path, sentence: str) -> None:
        """Note that a file is not served, and tell it.

        Args:
            name: By which it would have been called.
            path: The file.
            sentence: Why.
        """
        self.refused[str(path)] = sentence
        self._observer.load_refused(name)
        _log.error("refused the model %s: %s", name, sentence, extra={"model": name, "file": str(path)})

    def unload(self, name: str, version: int) -> None:
        """Take a model out; what it has begun it ends.

        Args:
            name: Its name.
            version: Its version.
        """
        versions = self._entries.get(name, {})
        if versions.pop(version, None) is not None:
            self._observer.unloaded(name, version)
            _log.info("no longer serving %s version %d", name, version, extra={"model": name})
        if not versions:
            self._entries.pop(name, None)

    def _open(self, path: Path) -> GlimpseSession:
        try:
            session = GlimpseSession(path, self._threads, self._provider)
            _try_out(session)
        except (ContractError, ProviderError) as error:
            raise ModelError(str(error)) from error
        except Exception as error:  # a damaged file meets onnxruntime with any kind of exception
            raise ModelError(f"{str(path)!r} can't be served ({error}); export the model again") from error
        return session


def give_back_memory() -> bool:
    """Return free memory to the system, which the C library would keep: some 20 MB after a model was replaced.

    Returns:
        Whether the C library is one that can.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return trim is not None


def _try_out(session: GlimpseSession) -> None:
    """See that a model answers noise with probabilities, alone and in a batch."""
    card = session.card
    noise = np.random.default_rng(0).integers(0, 256, (2, card.height, card.width, card.channels), np.uint8)
    for canvases in (noise[:1], noise):
        found: Any = session.run(canvases).probabilities
        total = found.sum(-1)
        if not np.isfinite(found).all() or np.abs(total - 1).max() > 1e-2:
            raise ModelError(
                f"expected probabilities that sum to one from {str(session.path)!r}, got {total.min():g} to "
                f"{total.max():g}; export the model again"
            )


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
