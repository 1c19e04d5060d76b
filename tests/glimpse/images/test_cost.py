import numpy as np
import pytest
from PIL import Image

from glimpse.images.pixels import ImageError, TooCostlyError, decode
from tests.support.costly_images import encode, jpeg_with_scans

NOISE = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)


def estimate(data: bytes) -> float:
    """The estimate of a file that is looked into, after that of one that is not."""
    seconds = 0.0
    for _ in range(2):
        with pytest.raises(TooCostlyError, match="estimated to take") as error:
            decode(data, max_seconds=seconds)
        assert error.value.seconds > seconds
        seconds = error.value.seconds
    return seconds


def test_the_estimate_grows_with_pixels_scans_and_the_slowness_of_the_decoder():
    small, large = (encode(PICTURE.resize((side, side)), "JPEG") for side in (100, 400))
    assert 8 < estimate(large) / estimate(small) < 20
    assert estimate(jpeg_with_scans(400, 90)) > 3 * estimate(jpeg_with_scans(400, 0))
    ordinary, slow = (encode(PICTURE, "PPM"), b"P6 700 700 254\n" + bytes(3 * 700 * 700))
    assert estimate(slow) > 20 * estimate(ordinary)


def test_an_image_within_the_estimate_is_decoded_and_one_beyond_is_not():
    data = encode(PICTURE, "PNG")
    seconds = estimate(data)
    np.testing.assert_array_equal(decode(data, max_seconds=1.01 * seconds), NOISE)
    with pytest.raises(ImageError, match=r"'a\.png' is estimated to take .* scale it down"):
        decode(data, "a.png", max_seconds=0.99 * seconds)


def test_estimating_decodes_nothing(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError

    data = encode(PICTURE.resize((50, 50)), "BMP")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    assert estimate(data) < 0.01
