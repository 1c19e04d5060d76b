import numpy as np

from glimpse.images.geometry import boxes
from glimpse.nn.retina import Retina
from glimpse_envs.play.mosaic import PlacedGlimpse, reveal


def glimpse(image: np.ndarray, location: tuple[float, float], size: int = 4, scales: int = 2) -> PlacedGlimpse:
    import torch

    height, width = image.shape[:2]
    place = np.array(location, np.float32)
    seen = Retina(size, scales, 2)(
        torch.from_numpy(image.transpose(2, 0, 1).copy())[None], torch.from_numpy(place)[None]
    )
    pixels = (seen[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    nested = np.array(boxes(place, height, width, size, scales, 2)).astype(np.int64)
    return PlacedGlimpse(location, nested, pixels, 0.0)


def picture(height: int = 20, width: int = 24, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_where_the_finest_window_was_the_image_is_as_it_is():
    image = picture()
    seen = glimpse(image, (0.2, -0.1))
    left, top, right, bottom = seen.boxes[0]
    assert (reveal([seen], 20, 24).image[top:bottom, left:right] == image[top:bottom, left:right]).all()


def test_around_it_blocks_are_averages_and_beyond_nothing_is_known():
    image = picture(channels=1)
    seen = glimpse(image, (0.0, 0.0))
    found = reveal([seen], 20, 24)
    left, top, right, bottom = seen.boxes[1]
    inside = np.zeros((20, 24), bool)
    inside[top:bottom, left:right] = True
    assert (found.visible == inside).all()
    assert not found.image[~inside].any()
    assert np.abs(found.image[top, left] - image[top : top + 2, left : left + 2].mean()).max() <= 0.51


def test_a_later_coarse_window_covers_no_finer_one():
    image = picture()
    first, second = glimpse(image, (0.0, 0.0)), glimpse(image, (0.3, 0.3))
    found = reveal([first, second], 20, 24).image
    for seen in (first, second):
        left, top, right, bottom = seen.boxes[0]
        assert (found[top:bottom, left:right] == image[top:bottom, left:right]).all()


def test_windows_may_hang_over_every_edge():
    image = picture()
    corners = [glimpse(image, (x, y)) for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
    found = reveal(corners, 20, 24)
    assert found.visible[0, 0]
    assert found.visible[-1, -1]
    assert not found.visible[10, 12]
    assert (found.image[0, 0] == image[0, 0]).all()


def test_nothing_seen_is_nothing_known():
    assert not reveal([], 5, 6).visible.any()
