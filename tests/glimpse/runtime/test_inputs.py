from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimpse.errors import ArgumentError
from glimpse.images import pixels
from glimpse.images.geometry import Box
from glimpse.images.lazy import ArrayImage
from glimpse.images.pixels import ImageError
from glimpse.runtime import inputs
from tests.support.toys import ADAPTIVE, noise

FLOATS = replace(ADAPTIVE, input_type="float32")
RGB = replace(ADAPTIVE, channels=3)


def test_an_image_is_put_onto_the_canvas():
    image = noise(50, 40, 3)
    np.testing.assert_array_equal(inputs.to_canvas(image, "it", ADAPTIVE), pixels.fit(image, 20, 30, 1))
    of_floats = inputs.to_canvas(image, "it", FLOATS)
    assert of_floats.dtype == np.float32
    np.testing.assert_allclose(of_floats * 255, pixels.fit(image, 20, 30, 1), atol=1e-4)


def test_parts_have_the_channels_and_the_type_that_the_model_takes():
    image, box = noise(50, 40, 3), Box(5, 6, 25, 36)
    part = inputs.to_view(image, "it", ADAPTIVE).read(box)
    np.testing.assert_array_equal(part, pixels.fit(image, 50, 40, 1)[6:36, 5:25])
    np.testing.assert_array_equal(inputs.to_view(ArrayImage(image), "it", RGB).read(box), image[6:36, 5:25])
    tripled = inputs.to_view(image[..., :1], "it", RGB).read(box)
    np.testing.assert_array_equal(tripled, image[6:36, 5:25, :1].repeat(3, axis=2))
    scaled = inputs.to_view(image, "it", FLOATS).read(box)
    np.testing.assert_allclose(scaled * 255, part, atol=1e-4)


def spoilt(value: float) -> Any:
    image = np.full((20, 30, 1), 0.5, np.float32)
    image[3, 4] = value
    return image


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (np.nan, "1 that are NaN or infinite"),
        (np.inf, "1 that are NaN or infinite"),
        (-np.inf, "1 that are NaN or infinite"),
        (1.5, r"some from 0\.5 to 1\.5"),
        (-0.25, r"some from -0\.25 to 0\.5"),
        (200.0, r"some from 0\.5 to 200"),
    ],
)
def test_values_that_are_no_pixels_are_rejected(value, came):
    sentence = rf"expected the values of .* in \[0, 1\], got {came}; scale them, or hand uint8 pixels"
    with pytest.raises(ImageError, match=sentence):
        inputs.to_canvas(spoilt(value), "it", FLOATS)
    with pytest.raises(ImageError, match=sentence):
        inputs.to_view(spoilt(value), "it", FLOATS).whole()
    with pytest.raises(ImageError, match=sentence):
        inputs.to_nchw(spoilt(value)[None], FLOATS)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5])
def test_floats_in_memory_are_checked_as_a_whole_and_mapped_ones_where_they_are_read(tmp_path, value):
    with pytest.raises(ImageError, match=r"expected the values of it in \[0, 1\], got "):
        inputs.to_view(spoilt(value), "it", FLOATS)
    np.save(tmp_path / "spoilt.npy", spoilt(value))
    mapped = inputs.to_view(np.load(tmp_path / "spoilt.npy", mmap_mode="r"), "it", FLOATS)
    assert (mapped.read(Box(10, 0, 30, 20)) == 0.5).all()
    with pytest.raises(ImageError, match=r"expected the values of it in \[0, 1\], got "):
        mapped.read(Box(0, 0, 10, 10))


def test_canvases_that_are_no_array_are_rejected():
    with pytest.raises(ImageError, match=r"canvases as one array \(batch, 20, 30, 1\), got list; put them .* np.stack"):
        inputs.to_nchw([noise(20, 30, 1)], ADAPTIVE)


class Far:
    """A lazy image that can't be reached."""

    size, channels = (9, 9), 1

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, box: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("the host is down"), "OSError: the host is down"),
        (RuntimeError(), "RuntimeError"),
        (KeyError("tile"), "KeyError: 'tile'"),
    ],
)
def test_a_lazy_image_that_can_not_be_read_is_named_with_the_box(error, reason):
    scene = inputs.to_view(Far(error), "it", ADAPTIVE)
    with pytest.raises(ImageError, match=rf"of it under \(1, 2, 3, 4\), but .* read \({reason}\); check") as raised:
        scene.read(Box(1, 2, 3, 4))
    assert raised.value.__cause__ is error


def test_the_error_of_a_lazy_image_is_passed_on():
    with pytest.raises(ImageError, match=r"^the slide is locked$"):
        inputs.to_view(Far(ImageError("the slide is locked")), "it", ADAPTIVE).whole()


def test_float_images_are_for_float_models_in_the_models_size():
    half = np.full((20, 30, 1), 0.5, np.float32)
    for refused in (half, half.astype(np.float64)):
        with pytest.raises(ImageError, match=r"expected it as a uint8 array .* got float"):
            inputs.to_canvas(refused, "it", ADAPTIVE)
    with pytest.raises(ImageError, match=r"expected it as a uint8 array .* got float64"):
        inputs.to_view(half.astype(np.float64), "it", FLOATS)
    with pytest.raises(
        ImageError, match=r"expected it as float32 \(20, 30, 1\), the model's own size, got \(9, 9, 1\)"
    ):
        inputs.to_canvas(half[:9, :9], "it", FLOATS)
    with pytest.raises(ImageError, match=r"expected it as float32 \(height, width, 1\), got \(20, 30, 3\)"):
        inputs.to_view(half.repeat(3, axis=2), "it", FLOATS)
    with pytest.raises(ImageError, match=r"expected uint8 or float32 canvases .* got float64 \(1, 20, 30, 1\)"):
        inputs.to_nchw(half[None].astype(np.float64), FLOATS)


class Odd:
    """A lazy image whose pixels are unlike its size or its channels."""

    def __init__(self, channels: int, part: Any, size: tuple[int, int] = (9, 9)) -> None:
        self.channels, self.part, self.size = channels, part, size

    def read(self, box: Any) -> Any:
        return self.part


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (
            Odd(1, np.zeros((4, 4, 1), np.uint8)),
            r"expected \(9, 9, 1\) pixels of it under \(0, 0, 9, 9\), got \(4, 4, 1",
        ),
        (Odd(3, np.zeros((9, 9, 1), np.uint8)), r"expected \(9, 9, 3\) pixels of it"),
        (Odd(1, np.zeros((9, 9, 1), np.uint16)), r"expected a part of it as a uint8 array .* got uint16"),
        (Odd(4, None), "expected it with 1 or 3 channels and at least one pixel, got 4 channels"),
        (Odd(1, None, (0, 9)), "got 1 channels and 0 x 9 pixels"),
        (
            Odd(1, None, (10_000, 10_000)),
            r"at most 67,108,864 pixels, since this model takes images in as a whole, got 1",
        ),
    ],
)
def test_a_lazy_image_that_is_none_is_rejected(image, sentence):
    with pytest.raises(ImageError, match=sentence):
        inputs.to_view(image, "it", ADAPTIVE).whole()


def test_what_is_no_image_at_all_is_rejected():
    with pytest.raises(ImageError, match=r"expected it as a uint8 array .* got str; decode a file with"):
        inputs.to_view("cat.png", "it", ADAPTIVE)


def test_first_locations_are_moved_onto_the_canvas():
    sizes = [(20, 30), (40, 20)]  # the second is drawn 10 x 20, in the middle of 30 x 20
    one = inputs.onto_input((0.5, -0.75), 2, sizes, ADAPTIVE)
    np.testing.assert_allclose(one, [[0.5, -0.75], [0.5 / 3, -0.75]], atol=1e-6)
    each = inputs.onto_input(np.array([[1, 1], [-1, 0]]), 2, None, ADAPTIVE)
    np.testing.assert_array_equal(each, np.array([[1, 1], [-1, 0]], np.float32))
    np.testing.assert_array_equal(inputs.check_first_location([0.5, 1], ADAPTIVE), [0.5, 1])
    with pytest.raises(ArgumentError, match="expected a first_location"):
        inputs.check_first_location([[0, 0], [0, 0]], ADAPTIVE)
