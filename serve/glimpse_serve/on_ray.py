"""The service on Ray Serve, for more than one machine: ``glimpse serve --ray``, or a Serve config file.

There are two deployments. The *front* is the application of :mod:`glimpse_serve.app`, with another executor: it sends
jobs to the *models* deployment, whose replicas hold the sessions. There are two deployments for three reasons. The
number of replicas should follow the cost of the models, not that of connections. Ray's back-pressure reaches the front
as an exception, which becomes an error in the service's JSON form; before a single deployment Ray's proxy would send an
error in a form of its own. And when a replica of the models dies, the front runs its jobs on another replica, since
jobs change no state; the proxy would respond with 500.

Replicas, autoscaling, queue and batches are Ray's. Its batching does not wait either: a replica forms a batch of the
jobs that arrived while it was busy, up to ``max_batch``. For that the model runs in the replica's event loop: Ray
starts a batch whenever that loop is free, so that with the model in a thread every batch would hold one request. (Ray
checks a replica's health in another thread.)

Metrics and rate limits are those of each front: ``/metrics`` describes the front that responds; Ray's cover replicas.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError, RequestCancelledError

from glimpse.cli.usage import UsageError
from glimpse.errors import suggestion
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.app import Service
from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.api_keys import KeyRing
from glimpse_serve.gateway.authentication import check_access
from glimpse_serve.gateway.middleware import Application
from glimpse_serve.http.request import Receive, Scope, Send
from glimpse_serve.inference.batcher import Job, deadline_error
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.models.directory import list_files
from glimpse_serve.models.names import named_models
from glimpse_serve.settings import Settings, settings_from
from glimpse_serve.telemetry import logs

NAME, FRONT, MODELS = "glimpse", "front", "models"
"""Names of the application and its deployments in config files and in Ray's dashboard."""
MAX_OPEN_MODELS = 64
"""Models that a replica keeps open; a further one replaces the least recently used."""
CLUSTER_SETTINGS = frozenset(("host", "port", "tls_certificate", "tls_key", "ray", "drain_seconds"))
"""Settings that the cluster determines when a config file is deployed to it."""
OBJECT_STORE_BYTES = 2**28
"""Object store of a local Ray, through which large bodies and tensors pass between processes."""


class ModelKey(NamedTuple):
    """Identifies a model for the replicas."""

    path: str
    """Path of its file, the same on every node."""
    sha256: str
    """Hash of the file as the front has opened it."""


class ModelReplica:
    """A replica of the models deployment. Ray calls it concurrently.

    Args:
        settings: The settings as JSON.
    """

    def __init__(self, settings: str) -> None:
        self._settings = Settings.from_json(settings)
        logs.configure(self._settings.log_level, self._settings.log_format)
        self._models: OrderedDict[str, ServedModel] = OrderedDict()
        for _, path in named_models(self._settings):
            self._load(path)
        for file in list_files(Path(self._settings.directory)) if self._settings.directory else ():
            with contextlib.suppress(Exception):  # the front rejects it as well, and logs it
                self._load(file.path)
        self._batched = serve.batch(max_batch_size=self._settings.max_batch, batch_wait_timeout_s=0.0)(self._run_batch)

    async def __call__(self, model: ModelKey, job: Job) -> Any:
        """Run a job, in a batch with the jobs that arrived meanwhile.

        Args:
            model: The model.
            job: A job of :mod:`glimpse_serve.inference.jobs`.

        Returns:
            Its result, or the exception that it raised.
        """
        return await self._batched((model, job))

    async def _run_batch(self, requests: list[tuple[ModelKey, Job]]) -> list[Any]:
        results: list[Any] = [None] * len(requests)
        for group in group_jobs(requests, self._settings.max_batch):
            try:
                batch = [requests[index][1] for index in group]
                group_results = self._model(requests[group[0]][0]).run_batch(batch)
            except Exception as error:  # noqa: BLE001 - any exception is passed to the requests of this group
                group_results = [error] * len(group)
            for index, result in zip(group, group_results, strict=True):
                results[index] = _picklable(result)
        return results

    def _model(self, model: ModelKey) -> ServedModel:
        if model.sha256 not in self._models:
            with contextlib.suppress(Exception):  # the front has opened it before, so the file is being replaced
                self._load(Path(model.path))
        if model.sha256 not in self._models:
            raise HTTPError(
                503,
                "expected the model's file as it was when it was opened, and it is being replaced; try again in 1 s",
                "model",
                {"Retry-After": "1"},
            )
        self._models.move_to_end(model.sha256)
        return self._models[model.sha256]

    def _load(self, path: Path) -> None:
        session = GlimpseSession(path, self._settings.threads, self._settings.provider)
        self._models[session.sha256] = ServedModel(path.stem, 1, session)
        while len(self._models) > MAX_OPEN_MODELS:
            self._models.popitem(last=False)


def group_jobs(requests: Sequence[tuple[ModelKey, Job]], max_batch: int) -> list[list[int]]:
    """Split a batch of Ray's into groups that run in one call of a graph.

    Args:
        requests: Models, and the jobs for them.
        max_batch: Images in a call, at most; a larger job has a call of its own.

    Returns:
        Indices of the requests, in groups of one model and one key each.
    """
    groups: list[list[int]] = []
    open_groups: dict[Hashable, tuple[list[int], int]] = {}
    for index, (model, job) in enumerate(requests):
        key = (model.sha256, type(job), job.key)
        group, size = open_groups.get(key, ([], max_batch))
        if job.key is None or not group or size + job.size > max_batch:
            group, size = [], 0
            groups.append(group)
        group.append(index)
        open_groups[key] = group, size + job.size
    return groups


class ReplicaExecutor:
    """An executor that runs jobs on the replicas of the models.

    Args:
        models: Ray's handle of the models deployment.
        key: The model.
        max_queue: Limit of the queue, for the error message.
    """

    def __init__(self, models: Any, key: ModelKey, max_queue: int) -> None:
        self._models, self._key, self._max_queue = models, key, max_queue

    async def submit(self, job: Job, deadline: float) -> Any:
        """Run a job on a replica; see :meth:`glimpse_serve.inference.batcher.JobExecutor.submit`."""
        while (seconds_left := deadline - time.monotonic()) > 0:
            response = self._models.remote(self._key, job)
            try:
                async with asyncio.timeout(seconds_left):
                    result = await response
            except (TimeoutError, asyncio.CancelledError):
                response.cancel()
                if deadline <= time.monotonic():
                    break
                raise
            except (RayActorError, ReplicaUnavailableError, RequestCancelledError):
                await asyncio.sleep(0.05)  # the replica died: another one, or its replacement, runs the job
                continue
            except BackPressureError as error:
                raise HTTPError(
                    503,
                    f"expected fewer than {self._max_queue} waiting requests for the models, got one more; "
                    "try again in 1 s, or allow more replicas",
                    "overload",
                    {"Retry-After": "1"},
                ) from error
            if isinstance(result, Exception):
                raise result
            return result
        raise deadline_error()


class FrontService(Service):
    """The service, with jobs that run on the replicas of the models.

    Args:
        settings: The settings.
        models: Ray's handle of the models deployment.
    """

    def __init__(self, settings: Settings, models: Any) -> None:
        self._models = models
        super().__init__(settings)

    def make_executor(self, model: ServedModel) -> ReplicaExecutor:
        """Make the executor that runs a model's jobs on the replicas.

        Args:
            model: The model.
        """
        key = ModelKey(str(model.session.path.resolve()), model.session.sha256)
        return ReplicaExecutor(self._models, key, self._settings.max_queue)


def build_deployments(settings: Settings) -> Any:
    """Build the deployments for Ray.

    Args:
        settings: The settings: ``workers`` replicas of the models, up to ``max_workers`` where that is more, each with
            ``threads`` CPUs.

    Returns:
        The bound application for ``ray.serve.run``.
    """
    given = settings.to_json()
    models = serve.deployment(
        name=MODELS,
        # One batch runs, and the next one waits.
        max_ongoing_requests=2 * settings.max_batch,
        max_queued_requests=settings.max_queue,
        ray_actor_options={"num_cpus": settings.threads},
        **_deployment_options(settings),
        **_replica_options(settings),
    )(ModelReplica).bind(given)

    front = serve.deployment(
        name=FRONT,
        # The requests that the models accept, and the streaming sessions; the proxy queues further ones, or rejects
        # them.
        max_ongoing_requests=settings.max_queue + 2 * settings.max_batch * _max_replicas(settings) + settings.max_looks,
        max_queued_requests=settings.max_queue,
        backpressure_config={"retry_after_s": 1.0},
        # It mostly waits for the models.
        ray_actor_options={"num_cpus": 0},
        **_deployment_options(settings),
    )(serve.ingress(lambda: _application(given))())
    return front.bind(models)


def _application(settings: str) -> Application:
    """Create the application in a replica of the front, which finds the handle of the models deployment by its name."""
    parsed = Settings.from_json(settings)
    logs.configure(parsed.log_level, parsed.log_format)
    return _without_request_id(FrontService(parsed, serve.get_deployment_handle(MODELS)).application)


def application(args: dict[str, Any]) -> Any:
    """Build the application for a Serve config file, whose ``import_path`` is this function.

    Args:
        args: Settings by name, such as ``{"models": ["/models/digits.onnx"], "max_batch": 64}``; the
            environment gives the others, as for ``glimpse serve``.

    Raises:
        UsageError: When a setting is unknown, invalid, or determined by the cluster.
        AccessError: When there are no API keys and ``allow_anonymous`` is not set.
    """
    known = {field.name for field in fields(Settings)} - CLUSTER_SETTINGS
    for name in args:
        if name in CLUSTER_SETTINGS:
            raise UsageError(
                f"expected no {name!r} in the args of a Serve config file, where it is the cluster's; "
                "see http_options in that file"
            )
        if name not in known:
            raise UsageError(
                f"expected settings of glimpse serve in the args, got {name!r}{suggestion(name, sorted(known))}"
            )
    settings = settings_from(argparse.Namespace(**args), os.environ)
    named_models(settings)
    # The address of Ray's proxies is not known here: they are taken to be reachable from other machines.
    settings = replace(settings, host="0.0.0.0")
    check_access(settings, KeyRing(settings.keys_file, settings.keys))
    return build_deployments(settings)


def run(settings: Settings) -> int:
    """Run the service on a local Ray, until a signal to stop.

    Args:
        settings: The settings.

    Returns:
        The exit status: 0, or 1 when it could not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    stop = threading.Event()
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, settings.threads * _max_replicas(settings)),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        logging_level=logging.WARNING,
    )
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        address = _start_proxy(settings)
        try:
            serve.run(build_deployments(settings), name=NAME, route_prefix="/")
        except RuntimeError as error:
            print(f"glimpse serve: {error}", file=sys.stderr, flush=True)
            return 1
        print(f"glimpse serve: serving at {address} on Ray", file=sys.stderr, flush=True)
        stop.wait()
        serve.shutdown()
        return 0
    finally:
        ray.shutdown()


def _start_proxy(settings: Settings) -> str:
    """Start Ray's proxy, and return its URL."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as free:
        # Ray does not accept port 0, and reports a port in use late and at length.
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((settings.host, settings.port))
        port = free.getsockname()[1]
    options: dict[str, Any] = {"host": settings.host, "port": port, "keep_alive_timeout_s": 30}
    if settings.tls_certificate:
        options |= {"ssl_certfile": settings.tls_certificate, "ssl_keyfile": settings.tls_key}
    serve.start(http_options=options, logging_config=_logging(settings))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls_certificate else 'http'}://{host}:{port}"


def _max_replicas(settings: Settings) -> int:
    return max(settings.workers, settings.max_workers)


def _replica_options(settings: Settings) -> Mapping[str, Any]:
    if _max_replicas(settings) == settings.workers:
        return {"num_replicas": settings.workers}
    return {
        "autoscaling_config": {
            "min_replicas": settings.workers,
            "max_replicas": settings.max_workers,
            # Half a batch in each replica: batches form, and no request waits for more than the batch before.
            "target_ongoing_requests": max(1, settings.max_batch // 2),
        }
    }


def _deployment_options(settings: Settings) -> Mapping[str, Any]:
    return {
        "graceful_shutdown_timeout_s": settings.shutdown_seconds,
        "graceful_shutdown_wait_loop_s": 0.1,
        "max_constructor_retry_count": 3,
        "logging_config": _logging(settings),
    }


def _logging(settings: Settings) -> dict[str, Any]:
    # The front writes its own access log.
    return {"enable_access_log": False, "log_level": settings.log_level.upper()}


def _without_request_id(application: Application) -> Application:
    """Remove the request id from the response: Ray's proxy adds it, and the front uses the same one."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [header for header in message["headers"] if header[0] != b"x-request-id"]
            await send(message)

        await application(scope, receive, sending)

    return wrapped


def _picklable(result: Any) -> Any:
    """Replace an exception that can't be pickled by a RuntimeError with its message."""
    if not isinstance(result, Exception):
        return result
    try:
        pickle.loads(pickle.dumps(result))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - an exception's pickling may fail in any way
        return RuntimeError(str(result))
    return result
