from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.drawing import heatmap
from glimpse.drawing.palette import BACKGROUND


def lightness(colours: Any) -> Any:
    """CIELAB's L* of sRGB colours, 0 to 255."""
    share = np.asarray(colours, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def grey(height: int = 6, width: int = 9, channels: int = 1) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def inked(picture: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is not background."""
    rows, columns = np.nonzero((np.asarray(picture) != np.array(BACKGROUND)).any(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_the_scale_rises_evenly_in_lightness_from_dark_to_bright():
    light = lightness(heatmap.colour_scale(np.linspace(0, 1, 41)))
    assert light[0] < 5
    assert light[-1] > 88
    steps = np.diff(light)
    assert steps.min() > 0.6 * steps.mean()
    assert steps.max() < 1.4 * steps.mean()


def test_what_lies_outside_the_scale_takes_its_ends():
    colours = heatmap.colour_scale(np.array([[-3.0, 0.0], [1.0, 7.0]]))
    assert colours.shape == (2, 2, 3)
    assert (colours[0, 0] == colours[0, 1]).all()
    assert (colours[1, 0] == colours[1, 1]).all()


def test_where_there_is_no_weight_the_image_is_grey_and_dimmed():
    image = grey(channels=3)
    shown = np.asarray(heatmap.draw_map(image, np.zeros((6, 9)), (9, 6)), int)
    plain = np.asarray(Image.fromarray(image).convert("L"), int)
    assert (shown == shown[..., :1]).all()
    assert np.abs(shown[..., 0] - 0.7 * plain).max() <= 0.5
    assert shown.max() > 100


def test_more_weight_is_brighter_on_black_and_each_map_is_scaled_to_its_maximum():
    black, ramp = np.zeros((1, 30, 1), np.uint8), np.linspace(0, 1, 30)[None]
    drawn = [np.asarray(heatmap.draw_map(black, scale * ramp, (30, 1))) for scale in (1.0, 1e-3, 1e6)]
    assert (np.diff(lightness(drawn[0][0])) > 0).all()
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() <= 1
    assert np.abs(drawn[0].astype(int) - drawn[2]).max() <= 1


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_a_digit_stays_legible_under_any_weight(weight):
    image = np.array([[[0], [255], [0]]], np.uint8)
    map_ = np.full((1, 3), weight)
    map_[0, 2] = 1
    light = lightness(np.asarray(heatmap.draw_map(image, map_, (3, 1)))[0])
    assert light[1] - light[0] > 8


def test_half_precision_and_the_least_of_weights_are_drawn_as_others():
    image, map_ = grey(), np.random.default_rng(1).random((6, 9))
    plain = np.asarray(heatmap.draw_map(image, map_), int)
    assert np.abs(np.asarray(heatmap.draw_map(image, map_.astype(np.float16)), int) - plain).max() <= 2
    assert np.abs(np.asarray(heatmap.draw_map(image, map_ * 1e-200), int) - plain).max() <= 1


@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_weights_that_are_none_are_rejected(wrong):
    map_ = np.ones((6, 9))
    map_[2, 3] = wrong
    with pytest.raises(ValueError, match="weights that are finite and not negative, got others; check"):
        heatmap.draw_map(grey(), map_)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((60, 60), (240, 240)),
        ((28, 28), (252, 252)),
        ((20, 90), (270, 60)),
        ((1, 1), (240, 240)),
        ((300, 200), (200, 300)),
    ],
)
def test_a_small_image_is_enlarged_by_whole_pixels(shape, shown):
    image, map_ = grey(*shape), np.random.default_rng(1).random(shape)
    picture = heatmap.draw_map(image, map_)
    assert picture.size == shown
    factor = shown[0] // shape[1]
    pixels = np.asarray(heatmap.draw_map(image, map_, (shape[1], shape[0])))
    assert np.array_equal(np.asarray(picture), pixels.repeat(factor, 0).repeat(factor, 1))


def test_a_large_image_is_reduced_to_a_panel():
    assert heatmap.draw_map(grey(600, 1200), np.ones((600, 1200))).size == (480, 240)


def test_the_legend_shows_what_a_map_shows():
    width = 600
    bar = np.asarray(heatmap.legend(width))
    for row, ground in ((3, 0), (10, 255)):
        ramp = np.linspace(0, 1, width)[None]
        drawn = np.asarray(heatmap.draw_map(np.full((1, width, 1), ground, np.uint8), ramp, (width, 1)))
        assert np.array_equal(bar[row, 1:-1], drawn[0, 1:-1])


@pytest.mark.parametrize("width", [240, 330, 700])
def test_the_legend_has_room_for_its_captions(width):
    picture = heatmap.legend(width)
    below = np.asarray(picture)[14:]
    rows = (below != np.array(BACKGROUND)).any((1, 2))
    # One line of captions, or two where they would touch.
    lines = int(np.diff(np.concatenate([[False], rows]).astype(int)).clip(0).sum())
    assert lines == (1 if width == 700 else 2)
    assert not rows[-1]


def panels(picture: Image.Image, side: int, columns: int, count: int) -> list[Any]:
    """Where the panels of a grid of 240 pixels' side must lie."""
    pixels, found = np.asarray(picture), []
    for index in range(count):
        left, top = 20 + index % columns * (side + 16), 46 + index // columns * (side + 42)
        found.append(pixels[top : top + side, left : left + side])
    return found


@pytest.mark.parametrize(("columns", "chosen"), [(None, 4), (2, 2), (9, 6)])
def test_every_map_has_its_panel_after_the_image(columns, chosen):
    rng = np.random.default_rng(2)
    image, maps = grey(60, 60), [(f"map {index}", rng.random((60, 60))) for index in range(5)]
    picture = heatmap.draw_maps(image, maps, columns)
    expected = [np.repeat(image.repeat(4, 0).repeat(4, 1), 3, 2), *(heatmap.draw_map(image, map_) for _, map_ in maps)]
    for panel, drawn in zip(panels(picture, 240, chosen, 6), expected, strict=True):
        assert np.array_equal(panel, np.asarray(drawn))


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 90, 3), (700, 300, 3)])
@pytest.mark.parametrize("columns", [1, None])
def test_titles_legend_and_note_stay_inside(shape, columns):
    note = "the fixations were held while the image was changed, " * 6
    maps = [("a title that is much too long for any panel, whatever its width " * 3, np.ones(shape[:2]))]
    with_note, without = (heatmap.draw_maps(grey(*shape), maps, columns, text) for text in (note, ""))
    for picture in (with_note, without):
        left, top, right, bottom = inked(picture)
        assert left >= 18
        assert top >= 18
        assert right <= picture.width - 18
        assert bottom <= picture.height - 15
    assert with_note.width == without.width
    assert with_note.height > without.height + 30


def test_maps_that_do_not_fit_are_rejected():
    with pytest.raises(ValueError, match="expected maps of 6x9 pixels, the image's size, got 'soft' of 3x4; resize it"):
        heatmap.draw_maps(grey(), [("soft", np.ones((3, 4)))])
    with pytest.raises(ValueError, match="expected at least 1 column, got 0; raise it"):
        heatmap.draw_maps(grey(), [("soft", np.ones((6, 9)))], 0)
