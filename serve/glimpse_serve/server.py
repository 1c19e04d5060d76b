"""Running the service under uvicorn, in one process or in several workers, with a graceful shutdown.

After SIGTERM or SIGINT the service reports that it is not ready, and still handles requests for ``drain_seconds``, so
that load balancers send their requests elsewhere. Then it accepts no further connection, finishes running requests
within ``shutdown_seconds``, and exits with status 0. A second signal ends the wait.
"""

import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess, multiprocess

from glimpse_serve.gateway.admission import HEALTH_PLACES
from glimpse_serve.settings import DRAIN, SHARED, Settings
from glimpse_serve.telemetry import logs

SETTINGS = "GLIMPSE_SERVE_SETTINGS"
"""The environment variable that holds the settings as JSON, for the workers."""
STEADY_SECONDS = 20.0
"""A worker that has run for so long is taken to have started successfully."""
READY_SECONDS = 1.0
"""Time for a worker to say whether it has started; one that is loading models may be slow to say so."""
RETRY_SECONDS = 5.0
"""Time until the restart of a worker that could not start, while others serve."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""
OWN_FILES = 128
"""Files that the service needs beside its connections: models, threads' pipes, logs."""

_log = logging.getLogger(__name__)


class ListenError(ValueError):
    """An address on which the service can't listen."""


class Server(uvicorn.Server):
    """A server in one process, which drains before it stops; a signal to stop is no failure.

    Args:
        config: uvicorn's configuration.
        drain_seconds: How long it still takes requests after the signal to stop.
        announcement: What to print when it has loaded its models and takes requests; empty for nothing.
    """

    def __init__(self, config: uvicorn.Config, drain_seconds: float, announcement: str = "") -> None:
        super().__init__(config)
        self._drain_seconds, self._announcement = drain_seconds, announcement
        self._stopping = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the models and listen, and only then announce it."""
        await super().startup(sockets)
        if self.started and self._announcement:
            _announce(self._announcement)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Start draining on the first signal; stop at once on the second."""
        if self._stopping or not self._drain_seconds:
            self.force_exit = self.force_exit or (self._stopping and self.should_exit)
            self.should_exit = True
        else:
            signal.raise_signal(DRAIN)
            timer = threading.Timer(self._drain_seconds, self._stop)
            timer.daemon = True  # so that a second signal ends the process at once
            timer.start()
        self._stopping = True

    def _stop(self) -> None:
        self.should_exit = True


class Process(multiprocess.Process):
    """A worker process, which stops when its supervisor has ended, however that came: it would keep the port.

    uvicorn makes its server at the first use, which two threads may be at once: the one that serves, and the one that
    reports whether it has started. Here it is made before them.
    """

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, in the process of the worker."""
        self._server = uvicorn.Server(self.config)
        threading.Thread(target=_follow_parent, daemon=True).start()
        super().target(sockets)


def _follow_parent() -> None:
    """Wait in a worker for the end of its supervisor, and stop like after SIGTERM."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _log.error("the supervisor of this worker has ended, so it stops too")
        while True:  # one that comes before the server handles signals may be lost; a further one changes nothing
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)


class Supervisor(Multiprocess):
    """The parent of several worker processes; it replaces workers that die.

    It starts one worker, and the others when that one takes requests: a model that can't be served is reported once.

    Args:
        config: uvicorn's configuration.
        sockets: The listening sockets, which the workers share.
        drain_seconds: How long the workers still take requests after the signal to stop.
        announcement: What to print when the first worker takes requests; empty for nothing.
    """

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], drain_seconds: float, announcement: str = ""
    ) -> None:
        super().__init__(config, sockets)
        self._drain_seconds, self._announcement = drain_seconds, announcement
        self._stop_at: float | None = None
        self._started_at: dict[int | None, float] = {}
        self._retry_at = 0.0
        self.failed = False
        """Whether it stopped because no worker could start."""

    def init_processes(self) -> None:
        """Start the first worker."""
        self._start_worker()

    def handle_term(self) -> None:
        """Start draining on SIGTERM."""
        self._drain()

    def handle_int(self) -> None:
        """Start draining on SIGINT."""
        self._drain()

    def terminate_all(self) -> None:
        """Stop the workers and close the listening sockets, so that no further client connects and waits in vain."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that died, and stop when the drain time is over."""
        now = time.monotonic()
        if self._stop_at is not None:
            if now >= self._stop_at:
                self.should_exit.set()
        elif now >= self._retry_at and not self.should_exit.is_set():
            super().keep_subprocess_alive()
            self._start_others()
            if self.should_exit.is_set():  # a worker could not start
                self._retry_or_fail(now)
            pids = [process.pid for process in self.processes]
            self._started_at = {pid: self._started_at.get(pid, now) for pid in pids}

    def _start_worker(self) -> None:
        process = Process(self.config, self.sockets)
        process.start()
        self.processes.append(process)

    def _start_others(self) -> None:
        """Start the other workers, and announce the service, as soon as the first worker takes requests."""
        if self._announcement and not self.should_exit.is_set() and self.processes[0].is_ready(READY_SECONDS):
            while len(self.processes) < self.processes_num:
                self._start_worker()
            _announce(self._announcement)
            self._announcement = ""

    def _retry_or_fail(self, now: float) -> None:
        """Stop if no other worker serves; else retry later: a file may have been damaged since the others started."""
        steady = now - STEADY_SECONDS
        alive = [process.pid for process in self.processes if process.exitcode is None]
        if not any(self._started_at.get(pid, now) <= steady for pid in alive):
            self.failed = True
            return
        self.should_exit.clear()
        self._retry_at = now + RETRY_SECONDS
        for place, process in enumerate(self.processes):
            if process.exitcode == STARTUP_FAILURE:
                self.processes[place] = Process(self.config, self.sockets)
                self.processes[place].start()

    def _drain(self) -> None:
        if self._stop_at is not None or not self._drain_seconds:
            self.should_exit.set()
            return
        self._stop_at = time.monotonic() + self._drain_seconds
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, DRAIN)


def serve(settings: Settings) -> int:
    """Run the service until a signal to stop.

    Args:
        settings: The settings.

    Returns:
        The exit status: 0, or 1 when it could not start.
    """
    logs.configure(settings.log_level, settings.log_format)
    connections, backlog = _share_files(settings.max_connections)
    settings = replace(settings, max_connections=connections)
    signal.signal(DRAIN, signal.SIG_IGN)  # until the service handles it: by default it ends the process
    with _worker_environment(settings), _listening(settings) as listener:
        config = _uvicorn_config(settings, backlog)
        address = address_of(settings, listener)
        announcement = f"glimpse serve: serving at {address} (described at {address}/docs)"
        if settings.workers > 1:
            supervisor = Supervisor(config, [listener], settings.drain_seconds, announcement)
            supervisor.run()
            return 1 if supervisor.failed else 0
        server = Server(config, settings.drain_seconds, announcement)
        try:
            server.run([listener])
        except SystemExit:  # uvicorn's, when the models can't be loaded, which is logged
            return 1
        return 0 if server.started else 1


def _announce(announcement: str) -> None:
    """Print where the service takes requests, at every log level: a free port is known from nowhere else."""
    print(announcement, file=sys.stderr, flush=True)


def application() -> Any:
    """Create the application in a worker; uvicorn imports this function by name."""
    from glimpse_serve.app import create_app

    settings = Settings.from_json(os.environ[SETTINGS])
    logs.configure(settings.log_level, settings.log_format)
    return create_app(settings)


def address_of(settings: Settings, listener: socket.socket) -> str:
    """Return the URL of the service.

    Args:
        settings: The settings.
        listener: The listening socket.
    """
    host, port = listener.getsockname()[:2]
    return f"{'https' if settings.tls_certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _uvicorn_config(settings: Settings, backlog: int = BACKLOG) -> uvicorn.Config:
    protocol = "tls:TLSConnection" if settings.tls_certificate else "connections:GuardedProtocol"
    return uvicorn.Config(
        "glimpse_serve.server:application",
        factory=True,
        lifespan="on",
        http=f"glimpse_serve.gateway.{protocol}",
        backlog=backlog,
        workers=settings.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
        ws_max_size=2**22,
        ws_per_message_deflate=False,
    )


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise ListenError(
                f"expected to listen at {settings.host!r}, port {settings.port}, and can't ({error.strerror}); choose "
                "another with --host and --port, or end what listens there"
            ) from error
        listener.set_inheritable(True)
        yield listener
    finally:
        listener.close()


def _share_files(connections: int) -> tuple[int, int]:
    """Raise the limit of open files as far as needed and allowed, and share them between connections and the service.

    A connection that waits to be accepted needs a file as soon as it is: all of them may be accepted at once, before
    those beyond the limit are closed.

    Args:
        connections: The wanted number of connections.

    Returns:
        The number of connections, and how many may wait to be accepted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + BACKLOG + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections, BACKLOG
    shared = max(2, soft - OWN_FILES)
    fewer = min(connections, max(1, shared // 2))
    _log.warning(
        "expected %d open files for %d connections, the system allows %d; at most %d connections are accepted. Raise "
        "the limit (ulimit -n)",
        wanted,
        connections,
        soft,
        fewer,
    )
    return fewer, max(1, shared - fewer - HEALTH_PLACES)


@contextmanager
def _worker_environment(settings: Settings) -> Iterator[None]:
    """Set the environment variables of the workers: the settings, and a folder that they share."""
    with tempfile.TemporaryDirectory(prefix="glimpse-serve-") as folder:
        os.environ[SETTINGS] = settings.to_json()
        if settings.workers > 1:  # metrics and rates of a single process are faster in its own memory
            os.environ[SHARED] = folder
        try:
            yield
        finally:
            os.environ.pop(SETTINGS)
            os.environ.pop(SHARED, None)
