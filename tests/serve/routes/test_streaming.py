import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from glimpse.images.lazy import ArrayImage, Corners
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.routes import streaming
from glimpse_serve.server import _config
from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import STEP, noise, write_toy


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
    """All that was said, and how many bytes of pixels were sent."""
    begin(socket, image, **limits)
    said, sent = [], 0
    for text in socket:
        said.append(json.loads(text))
        if said[-1]["type"] == "ask":
            part = image.read(tuple(said[-1]["box"]))
            content = png(part) if as_file else part.tobytes()
            sent += len(content)
            socket.send(content)
    return said, sent


@pytest.mark.parametrize("model", ["adaptive", "step"])
def test_a_huge_image_is_answered_as_if_it_were_here_from_few_bytes(service, model):
    image = Virtual()
    path = service.service.house.registry.find(model).model.session.path
    expected = GlimpseSession(path).predict_one(image, size="native")
    assert expected.boxes is not None
    with talk(service, f"?model={model}") as socket:
        said, sent = look(socket, image)
    assert [message["type"] for message in said] == ["ask", "glimpse"] * 5 + ["answer"]
    assert sent <= 5 * 8 * 8
    answer = said[-1]
    classes = ("cat", "dog", "owl")
    np.testing.assert_allclose(
        [answer["probabilities"][name] for name in classes], expected.probabilities[-1], atol=1e-5
    )
    np.testing.assert_allclose([glimpse["location"] for glimpse in answer["glimpses"]], expected.locations, atol=1e-5)
    np.testing.assert_allclose([glimpse["boxes"] for glimpse in answer["glimpses"]], expected.boxes)
    assert answer["class"] == classes[int(expected.probabilities[-1].argmax())]
    assert (answer["width"], answer["height"], answer["reason"]) == (30_000, 30_000, "budget")
    assert answer["model"] == {"name": model, "version": "1"}
    told = [{name: value for name, value in message.items() if name != "type"} for message in said[1:-1:2]]
    assert told == answer["glimpses"]
    assert socket.close_code == 1000


def test_files_do_as_well_as_raw_pixels_and_limits_hold(service):
    image = ArrayImage(noise(100, 120, 1))
    with talk(service) as socket:
        raw, _ = look(socket, image, max_glimpses=2, confidence=1)
    with talk(service) as socket:
        files, _ = look(socket, image, as_file=True, max_glimpses=2, confidence=1)
    assert raw[-1]["probabilities"] == files[-1]["probabilities"]
    assert len(raw[-1]["glimpses"]) == 2


@pytest.mark.parametrize(
    ("first", "sentence"),
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
def test_a_wrong_beginning_is_told_what_is_wrong(service, first, sentence):
    with talk(service) as socket:
        socket.send(first)
        said = json.loads(socket.recv())
        assert (said["type"], said["status"]) == ("error", 400)
        assert sentence in said["error"]
        with pytest.raises(ConnectionClosed):
            socket.recv()
        assert socket.close_code == 1008


@pytest.mark.parametrize(
    ("answer", "status", "code", "sentence"),
    [
        (b"123", 422, 1008, "bytes of raw pixels"),
        (png(noise(7, 7, 1)), 422, 1008, "got a file of 7 x 7"),
        ("a text", 400, 1008, "binary message"),
        (bytes(streaming.MAX_MESSAGE_BYTES + 1), 413, 1009, "at most 4,194,304 bytes"),
    ],
    ids=["short", "file", "text", "long"],
)
def test_wrong_pixels_are_told_what_is_wrong(service, answer, status, code, sentence):
    with talk(service, "?model=adaptive") as socket:
        begin(socket, Virtual())
        assert json.loads(socket.recv())["type"] == "ask"
        socket.send(answer)
        said = json.loads(socket.recv())
        assert (said["type"], said["status"]) == ("error", status)
        assert sentence in said["error"]
        with pytest.raises(ConnectionClosed):
            socket.recv()
        assert socket.close_code == code


@pytest.mark.parametrize(
    ("query", "headers", "status", "sentence"),
    [
        ("?model=episode", {}, 400, "takes an image in as a whole"),
        ("?model=nobody", {}, 404, "nobody"),
        ("?explain=path", {}, 400, "got 'explain'"),
        ("", {"Origin": "https://strange.example"}, 403, "origin"),
        ("", {"Origin": "http://[strange"}, 403, "origin"),
    ],
)
def test_a_handshake_is_refused_with_a_sentence(service, query, headers, status, sentence):
    with pytest.raises(InvalidStatus) as refused:
        talk(service, query, additional_headers=headers)
    response = refused.value.response
    assert response.status_code == status
    assert sentence in json.loads(response.body)["error"]


def test_a_plain_request_is_told_to_come_with_a_websocket(service):
    got = service.ask("GET", "/v1/look")
    assert got.status == 426
    assert got.headers["upgrade"] == "websocket"


def test_a_page_of_the_service_itself_may_look(service):
    with talk(service, additional_headers={"Origin": service.address}) as socket:
        said, _ = look(socket, Virtual(), max_glimpses=1)
    assert said[-1]["type"] == "answer"


def test_one_look_too_many_is_refused_until_a_client_leaves(service):
    with talk(service) as first, talk(service) as second:
        for socket in (first, second):
            begin(socket, Virtual())
            socket.recv()
        with pytest.raises(InvalidStatus) as refused:
            talk(service)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "1"
    for _ in range(500):
        try:
            with talk(service) as socket:
                said, _ = look(socket, Virtual(), max_glimpses=1)
            break
        except InvalidStatus:
            time.sleep(0.01)
    assert said[-1]["type"] == "answer"


def test_a_look_that_takes_too_long_is_ended(tmp_path):
    with running(Settings(models=toy_files(tmp_path), look_seconds=0.2)) as service, talk(service) as socket:
        begin(socket, Virtual())
        assert json.loads(socket.recv())["type"] == "ask"
        said = json.loads(socket.recv(timeout=20))
        assert (said["type"], said["status"]) == ("error", 408)


def test_who_looks_while_the_service_stops_is_told_so(tmp_path):
    with running(Settings(models=toy_files(tmp_path))) as service, talk(service) as socket:
        begin(socket, Virtual())
        socket.recv()
        service.service.drain()
        with pytest.raises(InvalidStatus) as refused:
            talk(service)
        assert refused.value.response.status_code == 503
        service.server.should_exit = True
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)
        assert socket.close_code == 1012


def test_uvicorn_takes_the_messages_that_we_take():
    assert _config(Settings()).ws_max_size == streaming.MAX_MESSAGE_BYTES


def test_a_fault_of_ours_at_a_handshake_is_told_in_the_form_of_all_errors(service, monkeypatch, caplog):
    def broken(*args: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(streaming, "check_origin", broken)
    with pytest.raises(InvalidStatus) as refused:
        talk(service)
    response = refused.value.response
    assert response.status_code == 500
    assert "its log says more" in json.loads(response.body)["error"]
    assert "secret detail" in caplog.text
