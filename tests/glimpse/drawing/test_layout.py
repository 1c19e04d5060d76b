import numpy as np
import pytest
from PIL import Image

from glimpse.drawing.layout import display_size, even_size, resize, scaled_size


@pytest.mark.parametrize(
    ("size", "displayed"),
    [
        ((28, 28), (252, 252)),
        ((30, 20), (240, 160)),
        ((240, 10), (240, 10)),
        ((300, 200), (300, 200)),
        ((960, 1), (480, 1)),
        ((600, 1200), (240, 480)),
    ],
)
def test_a_small_picture_is_enlarged_by_a_whole_number_and_a_large_one_reduced(size, displayed):
    assert display_size(size, 240, 480) == displayed


def test_sides_are_made_even_by_a_pixel_more():
    assert even_size((1, 2)) == (2, 2)
    assert even_size((1331, 858)) == (1332, 858)


def test_no_side_becomes_nothing():
    assert scaled_size((100, 1), 0.1) == (10, 1)


def test_enlarged_pixels_keep_their_colours():
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    larger = np.asarray(resize(Image.fromarray(values), (20, 15)))
    np.testing.assert_array_equal(larger, values.repeat(5, axis=0).repeat(5, axis=1))


@pytest.mark.parametrize("reducing", [Image.Resampling.LANCZOS, Image.Resampling.BOX])
def test_reduced_pixels_are_filtered(reducing):
    picture = Image.fromarray((np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8))
    smaller = np.asarray(resize(picture, (4, 4), reducing)).astype(int)
    assert (np.abs(smaller - 128) < 32).all()
