from typing import Any

import numpy as np
import pytest

from glimpse.images import crop, geometry


def naive(image: Any, location: Any, size: int, num_scales: int, zoom: int) -> Any:
    """One pixel at a time, straight from the definition."""
    channels, height, width = image.shape
    nested = geometry.windows(size, num_scales, zoom)
    left = int(geometry.window_start(location[0], width, nested[-1].width))
    top = int(geometry.window_start(location[1], height, nested[-1].width))
    glimpse = np.zeros((num_scales, channels, size, size))
    for scale, window in enumerate(nested):
        factor = zoom**scale
        for channel in range(channels):
            for row in range(size * factor):
                for column in range(size * factor):
                    y, x = top + window.offset + row, left + window.offset + column
                    if 0 <= y < height and 0 <= x < width:
                        value = image[channel, y, x] / (255 if image.dtype == np.uint8 else 1)
                        glimpse[scale, channel, row // factor, column // factor] += value / factor**2
    return glimpse


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("shape", "size", "num_scales", "zoom"),
    [
        ((1, 28, 28), 8, 1, 2),
        ((3, 20, 45), 5, 3, 2),
        ((1, 45, 20), 4, 2, 3),
        ((1, 6, 5), 4, 3, 2),
        ((3, 9, 9), 9, 1, 1),
    ],
)
def test_the_crop_is_the_naive_loops(shape, size, num_scales, zoom, dtype):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, *shape)).astype(np.uint8)
    images = images if dtype == np.uint8 else (images / 255).astype(np.float32)
    location = generator.uniform(-1, 1, (6, 2)).astype(np.float32)
    location[:4] = [[-1, -1], [1, 1], [1, -1], [0, 0]]
    seen = crop.extract_glimpse(images, location, size, num_scales, zoom)
    assert seen.dtype == np.float32
    assert seen.shape == (6, num_scales, shape[0], size, size)
    for index in range(6):
        expected = naive(images[index], location[index], size, num_scales, zoom)
        np.testing.assert_allclose(seen[index], expected, atol=1e-6)


def test_x_moves_along_the_width_and_y_along_the_height():
    image = np.zeros((1, 1, 10, 40), np.uint8)
    image[0, 0, 2, 35] = 255
    location = np.array([[geometry.to_unit(35.5, 40), geometry.to_unit(2.5, 10)]])
    assert crop.extract_glimpse(image, location, 1, 1, 2).item() == 1
    assert crop.extract_glimpse(image, location[:, ::-1], 1, 1, 2).item() == 0


def test_outside_the_image_is_black_and_beyond_it_nothing_is_seen():
    images = np.full((2, 1, 12, 12), 255, np.uint8)
    seen = crop.extract_glimpse(images, np.array([[-1.0, 0.0], [-9.0, 0.0]]), 4, 1, 2)
    np.testing.assert_array_equal(seen[0, 0, 0], np.repeat([[0, 0, 1, 1]], 4, axis=0))
    assert not seen[1].any()


def test_a_batch_mate_never_changes_a_glimpse():
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (5, 3, 30, 21)).astype(np.uint8)
    location = generator.uniform(-1, 1, (5, 2))
    together = crop.extract_glimpse(images, location, 6, 2, 2)
    alone = [crop.extract_glimpse(images[i : i + 1], location[i : i + 1], 6, 2, 2) for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_images_are_left_as_they_were():
    images = np.random.default_rng(4).random((2, 1, 9, 9)).astype(np.float32)
    before = images.copy()
    crop.extract_glimpse(images, np.zeros((2, 2)), 4, 2, 2)
    np.testing.assert_array_equal(images, before)


def test_only_the_pixels_under_the_window_are_read():
    images = np.full((1, 1, 64, 64), np.nan, np.float32)
    images[..., 24:40, 24:40] = 0.5
    np.testing.assert_array_equal(crop.extract_glimpse(images, np.zeros((1, 2)), 8, 2, 2), 0.5)


def test_what_is_no_batch_of_images_is_refused():
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\), got uint8 \(28, 28\); put the channels"):
        crop.extract_glimpse(np.zeros((28, 28), np.uint8), np.zeros((1, 2)), 8, 1, 2)
    with pytest.raises(ValueError, match=r"uint8 or floating point .* got int64"):
        crop.extract_glimpse(np.zeros((1, 1, 28, 28), np.int64), np.zeros((1, 2)), 8, 1, 2)


def test_locations_must_be_finite_and_one_for_each_image():
    images = np.zeros((2, 1, 28, 28), np.uint8)
    with pytest.raises(ValueError, match=r"location for each of 2 images, got shape \(1, 2\)"):
        crop.extract_glimpse(images, np.zeros((1, 2)), 8, 1, 2)
    with pytest.raises(ValueError, match="with 1 values that are not finite"):
        crop.extract_glimpse(images, np.array([[0, 0], [np.nan, 0]]), 8, 1, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_glimpse_is_pooled_from_the_pixels_under_its_largest_window(dtype):
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 40, 50)).astype(np.uint8)
    images = images if dtype == np.uint8 else (images / 255).astype(np.float32)
    location = np.array([[0.1, -0.2], [0.3, 0.0], [-0.4, 0.2]], np.float32)
    left, top = (geometry.window_start(location[:, axis], (50, 40)[axis], 16).astype(int) for axis in (0, 1))
    largest = np.stack([image[:, y : y + 16, x : x + 16] for image, x, y in zip(images, left, top, strict=True)])
    expected = crop.extract_glimpse(images, location, 4, 3, 2)
    np.testing.assert_array_equal(crop.pool(largest, 4, 3, 2), expected)
