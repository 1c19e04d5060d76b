import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.runtime.session import GlimpseSession
from glimpse_serve.client import Classification, Client, ServiceError
from glimpse_serve.gateway.api_keys import make_key
from glimpse_serve.models import bundled
from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import noise

SECRET, ENTRY = make_key("alice")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    models = (*toy_files(folder), f"soft={bundled.SOFT.path}")
    with running(Settings(models=models, keys=ENTRY)) as made:
        yield made


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[Client]:
    with Client(service.address, SECRET) as made:
        yield made


@pytest.fixture(scope="module")
def session(service: Running, folder: Path) -> GlimpseSession:
    return GlimpseSession(folder / "adaptive.onnx")


def test_an_image_of_any_kind_is_classified_as_by_the_session(client, session, tmp_path):
    image = noise(50, 40, 3)
    file = tmp_path / "photo.png"
    file.write_bytes(png(image))
    expected = session.predict_one(image, confidence=0.9)
    for form in (image, png(image), file, str(file), Image.fromarray(image)):
        answer = client.classify(form, confidence=0.9)
        assert isinstance(answer, Classification)
        assert answer.label == session.card.classes[int(expected.probabilities[-1].argmax())]
        np.testing.assert_allclose(list(answer.probabilities.values()), expected.probabilities[-1], atol=1e-5)
        boxes: Any = [glimpse.boxes for glimpse in answer.glimpses]
        np.testing.assert_allclose(boxes, expected.boxes, atol=1e-3)
        assert (answer.width, answer.height, answer.reason) == (40, 50, expected.reasons)
        assert (answer.model, answer.version, answer.picture) == ("adaptive", "1", None)


def test_the_first_location_is_chosen(client, session):
    image, first = noise(50, 40, 3), (0.5, -1.0)
    expected = session.predict_one(image, first_location=first).locations
    found = [glimpse.location for glimpse in client.classify(image, first_location=first).glimpses]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for call in (
        lambda: client.classify(image, model="soft", first_location=first),
        lambda: client.classify(image, first_location=(2.0, 0.0)),
        lambda: list(client.look(image, first_location=(2.0, 0.0))),
    ):
        with pytest.raises(ServiceError, match="first_location") as error:
            call()
        assert error.value.status == 400


def test_an_explanation_has_a_picture(client):
    answer = client.classify(noise(50, 40, 3), explain="path", max_glimpses=2)
    assert len(answer.glimpses) == 2
    assert answer.glimpses[1].milliseconds >= answer.glimpses[0].milliseconds
    with Image.open(io.BytesIO(answer.picture)) as picture:
        assert picture.format == "PNG"
    soft = client.classify(noise(60, 60, 1), model="soft", explain="attention")
    assert soft.glimpses[0].boxes is None
    assert soft.glimpses[0].map.sum() == pytest.approx(1, abs=1e-3)


def test_many_are_classified_in_order_and_a_bad_one_fails_alone(client):
    images: list[Any] = [noise(20, 30, 1, seed=seed) for seed in range(3)]
    first, bad, *rest = client.classify_many([images[0], b"none", *images[1:]], max_glimpses=1)
    assert isinstance(bad, ServiceError)
    assert (bad.status, "'1' is no image" in bad.message) == (422, True)
    for answer, image in zip((first, *rest), images, strict=True):
        assert answer.probabilities == pytest.approx(client.classify(image, max_glimpses=1).probabilities, abs=1e-5)


@pytest.mark.child
def test_more_than_a_request_holds_are_sent_in_several(client):
    images: list[Any] = [noise(20, 30, 1, seed=seed % 5) for seed in range(70)]
    images[40] = b"none"
    images[69] = b"x" * 5_000_000
    found = client.classify_many(iter(images), max_glimpses=1)
    assert [number for number, answer in enumerate(found) if isinstance(answer, ServiceError)] == [40, 69]
    assert [answer.label for answer in found[:5]] == [answer.label for answer in found[5:10]]
    both = client.classify_many([b"none", b"neither"])
    assert [answer.status for answer in both] == [422, 422]
    with pytest.raises(ServiceError, match="got 'dog'"):
        client.classify_many([b"none"], model="dog")
    assert client.classify_many([]) == []


def test_tensors_go_both_ways(client, session):
    images = np.ascontiguousarray(noise(3, 20, 30, 1).transpose(0, 3, 1, 2))
    found = client.infer("adaptive", {"images": images, "confidence": np.array(0.5, np.float32)}, version="1")
    expected = session.infer({"images": images, "confidence": np.array(0.5, np.float32)}, session.card.outputs)
    assert list(found) == list(session.card.outputs)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5, err_msg=name)
    assert list(client.infer("adaptive", {"images": images}, ["glimpses"])) == ["glimpses"]
    with pytest.raises(ServiceError, match="images of float64"):
        client.infer("adaptive", {"images": images / 255})
    with pytest.raises(ServiceError, match="expected 'images' as UINT8, got \"FP32\""):
        client.infer("adaptive", {"images": images.astype(np.float32)})


def test_models_are_listed(client):
    assert [model["name"] for model in client.models()] == ["adaptive", "episode", "soft"]
    assert client.model("soft", "1")["card"]["has_maps"] is True
    assert client.ready()


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (lambda client: client.classify(b"none"), 422, "no image that can be read"),
        (lambda client: client.classify(noise(5, 5, 1), model="dog"), 404, "got 'dog'"),
        (lambda client: client.classify(np.zeros((5, 5), np.uint8)), 0, r"got uint8 \(5, 5\)"),
        (lambda client: list(client.look(noise(5, 5, 1), model="episode")), 400, "processes the whole image at once"),
        (lambda client: list(client.look(noise(5, 5, 1), max_glimpses=99)), 400, "max_glimpses from 1 to 5"),
        (lambda client: client.model("dog"), 404, "got 'dog'"),
    ],
)
def test_errors_are_raised_with_their_message(client, call, status, message):
    with pytest.raises(ServiceError, match=message) as error:
        call(client)
    assert error.value.status == status


def test_a_missing_key_and_a_missing_service_are_errors(service):
    with Client(service.address) as stranger:
        assert stranger.ready()
        with pytest.raises(ServiceError, match="expected an API key") as error:
            stranger.models()
        assert error.value.status == 401
        with pytest.raises(ServiceError, match="expected an API key"):
            list(stranger.look(noise(5, 5, 1)))
    with Client("http://127.0.0.1:9", timeout=2.0) as nobody:
        assert not nobody.ready()
        with pytest.raises(ServiceError, match=r"the service at http://127\.0\.0\.1:9 does not respond") as error:
            nobody.models()
        assert error.value.status == 0
        with pytest.raises(ServiceError, match="broke off"):
            list(nobody.look(noise(5, 5, 1)))


def test_it_retries_when_the_service_asks_for_it(tmp_path):
    settings = Settings(models=toy_files(tmp_path)[:1], rate=2.0, burst=1)
    with running(settings) as service, Client(service.address) as patient, Client(service.address, retries=0) as hasty:
        assert patient.models()
        assert patient.models()
        with pytest.raises(ServiceError, match="requests a second") as error:
            [hasty.models() for _ in range(5)]
        assert error.value.status == 429


def test_threads_may_share_it(client):
    image = noise(20, 30, 1)
    expected = client.classify(image).label
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.extend(client.classify(image).label for _ in range(10))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 60


@pytest.mark.child
def test_it_needs_neither_the_runtime_nor_the_server():
    program = "import sys, glimpse_serve.client; print(*{'onnxruntime', 'starlette', 'uvicorn'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
