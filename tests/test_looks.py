import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from glimpse.lazy import Corners
from glimpse.runtime import GlimpseSession
from glimpse_serve.settings import Settings
from tests.service import Running, running, toy_files


class Plain:
    """An image without end, made where it is looked at."""

    def __init__(self, size: tuple[int, int], channels: int = 1) -> None:
        self.size, self.channels = size, channels

    def read(self, box: Corners) -> npt.NDArray[np.uint8]:
        left, top, right, bottom = box
        rows, columns = np.mgrid[top:bottom, left:right]
        plane = ((rows * 7 + columns * 13) % 251).astype(np.uint8)
        return np.repeat(plane[..., None], self.channels, -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with running(Settings(models=toy_files(folder), max_looks=2, look_seconds=1.0)) as made:
        yield made


def opened(service: Running, query: str = "") -> ClientConnection:
    return connect(f"ws://{service.host}:{service.port}/v1/look{query}", open_timeout=20, close_timeout=20)


def looked(service: Running, image: Any, **limits: Any) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """The glimpses, the answer, and the bytes that were sent."""
    glimpses, sent = [], 0
    with opened(service) as talk:
        talk.send(json.dumps({"width": image.size[0], "height": image.size[1], "channels": image.channels, **limits}))
        while True:
            told = json.loads(talk.recv(20))
            kind = told.pop("type")
            if kind == "ask":
                pixels = image.read(tuple(told["box"])).tobytes()
                sent += len(pixels)
                talk.send(pixels)
            elif kind == "glimpse":
                glimpses.append(told)
            else:
                assert kind == "answer", told
                with pytest.raises(ConnectionClosed):
                    talk.recv(20)
                assert talk.close_code == 1000
                return glimpses, told, sent


@pytest.mark.parametrize("size", [(30_000, 30_000), (30, 20), (3, 90_000), (1, 1)])
@pytest.mark.parametrize("limits", [{}, {"max_glimpses": 2}, {"confidence": 0.5}])
def test_an_image_that_stays_with_its_client_is_answered_as_one_at_hand(service, folder, size, limits):
    image = Plain(size)
    glimpses, answer, sent = looked(service, image, **limits)
    expected = GlimpseSession(folder / "adaptive.onnx").predict_one(image, **limits)
    assert len(glimpses) == len(answer["glimpses"]) == expected.glimpses
    probabilities = [answer["probabilities"][name] for name in ("cat", "dog", "owl")]
    np.testing.assert_allclose(probabilities, expected.probabilities[-1], atol=1e-5)
    assert expected.boxes is not None
    np.testing.assert_allclose([glimpse["boxes"] for glimpse in glimpses], expected.boxes, atol=1e-3)
    assert [{key: told[key] for key in ("class", "confidence", "time")} for told in glimpses] == [
        {key: told[key] for key in ("class", "confidence", "time")} for told in answer["glimpses"]
    ]
    assert answer["reason"] == expected.reasons
    assert answer["model"] == {"name": "adaptive", "version": "1"}
    assert (answer["width"], answer["height"]) == size
    assert sent <= 8 * 8 * len(glimpses)


def test_colours_are_turned_to_what_the_model_takes(service, folder):
    image = Plain((500, 400), channels=3)
    _, answer, _ = looked(service, image)
    expected = GlimpseSession(folder / "adaptive.onnx").predict_one(image)
    assert answer["confidence"] == pytest.approx(float(expected.probabilities[-1].max()), abs=1e-5)


@pytest.mark.parametrize(
    ("first", "status", "sentence"),
    [
        ("no json", 400, "JSON with width, height and channels"),
        (b"\x00\x01", 400, "JSON with width, height and channels"),
        ("[]", 400, "an object with width"),
        ('{"width": 5, "height": 5, "channels": 1, "colour": 1}', 400, "an object with width"),
        ('{"width": 0, "height": 5, "channels": 1}', 400, "width and height from 1"),
        ('{"width": 5, "height": 99999999999, "channels": 1}', 400, "width and height from 1"),
        ('{"width": true, "height": 5, "channels": 1}', 400, "width and height from 1"),
        ('{"width": 5, "height": 5, "channels": 4}', 400, "1 or 3 channels"),
        ('{"width": 5, "height": 5, "channels": 1, "max_glimpses": 9}', 400, "max_glimpses from 1 to 5"),
        ('{"width": 5, "height": 5, "channels": 1, "max_glimpses": "2"}', 400, "max_glimpses as a whole number"),
        ('{"width": 5, "height": 5, "channels": 1, "confidence": 7}', 400, "a confidence above 0"),
        ('{"width": 5, "height": 5, "channels": 1, "confidence": "x"}', 400, "confidence as a number"),
    ],
)
def test_a_beginning_that_is_none_is_refused_with_a_sentence(service, first, status, sentence):
    with opened(service) as talk:
        talk.send(first)
        told = json.loads(talk.recv(20))
        assert (told["type"], told["status"]) == ("error", status)
        assert sentence in told["error"]
        with pytest.raises(ConnectionClosed):
            talk.recv(20)
        assert talk.close_code == 1008


@pytest.mark.parametrize("pixels", [b"", b"x" * 63, b"x" * 65, "text"])
def test_pixels_that_are_not_those_that_were_asked_for_are_refused(service, pixels):
    with opened(service) as talk:
        talk.send('{"width": 100, "height": 100, "channels": 1}')
        assert json.loads(talk.recv(20))["type"] == "ask"
        talk.send(pixels)
        told = json.loads(talk.recv(20))
        assert (told["type"], told["status"]) == ("error", 422)
        assert "expected 64 bytes, the pixels under [46, 46, 54, 54]" in told["error"]


def test_who_keeps_silent_is_told_and_who_leaves_is_forgotten(service):
    with opened(service) as talk:
        talk.send('{"width": 100, "height": 100, "channels": 1}')
        assert json.loads(talk.recv(20))["type"] == "ask"
        told = json.loads(talk.recv(20))
        assert (told["status"], "within 1 s" in told["error"]) == (408, True)
    for _ in range(5):
        with opened(service) as talk:
            talk.send('{"width": 100, "height": 100, "channels": 1}')
            talk.recv(20)
            talk.socket.shutdown(socket.SHUT_RDWR)
    while service.service._looks._running:
        pass
    assert looked(service, Plain((50, 50)))[1]["class"] in ("cat", "dog", "owl")


def test_one_too_many_and_a_model_that_takes_all_at_once_are_refused_at_the_door(service):
    with opened(service), opened(service):
        with pytest.raises(InvalidStatus) as refused, opened(service):
            pass
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"] == "1"
        assert "fewer than 2 conversations" in json.loads(refused.value.response.body or b"")["error"]
    while service.service._looks._running:
        pass
    for query, status in (("?model=episode", 400), ("?model=dog", 404), ("?colour=red", 400)):
        with pytest.raises(InvalidStatus) as refused, opened(service, query):
            pass
        assert refused.value.response.status_code == status
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{service.host}:{service.port}/v1/elsewhere"):
        pass
    assert refused.value.response.status_code == 404
