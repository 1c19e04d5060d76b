from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from glimpse.images.lazy import Corners
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.client import Client
from glimpse_serve.settings import Settings
from tests.support.service import running, toy_files
from tests.support.toys import noise


class HugeImage:
    """A huge image whose pixels are computed when they are read."""

    def __init__(self, size: tuple[int, int], channels: int = 1) -> None:
        self.size, self.channels = size, channels

    def read(self, box: Corners) -> npt.NDArray[np.uint8]:
        left, top, right, bottom = box
        rows, columns = np.mgrid[top:bottom, left:right]
        plane = ((rows * 7 + columns * 13) % 251).astype(np.uint8)
        return np.repeat(plane[..., None], self.channels, -1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return toy_files(tmp_path_factory.mktemp("models"))[0]


@pytest.fixture(scope="module")
def client(file: str) -> Iterator[Client]:
    with running(Settings(models=(file,))) as service, Client(service.address) as made:
        yield made


@pytest.fixture(scope="module")
def session(file: str) -> GlimpseSession:
    return GlimpseSession(file.partition("=")[2])


def test_a_file_is_streamed(client, tmp_path):
    file = tmp_path / "large.npy"
    np.save(file, noise(300, 400, 1))
    streaming = client.look(file, max_glimpses=3)
    assert len(list(streaming)) == 3
    assert streaming.classification.width == 400
    assert streaming.bytes_sent <= 3 * 64


def test_a_huge_image_is_streamed(client, session):
    image = HugeImage((30_000, 30_000))
    streaming = client.look(image, max_glimpses=4)
    glimpses = list(streaming)
    expected = session.predict_one(image, max_glimpses=4)
    np.testing.assert_allclose([glimpse.boxes for glimpse in glimpses], expected.boxes, atol=1e-3)
    assert streaming.classification is not None
    np.testing.assert_allclose(
        list(streaming.classification.probabilities.values()), expected.probabilities[-1], atol=1e-5
    )
    assert streaming.bytes_sent <= 4 * 8 * 8
    array = noise(40, 40, 1)
    assert len(list(client.look(array))) == 5


def test_every_iteration_starts_a_new_session(client):
    streaming = client.look(noise(40, 40, 1), max_glimpses=2)
    first, second = list(streaming), list(streaming)
    assert [glimpse.label for glimpse in first] == [glimpse.label for glimpse in second]
    assert streaming.bytes_sent <= 2 * 64


def test_the_first_location_is_chosen(client, session):
    image, first = noise(300, 200, 1), (0.5, -0.75)
    streaming = client.look(image, first_location=first)
    expected = session.predict_one(image, size="native", first_location=first)
    np.testing.assert_allclose([glimpse.location for glimpse in streaming], expected.locations, atol=1e-5)
