"""A game for tests, its server, and a client of it."""

import base64
import contextlib
import http.client
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glimpse_envs.classification.task import Task
from glimpse_envs.play.game import Game
from glimpse_envs.play.page import PlayServer
from glimpse_envs.play.record import GameRecord, GameSettings


def make_game(folder: Path, images=(4, 9), opponent=None, **options) -> Game:
    given = {"split": "test", "canvas_height": 28, "canvas_width": 30, "num_glimpses": 3, "glimpse_size": 6, **options}
    core = Task.of(**given).core()
    settings = GameSettings("Glimpse/Digits-v0", {}, 0, core.scenes.classes, len(core.scenes), None)
    return Game(core, images, 0, GameRecord(folder / "played.json", settings), opponent, time.monotonic)


class PageClient:
    """A client of a :class:`PlayServer` over HTTP; remembers the latest state."""

    def __init__(self, server: PlayServer) -> None:
        self.server = server
        self.latest: dict[str, Any] = {}

    def send(
        self, method: str, path: str, body: str | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        port = self.server.server_address[1]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        given = {"Host": f"localhost:{port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        with contextlib.closing(connection):
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return response, response.read()

    def state(self) -> dict[str, Any]:
        response, text = self.send("GET", "/state")
        assert response.status == 200
        self.latest = json.loads(text)
        return self.latest

    def move(self, kind: str, **values: Any) -> tuple[int, dict[str, Any]]:
        told = {name: self.latest[name] for name in ("game", "turn")}
        body = json.dumps({**told, **values})
        response, text = self.send("POST", f"/{kind}", body, Content_Type="application/json")
        found = json.loads(text)
        if response.status == 200:
            self.latest = found
        return response.status, found


def serve_in_thread(game: Game):
    server = PlayServer(game)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    return server, thread


def decode_data_url(address: str) -> np.ndarray:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
