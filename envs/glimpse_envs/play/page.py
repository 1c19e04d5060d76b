"""The game in a browser: an HTTP server on this machine that sends only the revealed parts of the image.

The page displays the revealed parts of the image, the windows and, after the answer, the scanpaths. It neither crops
images nor converts coordinates: it sends positions in pixels, and the server converts them to locations. The state of
the game is kept in the server. Several pages may display one game: a move that refers to an older state is rejected
with status 409 and the current state.

``GET /`` returns the page, ``GET /state`` the state. ``POST /look``, ``/answer`` and ``/next`` are the moves. Each move
has the ``game`` and the ``turn`` of the state that it refers to. A look also has a ``place``, [x, y] in pixels, and an
answer has an ``answer``, the index of the class. The response to an invalid request is ``{"error": message}``.
"""

import base64
import hashlib
import json
import re
import sys
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import Thread
from typing import Any

from glimpse_envs.play.game import Game, GameError
from glimpse_envs.play.record import (
    AlreadyRecordedError,
    RecordError,
)
from glimpse_envs.play.service import GameService, PageError

LOCAL = "127.0.0.1"
LOCAL_NAMES = frozenset({"localhost", LOCAL, "[::1]"})
"""Accepted host names. Others are rejected, which prevents DNS rebinding attacks."""
MOVES = ("look", "answer", "next")
MAX_BODY_BYTES = 4096
"""Largest size of a request body, in bytes."""
REQUEST_TIMEOUT = 30.0
"""Seconds until the connection of an incomplete request is closed."""


class PlayServer(ThreadingHTTPServer):
    """An HTTP server of one game, for browsers on this machine.

    Args:
        game: The game.
        port: The port; 0 for any free one.

    Raises:
        PageError: When the port is not available.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, game: Game, port: int = 0) -> None:
        self.service = GameService(game)
        self.page = resources.files("glimpse_envs.play").joinpath("page.html").read_bytes()
        self.policy = content_security_policy(self.page.decode())
        try:
            super().__init__((LOCAL, port), PlayRequestHandler)
        except OSError as error:
            raise PageError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"can't listen on port {port} ({error.strerror}); choose another with --port, or leave it out",
            ) from error

    @property
    def url(self) -> str:
        """URL of the page."""
        return f"http://{LOCAL}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that the browser closed during a response; report all other errors."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class PlayRequestHandler(BaseHTTPRequestHandler):
    """Handles the requests of the page."""

    server: PlayServer
    timeout = REQUEST_TIMEOUT
    server_version = "Glimpse"
    sys_version = ""

    def do_GET(self) -> None:
        """Return the page or the state."""
        try:
            self._check_origin()
            if self.path == "/":
                self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
            elif self.path == "/state":
                self._send_json(HTTPStatus.OK, self.server.service.state())
            elif self.path.removeprefix("/") in MOVES:
                raise PageError(HTTPStatus.METHOD_NOT_ALLOWED, f"expected POST for {self.path}, got GET")
            else:
                raise PageError(HTTPStatus.NOT_FOUND, f"expected /, /state or a move, got {self.path[:80]!r}")
        except PageError as error:
            self._send_json_error(error.status, str(error))

    def do_POST(self) -> None:
        """Make a move."""
        try:
            self._check_origin()
            kind = self.path.removeprefix("/")
            if kind not in MOVES:
                raise PageError(
                    HTTPStatus.NOT_FOUND, f"expected a move out of {', '.join(MOVES)}, got {self.path[:80]!r}"
                )
            self._send_json(HTTPStatus.OK, self.server.service.move(kind, self._body()))
        except PageError as error:
            self._send_json_error(error.status, str(error))
        except GameError as error:
            self._send_json_error(HTTPStatus.BAD_REQUEST, str(error))
        except AlreadyRecordedError as error:
            self._send_json_error(HTTPStatus.CONFLICT, str(error))
        except (RecordError, OSError) as error:
            if isinstance(error, (ConnectionError, TimeoutError)):
                raise
            self._send_json_error(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"the result can't be saved: {error}; correct this, and go on"
            )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Discard log messages, which would disturb the terminal."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send the errors of the base class in the JSON form of this server.

        Args:
            code: The HTTP status.
            message: Description of the error.
            explain: Unused.
        """
        self._send_json_error(
            HTTPStatus(code), f"expected GET or POST as HTTP has them; {message or HTTPStatus(code).phrase}"
        )

    def _check_origin(self) -> None:
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if _host_name(host) not in LOCAL_NAMES:
            raise PageError(HTTPStatus.FORBIDDEN, f"expected the host {LOCAL} or localhost, got {host[:80]!r}")
        if origin is not None and origin != f"http://{host}":
            raise PageError(HTTPStatus.FORBIDDEN, f"expected a move from this page, got one from {origin[:80]!r}")

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            given = self.headers.get_content_type()
            raise PageError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected application/json, got {given!r}")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise PageError(
                HTTPStatus.LENGTH_REQUIRED, f"expected the length of the move in bytes, got {length[:80]!r}"
            )
        if int(length) > MAX_BODY_BYTES:
            raise PageError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a move of at most {MAX_BODY_BYTES} bytes, got {length}"
            )
        try:
            values = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise PageError(HTTPStatus.BAD_REQUEST, f"expected a JSON object, got none ({error})") from error
        if not isinstance(values, dict):
            raise PageError(HTTPStatus.BAD_REQUEST, f"expected a JSON object, got {json.dumps(values)[:80]}")
        return values

    def _send_json_error(self, status: HTTPStatus, message: str) -> None:
        response: dict[str, Any] = {"error": message}
        if status in (HTTPStatus.CONFLICT, HTTPStatus.INTERNAL_SERVER_ERROR):
            response["state"] = self.server.service.state()
        # The rest of the request is not read, so the connection cannot be used again.
        self.close_connection = True
        self._send_json(status, response)

    def _send_json(self, status: HTTPStatus, values: dict[str, Any]) -> None:
        self._send(status, json.dumps(values).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": self.server.policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "POST"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def content_security_policy(page: str) -> str:
    """The Content-Security-Policy of the page: only its own script and style, by digest, and requests to this server.

    Args:
        page: HTML of the page.
    """
    digests = {
        kind: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        )
        for kind in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {digests['script']}; style-src {digests['style']}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def serve_game(game: Game, port: int, opened: bool) -> None:
    """Serve the game until it is interrupted with Ctrl-C.

    Args:
        game: The game.
        port: The port; 0 for any free one.
        opened: Whether to open the page in a browser.

    Raises:
        PageError: When the port is not available.
    """
    with PlayServer(game, port) as server:
        print(f"play at {server.url}\nend it with Ctrl-C", flush=True)
        if opened:
            # Some browser commands return only when the browser is closed, and the page needs responses until then.
            Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print()


def _host_name(host: str) -> str:
    """The host name in a Host header, without the port."""
    return re.sub(r":[0-9]*$", "", host).lower()
