"""A WebSocket with limits: on the frames and bytes of a message, and on clients that don't read.

The library alone limits the content of a message, but neither the number of its fragments nor that of pings, and it
replies to pings as fast as they come, whether or not the client reads the replies.
"""

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol

from glimpse_serve.gateway import rejections

PARSED_BYTES = 2**12
"""Bytes that are parsed at once; the number of frames is checked in between."""
MAX_FRAMES = 1024
"""Most frames from one message to the next: fragments, pings, pongs."""
TOO_MANY_FRAMES = 1008


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket connection with limits."""

    begun = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._frames_since_message = 0

    def data_received(self, data: bytes) -> None:
        """Parse received bytes in pieces, and limit the frames of a message."""
        for start in range(0, len(data), PARSED_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + PARSED_BYTES])
            if self._frames_since_message > MAX_FRAMES and not self.transport.is_closing():
                self.conn.fail(TOO_MANY_FRAMES, f"more than {MAX_FRAMES} frames in a message")
                self.handle_parser_exception()

    def handle_events(self) -> None:
        """Count the frames, and handle them."""
        self._frames_since_message += sum(isinstance(event, Frame) for event in self.conn.events)
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        """Pass a message on."""
        self._frames_since_message = 0
        super().send_receive_event_to_app()

    def pause_writing(self) -> None:
        """Read nothing from a client that reads nothing."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again, unless a message waits."""
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()


def handshake_error(head: bytes, headers: rejections.Headers, last: bool) -> str | None:
    """Check a WebSocket's handshake (RFC 6455, 4.2.1), which the library would report in plain text.

    Args:
        head: The head of the request, as the library will get it.
        headers: Its headers, by lower-case name.
        last: Whether nothing was sent behind the handshake.

    Returns:
        What is wrong with it; None for a right one.
    """
    known = dict(headers)
    if not last or known.get(b"content-length", b"").strip(b"0") or b"transfer-encoding" in known:
        return "expected a WebSocket's handshake without a body, got bytes behind it; let your client make it"
    library = ServerProtocol()
    library.receive_data(head)
    requests = [event for event in library.events_received() if isinstance(event, Request)]
    if requests and library.accept(requests[0]).status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        return None
    return (
        "expected a WebSocket's handshake, a GET with Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key, got another; "
        "let your client make it"
    )
