"""TLS in front of HTTP: the connection counts before its handshake, which has a time limit.

An event loop that is given a TLS context tells of a connection only after the handshake, so that a client that never
begins one would hold a socket that is counted nowhere.
"""

import asyncio
import ssl
from functools import cache
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from glimpse_serve.gateway.admission import Admission, Connection, admit
from glimpse_serve.gateway.connections import GuardedProtocol
from glimpse_serve.settings import Settings

SHUTDOWN_SECONDS = 5.0
"""How long a closed connection waits for the client's part of TLS's closing."""


@cache
def server_context(settings: Settings) -> ssl.SSLContext:
    """Return the TLS context of a service.

    Args:
        settings: Its certificate and key.

    Raises:
        OSError: When they can't be read, or don't belong together.
        ValueError: When the key has a password.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    context.set_alpn_protocols(["http/1.1"])
    return context


class TLSConnection(Connection, asyncio.Protocol):
    """A connection until its TLS handshake is over; then a :class:`GuardedProtocol` has it.

    Args:
        config: uvicorn's configuration.
        server_state: uvicorn's connections.
        app_state: The state of the application's lifespan.
        _loop: The event loop.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = _loop or asyncio.get_event_loop()
        self._connections: set[Any] = server_state.connections
        self._tasks = server_state.tasks
        self._next = GuardedProtocol(config, server_state, app_state, _loop)
        self._settings = GuardedProtocol.settings_of_process()
        self._transport: Any = None
        self._early = b""

    def connection_made(self, transport: Any) -> None:
        """Start the handshake, or close the connection when there are too many."""
        self._transport = transport
        self.accepted_at = self._loop.time()
        self._connections.add(self)
        self._next.admission = admit(self._connections, self, self._settings.max_connections)
        if self._next.admission is Admission.NOTHING:
            GuardedProtocol.count("many")
            self._transport.abort()
            return
        task = self._loop.create_task(self._shake_hands())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before its protocol is in place: the begin of the handshake, or the content behind it."""
        self._early += data

    def make_room(self) -> None:
        """Close the connection in favour of a newer one."""
        GuardedProtocol.count("many")
        self._transport.abort()

    def shutdown(self) -> None:
        """Close the connection, since the service stops."""
        self._transport.abort()

    async def _shake_hands(self) -> None:
        handshake = self._loop.create_task(
            self._loop.start_tls(
                self._transport,
                self,
                server_context(self._settings),
                server_side=True,
                ssl_handshake_timeout=self._settings.header_seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        )
        try:
            await asyncio.sleep(0)  # the handshake's protocol is in place now, and has received nothing
            self._replay()
            encrypted = await handshake
        except OSError:  # an error of TLS, a timeout or a disconnection, of which the client alone is the cause
            encrypted = None
        finally:
            self._connections.discard(self)
        if encrypted is None or encrypted.is_closing():
            GuardedProtocol.count("handshake")
            self._transport.abort()
            return
        encrypted.set_protocol(self._next)
        self._next.connection_made(encrypted)
        if self._early:
            self._next.data_received(self._early)

    def _replay(self) -> None:
        """Give the handshake's protocol what came before it was in place."""
        protocol = self._transport.get_protocol()  # a BufferedProtocol
        while self._early and protocol is not self:
            room = memoryview(protocol.get_buffer(len(self._early)))
            size = min(len(room), len(self._early))
            room[:size] = self._early[:size]
            protocol.buffer_updated(size)
            self._early = self._early[size:]
