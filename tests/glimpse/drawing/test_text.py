from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from glimpse.drawing.text import draw_text, to_picture


def written(text: str, room: int, place: tuple[int, int] = (10, 20), anchor: str = "lm") -> tuple[Any, int]:
    """Columns that the text takes, and what is returned as its right end."""
    picture = Image.new("L", (400, 40))
    end = draw_text(ImageDraw.Draw(picture), place, text, 16, room, (255,), anchor)
    return np.nonzero(np.asarray(picture).any(0))[0], end


def test_a_text_begins_where_it_is_anchored_and_its_end_is_known():
    columns, end = written("fixations", 300)
    assert 10 <= columns[0] <= 13
    assert end - 3 <= columns[-1] <= end + 1
    middle, _ = written("fixations", 300, (200, 20), "mm")
    assert (middle[0] + middle[-1]) / 2 == pytest.approx(200, abs=2)


@pytest.mark.parametrize(
    "text", ["a title far too long for the room it has", "ein Löwe im Käfig, länger als der Platz"]
)
def test_a_long_text_is_shortened_to_its_room(text):
    whole, _ = written(text, 380)
    short, end = written(text, 90)
    assert whole[-1] > 100
    assert short[-1] <= 100
    assert 60 < end <= 100


def test_a_text_without_room_keeps_a_letter():
    columns, _ = written("something", 0)
    assert 0 < len(columns) < 25


def test_a_picture_is_rgb_whatever_the_image():
    grey = np.array([[[0], [80]], [[160], [255]]], np.uint8)
    assert np.array_equal(np.asarray(to_picture(grey)), grey.repeat(3, 2))
    colour = np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(to_picture(colour[:, ::-1])), colour[:, ::-1])
