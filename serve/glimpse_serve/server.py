"""Running the service: one process, or several workers under a supervisor, both of uvicorn; and stopping it gently.

Told to stop (SIGTERM, SIGINT), the service first says that it is not ready and goes on for ``drain_seconds``, so that
balancers send their requests elsewhere. Then it takes no further connection, ends what it has begun within
``shutdown_seconds``, and exits with 0. Told twice, it does not wait.
"""

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
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from glimpse_serve.settings import DRAIN, SHARED, Settings
from glimpse_serve.telemetry import logs

SETTINGS = "GLIMPSE_SERVE_SETTINGS"
"""Holds the settings as JSON, for the workers."""
STEADY_SECONDS = 20.0
"""A worker that has lived so long has begun to serve."""
AGAIN_SECONDS = 5.0
"""After which a worker that could not start is tried again, while others serve."""


class ListenError(ValueError):
    """An address at which the service can't listen."""


class Server(uvicorn.Server):
    """One process. It drains before it stops, and what stopped it is no failure.

    Args:
        config: Of uvicorn.
        drain_seconds: How long it goes on after it was told to stop.
    """

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._told = False

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop."""
        if self._told or not self._drain_seconds:
            self.force_exit = self.force_exit or (self._told and self.should_exit)
            self.should_exit = True
        else:
            signal.raise_signal(DRAIN)
            timer = threading.Timer(self._drain_seconds, self._stop)
            timer.daemon = True  # it keeps nobody who is told twice
            timer.start()
        self._told = True

    def _stop(self) -> None:
        self.should_exit = True


class Supervisor(Multiprocess):
    """Several processes. A worker that dies is replaced by another.

    Args:
        config: Of uvicorn.
        sockets: Which the workers share.
        drain_seconds: How long they go on after they were told to stop.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], drain_seconds: float) -> None:
        super().__init__(config, sockets)
        self._drain_seconds = drain_seconds
        self._stop_at: float | None = None
        self._seen_at: dict[int | None, float] = {}
        self._again_at = 0.0
        self.failed = False
        """Whether it ended because no worker could start."""

    def handle_term(self) -> None:
        """Begin to stop."""
        self._begin_to_stop()

    def handle_int(self) -> None:
        """Likewise."""
        self._begin_to_stop()

    def terminate_all(self) -> None:
        """Tell the workers to stop, and let go of what they listen at: who came meanwhile would wait for nobody."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that died, and end the draining when it is time."""
        now = time.monotonic()
        if self._stop_at is not None:
            if now >= self._stop_at:
                self.should_exit.set()
        elif now >= self._again_at and not self.should_exit.is_set():
            super().keep_subprocess_alive()
            if self.should_exit.is_set():  # a worker could not start
                self._make_do(now)
            pids = [process.pid for process in self.processes]
            self._seen_at = {pid: self._seen_at.get(pid, now) for pid in pids}

    def _make_do(self, now: float) -> None:
        """End, or try again where others serve: they need not end because a file was spoilt since they began."""
        steady = now - STEADY_SECONDS
        alive = [process.pid for process in self.processes if process.exitcode is None]
        if not any(self._seen_at.get(pid, now) <= steady for pid in alive):
            self.failed = True
            return
        self.should_exit.clear()
        self._again_at = now + AGAIN_SECONDS
        for place, process in enumerate(self.processes):
            if process.exitcode == STARTUP_FAILURE:
                self.processes[place] = Process(self.config, self.sockets)
                self.processes[place].start()

    def _begin_to_stop(self) -> None:
        if self._stop_at is not None or not self._drain_seconds:
            self.should_exit.set()
            return
        self._stop_at = time.monotonic() + self._drain_seconds
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, DRAIN)


def serve(settings: Settings) -> int:
    """Run the service until it is told to stop.

    Args:
        settings: How it runs.

    Returns:
        The exit status: 0, or 1 when it could not start or did not stop in time.
    """
    logs.configure(settings.log_level, settings.log_format)
    _allow_files(settings.max_connections)
    signal.signal(DRAIN, signal.SIG_IGN)  # until the service takes it; it would end the process
    with _environment(settings), _listening(settings) as listener:
        config = _config(settings)
        address = address_of(settings, listener)
        # Told whatever is logged: a port that was chosen freely is known from nowhere else.
        print(f"glimpse serve: serving at {address} (described at {address}/docs)", file=sys.stderr, flush=True)
        if settings.workers > 1:
            supervisor = Supervisor(config, [listener], settings.drain_seconds)
            supervisor.run()
            return 1 if supervisor.failed else 0
        server = Server(config, settings.drain_seconds)
        server.run([listener])
        return 0 if server.started else 1


def application() -> Any:
    """Make the service in a worker; uvicorn calls this by its name."""
    from glimpse_serve.app import build

    settings = Settings.from_json(os.environ[SETTINGS])
    logs.configure(settings.log_level, settings.log_format)
    return build(settings)


def address_of(settings: Settings, listener: socket.socket) -> str:
    """Tell where the service is found.

    Args:
        settings: How it runs.
        listener: At which it listens.
    """
    host, port = listener.getsockname()[:2]
    return f"{'https' if settings.tls_certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        "glimpse_serve.server:application",
        factory=True,
        http="glimpse_serve.gateway.connections:GuardedProtocol",
        workers=settings.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
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


def _allow_files(connections: int) -> None:
    """Ask for as many open files as there may be connections, and some to spare."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def _environment(settings: Settings) -> Iterator[None]:
    """Tell workers the settings, and a folder that they share; to be done before they are started."""
    with tempfile.TemporaryDirectory(prefix="glimpse-serve-") as folder:
        os.environ[SETTINGS] = settings.to_json()
        if settings.workers > 1:  # a process alone counts faster in its own memory
            os.environ[SHARED] = folder
        try:
            yield
        finally:
            os.environ.pop(SETTINGS)
            os.environ.pop(SHARED, None)
