"""HTTP connections that can't be held for nothing: slow or endless headers, too many, and readers that don't read.

uvicorn waits for ever for the rest of a request's headers, takes as many as come, and says no in plain text.
"""

import base64
import os
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from glimpse_serve.settings import Settings

MAX_HEADER_BYTES = 2**16
WRITE_SECONDS = 60.0
"""How long a client may take nothing of an answer that waits for it."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    It takes its limits from the settings in the environment, since uvicorn makes it by its name in every worker.
    """

    count: ClassVar[Any] = staticmethod(lambda kind: None)
    """Told of every connection that is closed for a fault, in a word."""
    settings: ClassVar[Settings | None] = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if GuardedProtocol.settings is None:
            text = os.environ.get("GLIMPSE_SERVE_SETTINGS")
            GuardedProtocol.settings = Settings.from_json(text) if text else Settings()
        self._limits = GuardedProtocol.settings
        self._header_bytes = 0
        self._own_bytes = 0
        self._in_headers = True
        self._deaf = False
        self._header_timer: Any = None
        self._body_timer: Any = None
        self._write_timer: Any = None

    @property
    def _answers(self) -> bool:
        """Whether an answer is on its way, before which nothing else may be said."""
        return self.cycle is not None and (not self.cycle.response_complete or bool(self.pipeline))

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._refuse(
                503, "expected fewer connections at once; close some, or try again in 1 s", "many", (b"retry-after: 1",)
            )
            return
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        for timer in (self._header_timer, self._body_timer, self._write_timer):
            self._stop(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._deaf or self.transport.is_closing():
            return
        if self._in_headers:
            self._header_bytes += len(data)
            if not self._answers:
                self._wait_for_headers()
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._own_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of its address came."""
        self._own_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line of it came."""
        self._own_bytes += len(name) + len(value) + len(b": \r\n")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's headers are there."""
        self._in_headers = False
        self._stop(self._header_timer)
        self._header_timer = None
        if self._own_bytes > MAX_HEADER_BYTES:
            self._refuse_headers()
        if not self._deaf:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body came."""
        if not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request's body is there; what comes next are the headers of another."""
        if not self._deaf:
            super().on_message_complete()
        self._stop(self._body_timer)
        self._in_headers, self._header_bytes = True, 0

    def on_response_complete(self) -> None:
        """An answer is out."""
        super().on_response_complete()
        if self.transport.is_closing() or self._answers or self.cycle is None:
            return
        if self.cycle.more_body:
            # It was answered before its body came, which is no more than passed over, and for a time.
            if self.expect_100_continue:
                self.transport.close()  # nobody knows whether the body comes, or another request in its place
                return
            self._stop(self._body_timer)
            self._body_timer = self.loop.call_later(self._limits.body_seconds, self.transport.abort)
        elif self._in_headers and self._header_bytes:
            self._wait_for_headers()

    def handle_websocket_upgrade(self) -> None:
        """The connection becomes a conversation, which has limits of its own."""
        self._stop(self._header_timer)
        if not _is_handshake(self.scope):  # the library would say so in plain text
            self._refuse(
                400,
                "expected a WebSocket's handshake, a GET with Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key, got "
                "another; let your client make it",
                "http",
            )
            return
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """The client takes the answer more slowly than it comes."""
        super().pause_writing()
        self._stop(self._write_timer)
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self._give_up)

    def resume_writing(self) -> None:
        """It took some."""
        self._stop(self._write_timer)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Bytes came that are no HTTP."""
        sentence = "expected a request in HTTP/1.1, got something else; check the address, and http or https"
        self._refuse(400, sentence, "http")

    def _wait_for_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self._too_slow)

    def _refuse_headers(self) -> None:
        self._refuse(431, f"expected headers of at most {MAX_HEADER_BYTES} bytes, got more; send fewer", "headers")

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        if self._header_bytes:
            seconds = self._limits.header_seconds
            sentence = f"expected a request's headers within {seconds:g} s, got a part; send them faster"
            self._refuse(408, sentence, "slow")
        else:
            GuardedProtocol.count("silent")
            self.transport.close()  # nothing was asked, so nothing is said

    def _give_up(self) -> None:
        GuardedProtocol.count("unread")
        self.transport.abort()

    def _refuse(self, status: int, sentence: str, kind: str, headers: tuple[bytes, ...] = ()) -> None:
        """Say no, and close; after the answers that are on their way nothing is said, lest it be taken for one."""
        if self._deaf:
            return
        GuardedProtocol.count(kind)
        self._deaf = True
        if self._answers:
            self.cycle.keep_alive = False
            return
        body = orjson.dumps({"error": sentence})
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
    def _stop(timer: Any) -> None:
        if timer is not None:
            timer.cancel()


def _is_handshake(scope: Any) -> bool:
    """Whether a request is one by RFC 6455, 4.2.1, apart from what brought it here."""
    headers = dict(scope["headers"])
    try:
        key = base64.b64decode(headers.get(b"sec-websocket-key", b"").strip(), validate=True)
    except ValueError:
        return False
    return scope["method"] == "GET" and headers.get(b"sec-websocket-version", b"").strip() == b"13" and len(key) == 16
