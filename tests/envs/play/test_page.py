import base64
import contextlib
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image

from glimpse_envs.classification.task import Task
from glimpse_envs.play import page as page_module
from glimpse_envs.play.game import Game
from glimpse_envs.play.opponent import Opponent
from glimpse_envs.play.page import PageError, PlayServer, content_policy
from glimpse_envs.play.record import GameRecord, GameSettings


def sit_down(folder: Path, images=(4, 9), opponent=None, **options) -> Game:
    given = {"split": "test", "canvas_height": 28, "canvas_width": 30, "num_glimpses": 3, "glimpse_size": 6, **options}
    looking = Task.of(**given).looking()
    settings = GameSettings("Glimpse/Digits-v0", {}, 0, looking.scenes.classes, len(looking.scenes), None)
    return Game(looking, images, 0, GameRecord(folder / "played.json", settings), opponent, time.monotonic)


class Browser:
    """Somebody who asks a server over HTTP."""

    def __init__(self, server: PlayServer) -> None:
        self.server = server
        self.known: dict[str, Any] = {}

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
        self.known = json.loads(text)
        return self.known

    def move(self, kind: str, **values: Any) -> tuple[int, dict[str, Any]]:
        told = {name: self.known[name] for name in ("game", "turn")}
        body = json.dumps({**told, **values})
        response, text = self.send("POST", f"/{kind}", body, Content_Type="application/json")
        found = json.loads(text)
        if response.status == 200:
            self.known = found
        return response.status, found


def serving(game: Game):
    server = PlayServer(game)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    return server, thread


@pytest.fixture
def browser(tmp_path):
    server, thread = serving(sit_down(tmp_path))
    yield Browser(server)
    server.shutdown()
    thread.join()
    server.server_close()


def picture(address: str) -> np.ndarray:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def test_a_game_is_played_over_http(browser, tmp_path):
    state = browser.state()
    assert (state["position"], state["images"], state["budget"], state["taken"]) == (0, 2, 3, 1)
    status, state = browser.move("look", place=[30, 0])
    assert status == 200
    assert state["taken"] == 2
    assert browser.server.table.game.round.seen[1].location == (1.0, -1.0)
    assert state["boxes"] == [seen.boxes.tolist() for seen in browser.server.table.game.round.seen]
    status, state = browser.move("answer", answer=5)
    assert state["result"]["correct"] == (state["result"]["label"] == 5)
    assert picture(state["result"]["picture"]).shape[2] == 3
    assert state["figures"] is None
    browser.move("next")
    browser.move("answer", answer=1)
    status, state = browser.move("next")
    assert state["finished"]
    assert state["figures"][0][:2] == [
        "you",
        f"{sum(e.correct for e in browser.server.table.game.record.entries)} of 2",
    ]
    assert json.loads((tmp_path / "played.json").read_text())["played"][0]["fixations"][1] == [1.0, -1.0]
    status, told = browser.move("next")
    assert (status, told["error"]) == (
        400,
        "expected an image to go on to, but all have been played; start another game",
    )


def test_before_the_answer_no_more_is_told_than_was_seen(browser):
    browser.state()
    texts = [browser.send("GET", "/state")[1], browser.send("GET", "/")[1]]
    for place in ([3, 3], [25.5, 20]):
        _, state = browser.move("look", place=place)
        texts.append(json.dumps(state).encode())
        assert state["result"] is None
        played = browser.server.table.game.round
        shown, view = picture(state["view"]), played.view()
        assert (shown[..., 3] > 0).tolist() == view.known.tolist()
        assert (shown[..., :3] == view.image).all()
        assert not shown[..., :3][~view.known].any()
    assert not any(word in text for text in texts for word in (b'"label":', b'"correct":', b'"picture":'))
    assert set(state) == {
        *("game", "turn", "position", "images", "classes", "height", "width", "budget", "taken", "windows", "colours"),
        *("view", "boxes", "result", "finished", "figures", "chance", "record"),
    }


def test_the_model_is_told_of_after_the_answer_alone(tmp_path, exported):
    fitting = {"canvas_height": 40, "canvas_width": 52, "num_pieces": 3, "num_scales": 2}
    server, thread = serving(sit_down(tmp_path, opponent=Opponent(exported.path), **fitting))
    try:
        browser = Browser(server)
        assert browser.state()["result"] is None
        _, state = browser.move("answer", answer=0)
        said = state["result"]["model"]["said"]
        assert [told["glimpses"] for told in said] == [1, 3]
        entry = server.table.game.record.entries[0]
        assert [told["answer"] for told in said] == [entry.model.answers[0], entry.model.answers[2]]
        assert picture(state["result"]["model"]["picture"]).shape[2] == 3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_two_pages_can_not_play_against_each_other(browser):
    other = Browser(browser.server)
    browser.state()
    other.state()
    assert browser.move("look", place=[1, 1])[0] == 200
    status, told = other.move("answer", answer=3)
    assert (status, told["error"]) == (409, "the game has gone on elsewhere; this is how it stands now")
    assert told["state"]["taken"] == 2
    other.known = told["state"]
    assert other.move("answer", answer=3)[0] == 200
    assert browser.move("answer", answer=4)[0] == 409
    assert [entry.answer for entry in browser.server.table.game.record.entries] == [3]
    other.known["game"] = "another"
    assert other.move("next")[0] == 409


def test_moves_at_once_are_made_one_by_one(browser):
    browser.state()
    others = [Browser(browser.server) for _ in range(8)]
    statuses = []

    def look(other):
        other.known = dict(browser.known)
        statuses.append(other.move("look", place=[5, 5])[0])

    threads = [threading.Thread(target=look, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, *[409] * 7]
    assert browser.server.table.game.round.taken == 2


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        ("look", {}, "expected place to be [x, y] in pixels, got null"),
        ("look", {"place": [1]}, "expected place to be [x, y] in pixels, got [1]"),
        ("look", {"place": [1, "2"]}, "expected place to be [x, y] in pixels"),
        ("look", {"place": [True, 2]}, "expected place to be [x, y] in pixels"),
        ("look", {"place": [float("nan"), 2]}, "expected place to be [x, y] in pixels"),
        ("look", {"place": [31, 2]}, "expected a place on the image"),
        ("look", {"place": [10**400, 2]}, "expected place to be [x, y] in pixels"),
        ("answer", {}, "expected answer to be a class's number, got None"),
        ("answer", {"answer": 10}, "expected a class from 0 to 9, got 10"),
        ("answer", {"answer": -1}, "expected a class from 0 to 9, got -1"),
        ("answer", {"answer": True}, "expected answer to be a class's number, got True"),
        ("next", {}, "answer first"),
    ],
)
def test_a_move_that_is_none_is_refused_in_a_sentence(kind, values, sentence, browser):
    browser.state()
    status, told = browser.move(kind, **values)
    assert status == 400
    assert sentence in told["error"]
    assert browser.state()["taken"] == 1


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "sentence"),
    [
        ("GET", "/", None, {"Host": "evil.example"}, 403, "expected to be called 127.0.0.1 or localhost, got 'evil"),
        ("GET", "/state", None, {"Host": "evil.example:80"}, 403, "expected to be called"),
        ("GET", "/state", None, {"Host": "127.0.0.1.evil.example"}, 403, "expected to be called"),
        ("GET", "/", None, {"Host": ""}, 403, "expected to be called"),
        ("POST", "/look", "{}", {**JSON, "Origin": "http://evil.example"}, 403, "expected a move from this page"),
        ("POST", "/look", "{}", {**JSON, "Origin": "null"}, 403, "expected a move from this page"),
        ("GET", "/nothing", None, {}, 404, "expected /, /state or a move, got '/nothing'"),
        ("GET", "/look", None, {}, 405, "expected POST for /look, got GET"),
        ("POST", "/state", "{}", JSON, 404, "expected a move out of look, answer, next, got '/state'"),
        ("POST", "/look", "{}", {}, 415, "expected application/json"),
        ("POST", "/look", "{", JSON, 400, "expected a JSON object, got none"),
        ("POST", "/look", "[" * 4000, JSON, 400, "expected a JSON object, got none"),
        ("POST", "/look", "[1]", JSON, 400, "expected a JSON object, got [1]"),
        ("POST", "/look", "\xff", JSON, 400, "expected a JSON object, got none"),
        ("POST", "/look", " " * 4097, JSON, 413, "expected a move of at most 4096 bytes, got 4097"),
        ("POST", "/look", None, {**JSON, "Content_Length": "-3"}, 411, "expected the length of the move in bytes"),
        ("PUT", "/look", "{}", JSON, 501, "expected GET or POST"),
        ("POST", "/look", "{}", JSON, 409, "the game has gone on elsewhere"),
    ],
)
def test_a_request_that_is_none_of_ours_is_refused_in_a_sentence(
    method, path, body, headers, status, sentence, browser
):
    response, text = browser.send(method, path, body, **headers)
    assert response.status == status
    assert sentence in json.loads(text)["error"]
    assert browser.state()["taken"] == 1


def test_the_page_may_do_nothing_but_talk_to_its_server(browser):
    response, page = browser.send("GET", "/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"]
    assert policy == content_policy(page.decode())
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("sha256-", policy)) == 2
    # Nothing from elsewhere, nothing run or styled but by the two blocks.
    assert not re.search(rb"(?:src|href)=\"(?!data:,\")|@import|url\(| style=| on\w+=|innerHTML", page)


def test_the_page_is_served_to_this_machine_alone(browser):
    assert browser.server.server_address[0] == "127.0.0.1"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", browser.server.url)


def test_a_port_that_is_taken_is_told(browser, tmp_path):
    port = browser.server.server_address[1]
    with pytest.raises(PageError, match=f"can't listen on port {port} .*; choose another with --port"):
        PlayServer(sit_down(tmp_path), port)


def test_what_can_not_be_kept_is_told_and_kept_later(browser, monkeypatch):
    browser.state()
    record = browser.server.table.game.record

    def fail(entry):
        raise OSError(28, "No space left on device", "played.json")

    with monkeypatch.context() as disk:
        disk.setattr(record, "add", fail)
        status, told = browser.move("answer", answer=1)
    assert status == 500
    assert "what you played can't be kept" in told["error"]
    assert told["state"]["result"]["answer"] == 1
    browser.state()
    assert browser.move("next")[0] == 200
    assert len(record.entries) == 1


def test_an_image_that_another_game_kept_is_told_and_gone_on_from(browser, tmp_path):
    sit_down(tmp_path).answer(3)
    browser.state()
    status, told = browser.move("answer", answer=5)
    assert status == 409
    assert told["error"].startswith("image 4 was answered in another game meanwhile; that answer stays")
    browser.known = told["state"]
    status, state = browser.move("next")
    assert (status, state["position"]) == (200, 1)
    assert [entry.answer for entry in browser.server.table.game.record.entries] == [3]


def test_serving_ends_with_an_interrupt(tmp_path, monkeypatch, capsys):
    opened: list[str] = []
    asked = threading.Event()

    def note(address):
        opened.append(address)
        asked.set()

    monkeypatch.setattr("webbrowser.open", note)

    def interrupt(self, poll_interval):
        assert asked.wait(20)
        raise KeyboardInterrupt

    monkeypatch.setattr(PlayServer, "serve_forever", interrupt)
    page_module.serve(sit_down(tmp_path), 0, True)
    page_module.serve(sit_down(tmp_path), 0, False)
    assert len(opened) == 1
    assert capsys.readouterr().out.startswith(f"play at {opened[0]}\nend it with Ctrl-C\n")


@pytest.mark.child
def test_a_browser_that_is_waited_for_is_answered(tmp_path, monkeypatch):
    servers: list[PlayServer] = []
    statuses: list[bool] = []
    script = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + 'state', timeout=5)"
    foreground = webbrowser.GenericBrowser([sys.executable, "-c", script, "%s"])

    def run(address):
        statuses.append(foreground.open(address))
        servers[0].shutdown()

    class Watched(PlayServer):
        def serve_forever(self, poll_interval=0.5):
            servers.append(self)
            super().serve_forever(poll_interval)

    monkeypatch.setattr("webbrowser.open", run)
    monkeypatch.setattr(page_module, "PlayServer", Watched)
    page_module.serve(sit_down(tmp_path), 0, True)
    assert statuses == [True]


class Chromium:
    """A real browser, told what to do over its debugging pipe, one JSON message at a time."""

    def __init__(self, program: str, folder: Path) -> None:
        command, told = os.pipe(), os.pipe()
        ours, theirs = (command[1], told[0]), (command[0], told[1])
        # The pipe's ends must be descriptors 3 and 4; a shell puts them there.
        script = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        self.process = subprocess.Popen(
            ["bash", "-c", script, program, *flags, "--remote-debugging-pipe", f"--user-data-dir={folder}"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in theirs:
            os.close(end)
        self._to, self._from = os.fdopen(ours[0], "wb", 0), os.fdopen(ours[1], "rb")
        self._count, self._session = 0, ""
        self.complaints: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._to, self._from):
            stream.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()

    def _attach(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            text = b""
            while not text.endswith(b"\0"):
                letter = self._from.read(1)
                assert letter, "the browser has gone"
                text += letter
            found = json.loads(text[:-1])
            if found.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(found["params"])
            if found.get("id") == self._count:
                assert "error" not in found, found
                return found["result"]

    def script(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not self.script(expression):
            assert time.monotonic() < end, f"{expression} did not come true"
            time.sleep(0.05)

    def box(self, selector: str) -> list[float]:
        found: list[float] = self.script(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [box.left, box.top, box.width, box.height]; })()"
        )
        return found

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        left, top, width, height = self.box(selector)
        place = {"x": left + across * width, "y": top + down * height}
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", **place)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def touch(self, selector: str, across: float, down: float) -> None:
        left, top, width, height = self.box(selector)
        points = [{"x": left + across * width, "y": top + down * height}]
        self.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, text: str = "") -> None:
        letters = {"text": text} if text else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **letters)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def hold(self, key: str, text: str, times: int) -> None:
        for repeat in range(times):
            self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, autoRepeat=repeat > 0)
            self.until("!busy")
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.until("!busy")

    def drag(self, start: str, end: str) -> None:
        for kind, selector, held in (("mousePressed", start, 0), ("mouseReleased", end, 1)):
            left, top, width, height = self.box(selector)
            place = {"x": left + width / 2, "y": top + height / 2}
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", buttons=held, **place)
            self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)
        self.until("!busy")


@pytest.fixture
def chromium(tmp_path):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None or shutil.which("bash") is None:
        pytest.skip("there is no Chromium to try the page in")
    with Chromium(program, tmp_path / "profile") as browser:
        yield browser


def test_a_person_plays_in_a_real_browser(browser, chromium):
    game = browser.server.table.game
    chromium.ask("Emulation.setDeviceMetricsOverride", width=1200, height=800, deviceScaleFactor=1, mobile=False)
    chromium.ask("Page.navigate", url=browser.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    assert chromium.script("document.activeElement.id") == "stage"
    chromium.click("#stage", 0.75, 0.25)
    chromium.until("document.querySelectorAll('#dots i[style]').length === 2")
    assert game.round.seen[1].location == pytest.approx((0.5, -0.5), abs=0.02)
    x, y = game.round.seen[1].location
    chromium.press("ArrowLeft")
    chromium.press("Enter", "\r")
    chromium.until("document.getElementById('look').disabled")
    # A quarter of the finest window, 6 pixels wide, is a whole pixel; the image is 30 wide.
    assert game.round.seen[2].location == pytest.approx((x - 2 / 30, y), abs=1e-3)
    chromium.click("#classes button:nth-child(4)")
    chromium.until("!document.getElementById('answered').hidden")
    assert game.entry().answer == 3
    assert chromium.script("document.activeElement.id") == "next"
    chromium.press("Enter", "\r")
    chromium.until("!document.getElementById('searching').hidden")
    chromium.press("7", "7")
    chromium.until("!document.getElementById('answered').hidden")
    assert game.entry().answer == 7
    chromium.click("#next")
    chromium.until("document.querySelectorAll('#figures tr').length === 1")
    assert chromium.complaints == []


def test_a_key_held_down_acts_once(browser, chromium):
    game = browser.server.table.game
    chromium.ask("Page.navigate", url=browser.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    chromium.hold("Enter", "\r", 4)
    assert game.round.taken == 2
    chromium.script("document.getElementById('look').focus()")
    chromium.hold("Enter", "\r", 4)
    assert game.round.taken == 3
    chromium.press("3", "3")
    chromium.until("document.activeElement.id === 'next'")
    chromium.hold("Enter", "\r", 4)
    assert (game.position, game.round.taken, game.round.over) == (1, 1, False)
    chromium.script("document.getElementById('look').focus()")
    chromium.hold(" ", " ", 4)
    assert game.round.taken == 2
    chromium.script("document.getElementById('stage').focus()")
    chromium.hold(" ", " ", 4)
    assert game.round.taken == 3


def test_a_press_that_began_or_ends_beside_the_image_takes_no_glimpse(browser, chromium):
    game = browser.server.table.game
    chromium.ask("Emulation.setDeviceMetricsOverride", width=1200, height=800, deviceScaleFactor=1, mobile=False)
    chromium.ask("Page.navigate", url=browser.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    chromium.drag("#question", "#stage")
    chromium.drag("#stage", "#question")
    chromium.drag("#question", "#stage")
    assert game.round.taken == 1
    chromium.click("#stage")
    chromium.until("!busy")
    assert game.round.taken == 2
    # A press that the browser takes over, to scroll or to zoom, is none.
    chromium.script("pressed = 7; stage.dispatchEvent(new PointerEvent('pointercancel', { pointerId: 7 }))")
    assert chromium.script("pressed === null")


def test_the_page_fits_a_phone_and_is_touched(browser, chromium):
    chromium.ask("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    chromium.ask("Emulation.setTouchEmulationEnabled", enabled=True)
    chromium.ask("Page.navigate", url=browser.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    chromium.touch("#stage", 0.25, 0.75)
    chromium.until("document.querySelectorAll('#dots i[style]').length === 2")
    assert browser.server.table.game.round.seen[1].location == pytest.approx((-0.5, 0.5), abs=0.02)
    assert chromium.script("document.documentElement.scrollWidth") <= 360
    browser.state()
    browser.move("answer", answer=2)
    # This page does not know yet that another one has answered.
    chromium.script("document.querySelector('#classes button').click()")
    chromium.until("!document.getElementById('answered').hidden")
    assert chromium.script("document.documentElement.scrollWidth") <= 360
    assert browser.server.table.game.entry().answer == 2
