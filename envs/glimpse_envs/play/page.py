"""The game on a page in the browser: a small server on this machine that sends what has been seen, and nothing more.

The page draws what it is sent: the image as far as it is known, the windows' boxes, and after the answer the pictures.
It neither crops nor converts: a place is told in pixels of the image, and the server makes a location of it. All that
is known of the game lives here. Several pages may show it; a move that was made on an older state than the present one
is refused with status 409 and the state, so that they can't play against each other.

``GET /`` is the page, ``GET /state`` the state, and ``POST /look``, ``/answer`` and ``/next`` are the moves. Each names
the ``game`` and the ``turn`` of the state that it was made on; a look has a ``place`` [x, y] as well, an answer an
``answer``, the class's number. Mistakes are answered with ``{"error": sentence}``.
"""

import base64
import hashlib
import io
import json
import re
import secrets
import sys
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import Lock, Thread
from typing import Any

import numpy as np
from PIL import Image

from glimpse.drawing.palette import time_colours
from glimpse.drawing.scanpath import draw_scanpath
from glimpse.images.geometry import to_unit
from glimpse_envs.play.game import Game, GameError
from glimpse_envs.play.record import AlreadyPlayedError, PlayedError, PlayedImage, cells, chance, compare_players

LOCAL = "127.0.0.1"
LOCAL_NAMES = frozenset({"localhost", LOCAL, "[::1]"})
"""What a browser on this machine calls it. Any other name comes from a page elsewhere that had its name lead here."""
MOVES = ("look", "answer", "next")
LARGEST = 1e9
"""Pixels that no image has."""
LONGEST_BODY = 4096
"""Bytes of a move."""
PATIENCE = 30.0
"""Seconds that a request may take to arrive."""


class PageError(ValueError):
    """A request that can't be answered, or a page that can't be served.

    Args:
        status: What a browser is told besides the sentence.
        sentence: What was expected, what came, and what to do about it.
    """

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Table:
    """Where pages sit down to one game: its state as JSON's values, and moves one at a time.

    Args:
        game: The game.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.id = secrets.token_urlsafe(12)
        self._lock = Lock()
        self._shown = False

    def state(self) -> dict[str, Any]:
        """All that the player may know now."""
        with self._lock:
            if not self._shown:
                self._shown = True
                self.game.round.show()
            return self._state()

    def move(self, kind: str, values: dict[str, Any]) -> dict[str, Any]:
        """Make a move, and return the state after it.

        Args:
            kind: ``look``, ``answer`` or ``next``.
            values: What the page sent.

        Raises:
            PageError: When the move is none, or was made on a state that is no longer there.
            GameError: When the rules don't allow it.
            PlayedError, OSError: When what was played can't be kept.
        """
        with self._lock:
            game = self.game
            if (values.get("game"), values.get("turn")) != (self.id, self._turn()):
                raise PageError(HTTPStatus.CONFLICT, "the game has gone on elsewhere; this is how it stands now")
            if kind == "look":
                x, y = _place(values.get("place"))
                game.round.look((to_unit(x, game.round.width), to_unit(y, game.round.height)))
            elif kind == "answer":
                answer = values.get("answer")
                if type(answer) is not int:
                    raise PageError(HTTPStatus.BAD_REQUEST, f"expected answer to be a class's number, got {answer!r}")
                game.answer(answer)
            else:
                game.go_on()
            return self._state()

    def _state(self) -> dict[str, Any]:
        game, played = self.game, self.game.round
        retina, budget = game.looking.retina, game.looking.rule.num_glimpses
        return {
            "game": self.id,
            "turn": self._turn(),
            "position": game.position,
            "images": len(game.images),
            "classes": list(game.classes),
            "height": played.height,
            "width": played.width,
            "budget": budget,
            "taken": played.taken,
            "windows": [retina.size * retina.zoom**scale for scale in range(retina.num_scales)],
            "colours": [f"rgb({', '.join(map(str, colour))})" for colour in time_colours(budget).tolist()],
            "view": _view(game),
            "boxes": [seen.boxes.tolist() for seen in played.seen],
            "result": self._result() if played.over else None,
            "finished": game.finished,
            "figures": [cells(figures) for figures in compare_players(game.record.entries)] if game.finished else None,
            "chance": chance(compare_players(game.record.entries)[0]) if game.finished else None,
            "record": str(game.record.path) if game.finished else None,
        }

    def _turn(self) -> str:
        """What tells this state of the game from every other one."""
        game = self.game
        stage = "finished" if game.finished else "answered" if game.round.over else "open"
        return f"{game.position}-{game.round.taken}-{stage}"

    def _result(self) -> dict[str, Any]:
        game, played = self.game, self.game.round
        entry, image = game.entry(), played.whole()
        locations = np.array([seen.location for seen in played.seen])
        path = draw_scanpath(image, np.stack([seen.boxes for seen in played.seen]), locations)
        result: dict[str, Any] = {
            "answer": entry.answer,
            "label": entry.label,
            "correct": entry.correct,
            "picture": _data_address(path),
            "model": None,
        }
        if game.opponent and game.sight:
            result["model"] = {**_said(entry), "picture": _data_address(game.opponent.picture(game.sight))}
        return result


class PlayServer(ThreadingHTTPServer):
    """Serves one game to browsers on this machine.

    Args:
        game: The game.
        port: Where; 0 for any that is free.

    Raises:
        PageError: When the port can't be had.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, game: Game, port: int = 0) -> None:
        self.table = Table(game)
        self.page = resources.files("glimpse_envs.play").joinpath("page.html").read_bytes()
        self.policy = content_policy(self.page.decode())
        try:
            super().__init__((LOCAL, port), Handler)
        except OSError as error:
            raise PageError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"can't listen on port {port} ({error.strerror}); choose another with --port, or leave it out",
            ) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOCAL}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a browser go away in the middle of an answer; any other fault is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one browser."""

    server: PlayServer
    timeout = PATIENCE
    server_version = "Glimpse"
    sys_version = ""

    def do_GET(self) -> None:
        """The page, or the state."""
        try:
            self._check_sender()
            if self.path == "/":
                self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
            elif self.path == "/state":
                self._send_json(HTTPStatus.OK, self.server.table.state())
            elif self.path.removeprefix("/") in MOVES:
                raise PageError(HTTPStatus.METHOD_NOT_ALLOWED, f"expected POST for {self.path}, got GET")
            else:
                raise PageError(HTTPStatus.NOT_FOUND, f"expected /, /state or a move, got {self.path[:80]!r}")
        except PageError as error:
            self._refuse(error.status, str(error))

    def do_POST(self) -> None:
        """A move."""
        try:
            self._check_sender()
            kind = self.path.removeprefix("/")
            if kind not in MOVES:
                raise PageError(
                    HTTPStatus.NOT_FOUND, f"expected a move out of {', '.join(MOVES)}, got {self.path[:80]!r}"
                )
            self._send_json(HTTPStatus.OK, self.server.table.move(kind, self._body()))
        except PageError as error:
            self._refuse(error.status, str(error))
        except GameError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except AlreadyPlayedError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        except (PlayedError, OSError) as error:
            if isinstance(error, (ConnectionError, TimeoutError)):
                raise
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"what you played can't be kept: {error}; mend that, go on")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the terminal is the player's."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request of ours in our own form.

        Args:
            code: The status.
            message: What is wrong.
            explain: Left out.
        """
        self._refuse(HTTPStatus(code), f"expected GET or POST as HTTP has them; {message or HTTPStatus(code).phrase}")

    def _check_sender(self) -> None:
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if _name(host) not in LOCAL_NAMES:
            raise PageError(HTTPStatus.FORBIDDEN, f"expected to be called {LOCAL} or localhost, got {host[:80]!r}")
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
        if int(length) > LONGEST_BODY:
            raise PageError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a move of at most {LONGEST_BODY} bytes, got {length}"
            )
        try:
            values = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise PageError(HTTPStatus.BAD_REQUEST, f"expected a JSON object, got none ({error})") from error
        if not isinstance(values, dict):
            raise PageError(HTTPStatus.BAD_REQUEST, f"expected a JSON object, got {json.dumps(values)[:80]}")
        return values

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        answer: dict[str, Any] = {"error": sentence}
        if status in (HTTPStatus.CONFLICT, HTTPStatus.INTERNAL_SERVER_ERROR):
            answer["state"] = self.server.table.state()
        # What is left of the request is not read, so that nothing more can come over this connection.
        self.close_connection = True
        self._send_json(status, answer)

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


def content_policy(page: str) -> str:
    """What a browser may do for the page: run and style with what stands in it, by digest, and talk to this server.

    Args:
        page: Its HTML.
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


def serve(game: Game, port: int, opened: bool) -> None:
    """Serve the game until it is interrupted with Ctrl-C.

    Args:
        game: The game.
        port: Where; 0 for any that is free.
        opened: Whether to open the page in a browser.

    Raises:
        PageError: When the port can't be had.
    """
    with PlayServer(game, port) as server:
        print(f"play at {server.url}\nend it with Ctrl-C", flush=True)
        if opened:
            # Some browsers come back only when they are closed, and until then they want answers.
            Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print()


def _place(given: Any) -> tuple[float, float]:
    numbers = given if isinstance(given, list) and len(given) == 2 else []
    if not numbers or not all(type(part) in (int, float) and abs(part) < LARGEST for part in numbers):
        raise PageError(HTTPStatus.BAD_REQUEST, f"expected place to be [x, y] in pixels, got {json.dumps(given)[:80]}")
    return float(numbers[0]), float(numbers[1])


def _view(game: Game) -> str:
    """The image as far as it is known, with nothing where it is not."""
    view = game.round.view()
    known = (view.known * 255).astype(np.uint8)
    return _data_address(Image.fromarray(np.dstack([view.image, known])))


def _said(entry: PlayedImage) -> dict[str, Any]:
    """What the model said with as many glimpses as the player took, and with all its own."""
    model = entry.model
    if model is None:
        return {}
    places = sorted({model.after(entry.glimpses), len(model.answers) - 1})
    return {
        "said": [
            {
                "glimpses": place + 1,
                "answer": model.answers[place],
                "confidence": model.confidences[place],
                "correct": model.answers[place] == entry.label,
            }
            for place in places
        ]
    }


def _data_address(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _name(host: str) -> str:
    """A Host header without its port."""
    return re.sub(r":[0-9]*$", "", host).lower()
