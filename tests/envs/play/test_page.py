import json
import re
import sys
import threading
import webbrowser

import pytest

from glimpse_envs.play import page as page_module
from glimpse_envs.play.page import PlayServer, content_security_policy
from glimpse_envs.play.service import PageError
from tests.support.play import make_game

JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "sentence"),
    [
        ("GET", "/", None, {"Host": "evil.example"}, 403, "expected the host 127.0.0.1 or localhost, got 'evil"),
        ("GET", "/state", None, {"Host": "evil.example:80"}, 403, "expected the host"),
        ("GET", "/state", None, {"Host": "127.0.0.1.evil.example"}, 403, "expected the host"),
        ("GET", "/", None, {"Host": ""}, 403, "expected the host"),
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
        ("POST", "/look", "{}", JSON, 409, "another page has changed the game"),
    ],
)
def test_a_request_that_is_none_of_ours_is_refused_in_a_sentence(method, path, body, headers, status, sentence, client):
    response, text = client.send(method, path, body, **headers)
    assert response.status == status
    assert sentence in json.loads(text)["error"]
    assert client.state()["taken"] == 1


def test_the_page_may_do_nothing_but_talk_to_its_server(client):
    response, page = client.send("GET", "/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"]
    assert policy == content_security_policy(page.decode())
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("sha256-", policy)) == 2
    # Nothing from elsewhere, nothing run or styled but by the two blocks.
    assert not re.search(rb"(?:src|href)=\"(?!data:,\")|@import|url\(| style=| on\w+=|innerHTML", page)


def test_the_page_is_served_to_this_machine_alone(client):
    assert client.server.server_address[0] == "127.0.0.1"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", client.server.url)


def test_a_port_that_is_taken_is_told(client, tmp_path):
    port = client.server.server_address[1]
    with pytest.raises(PageError, match=f"can't listen on port {port} .*; choose another with --port"):
        PlayServer(make_game(tmp_path), port)


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
    page_module.serve_game(make_game(tmp_path), 0, True)
    page_module.serve_game(make_game(tmp_path), 0, False)
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
    page_module.serve_game(make_game(tmp_path), 0, True)
    assert statuses == [True]
