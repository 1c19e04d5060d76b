"""The same service on Ray Serve, for more than one machine: ``glimpse serve --ray``, or a Serve config file.

Two deployments. The *front* is the application of :mod:`glimpse_serve.app` with its doors and its intake, as it is
elsewhere; only who answers jobs is another: it hands them to the *models*, whose replicas hold the sessions. They are
two rather than one for three reasons. What a model costs decides how many replicas there are, not what a connection
costs. Ray's back-pressure meets our application as an exception, which it tells as it tells every refusal; in front of
a single deployment Ray's proxy would refuse in words of its own. And a replica of the models that dies takes no request
with it: a look changes nothing, so the front has another replica do it; the proxy would answer 500.

Replicas, their scaling, the queue and the batches are Ray's. Its batching does not wait either: a replica takes
together what came while it was busy, up to ``max_batch``. For that the model runs in the replica's own event loop, on
purpose: Ray puts a batch together whenever that loop is free, however many are under way already, so that with the
model in a thread every batch would hold one request. (Ray looks after a replica's health in another thread.)

What each front counts and limits is its own: ``/metrics`` tells of the one that answers, and a rate holds for each.
Ray's own metrics tell of all replicas.
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

from glimpse.cli.usage import UsageError, suggestion
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.app import Service
from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.api_keys import KeyRing
from glimpse_serve.gateway.authentication import check_access
from glimpse_serve.gateway.middleware import Application
from glimpse_serve.http.request import Receive, Scope, Send
from glimpse_serve.inference.batcher import Job, overdue
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.models.directory import scan
from glimpse_serve.models.names import named_models
from glimpse_serve.settings import Settings, settings_of
from glimpse_serve.telemetry import logs

NAME, FRONT, MODELS = "glimpse", "front", "models"
"""Of the application and its deployments, as a config file and Ray's dashboard call them."""
KEPT = 64
"""Models that a replica holds at once; it opens another in place of the one that was asked for least recently."""
ELSEWHERE = frozenset(("host", "port", "tls_certificate", "tls_key", "ray", "drain_seconds"))
"""Settings that are the cluster's where a config file is deployed to one."""
OBJECT_STORE_BYTES = 2**28
"""Of a local Ray: what large bodies and tensors pass through between its processes."""


class Which(NamedTuple):
    """A model, as replicas tell it."""

    path: str
    """Its file, which every node sees at the same place."""
    sha256: str
    """Of the file as the front has opened it."""


class Models:
    """A replica of the models. Ray calls it, many times at once.

    Args:
        settings: How the service runs, as JSON.
    """

    def __init__(self, settings: str) -> None:
        self._settings = Settings.from_json(settings)
        logs.configure(self._settings.log_level, self._settings.log_format)
        self._open: OrderedDict[str, ServedModel] = OrderedDict()
        for _, path in named_models(self._settings):
            self._keep(path)
        for found in scan(Path(self._settings.directory)) if self._settings.directory else ():
            with contextlib.suppress(Exception):  # the front refuses it as well, and tells of it
                self._keep(found.path)
        self._batched = serve.batch(max_batch_size=self._settings.max_batch, batch_wait_timeout_s=0.0)(self._answer)

    async def __call__(self, which: Which, job: Job) -> Any:
        """Answer a job, in a batch with those that came meanwhile.

        Args:
            which: The model.
            job: One of :mod:`glimpse_serve.inference.jobs`.

        Returns:
            Its answer, or the exception that it meets.
        """
        return await self._batched((which, job))

    async def _answer(self, asked: list[tuple[Which, Job]]) -> list[Any]:
        answers: list[Any] = [None] * len(asked)
        for places in together(asked, self._settings.max_batch):
            try:
                found = self._model(asked[places[0]][0]).answer([asked[place][1] for place in places])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who asked, and no others
                found = [error] * len(places)
            for place, answer in zip(places, found, strict=True):
                answers[place] = _sendable(answer)
        return answers

    def _model(self, which: Which) -> ServedModel:
        if which.sha256 not in self._open:
            with contextlib.suppress(Exception):  # the front has opened it, so that it is on its way out
                self._keep(Path(which.path))
        if which.sha256 not in self._open:
            raise HTTPError(
                503,
                "expected the model's file as it was when it was opened, and it is being replaced; try again in 1 s",
                "model",
                {"Retry-After": "1"},
            )
        self._open.move_to_end(which.sha256)
        return self._open[which.sha256]

    def _keep(self, path: Path) -> None:
        session = GlimpseSession(path, self._settings.threads, self._settings.provider)
        self._open[session.sha256] = ServedModel(path.stem, 1, session)
        while len(self._open) > KEPT:
            self._open.popitem(last=False)


def together(asked: Sequence[tuple[Which, Job]], max_batch: int) -> list[list[int]]:
    """Tell which jobs of a batch of Ray's are answered in one call of a graph.

    Args:
        asked: Models, and the jobs for them.
        max_batch: Images in a call, at most; a job that is larger has one of its own.

    Returns:
        Their places, in groups of one model and one key each.
    """
    groups: list[list[int]] = []
    open_groups: dict[Hashable, tuple[list[int], int]] = {}
    for place, (which, job) in enumerate(asked):
        key = (which.sha256, type(job), job.key)
        group, size = open_groups.get(key, ([], max_batch))
        if job.key is None or not group or size + job.size > max_batch:
            group, size = [], 0
            groups.append(group)
        group.append(place)
        open_groups[key] = group, size + job.size
    return groups


class Passed:
    """An engine that passes jobs on to the replicas.

    Args:
        models: Ray's handle of their deployment.
        which: The model.
        max_queue: How many may wait, for what is told of it.
    """

    def __init__(self, models: Any, which: Which, max_queue: int) -> None:
        self._models, self._which, self._max_queue = models, which, max_queue

    async def submit(self, job: Job, deadline: float) -> Any:
        """See :meth:`glimpse_serve.inference.batcher.Engine.submit`."""
        while (left := deadline - time.monotonic()) > 0:
            response = self._models.remote(self._which, job)
            try:
                async with asyncio.timeout(left):
                    answer = await response
            except (TimeoutError, asyncio.CancelledError):
                response.cancel()
                if deadline <= time.monotonic():
                    break
                raise
            except (RayActorError, ReplicaUnavailableError, RequestCancelledError):
                await asyncio.sleep(0.05)  # the replica is gone: another one does it, or the one that takes its place
                continue
            except BackPressureError as error:
                raise HTTPError(
                    503,
                    f"expected fewer than {self._max_queue} requests to wait for the models, and so many do; "
                    "try again in 1 s, or allow more replicas",
                    "overload",
                    {"Retry-After": "1"},
                ) from error
            if isinstance(answer, Exception):
                raise answer
            return answer
        raise overdue()


class Front(Service):
    """The service, that has its jobs answered elsewhere.

    Args:
        settings: How it runs.
        models: Ray's handle of the models' deployment.
    """

    def __init__(self, settings: Settings, models: Any) -> None:
        self._models = models
        super().__init__(settings)

    def engine_of(self, model: ServedModel) -> Passed:
        """See :meth:`glimpse_serve.app.Service.engine_of`."""
        which = Which(str(model.session.path.resolve()), model.session.sha256)
        return Passed(self._models, which, self._settings.max_queue)


def bound(settings: Settings) -> Any:
    """Put the application together for Ray.

    Args:
        settings: How it runs: ``workers`` replicas of the models, up to ``max_workers`` where that is more, each with
            ``threads`` CPUs.

    Returns:
        What ``ray.serve.run`` takes.
    """
    given = settings.to_json()
    models = serve.deployment(
        name=MODELS,
        # One batch is answered, and the next one waits.
        max_ongoing_requests=2 * settings.max_batch,
        max_queued_requests=settings.max_queue,
        ray_actor_options={"num_cpus": settings.threads},
        **_conduct(settings),
        **_replicas(settings),
    )(Models).bind(given)

    front = serve.deployment(
        name=FRONT,
        # What the models take, and the streaming sessions; the proxy lets others wait, and refuses what is beyond.
        max_ongoing_requests=settings.max_queue + 2 * settings.max_batch * _most(settings) + settings.max_looks,
        max_queued_requests=settings.max_queue,
        backpressure_config={"retry_after_s": 1.0},
        # It waits for the models most of its time.
        ray_actor_options={"num_cpus": 0},
        **_conduct(settings),
    )(serve.ingress(lambda: _application(given))())
    return front.bind(models)


def _application(settings: str) -> Application:
    """Make the application in a replica of the front. Ray has no handle for it, but finds one by its name."""
    own = Settings.from_json(settings)
    logs.configure(own.log_level, own.log_format)
    return _once_numbered(Front(own, serve.get_deployment_handle(MODELS)).application)


def application(args: dict[str, Any]) -> Any:
    """Put the application together for a Serve config file, whose ``import_path`` is this function.

    Args:
        args: Settings by their names, such as ``{"models": ["/models/digits.onnx"], "max_batch": 64}``; the
            environment holds the others, as for ``glimpse serve``.

    Raises:
        UsageError: When one is unknown, none, or not to be said here.
        DoorError: When there are no keys, and ``allow_anonymous`` does not say that this is meant.
    """
    known = {field.name for field in fields(Settings)} - ELSEWHERE
    for name in args:
        if name in ELSEWHERE:
            raise UsageError(
                f"expected no {name!r} in the args of a Serve config file, where it is the cluster's; "
                "see http_options in that file"
            )
        if name not in known:
            raise UsageError(
                f"expected settings of glimpse serve in the args, got {name!r}{suggestion(name, sorted(known))}"
            )
    settings = settings_of(argparse.Namespace(**args), os.environ)
    named_models(settings)
    # Where Ray's proxies listen is not known here, so it is taken for the world.
    check_access(replace(settings, host="0.0.0.0"), KeyRing(settings.keys_file, settings.keys))
    return bound(settings)


def run(settings: Settings) -> int:
    """Run the service on a Ray of this machine alone, until it is told to stop.

    Args:
        settings: How it runs.

    Returns:
        The exit status: 0, or 1 when it could not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    told_to_stop = threading.Event()
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, settings.threads * _most(settings)),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        logging_level=logging.WARNING,
    )
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told_to_stop.set())
        address = _start(settings)
        try:
            serve.run(bound(settings), name=NAME, route_prefix="/")
        except RuntimeError as error:
            print(f"glimpse serve: {error}", file=sys.stderr, flush=True)
            return 1
        print(f"glimpse serve: serving at {address} on Ray", file=sys.stderr, flush=True)
        told_to_stop.wait()
        serve.shutdown()
        return 0
    finally:
        ray.shutdown()


def _start(settings: Settings) -> str:
    """Start Ray's proxy, and tell where it listens."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as free:
        # Ray takes no port 0, and tells late and at length of one that is taken.
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((settings.host, settings.port))
        port = free.getsockname()[1]
    options: dict[str, Any] = {"host": settings.host, "port": port, "keep_alive_timeout_s": 30}
    if settings.tls_certificate:
        options |= {"ssl_certfile": settings.tls_certificate, "ssl_keyfile": settings.tls_key}
    serve.start(http_options=options, logging_config=_logging(settings))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls_certificate else 'http'}://{host}:{port}"


def _most(settings: Settings) -> int:
    return max(settings.workers, settings.max_workers)


def _replicas(settings: Settings) -> Mapping[str, Any]:
    if _most(settings) == settings.workers:
        return {"num_replicas": settings.workers}
    return {
        "autoscaling_config": {
            "min_replicas": settings.workers,
            "max_replicas": settings.max_workers,
            # Half a batch under way in each: there is company, and nobody waits for more than the batch before.
            "target_ongoing_requests": max(1, settings.max_batch // 2),
        }
    }


def _conduct(settings: Settings) -> Mapping[str, Any]:
    return {
        "graceful_shutdown_timeout_s": settings.shutdown_seconds,
        "graceful_shutdown_wait_loop_s": 0.1,
        "max_constructor_retry_count": 3,
        "logging_config": _logging(settings),
    }


def _logging(settings: Settings) -> dict[str, Any]:
    # The front has lines of its own for requests.
    return {"enable_access_log": False, "log_level": settings.log_level.upper()}


def _once_numbered(application: Application) -> Application:
    """Leave the answer's request id to Ray's proxy, which writes it in any case; the front has taken it from there."""

    async def numbered(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [header for header in message["headers"] if header[0] != b"x-request-id"]
            await send(message)

        await application(scope, receive, sending)

    return numbered


def _sendable(answer: Any) -> Any:
    """What goes to another process in place of an exception that can't."""
    if not isinstance(answer, Exception):
        return answer
    try:
        pickle.loads(pickle.dumps(answer))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - an exception's pickling may fail in any way
        return RuntimeError(str(answer))
    return answer
