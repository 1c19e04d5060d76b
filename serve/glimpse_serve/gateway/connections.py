"""An HTTP connection with limits: on every byte of a request, on times, and on clients that don't read the response.

uvicorn alone waits for ever for the rest of a request's headers, accepts headers and trailers of any size, parses
pipelined requests without limit, takes the body behind an ``Upgrade`` for another request, and reports errors in plain
text. Here one request at a time is parsed; what follows it waits, unparsed, until its response is sent.
"""

import os
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from glimpse_serve.gateway.admission import HEALTH_PATH, Admission, Connection, admit
from glimpse_serve.gateway.rejections import Headers, rejection
from glimpse_serve.gateway.request_bytes import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TRAILER_BYTES, RequestBytes
from glimpse_serve.gateway.websocket_connections import GuardedWebSocket, handshake_error
from glimpse_serve.http.response_writer import ResponseWriter
from glimpse_serve.settings import STREAMING_PATH, Settings

MAX_DISCARDED_BYTES = 2**20
"""Most bytes that are read after the response to them was sent; with more to come the connection is closed."""
PIECES_A_TURN = 16
"""Pieces of unknown content that are parsed before other connections have their turn."""
LINGER_SECONDS = 1.0
"""How long a rejected connection is read, to no purpose but that the client reads the rejection."""
WRITE_SECONDS = 60.0
"""How long a client may read nothing of a waiting response."""


class HoldingFlow(FlowControl):
    """Flow control that reads nothing while bytes wait that were received already."""

    holding = False

    def hold(self) -> None:
        """Stop reading until :meth:`release`."""
        self.holding = True
        self.pause_reading()

    def release(self) -> None:
        """Read again."""
        self.holding = False
        self.resume_reading()

    def resume_reading(self) -> None:
        """Read again, unless bytes wait."""
        if not self.holding:
            super().resume_reading()


class GuardedProtocol(Connection, HttpToolsProtocol):
    """A connection with limits.

    It takes them from the settings in the environment, since uvicorn imports the class by name in every worker.
    """

    count: ClassVar[Any] = staticmethod(lambda kind: None)
    """Called with the kind of fault for every connection that is closed for one."""
    settings: ClassVar[Settings | None] = None
    flow: HoldingFlow
    _writer: ResponseWriter

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ws_protocol_class = GuardedWebSocket
        self.admission: Admission | None = None
        self._limits = self.settings_of_process()
        self._bytes = RequestBytes()
        self._discarding = False
        self._discarded = 0
        self._held: bytes | memoryview = b""
        self._rejected = False
        self._header_timer: Any = None
        self._body_timer: Any = None
        self._write_timer: Any = None

    @classmethod
    def settings_of_process(cls) -> Settings:
        """The settings of this process."""
        if GuardedProtocol.settings is None:
            text = os.environ.get("GLIMPSE_SERVE_SETTINGS")
            GuardedProtocol.settings = Settings.from_json(text) if text else Settings()
        return GuardedProtocol.settings

    @property
    def _responding(self) -> bool:
        """Whether a response is due, before whose end no other request is parsed."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Accept the connection, or reject it when there are too many."""
        super().connection_made(transport)
        self.flow = HoldingFlow(transport)
        self.accepted_at = self.loop.time()
        if self.admission is None:  # else it was admitted before its TLS handshake
            self.admission = admit(self.connections, self, self._limits.max_connections)
        if self.admission is Admission.NOTHING:
            self._reject_surplus()
        else:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        for timer in (self._header_timer, self._body_timer, self._write_timer):
            self._cancel(timer)
        self._held = b""
        super().connection_lost(exc)

    def make_room(self) -> None:
        """Reject the connection in favour of a newer one."""
        self._reject_surplus()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or hold them back while a response is due."""
        self._unset_keepalive_if_required()
        if self._rejected:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.close()
        elif self.transport.is_closing():
            return
        elif self._held:
            self._held = bytes(self._held) + data  # what a TLS transport had decrypted before it paused
        else:
            self._parse(data)

    def _parse(self, data: bytes | memoryview) -> None:
        start = turns = 0
        view = memoryview(data)
        while start < len(data) and not self._rejected and not self.transport.is_closing():
            if self._bytes.in_head:
                if self._responding or turns == PIECES_A_TURN:
                    break
                self._wait_for_headers()
            elif turns == PIECES_A_TURN:
                break
            turns += not self._bytes.body_length_known
            end = self._bytes.next_piece(data, start)
            self._feed(view[start:end], last=end == len(data))
            start = end
            self._check_limits()
        if start < len(data) and not self._rejected:
            self._held = view[start:]
            self.flow.hold()
            if not (self._responding and self._bytes.in_head):
                self.loop.call_soon(self._parse_held)
        elif self.flow.holding:
            self.flow.release()

    def _parse_held(self) -> None:
        if self._held and not self.transport.is_closing():
            data, self._held = self._held, b""
            self._parse(data)

    def _feed(self, piece: memoryview, last: bool) -> None:
        if self._discarding:
            self._discarded += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._upgrade(last)
        except httptools.HttpParserError:
            self._reject(
                400, "expected a request in HTTP/1.1, got something else; check the address, and http or https"
            )

    def _check_limits(self) -> None:
        if self._bytes.in_head and self._bytes.too_many_headers:
            self._reject_headers()
        elif self._bytes.too_much_framing:
            message = (
                f"expected trailers and extensions of chunks of at most {MAX_TRAILER_BYTES} bytes, got more; send none"
            )
            self._reject(431, message, "headers")
        elif self._discarded > MAX_DISCARDED_BYTES:
            GuardedProtocol.count("unread_body")
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; drop a trailer (RFC 9110, 6.5.1: it may be neither credential nor framing)."""
        if self._bytes.in_head:
            self._bytes.headers += 1
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start handling the request, if its framing is unambiguous; an upgrade is decided upon after the head."""
        if self.parser.should_upgrade() and not self._should_upgrade():
            return
        self._cancel(self._header_timer)
        self._header_timer = None
        if self._rejected:
            return
        if self._bytes.too_many_headers:
            self._reject_headers()
        elif framing := _framing_error(self.parser.get_http_version(), self.headers):
            self._reject(*framing)
        elif self.admission is Admission.HEALTH and not HEALTH_PATH.fullmatch(self._path()):
            self._reject_surplus()
        else:
            self.begun = True
            self._discarded = 0
            self._bytes.end_head(_body_length(self.headers))
            _apply_absolute_target(self.url, self.headers)
            if self.parser.get_http_version() == "1.0":
                self.expect_100_continue = False  # it knows no interim responses (RFC 9110, 10.1.1)
            super().on_headers_complete()
            if not self.parser.should_upgrade():
                self.cycle.transport = self._writer = ResponseWriter(self.transport)

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._bytes.add_content(len(body))
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; the headers of the next one follow."""
        if self.parser.should_upgrade():
            return
        if not self._rejected:
            super().on_message_complete()
        self._cancel(self._body_timer)
        self._discarding = False
        if self._bytes.left is None:
            self.parser = httptools.HttpRequestParser(self)  # the trailers have told the old one of framing
        self._bytes = RequestBytes()

    def on_response_complete(self) -> None:
        """End a response, and limit the bytes and the time for the rest of an unread body."""
        self._writer.flush()
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle.more_body:
            # The response was sent before the body arrived: the body is discarded.
            left = self._bytes.left
            if self.expect_100_continue:
                self.transport.close()  # unknown whether the body or another request follows
                return
            if left is not None and left > MAX_DISCARDED_BYTES:
                self._linger()
                return
            self._discarding = True
            self._cancel(self._body_timer)
            self._body_timer = self.loop.call_later(self._limits.body_seconds, self.transport.abort)
        self._parse_held()
        if self._bytes.in_head and self._bytes.head and not self._responding:
            self._wait_for_headers()

    def _upgrade(self, last: bool) -> None:
        """Hand a WebSocket over; handle any other request as if it had not asked for an upgrade (RFC 9110, 7.8).

        Args:
            last: Whether nothing has been received behind the head.
        """
        if self._rejected:
            return
        if self.parser.get_method() == b"CONNECT":
            self._reject(405, "expected a request to this service, got CONNECT, and it is no proxy; send GET or POST")
        elif not self._should_upgrade():
            # llhttp leaves the body to the other protocol. Another parser gets the head without the upgrade, so that
            # the body is parsed as a body.
            head = self._head(without=(b"upgrade", b"http2-settings"))
            self.parser = httptools.HttpRequestParser(self)
            self._feed(memoryview(head), last)
        elif error := handshake_error(self._head(), self.headers, last):
            self._reject(400, error)
        else:
            self._cancel(self._header_timer)
            self.handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        """Whether a WebSocket is asked for, where there is one."""
        return (
            self._get_upgrade() == b"websocket"
            and self._path() == STREAMING_PATH
            and self.parser.get_http_version() == "1.1"
        )

    def _path(self) -> str:
        """The path of the request whose head is parsed, as the application will see it."""
        path = unquote(self.url.partition(b"?")[0].decode("ascii", "replace"))
        return path.removeprefix(self._limits.path_prefix)

    def _head(self, without: tuple[bytes, ...] = ()) -> bytes:
        """The head of the request, but for some headers."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in without]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def pause_writing(self) -> None:
        """Start the write timer: the client reads more slowly than the response is written."""
        super().pause_writing()
        self._cancel(self._write_timer)
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self._write_timeout)

    def resume_writing(self) -> None:
        """Stop the write timer."""
        self._cancel(self._write_timer)
        super().resume_writing()

    def _wait_for_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self._header_timeout)

    def _reject_headers(self) -> None:
        message = (
            f"expected at most {MAX_HEADERS} headers and at most {MAX_HEADER_BYTES} bytes of them, got more; send fewer"
        )
        self._reject(431, message, "headers")

    def _reject_surplus(self) -> None:
        message = "expected fewer connections at once; close some, or try again in 1 s"
        self._reject(503, message, "many", [(b"retry-after", b"1")])

    def _header_timeout(self) -> None:
        if self.transport.is_closing():
            return
        if self.admission is Admission.HEALTH and not self.begun:
            self._reject_surplus()
        elif self._bytes.head:
            seconds = self._limits.header_seconds
            message = f"expected a request's headers within {seconds:g} s, got a part; send them faster"
            self._reject(408, message, "slow")
        else:
            GuardedProtocol.count("silent")
            self.transport.close()  # no request was sent, so no response is due

    def _write_timeout(self) -> None:
        GuardedProtocol.count("unread")
        self.transport.abort()

    def _reject(self, status: int, message: str, kind: str = "http", headers: Headers | None = None) -> None:
        """Send an error and close; a request that was handled so far is cancelled, if its response has not begun."""
        if self._rejected:
            return
        GuardedProtocol.count(kind)
        self._rejected = self.leaving = True
        if self._responding:
            if self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif self._discarding:  # a response was sent already
            self.transport.close()
            return
        received = self.headers if self.headers and self._bytes.head else ()
        self.transport.write(rejection(status, message, self._limits, received, headers))
        self._linger()

    def _linger(self) -> None:
        """Close soon: with bytes unread the system would reset the connection, and the client miss the response."""
        self._rejected = self.leaving = True
        self._discarded = 0
        self._held = b""
        self.flow.release()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._cancel(self._body_timer)
        self._body_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    @staticmethod
    def _cancel(timer: Any) -> None:
        if timer is not None:
            timer.cancel()


def _framing_error(version: str, headers: Headers) -> tuple[int, str] | None:
    """The status and the message for a request whose end is not certain, or which another recipient may read otherwise.

    llhttp rejects the other cases itself: two or malformed Content-Lengths, one beside a Transfer-Encoding, folded
    headers, and lines that end without a carriage return.
    """
    if version not in ("1.0", "1.1"):
        return 505, f"expected HTTP/1.1, got HTTP/{version}; use 1.1"
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and version == "1.0":
        return 400, "expected a Content-Length in HTTP/1.0, got a Transfer-Encoding; send HTTP/1.1"
    if codings and codings != [b"chunked"]:
        return 501, "expected the Transfer-Encoding chunked alone, got another; compress with Content-Encoding"
    return None


def _body_length(headers: Headers) -> int | None:
    """Bytes of a request's body; None for a chunked one. llhttp has checked the headers."""
    found = dict(headers)
    return None if b"transfer-encoding" in found else int(found.get(b"content-length", b"0"))


def _apply_absolute_target(url: bytes, headers: Headers) -> None:
    """Put the host of an absolute target in place of the Host header, which it overrides (RFC 9112, 3.2.2)."""
    scheme, absolute, rest = url.partition(b"://")
    if absolute and scheme.isalpha():
        authority = rest.partition(b"/")[0].partition(b"?")[0]
        headers[:] = [(name, authority if name == b"host" else value) for name, value in headers]
