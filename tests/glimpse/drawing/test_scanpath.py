from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.drawing.answer import draw_classification
from glimpse.drawing.palette import BACKGROUND, OUTSIDE, RIGHT, TEXT, WRONG, time_colours
from glimpse.drawing.scanpath import draw_scanpath
from glimpse.images import geometry


def scanpath(locations: Any, height: int, width: int, size: int = 8, num_scales: int = 1) -> tuple[Any, Any]:
    location = np.array(locations, np.float32)
    nested = geometry.boxes(location, height, width, size, num_scales, 2)
    return np.stack([np.stack(box, -1) for box in nested], -2), location


def near(picture: Image.Image, place: tuple[float, float], colour: Any, reach: int = 2) -> bool:
    """Whether a colour is found within some pixels of a place."""
    x, y = (round(value) for value in place)
    patch = np.asarray(picture)[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].astype(int)
    return bool((np.abs(patch - np.array(colour)).max(-1) <= 12).any())


def margins(picture: Image.Image, colour: Any) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the area that is not of one colour."""
    rows, columns = np.nonzero((np.asarray(picture) != np.array(colour)).any(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(
    ("shape", "enlarged"),
    [((28, 28, 1), 504), ((60, 60, 1), 480), ((40, 100, 3), 500), ((300, 200, 3), 600), ((700, 650, 1), 700)],
)
def test_a_small_image_is_enlarged_by_a_whole_number_and_keeps_its_pixels(shape, enlarged):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    boxes, locations = scanpath([[-0.9, -0.9]], shape[0], shape[1], size=2)
    picture = draw_scanpath(image, boxes, locations)
    factor = enlarged // max(shape[:2])
    half = factor + 13
    assert picture.size == (shape[1] * factor + 2 * half, shape[0] * factor + 2 * half)
    for row, column in ((shape[0] - 1, shape[1] - 1), (shape[0] // 2, shape[1] // 2), (shape[0] - 1, 0)):
        shown = picture.getpixel((half + column * factor + factor // 2, half + row * factor + factor // 2))
        assert shown == tuple(np.broadcast_to(image[row, column], 3).tolist())


def test_a_huge_image_is_reduced_to_a_picture_that_fits_a_screen():
    image = np.full((4096, 2048, 3), 77, np.uint8)
    boxes, locations = scanpath([[0, 0], [0.5, 0.5]], 4096, 2048, size=256, num_scales=2)
    picture = draw_scanpath(image, boxes, locations)
    assert 480 <= picture.width < picture.height <= 960 + 2 * (30 + 13) + 2


@pytest.mark.parametrize("background", [0, 255])
def test_each_finest_box_has_its_colour_at_its_edges(background):
    image = np.full((30, 60, 1), background, np.uint8)
    boxes, locations = scanpath([[-0.6, -0.4], [0.5, 0.3]], 30, 60)
    picture = draw_scanpath(image, boxes, locations)
    margin, factor = 4 * 8 + 13, 8
    for box, colour in zip(boxes[:, 0], time_colours(2), strict=True):
        left, top, right, bottom = margin + box * factor
        for place in ((left, bottom - 9), (right, top + 9), (right - 9, top), (left + 9, bottom)):
            assert near(picture, place, colour)
        assert picture.getpixel((int(left) + 8, int(bottom) - 8)) == (background,) * 3, "a box is an outline"


def test_coarse_windows_are_marked_at_their_corners_only():
    image = np.zeros((60, 60, 1), np.uint8)
    boxes, locations = scanpath([[0, 0]], 60, 60, num_scales=2)
    picture = np.asarray(draw_scanpath(image, boxes, locations)).astype(int)
    left, top, right, _ = (4 * 8 + 13 + boxes[0, 1] * 8).astype(int)
    assert picture[top - 1 : top + 2, left + 8].max() > 100
    assert picture[top - 1 : top + 2, (left + right) // 2].max() == 0


def test_the_path_joins_the_fixations():
    image = np.zeros((60, 60, 1), np.uint8)
    boxes, locations = scanpath([[-0.7, 0], [0.7, 0]], 60, 60)
    picture = np.asarray(draw_scanpath(image, boxes, locations)).astype(int)
    margin = 4 * 8 + 13
    row = margin + 240
    for x in np.linspace(-0.7, 0.7, 9):
        column = round(margin + geometry.to_pixels(x, 480))
        assert picture[row - 1 : row + 2, column].max() > 150
    assert picture[row - 40, margin + 240].max() == 0


def test_windows_that_hang_over_the_edge_are_drawn_whole():
    image = np.full((28, 28, 1), 128, np.uint8)
    boxes, locations = scanpath([[-1, -1], [1, 1]], 28, 28)
    picture = draw_scanpath(image, boxes, locations)
    left, top, right, bottom = margins(picture, OUTSIDE)
    assert left > 0
    assert top > 0
    assert right < picture.width
    assert bottom < picture.height
    assert near(picture, (left + 11, top + 30), time_colours(2)[0])


def test_badges_never_hide_one_another():
    image = np.zeros((28, 28, 1), np.uint8)
    boxes, locations = scanpath([[0.1, 0.1]] * 12, 28, 28)
    picture = np.asarray(draw_scanpath(image, boxes, locations)).astype(int)
    for colour in time_colours(12)[:-1]:
        visible = (np.abs(picture - colour).max(-1) <= 3).sum()
        assert visible > 150, "a disc of radius 9.5 less its number"


def classification(truth: str | None, shape: tuple[int, int, int] = (28, 28, 1), classes: Any = ("cat", "dog")) -> Any:
    boxes, locations = scanpath([[0, 0], [0.4, 0.4], [-0.4, 0.2]], *shape[:2], num_scales=2)
    glimpses = np.zeros((3, 2, shape[2], 8, 8))
    probabilities = np.array([[0.5, 0.5], [0.3, 0.7], [0.1, 0.9]])
    image = np.full(shape, 90, np.uint8)
    return draw_classification(image, boxes, locations, glimpses, probabilities, classes, truth)


def test_the_heading_is_green_when_right_red_when_wrong_and_plain_when_the_class_is_unknown():
    def has(picture: Image.Image, colour: Any) -> bool:
        return bool((np.asarray(picture)[:70] == np.array(colour)).all(-1).any())

    right, wrong, unknown = (classification(truth) for truth in ("dog", "cat", None))
    assert has(right, RIGHT)
    assert not has(right, WRONG)
    assert has(wrong, WRONG)
    assert not has(wrong, RIGHT)
    assert has(unknown, TEXT)
    assert not has(unknown, RIGHT)
    assert not has(unknown, WRONG)


@pytest.mark.parametrize("shape", [(28, 28, 1), (60, 20, 3), (20, 90, 1), (1200, 800, 3), (30, 400, 3)])
def test_path_and_retina_fit_the_picture_whatever_the_image(shape):
    picture = classification("dog", shape)
    left, top, right, bottom = margins(picture, BACKGROUND)
    assert left >= 18
    assert top >= 18
    assert right <= picture.width - 18
    assert bottom <= picture.height - 10


def test_long_and_foreign_class_names_stay_inside():
    picture = classification("a name that is long enough to fill two headings " * 3, classes=("Löwe", "Ψ" * 200))
    assert margins(picture, BACKGROUND)[2] <= picture.width - 18


def test_the_first_glimpses_are_drawn_in_the_place_that_they_have_among_all():
    locations = np.array([[-0.4, -0.4], [0.4, 0.4], [1.9, 0.0]], np.float32)
    boxes, locations = scanpath(locations, 28, 28, num_scales=2)
    whole = draw_scanpath(np.zeros((28, 28, 1), np.uint8), boxes, locations)
    colours = time_colours(3)
    for shown in (1, 2, 3):
        part = draw_scanpath(np.zeros((28, 28, 1), np.uint8), boxes, locations, shown=shown)
        assert part.size == whole.size
        assert [bool((np.asarray(part) == colour).all(-1).any()) for colour in colours] == [
            index < shown for index in range(3)
        ]


@pytest.mark.parametrize(("width", "size"), [(60, 8), (1120, 12), (1200, 8), (2400, 8)])
def test_with_a_budget_the_picture_has_one_size_wherever_the_fixations_are(width, size):
    image = np.zeros((40, width, 1), np.uint8)
    places = np.linspace(-1, 1, 24)
    drawn = [
        draw_scanpath(image, *scanpath([[x, -x]] * count, 40, width, size=size), budget=3)
        for x in places
        for count in (1, 3)
    ]
    assert len({picture.size for picture in drawn}) == 1
