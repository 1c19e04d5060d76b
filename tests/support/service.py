"""A service for tests: real, on a free port of this machine, in a thread."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from glimpse_serve.app import Service
from glimpse_serve.gateway.connections import GuardedProtocol
from glimpse_serve.gateway.tls import TLSConnection
from glimpse_serve.settings import Settings
from tests.support import toys

ADAPTIVE, EPISODE = toys.ADAPTIVE, toys.EPISODE


class Running(NamedTuple):
    """A running service."""

    host: str
    port: int
    service: Service
    server: uvicorn.Server

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    def request(self, method: str, path: str, body: bytes | None = None, /, **headers: str) -> "ServiceResponse":
        """Send a request on a connection of its own; underscores in names of headers become dashes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return ServiceResponse(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


class ServiceResponse(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error, the only field of its JSON."""
        content = self.json
        assert list(content) == ["error"]
        message: str = content["error"]
        return message


@contextlib.contextmanager
def running(settings: Settings, trial: bool = False) -> Iterator[Running]:
    """Run a service until the context ends; by default it loads models without a trial, which starts a process."""
    settings = settings if trial else replace(settings, load_seconds=0.0)
    service = Service(settings)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    GuardedProtocol.settings = settings
    config = uvicorn.Config(
        service.application,
        http=TLSConnection if settings.tls_certificate else GuardedProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            thread.join(0.01)
        host, port = listener.getsockname()
        yield Running(host, port, service, server)
    finally:
        server.should_exit = True
        thread.join(30)
        GuardedProtocol.settings = None
        assert not thread.is_alive()


def toy_files(folder: Path) -> tuple[str, ...]:
    """Write toy models of two kinds of graph, and return them as the settings name models."""
    return tuple(f"{card.graph}={toys.write_toy(folder / f'{card.graph}.onnx', card)}" for card in (ADAPTIVE, EPISODE))


def png(image: Any) -> bytes:
    """An image as a PNG."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(stream, "PNG")
    return stream.getvalue()
