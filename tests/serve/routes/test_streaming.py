import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from glimpse.images.lazy import ArrayImage, Corners
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.routes import streaming, streaming_places
from glimpse_serve.routes.streaming_messages import MAX_MESSAGE_BYTES
from glimpse_serve.server import _uvicorn_config
from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import STEP, noise, spoil, write_toy


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    models = (*toy_files(folder), f"step={write_toy(folder / 'step.onnx', STEP)}")
    with running(Settings(models=models, max_looks=2, look_seconds=20.0)) as made:
        yield made


class Virtual:
    """An image that is made where it is read."""

    size = (30_000, 30_000)
    channels = 1

    def read(self, box: Corners) -> Any:
        left, top, right, bottom = box
        rows, columns = np.mgrid[top:bottom, left:right].astype(np.int64)
        return ((rows * 7919 + columns * 104729) // 5 % 256).astype(np.uint8)[..., None]


def talk(service: Running, query: str = "?model=adaptive", **options: Any) -> ClientConnection:
    connection: ClientConnection = connect(
        f"ws://{service.host}:{service.port}/v1/look{query}", compression=None, proxy=None, **options
    )
    return connection


def begin(socket: ClientConnection, image: Any, **limits: Any) -> None:
    width, height = image.size
    socket.send(json.dumps({"width": width, "height": height, "channels": image.channels, **limits}))


def look(socket: ClientConnection, image: Any, as_file: bool = False, **limits: Any) -> tuple[list[Any], int]:
    """All messages of the service, and the bytes of pixels sent."""
    begin(socket, image, **limits)
    messages, sent = [], 0
    for text in socket:
        messages.append(json.loads(text))
        if messages[-1]["type"] == "ask":
            part = image.read(tuple(messages[-1]["box"]))
            content = png(part) if as_file else part.tobytes()
            sent += len(content)
            socket.send(content)
    return messages, sent


@pytest.mark.parametrize("model", ["adaptive", "step"])
def test_a_huge_image_is_classified_as_by_the_session_from_few_bytes(service, model):
    image = Virtual()
    path = service.service.context.registry.find(model).model.session.path
    expected = GlimpseSession(path).predict_one(image, size="native")
    assert expected.boxes is not None
    with talk(service, f"?model={model}") as socket:
        messages, sent = look(socket, image)
    assert [message["type"] for message in messages] == ["ask", "glimpse"] * 5 + ["answer"]
    assert sent <= 5 * 8 * 8
    answer = messages[-1]
    classes = ("cat", "dog", "owl")
    np.testing.assert_allclose(
        [answer["probabilities"][name] for name in classes], expected.probabilities[-1], atol=1e-5
    )
    np.testing.assert_allclose([glimpse["location"] for glimpse in answer["glimpses"]], expected.locations, atol=1e-5)
    np.testing.assert_allclose([glimpse["boxes"] for glimpse in answer["glimpses"]], expected.boxes)
    assert answer["class"] == classes[int(expected.probabilities[-1].argmax())]
    assert (answer["width"], answer["height"], answer["reason"]) == (30_000, 30_000, "budget")
    assert answer["model"] == {"name": model, "version": "1"}
    reported = [{name: value for name, value in message.items() if name != "type"} for message in messages[1:-1:2]]
    assert reported == answer["glimpses"]
    assert socket.close_code == 1000


def test_image_files_give_the_same_result_as_raw_pixels_and_limits_hold(service):
    image = ArrayImage(noise(100, 120, 1))
    with talk(service) as socket:
        raw, _ = look(socket, image, max_glimpses=2, confidence=1)
    with talk(service) as socket:
        files, _ = look(socket, image, as_file=True, max_glimpses=2, confidence=1)
    assert raw[-1]["probabilities"] == files[-1]["probabilities"]
    assert len(raw[-1]["glimpses"]) == 2


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("[]", "as the first message"),
        (b"pixels", "as the first message"),
        ('{"width": 0, "height": 5, "channels": 1}', "expected the width in whole pixels, from 1 to 16,777,216, got 0"),
        ('{"width": 5, "height": 1e3, "channels": 1}', "expected the height"),
        ('{"width": 5, "height": 5, "channels": 4}', "expected 1 (grey) or 3 (RGB) channels, got 4"),
        ('{"width": 5, "height": 5, "channels": 1, "zoom": 2}', "got 'zoom'"),
        ('{"width": 5, "height": 5, "channels": 1, "max_glimpses": 6}', "expected max_glimpses from 1 to 5"),
        ('{"width": 5, "height": 5, "channels": 1, "confidence": "high"}', "expected confidence as a number"),
    ],
)
def test_an_invalid_first_message_is_an_error(service, first, message):
    with talk(service) as socket:
        socket.send(first)
        messages = json.loads(socket.recv())
        assert (messages["type"], messages["status"]) == ("error", 400)
        assert message in messages["error"]
        with pytest.raises(ConnectionClosed):
            socket.recv()
        assert socket.close_code == 1008


@pytest.mark.parametrize(
    ("answer", "status", "code", "message"),
    [
        (b"123", 422, 1008, "bytes of raw pixels"),
        (png(noise(7, 7, 1)), 422, 1008, "got a file of 7 x 7"),
        ("a text", 400, 1008, "binary message"),
        (bytes(MAX_MESSAGE_BYTES + 1), 413, 1009, "at most 4,194,304 bytes"),
    ],
    ids=["short", "file", "text", "long"],
)
def test_invalid_pixels_are_an_error(service, answer, status, code, message):
    with talk(service, "?model=adaptive") as socket:
        begin(socket, Virtual())
        assert json.loads(socket.recv())["type"] == "ask"
        socket.send(answer)
        messages = json.loads(socket.recv())
        assert (messages["type"], messages["status"]) == ("error", status)
        assert message in messages["error"]
        with pytest.raises(ConnectionClosed):
            socket.recv()
        assert socket.close_code == code


@pytest.mark.parametrize(
    ("query", "headers", "status", "message"),
    [
        ("?model=episode", {}, 400, "processes the whole image at once"),
        ("?model=nobody", {}, 404, "nobody"),
        ("?explain=path", {}, 400, "got 'explain'"),
        ("", {"Origin": "https://strange.example"}, 403, "origin"),
        ("", {"Origin": "http://[strange"}, 403, "origin"),
    ],
)
def test_a_handshake_is_rejected_with_a_message(service, query, headers, status, message):
    with pytest.raises(InvalidStatus) as error:
        talk(service, query, additional_headers=headers)
    response = error.value.response
    assert response.status_code == status
    assert message in json.loads(response.body)["error"]


def test_a_plain_request_is_an_error(service):
    response = service.request("GET", "/v1/look")
    assert response.status == 426
    assert response.headers["upgrade"] == "websocket"


def test_a_page_of_the_service_itself_may_connect(service):
    with talk(service, additional_headers={"Origin": service.address}) as socket:
        messages, _ = look(socket, Virtual(), max_glimpses=1)
    assert messages[-1]["type"] == "answer"


def test_one_session_too_many_is_rejected_until_another_ends(service):
    with talk(service) as first, talk(service) as second:
        for socket in (first, second):
            begin(socket, Virtual())
            socket.recv()
        with pytest.raises(InvalidStatus) as error:
            talk(service)
        assert error.value.response.status_code == 503
        assert error.value.response.headers["Retry-After"] == "1"
    for _ in range(500):
        try:
            with talk(service) as socket:
                messages, _ = look(socket, Virtual(), max_glimpses=1)
            break
        except InvalidStatus:
            time.sleep(0.01)
    assert messages[-1]["type"] == "answer"


def test_a_session_that_takes_too_long_is_ended(tmp_path):
    with running(Settings(models=toy_files(tmp_path), look_seconds=0.2)) as service, talk(service) as socket:
        begin(socket, Virtual())
        assert json.loads(socket.recv())["type"] == "ask"
        messages = json.loads(socket.recv(timeout=20))
        assert (messages["type"], messages["status"]) == ("error", 408)


def test_a_session_without_a_first_message_is_ended(tmp_path):
    with running(Settings(models=toy_files(tmp_path), header_seconds=0.2)) as service, talk(service) as socket:
        message = json.loads(socket.recv(timeout=20))
        assert (message["status"], "the first message within 0.2 s" in message["error"]) == (408, True)


def test_silent_sessions_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming_places, "PATIENCE_SECONDS", 0.0)
    with running(Settings(models=toy_files(tmp_path), max_looks=3)) as service, contextlib.ExitStack() as open_until:
        silent = [open_until.enter_context(talk(service)) for _ in range(3)]
        begin(silent[0], Virtual())
        assert json.loads(silent[0].recv())["type"] == "ask"
        for _ in range(3):
            with talk(service) as socket:
                messages, _ = look(socket, Virtual(), max_glimpses=1)
            assert messages[-1]["type"] == "answer"
        ended = json.loads(silent[1].recv(timeout=20))
        assert (ended["status"], "while other sessions wait" in ended["error"]) == (503, True)
        with pytest.raises(ConnectionClosed):
            silent[1].recv(timeout=20)
        assert silent[1].close_code == 1013


def test_a_page_under_a_foreign_name_may_not_connect(service):
    headers = {"Origin": "http://rebound.example", "X-Forwarded-Host": "localhost"}
    with pytest.raises(InvalidStatus) as error, socket.create_connection((service.host, service.port), 10) as line:
        connect("ws://rebound.example/v1/look?model=adaptive", sock=line, additional_headers=headers)
    response = error.value.response
    assert response.status_code == 421
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Request-ID"]


def test_a_session_gets_an_error_when_the_service_stops(tmp_path):
    with running(Settings(models=toy_files(tmp_path))) as service, talk(service) as socket:
        begin(socket, Virtual())
        socket.recv()
        service.service.drain()
        with pytest.raises(InvalidStatus) as error:
            talk(service)
        assert error.value.response.status_code == 503
        service.server.should_exit = True
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)
        assert socket.close_code == 1012


def test_uvicorn_has_the_same_limit_of_messages():
    assert _uvicorn_config(Settings()).ws_max_size == MAX_MESSAGE_BYTES


def test_an_internal_error_at_a_handshake_gets_an_error_in_json(service, monkeypatch, caplog):
    def broken(*args: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(streaming, "check_origin", broken)
    with pytest.raises(InvalidStatus) as error:
        talk(service)
    response = error.value.response
    assert response.status_code == 500
    assert "see its log" in json.loads(response.body)["error"]
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("name", ["probabilities", "next_state"])
def test_a_session_ends_with_an_error_where_the_model_returns_nan(tmp_path, name):
    image = np.full((400, 500, 1), 255, np.uint8)
    with running(Settings(models=toy_files(tmp_path))) as spoilt:
        spoil(spoilt.service.context.registry.find("adaptive").model.session, name)
        with talk(spoilt) as socket:
            begin(socket, ArrayImage(image))
            socket.send(ArrayImage(image).read(tuple(json.loads(socket.recv())["box"])).tobytes())
            message = json.loads(socket.recv())
    assert (message["type"], message["status"]) == ("error", 500)
    assert "a finite result of the model 'adaptive', got NaN or infinity" in message["error"]
