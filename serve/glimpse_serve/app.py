"""The service as an ASGI application: its components, middleware, routes and lifespan."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.api_keys import KeyRing
from glimpse_serve.gateway.authentication import Authenticator, cors_middleware
from glimpse_serve.gateway.connections import GuardedProtocol
from glimpse_serve.gateway.middleware import Application, RequestMiddleware
from glimpse_serve.gateway.path_prefix import PathPrefix
from glimpse_serve.gateway.rate_limits import RateLimiter
from glimpse_serve.http.bodies import BodyReader
from glimpse_serve.http.request import REQUEST_KEY, Endpoint, Receive, Request, RequestHandler, Response, Scope, Send
from glimpse_serve.inference.batcher import Batcher, JobExecutor, WorkerThreads
from glimpse_serve.inference.images import ImageWorkers
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.inference.watchdog import Watchdog
from glimpse_serve.models.directory import ModelDirectory
from glimpse_serve.models.names import ModelError, named_models
from glimpse_serve.models.registry import Registry
from glimpse_serve.models.trial import Trial
from glimpse_serve.openapi.routes import DocumentationRoutes
from glimpse_serve.routes.context import AppContext, Readiness
from glimpse_serve.routes.streaming import StreamingRoutes
from glimpse_serve.routes.v1 import V1Routes
from glimpse_serve.routes.v2 import V2Routes
from glimpse_serve.settings import DRAIN, SHARED, Settings
from glimpse_serve.telemetry.metrics import Metrics
from glimpse_serve.telemetry.tracing import Tracing

SETTLE_SECONDS = 5.0
"""How long the start waits for the next file of the directory to be loaded; the rest is loaded while it serves."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


class Service:
    """The components of the service in one process.

    Attributes:
        context: The components that the routes share.
        routes: The handlers, by path template and method.
        middleware: The middleware, outermost first.
        application: The ASGI application.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: Settings) -> None:
        shared = os.environ.get(SHARED)
        self._settings = settings
        self._workers = WorkerThreads(min(8, os.cpu_count() or 1))
        self._metrics = Metrics()
        GuardedProtocol.count = staticmethod(self._metrics.count_rejected_connection)
        self._tracing = Tracing(settings.tracing, "glimpse")
        self._keys = KeyRing(settings.keys_file, settings.keys)
        self._watchdog = Watchdog(settings.deadline_seconds)
        trial = Trial(settings.load_seconds, settings.load_megabytes) if settings.load_seconds else None
        registry = Registry(self.make_executor, self._metrics, settings.provider, settings.threads, trial)
        self.context = AppContext(
            settings, registry, BodyReader(settings), ImageWorkers(settings), self._metrics, Readiness()
        )
        self._directory = ModelDirectory(Path(settings.directory), registry) if settings.directory else None
        limiter = RateLimiter(Path(shared) / "rates" if shared else None)
        self._streaming = StreamingRoutes(self.context)
        self.routes = _routes(self.context, self._streaming, lambda: self._keys.required)
        routes: list[BaseRoute] = [Route(path, Endpoint(path, handlers)) for path, handlers in self.routes.items()]
        routes.append(WebSocketRoute(self._streaming.path, self._streaming))
        self._router = Router(routes, redirect_slashes=False, default=_not_found)  # type: ignore[arg-type]
        authenticator = Authenticator(self._keys, limiter, settings)
        self.middleware = [
            *([Middleware(PathPrefix, settings.path_prefix)] if settings.path_prefix else []),
            *cors_middleware(settings),
            Middleware(RequestMiddleware, authenticator, self._metrics, self._tracing, settings),
        ]
        self.application: Application = self._dispatch
        for middleware, args, options in reversed(self.middleware):
            self.application = middleware(self.application, *args, **options)

    def make_executor(self, model: ServedModel) -> JobExecutor:
        """Make the executor that runs a model's jobs.

        Args:
            model: The model.
        """
        self._watchdog.watch(model.session)
        return Batcher(
            model.run_batch,
            self._workers,
            self._settings.max_batch,
            self._settings.max_queue,
            BatcherMetrics(self._metrics, model.name),
        )

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Load the models at startup, and release all resources at shutdown: ASGI's lifespan protocol.

        A model that can't be served is logged by the registry, and the service does not start. A signal to stop ends
        the loading.
        """
        await receive()
        try:
            await self._load_until_stopped()
        except ModelError:
            self._close()
            await send({"type": "lifespan.startup.failed"})
            return
        tasks = [asyncio.create_task(self._refresh_keys())]
        if self._directory:
            tasks.append(asyncio.create_task(self._directory.run(self._settings.watch_seconds)))
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # on systems without such signals
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

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        handle: Any = self.lifespan if scope["type"] == "lifespan" else self._router
        await handle(scope, receive, send)

    def drain(self) -> None:
        """Report the service as not ready from now on, while it still handles requests."""
        self.context.readiness.draining = True

    def _close(self) -> None:
        self._watchdog.close()
        self._streaming.close()
        self.context.images.close()
        self._workers.close()
        self._tracing.close()

    async def _load_until_stopped(self) -> None:
        """Load the models, and be ready; or end the loading at a signal to stop, at which the server stops as well."""
        loading = asyncio.create_task(self._load())
        with cancelled_by_signals(loading):
            await asyncio.wait([loading])
        if not loading.cancelled():
            loading.result()
            self.context.readiness.started = True

    async def _load(self) -> None:
        registry = self.context.registry
        loads = [asyncio.create_task(registry.load(name, 1, path)) for name, path in named_models(self._settings)]
        try:
            await asyncio.gather(*loads)
        finally:
            for load in loads:
                load.cancel()
        if self._directory:
            await self._directory.begin_scan(complete=True)
            await self._directory.settle(SETTLE_SECONDS)

    async def _refresh_keys(self) -> None:
        """Read the key file again, once a second, when it has changed."""
        while True:
            await asyncio.sleep(1)
            try:
                await asyncio.to_thread(self._keys.refresh)
            except Exception:  # noqa: BLE001 - a failed refresh must not end the refreshing
                _log.exception("refreshing the API keys failed; it is tried again")


class BatcherMetrics:
    """Records the batches and the queue length of a model in the metrics; a :class:`BatchObserver`."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name

    def batch(self, size: int) -> None:
        """Count a batch."""
        self._metrics.observe_batch(self._name, size)

    def queued(self, waiting: int) -> None:
        """Set the number of waiting jobs."""
        self._metrics.set_queue_length(self._name, waiting)


@contextlib.contextmanager
def cancelled_by_signals(task: "asyncio.Task[None]") -> Iterator[None]:
    """Cancel a task at a signal to stop, which is also handled as it was before.

    Args:
        task: A task of the running event loop.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python handles no signals
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(task.cancel)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in STOP_SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def create_app(settings: Settings) -> Application:
    """Create the ASGI application.

    Args:
        settings: The settings.
    """
    return Service(settings).application


def _routes(
    context: AppContext, streaming: StreamingRoutes, requires_key: Callable[[], bool]
) -> dict[str, Mapping[str, RequestHandler]]:
    async def metrics(request: Request) -> Response:
        body, media_type = await asyncio.to_thread(context.metrics.render, request.headers.get("accept", ""))
        return Response(body, 200, media_type)

    paths: dict[str, Mapping[str, RequestHandler]] = {
        **V1Routes(context).routes(),
        **streaming.routes(),
        **V2Routes(context).routes(),
        "/metrics": {"GET": metrics},
    }
    return {**paths, **DocumentationRoutes(context, paths, requires_key).routes()}


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    request: Request = scope[REQUEST_KEY]
    raise HTTPError(404, f"there is nothing at {request.scope['path']!r:.200}; /docs lists what there is", "route")
