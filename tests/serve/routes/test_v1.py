import base64
import gzip
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from glimpse.runtime.session import GlimpseSession
from glimpse_serve.settings import Settings
from tests.support import toys
from tests.support.costly_images import jpeg_with_scans
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with running(Settings(models=toy_files(folder), max_images=5, max_pixels=10**6)) as made:
        yield made


@pytest.fixture(scope="module")
def session(service: Running, folder: Path) -> GlimpseSession:
    return GlimpseSession(folder / "adaptive.onnx")


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """A form as browsers and curl write it."""
    lines = b""
    for name, content in files:
        lines += b'--frame\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n' % name.encode()
        lines += b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"
    return lines + b"--frame--\r\n", "multipart/form-data; boundary=frame"


def same(answer: dict[str, Any], session: GlimpseSession, image: Any, **limits: Any) -> None:
    """Assert that a result is that of the session."""
    expected = session.predict_one(image, **limits)
    probabilities = np.array([answer["probabilities"][name] for name in session.card.classes])
    np.testing.assert_allclose(probabilities, expected.probabilities[-1], atol=1e-5)
    assert len(answer["glimpses"]) == expected.glimpses
    assert answer["reason"] == expected.reasons
    for time, glimpse in enumerate(answer["glimpses"]):
        assert glimpse["time"] == time
        np.testing.assert_allclose(glimpse["location"], expected.locations[time], atol=1e-5)
        assert expected.boxes is not None
        np.testing.assert_allclose(glimpse["boxes"], expected.boxes[time], atol=1e-4)
        label = int(expected.probabilities[time].argmax())
        assert glimpse["class"] == session.card.classes[label]
        assert glimpse["confidence"] == pytest.approx(float(expected.probabilities[time, label]), abs=1e-5)
    assert (answer["class"], answer["confidence"]) == (
        answer["glimpses"][-1]["class"],
        answer["glimpses"][-1]["confidence"],
    )
    assert (answer["height"], answer["width"]) == image.shape[:2]


@pytest.mark.parametrize("shape", [(20, 30, 1), (33, 21, 3), (400, 300, 3), (700, 700, 1)])
def test_an_image_is_classified_as_by_the_session(service, session, shape):
    image = noise(*shape)
    response = service.request("POST", "/v1/classify", png(image))
    assert response.status == 200
    same(response.json, session, image)
    assert response.json["model"] == {"name": "adaptive", "version": "1"}
    assert response.json["milliseconds"] > 0


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ("confidence=0.4", {"confidence": 0.4}),
        ("max_glimpses=2", {"max_glimpses": 2}),
        ("max_glimpses=3&confidence=0.5", {"max_glimpses": 3, "confidence": 0.5}),
        ("first_location=0.5,-0.75", {"first_location": (0.5, -0.75)}),
        ("max_glimpses=2&first_location=-1,.25e0", {"max_glimpses": 2, "first_location": (-1.0, 0.25)}),
    ],
)
def test_limits_are_kept(service, session, query, limits):
    for seed in range(4):
        image = noise(20, 30, 1, seed=seed)
        same(service.request("POST", f"/v1/classify?{query}", png(image)).json, session, image, **limits)


@pytest.mark.parametrize("shape", [(90, 40, 3), (10, 60, 1), (700, 400, 1)])
@pytest.mark.parametrize("explain", ["", "&explain=path"])
def test_the_first_location_is_that_of_the_image_as_it_was_sent(service, session, shape, explain):
    image = noise(*shape)
    answer = service.request("POST", f"/v1/classify?first_location=0.9,-0.6{explain}", png(image)).json
    same(answer, session, image, first_location=(0.9, -0.6))
    assert answer["glimpses"][0]["location"] == pytest.approx([0.9, -0.6], abs=1e-5)


def test_requests_at_once_with_other_first_locations_keep_their_own(service, session):
    image, places = noise(33, 21, 1), [(round(-1 + number / 8, 3), 0.5) for number in range(16)]

    def ask(place: tuple[float, float]) -> Any:
        return service.request("POST", f"/v1/classify?first_location={place[0]},{place[1]}", png(image)).json

    with ThreadPoolExecutor(16) as pool:
        for place, answer in zip(places, pool.map(ask, places), strict=True):
            same(answer, session, image, first_location=place)


@pytest.mark.parametrize("text", ["", "0", "0,0,0", "centre", "1.5,0", "0,-1.1", "nan,0", "0,inf", "0%2C", "0;0"])
def test_what_is_no_first_location_is_rejected(service, text):
    response = service.request("POST", f"/v1/classify?first_location={text}", png(noise(20, 30, 1)))
    assert response.status == 400
    assert "first_location" in response.error


def test_another_model_can_be_used(service):
    response = service.request("POST", "/v1/classify?model=episode&version=1", png(noise(20, 30, 1)))
    assert response.json["model"] == {"name": "episode", "version": "1"}


def test_many_images_in_a_form_come_back_in_order_with_their_names(service, session):
    images = [noise(20, 30, 1, seed=seed) for seed in range(4)]
    body, kind = form(*[(f"{number}.png", png(image)) for number, image in enumerate(images)])
    response = service.request("POST", "/v1/classify", body, Content_Type=kind)
    assert [answer.pop("name") for answer in response.json["images"]] == ["0.png", "1.png", "2.png", "3.png"]
    for answer, image in zip(response.json["images"], images, strict=True):
        same(answer, session, image)


def test_a_bad_image_of_a_form_fails_alone(service, session):
    good = noise(20, 30, 1)
    body, kind = form(("good", png(good)), ("bad", b"no image"), ("cut", png(noise(40, 40, 3))[:-30]))
    response = service.request("POST", "/v1/classify", body, Content_Type=kind)
    assert response.status == 200
    first, bad, cut = response.json["images"]
    first.pop("name")
    same(first, session, good)
    assert bad == {"name": "bad", "error": bad["error"]}
    assert "'bad' is no image" in bad["error"]
    assert "'cut' is damaged or cut short" in cut["error"]


def test_a_form_without_a_good_image_is_rejected(service):
    body, kind = form(("a", b"no image"), ("b", b"neither"))
    response = service.request("POST", "/v1/classify", body, Content_Type=kind)
    assert response.status == 422
    assert "got 2 that can't" in response.error


@pytest.mark.slow
@pytest.mark.parametrize(("query", "image"), [("?explain=path&max_glimpses=1", (20, 30, 1)), ("", (600, 600, 1))])
def test_a_form_of_as_many_images_as_are_allowed_is_not_too_much(tmp_path, query, image):
    body, kind = form(*[("image", png(noise(*image)))] * 40)
    with running(Settings(models=toy_files(tmp_path))) as made:
        response = made.request("POST", f"/v1/classify{query}", body, Content_Type=kind)
    assert response.status == 200
    assert ["class" in answer for answer in response.json["images"]] == [True] * 40


def test_explain_path_returns_times_and_a_picture(service, session):
    image = noise(64, 64, 3)
    answer = service.request("POST", "/v1/classify?explain=path&confidence=0.9", png(image)).json
    same(answer, session, image, confidence=0.9)
    times = [glimpse["milliseconds"] for glimpse in answer["glimpses"]]
    assert times == sorted(times)
    assert times[0] > 0
    kind, _, data = answer["picture"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.width > 100


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("confidence=2", "a confidence above 0 and up to 1, got 2.0"),
        ("confidence=nan", "a confidence above 0"),
        ("confidence=x", "a confidence such as 0.95, got 'x'"),
        ("confidence=", "a confidence such as 0.95, got ''"),
        ("max_glimpses=0", "max_glimpses from 1 to 5"),
        ("max_glimpses=6", "max_glimpses from 1 to 5"),
        ("max_glimpses=1.5", "max_glimpses from 1 to 5"),
        ("max_glimpses=²", "max_glimpses from 1 to 5, got '²'"),
        ("explain=magic", "explain=path or explain=attention, got 'magic'"),
        ("explain=attention", "for a model with attention maps.*ask for explain=path"),
        (
            "colour=red",
            "parameters out of model, version, confidence, max_glimpses, first_location, explain, got 'colour'",
        ),
        ("confidence=0.5&confidence=0.6", "'confidence' once, got it twice"),
        ("model", "got others"),
        ("model=%ff", "UTF-8"),
    ],
)
def test_invalid_parameters_are_rejected_with_a_message(service, query, message):
    response = service.request("POST", f"/v1/classify?{quote(query, safe='=&%')}", png(noise(20, 30, 1)))
    assert response.status == 400
    assert re.search(message, response.error)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/classify?model=dog", 404, "a model out of 'adaptive', 'episode', got 'dog'"),
        ("/v1/classify?version=7", 404, "a version of the model 'adaptive' out of 1, got '7'"),
    ],
)
def test_unknown_models_are_errors(service, path, status, message):
    response = service.request("POST", path, png(noise(20, 30, 1)))
    assert response.status == status
    assert message in response.error


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"", "image/png", 400, "an image as the body, got none"),
        (b"%PDF-1.4", "application/pdf", 415, "got 'application/pdf'"),
        (b"hello", "image/png", 422, "is no image that can be read"),
        (png(noise(40, 40, 3))[:-30], "", 422, "is damaged or cut short"),
        (b"x", "multipart/form-data", 400, "a boundary"),
        (b"x", "multipart/form-data; boundary=frame", 400, "form"),
        (b"--frame--\r\n", "multipart/form-data; boundary=frame", 400, "at least one file in the form"),
        (form(("a", b"x"))[0][:-12], "multipart/form-data; boundary=frame", 400, "cut short"),
        (form(*[("a", b"x")] * 6)[0], "multipart/form-data; boundary=frame", 413, "at most 5 images"),
        (png(np.zeros((1001, 1000, 1), np.uint8)), "image/png", 413, "announces 1000 x 1001 pixels"),
        (jpeg_with_scans(100, 200), "image/jpeg", 422, "more than 100 scans"),
        (jpeg_with_scans(900, 9000), "image/jpeg", 422, "more than 100 scans"),
    ],
)
def test_bodies_that_are_no_images_are_rejected_with_a_message(service, body, kind, status, message):
    response = service.request("POST", "/v1/classify", body, **({"Content_Type": kind} if kind else {}))
    assert (response.status, message in response.error) == (status, True), response.error


def test_the_models_are_listed_with_what_they_say_of_themselves(service, session):
    listed = service.request("GET", "/v1/models").json
    assert [model["name"] for model in listed["models"]] == ["adaptive", "episode"]
    assert listed["refused"] == []
    first = listed["models"][0]
    assert first["classes"] == ["cat", "dog", "owl"]
    assert first["explain"] == ["path"]
    assert first["sha256"] == session.sha256
    one = service.request("GET", "/v1/models/adaptive?version=1").json
    assert one["card"]["num_glimpses"] == 5
    assert one["version"] == "1"
    assert service.request("GET", "/v1/models/dog").status == 404


def test_a_response_is_compressed_for_clients_that_accept_it(service):
    plain = service.request("POST", "/v1/classify?explain=path", png(noise(20, 30, 1)))
    packed = service.request("POST", "/v1/classify?explain=path", png(noise(20, 30, 1)), Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body)[:20] == plain.body[:20]


def test_of_the_large_files_of_a_form_two_are_processed_at_once(service, monkeypatch):
    monkeypatch.setattr("glimpse_serve.routes.v1.LARGE_BYTES", 100)
    images = service.service.context.images
    decode, running, most = images.decode, [0], [0]

    async def counted(*args: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            return await decode(*args)
        finally:
            running[0] -= 1

    monkeypatch.setattr(images, "decode", counted)
    body, kind = form(*[(f"{number}.png", png(noise(200, 200, 1))) for number in range(5)])
    response = service.request("POST", "/v1/classify", body, Content_Type=kind)
    assert [image["width"] for image in response.json["images"]] == [200] * 5
    assert most == [2]


@pytest.mark.parametrize("name", ["probabilities", "locations", "boxes"])
@pytest.mark.parametrize("query", ["", "?confidence=0.9", "?explain=path", "?max_glimpses=1&model=episode"])
def test_no_result_that_is_not_finite_is_sent(tmp_path, name, query):
    black, white = noise(20, 30, 1), noise(20, 30, 1)
    black[0, 0], white[0, 0] = 0, 255
    with running(Settings(models=toy_files(tmp_path))) as spoilt:
        for loaded in spoilt.service.context.registry:
            toys.spoil(loaded.model.session, name, np.inf)
        response = spoilt.request("POST", f"/v1/classify{query}", png(white))
        assert response.status == 500
        assert "a finite result of the model" in response.error
        assert spoilt.request("POST", f"/v1/classify{query}", png(black)).status == 200
        body, media_type = form(("black.png", png(black)), ("white.png", png(white)))
        assert spoilt.request("POST", f"/v1/classify{query}", body, Content_Type=media_type).status == 500
        metrics = spoilt.request("GET", "/metrics").body.decode()
    assert 'glimpse_refusals_total{kind="output"} 2.0' in metrics
    assert "nan" not in metrics.lower()
