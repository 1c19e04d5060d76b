from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.drawing import answer, heatmap, scanpath, text
from glimpse.drawing.palette import RIGHT, TEXT, WRONG, time_colours

CLASSES = ("ant", "bee", "cat")
BELIEFS = np.array([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]], np.float32)


def array(picture: Image.Image) -> Any:
    return np.asarray(picture).astype(int)


def shows(picture: Image.Image, colour: tuple[int, ...]) -> bool:
    return bool((array(picture) == colour).all(-1).any())


def found(picture: Image.Image, part: Image.Image) -> int:
    """How often a part stands in a picture, pixel for pixel."""
    whole, piece = array(picture), array(part)
    rows, columns = whole.shape[0] - piece.shape[0] + 1, whole.shape[1] - piece.shape[1] + 1
    starts = np.argwhere((whole[:rows, :columns] == piece[0, 0]).all(-1))
    return sum(
        np.array_equal(whole[top : top + piece.shape[0], left : left + piece.shape[1]], piece)
        for top, left in starts
        if np.array_equal(whole[top, left : left + piece.shape[1]], piece[0])
    )


def inner(picture: Image.Image) -> Image.Image:
    """Without the line around it."""
    return picture.crop((1, 1, picture.width - 1, picture.height - 1))


@pytest.mark.parametrize(("height", "width"), [(6, 9), (7, 10), (2, 3), (1, 2)])
def test_each_pixel_has_the_weight_of_the_cell_that_holds_its_middle(height, width):
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    covered = answer.cell_weights(weights, height, width)
    for row in range(height):
        for column in range(width):
            cell = int((row + 0.5) / height * 2), int((column + 0.5) / width * 3)
            assert covered[row, column] == weights[cell]


@pytest.mark.parametrize(("height", "width", "channels"), [(20, 30, 1), (36, 24, 3)])
@pytest.mark.parametrize("time", [1, 2, 5, 9])
def test_every_glimpses_map_lies_over_the_canvas(time, height, width, channels):
    random = np.random.default_rng(0)
    canvas = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    maps = random.dirichlet(np.ones(20), time).reshape(time, 4, 5).astype(np.float32)
    beliefs = random.dirichlet(np.ones(3), time).astype(np.float32)
    picture = answer.draw_attention(canvas, maps, beliefs, CLASSES)
    for weights in maps:
        panel = heatmap.draw_map(canvas, answer.cell_weights(weights, height, width))
        assert found(picture, inner(panel)) == 1
    plain = text.to_picture(canvas).resize(panel.size, Image.Resampling.NEAREST)
    assert found(picture, inner(plain)) == 1
    for colour in time_colours(time):
        assert shows(picture, tuple(colour.tolist()))


def test_the_legend_stands_below_once():
    canvas = np.zeros((20, 30, 1), np.uint8)
    picture = answer.draw_attention(canvas, np.full((2, 1, 1), 1.0, np.float32), BELIEFS, CLASSES)
    assert found(picture, heatmap.legend(picture.width - 40)) == 1


def test_a_narrow_canvas_leaves_the_legend_its_room():
    canvas = np.zeros((200, 10, 1), np.uint8)
    picture = answer.draw_attention(canvas, np.ones((1, 4, 1), np.float32), BELIEFS[:1], CLASSES)
    assert found(picture, heatmap.legend(360)) == 1


@pytest.mark.parametrize(("truth", "colour"), [("bee", RIGHT), ("cat", WRONG)])
def test_the_heading_tells_whether_the_last_prediction_is_right(truth, colour):
    canvas = np.zeros((20, 30, 1), np.uint8)
    maps = np.ones((2, 2, 2), np.float32)
    assert shows(answer.draw_attention(canvas, maps, BELIEFS, CLASSES, truth), colour)
    assert shows(answer.draw_answer(canvas, BELIEFS[1], CLASSES, truth), colour)
    other = WRONG if colour == RIGHT else RIGHT
    assert not shows(answer.draw_answer(canvas, BELIEFS[1], CLASSES, truth), other)


def bars(picture: Image.Image) -> list[int]:
    """Lengths of the bars, from top to bottom."""
    filled = (array(picture)[80:, -320:-20] == TEXT).all(-1)
    lengths = [int(row.sum()) if row[: int(row.sum())].all() else 0 for row in filled]
    starts = [row for row in range(1, len(lengths)) if lengths[row] > 20 and lengths[row - 1] != lengths[row]]
    return [lengths[row] for row in starts]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_prediction_without_a_path_shows_the_image_and_the_greatest_probabilities(channels):
    image = np.random.default_rng(0).integers(0, 256, (30, 50, channels), dtype=np.uint8)
    beliefs = np.array([0.1, 0.02, 0.4, 0.03, 0.15, 0.2, 0.1], np.float32)
    picture = answer.draw_answer(image, beliefs, tuple("abcdefg"))
    assert found(picture, scanpath.enlarge(image)) == 1
    assert bars(picture) == [120, 60, 45, 30, 30]


def test_a_belief_of_nothing_has_no_bar():
    picture = answer.draw_answer(np.zeros((9, 9, 1), np.uint8), np.array([0, 1], np.float32), ("a", "b"))
    assert bars(picture) == [300]
