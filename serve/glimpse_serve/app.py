"""The service as one ASGI application, made of its parts by one function."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Route, Router, WebSocketRoute

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.api_keys import KeyRing
from glimpse_serve.gateway.authentication import Authenticator, with_cors
from glimpse_serve.gateway.connections import GuardedProtocol
from glimpse_serve.gateway.middleware import Application, RequestMiddleware
from glimpse_serve.gateway.rate_limits import RateLimiter
from glimpse_serve.http.bodies import BodyReader
from glimpse_serve.http.request import REQUEST_KEY, Endpoint, Handler, Receive, Request, Response, Scope, Send
from glimpse_serve.inference.batcher import Batcher, Engine, WorkerThreads
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.models.directory import ModelDirectory
from glimpse_serve.models.names import ModelError, named_models
from glimpse_serve.models.registry import Registry
from glimpse_serve.openapi.routes import DocumentationRoutes
from glimpse_serve.routes.context import AppContext, Readiness
from glimpse_serve.routes.streaming import StreamingRoutes
from glimpse_serve.routes.v1 import V1Routes
from glimpse_serve.routes.v2 import V2Routes
from glimpse_serve.settings import DRAIN, SHARED, Settings
from glimpse_serve.telemetry.metrics import Metrics
from glimpse_serve.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)


class Service:
    """All that makes up the service in one process.

    Attributes:
        house: What its routes share.
        routes: Its handlers, by the templates of their paths and by method.
        application: It, as an ASGI application.

    Args:
        settings: How it runs.
    """

    def __init__(self, settings: Settings) -> None:
        shared = os.environ.get(SHARED)
        self._settings = settings
        self._crew = WorkerThreads(min(8, os.cpu_count() or 1))
        self._metrics = Metrics()
        GuardedProtocol.count = staticmethod(self._metrics.connection_refused)
        self._tracing = Tracing(settings.tracing, "glimpse")
        self._keys = KeyRing(settings.keys_file, settings.keys)
        registry = Registry(self.engine_of, self._metrics, settings.provider, settings.threads)
        self.house = AppContext(settings, registry, BodyReader(settings), self._metrics, Readiness())
        self._watch = ModelDirectory(Path(settings.directory), registry) if settings.directory else None
        limiter = RateLimiter(Path(shared) / "rates" if shared else None)
        self._looks = StreamingRoutes(self.house)
        self.routes = _routes(self.house, self._looks, lambda: self._keys.required)
        routes: list[BaseRoute] = [Route(path, Endpoint(path, handlers)) for path, handlers in self.routes.items()]
        routes.append(WebSocketRoute(self._looks.path, self._looks))
        router: Any = Router(routes, redirect_slashes=False, default=_nowhere)  # type: ignore[arg-type]
        entrance = RequestMiddleware(
            router, self.live, Authenticator(self._keys, limiter, settings), self._metrics, self._tracing, settings
        )
        self.application: Application = with_cors(entrance, settings)

    def engine_of(self, model: ServedModel) -> Engine:
        """Make the engine of a model.

        Args:
            model: The model.
        """
        return Batcher(
            model.answer,
            self._crew,
            self._settings.max_batch,
            self._settings.max_queue,
            BatcherMetrics(self._metrics, model.name),
        )

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Load the models before the first request, and let go of everything after the last: ASGI's lifespan.

        A model that can't be served is told in a sentence, and keeps the service from starting.
        """
        await receive()
        try:
            await self._load()
        except ModelError as error:
            self._close()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        tasks = [asyncio.create_task(self._tend())]
        if self._watch:
            tasks.append(asyncio.create_task(self._watch.run(self._settings.watch_seconds)))
        self.house.condition.started = True
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # where there are no such signals
            asyncio.get_running_loop().add_signal_handler(DRAIN, self.drain)
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            self.drain()
            for task in tasks:
                task.cancel()
            self._close()
        await send({"type": "lifespan.shutdown.complete"})

    def drain(self) -> None:
        """Say from now on that the service is not ready, while it goes on answering."""
        self.house.condition.draining = True

    def _close(self) -> None:
        self._looks.close()
        self.house.intake.close()
        self._crew.close()
        self._tracing.close()

    async def _load(self) -> None:
        for name, path in named_models(self._settings):
            await self.house.registry.load(name, 1, path)
        if self._watch:
            await self._watch.look(rested=True)

    async def _tend(self) -> None:
        """See to what may change while the service runs."""
        while True:
            await asyncio.sleep(1)
            try:
                await asyncio.to_thread(self._keys.refresh)
            except Exception:  # noqa: BLE001 - keys have to be revocable tomorrow as well
                _log.exception("looking after the keys failed; it is tried again")


class BatcherMetrics:
    """Counts a model's batches and its queue for the metrics; a batcher's observer."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name

    def batch(self, size: int) -> None:
        """Count a batch."""
        self._metrics.batch(self._name, size)

    def queued(self, waiting: int) -> None:
        """Set how many jobs wait."""
        self._metrics.queued(self._name, waiting)


def build(settings: Settings) -> Application:
    """Make the service.

    Args:
        settings: How it runs.
    """
    return Service(settings).application


def _routes(
    house: AppContext, looks: StreamingRoutes, wants_key: Callable[[], bool]
) -> dict[str, Mapping[str, Handler]]:
    async def metrics(asked: Request) -> Response:
        body, media_type = await asyncio.to_thread(house.metrics.render, asked.headers.get("accept", ""))
        return Response(body, 200, media_type)

    paths: dict[str, Mapping[str, Handler]] = {
        **V1Routes(house).routes(),
        **looks.routes(),
        **V2Routes(house).routes(),
        "/metrics": {"GET": metrics},
    }
    return {**paths, **DocumentationRoutes(house, paths, wants_key).routes()}


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    asked: Request = scope[REQUEST_KEY]
    raise HTTPError(404, f"there is nothing at {asked.scope['path']!r:.200}; /docs tells what there is", "route")
