"""Examples of a data set's classes on one sheet: a few images of each, with its name and how many images it has."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from glimpse.contract.texts import visible
from glimpse.drawing.layout import GAP, PADDING, display_size, resize
from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, TEXT
from glimpse.drawing.text import draw_text, to_picture

MOST_CLASSES = 40
"""Classes that are shown; of more, the first ones."""
IMAGES_SHOWN = 6
"""Images of a class that are shown."""

_SIDE, _BETWEEN, _NAMES = 72, 4, 150
_ROWS = 20
_LETTERS, _SMALL_LETTERS = 15, 12


class ClassExamples(NamedTuple):
    """A class on the sheet."""

    name: str
    """Its name."""
    total: int
    """How many images it has."""
    images: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]
    """Some of them, (height, width, 1 or 3 channels), 0 to 255."""


def draw_examples(classes: Sequence[ClassExamples]) -> Image.Image:
    """Draw the sheet, one class a row, in as many columns as keep it readable.

    Args:
        classes: At least one.
    """
    shown = classes[:MOST_CLASSES]
    columns = -(-len(shown) // _ROWS)
    rows = -(-len(shown) // columns)
    width = _NAMES + IMAGES_SHOWN * (_SIDE + _BETWEEN)
    hidden = len(classes) - len(shown)
    height = 2 * PADDING + rows * (_SIDE + _BETWEEN) + (GAP if hidden else 0)
    sheet = Image.new("RGB", (2 * PADDING + columns * width + (columns - 1) * GAP, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, example in enumerate(shown):
        column, row = divmod(number, rows)
        left, top = PADDING + column * (width + GAP), PADDING + row * (_SIDE + _BETWEEN)
        middle, room = top + _SIDE // 2, _NAMES - GAP
        draw_text(draw, (left, middle - 10), visible(example.name), _LETTERS, room, TEXT, "lm")
        draw_text(draw, (left, middle + 10), f"{example.total:,} images", _SMALL_LETTERS, room, MUTED, "lm")
        for place, image in enumerate(example.images[:IMAGES_SHOWN]):
            picture = to_picture(image)
            picture = resize(picture, display_size(picture.size, _SIDE, _SIDE))
            corner = (left + _NAMES + place * (_SIDE + _BETWEEN), top)
            sheet.paste(OUTSIDE, (*corner, corner[0] + _SIDE, corner[1] + _SIDE))
            sheet.paste(picture, (corner[0] + (_SIDE - picture.width) // 2, corner[1] + (_SIDE - picture.height) // 2))
    if hidden:
        draw_text(draw, (PADDING, height - PADDING), f"and {hidden:,} more classes", _SMALL_LETTERS, width, MUTED, "lm")
    return sheet
