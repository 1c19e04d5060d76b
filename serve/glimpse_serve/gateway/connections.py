"""Limits of HTTP connections: slow or large headers, number of connections, clients that don't read the response.

uvicorn alone waits for ever for the rest of a request's headers, accepts headers of any size, and reports errors in
plain text.
"""

import base64
import os
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from glimpse_serve.settings import Settings

MAX_HEADER_BYTES = 2**16
WRITE_SECONDS = 60.0
"""How long a client may read nothing of a waiting response."""


class GuardedProtocol(HttpToolsProtocol):
    """A connection with limits.

    It takes them from the settings in the environment, since uvicorn imports the class by name in every worker.
    """

    count: ClassVar[Any] = staticmethod(lambda kind: None)
    """Called with the kind of fault for every connection that is closed for one."""
    settings: ClassVar[Settings | None] = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if GuardedProtocol.settings is None:
            text = os.environ.get("GLIMPSE_SERVE_SETTINGS")
            GuardedProtocol.settings = Settings.from_json(text) if text else Settings()
        self._limits = GuardedProtocol.settings
        self._header_bytes = 0
        self._request_header_bytes = 0
        self._in_headers = True
        self._rejected = False
        self._header_timer: Any = None
        self._body_timer: Any = None
        self._write_timer: Any = None

    @property
    def _responding(self) -> bool:
        """Whether a response is being sent, before whose end nothing else may be written."""
        return self.cycle is not None and (not self.cycle.response_complete or bool(self.pipeline))

    def connection_made(self, transport: Any) -> None:
        """Accept the connection, or reject it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._reject(
                503, "expected fewer connections at once; close some, or try again in 1 s", "many", (b"retry-after: 1",)
            )
            return
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        for timer in (self._header_timer, self._body_timer, self._write_timer):
            self._cancel(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and limit the size of the headers."""
        if self._rejected or self.transport.is_closing():
            return
        if self._in_headers:
            self._header_bytes += len(data)
            if not self._responding:
                self._wait_for_headers()
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._reject_headers()

    def on_message_begin(self) -> None:
        """Start counting the headers of a request."""
        super().on_message_begin()
        self._request_header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count a part of the URL."""
        self._request_header_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._request_header_bytes += len(name) + len(value) + len(b": \r\n")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the header timer, and reject headers that are too large."""
        self._in_headers = False
        self._cancel(self._header_timer)
        self._header_timer = None
        if self._request_header_bytes > MAX_HEADER_BYTES:
            self._reject_headers()
        if not self._rejected:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; the headers of the next one follow."""
        if not self._rejected:
            super().on_message_complete()
        self._cancel(self._body_timer)
        self._in_headers, self._header_bytes = True, 0

    def on_response_complete(self) -> None:
        """End a response, and limit the time for the rest of an unread body."""
        super().on_response_complete()
        if self.transport.is_closing() or self._responding or self.cycle is None:
            return
        if self.cycle.more_body:
            # The response was sent before the body arrived: the body is discarded, for a limited time.
            if self.expect_100_continue:
                self.transport.close()  # unknown whether the body or another request follows
                return
            self._cancel(self._body_timer)
            self._body_timer = self.loop.call_later(self._limits.body_seconds, self.transport.abort)
        elif self._in_headers and self._header_bytes:
            self._wait_for_headers()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol, which has limits of its own."""
        self._cancel(self._header_timer)
        if not _is_handshake(self.scope):  # the library would report it in plain text
            self._reject(
                400,
                "expected a WebSocket's handshake, a GET with Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key, got "
                "another; let your client make it",
                "http",
            )
            return
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Start the write timer: the client reads more slowly than the response is written."""
        super().pause_writing()
        self._cancel(self._write_timer)
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self._write_timeout)

    def resume_writing(self) -> None:
        """Stop the write timer."""
        self._cancel(self._write_timer)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not HTTP."""
        message = "expected a request in HTTP/1.1, got something else; check the address, and http or https"
        self._reject(400, message, "http")

    def _wait_for_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self._header_timeout)

    def _reject_headers(self) -> None:
        self._reject(431, f"expected headers of at most {MAX_HEADER_BYTES} bytes, got more; send fewer", "headers")

    def _header_timeout(self) -> None:
        if self.transport.is_closing():
            return
        if self._header_bytes:
            seconds = self._limits.header_seconds
            message = f"expected a request's headers within {seconds:g} s, got a part; send them faster"
            self._reject(408, message, "slow")
        else:
            GuardedProtocol.count("silent")
            self.transport.close()  # no request was sent, so no response is due

    def _write_timeout(self) -> None:
        GuardedProtocol.count("unread")
        self.transport.abort()

    def _reject(self, status: int, message: str, kind: str, headers: tuple[bytes, ...] = ()) -> None:
        """Send an error and close; while a response is being sent, close after it without an error."""
        if self._rejected:
            return
        GuardedProtocol.count(kind)
        self._rejected = True
        if self._responding:
            self.cycle.keep_alive = False
            return
        body = orjson.dumps({"error": message})
        lines = [
            STATUS_LINE[status].rstrip(),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
            *headers,
        ]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()

    @staticmethod
    def _cancel(timer: Any) -> None:
        if timer is not None:
            timer.cancel()


def _is_handshake(scope: Any) -> bool:
    """Whether a request is a WebSocket handshake by RFC 6455, 4.2.1; its Upgrade header was checked before."""
    headers = dict(scope["headers"])
    try:
        key = base64.b64decode(headers.get(b"sec-websocket-key", b"").strip(), validate=True)
    except ValueError:
        return False
    return scope["method"] == "GET" and headers.get(b"sec-websocket-version", b"").strip() == b"13" and len(key) == 16
