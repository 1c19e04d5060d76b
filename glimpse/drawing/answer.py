"""Pictures of a prediction: with a scanpath, with attention maps, or with the probabilities alone."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageDraw

from glimpse.drawing.heatmap import draw_map, legend
from glimpse.drawing.layout import GAP, PADDING, resize
from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, RIGHT, TEXT, WRONG, time_colours
from glimpse.drawing.retina import draw_retina, retina_grid
from glimpse.drawing.scanpath import badge, draw_scanpath, enlarge
from glimpse.drawing.text import draw_text, to_picture

_LINE = 20
_HEAD = 30
_MOST_COLUMNS = 5
_MOST_CLASSES = 5
_BARS_WIDTH = 300
_LEAST_WIDTH = 360


def cell_weights(
    weights: Float[np.ndarray, "map_height map_width"], height: int, width: int
) -> Float[np.ndarray, "{height} {width}"]:
    """Give each pixel the weight of the cell that holds its middle.

    Args:
        weights: Of equal cells, row by row, which cover an image.
        height: Of the image, pixels.
        width: Of the image, pixels.
    """
    rows, columns = (
        ((np.arange(length) + 0.5) * cells / length).astype(int)
        for length, cells in zip((height, width), weights.shape, strict=True)
    )
    covered: Float[np.ndarray, "height width"] = weights[rows[:, None], columns]
    return covered


def draw_attention(
    canvas: UInt8[np.ndarray, "height width channels"],
    maps: Float[np.ndarray, "time map_height map_width"],
    probabilities: Float[np.ndarray, "time classes"],
    classes: Sequence[str],
    truth: str | None = None,
) -> Image.Image:
    """Draw a prediction and the attention that led to it: the image, then each glimpse's map laid over it, time across.

    Args:
        canvas: The model's input image, grey or RGB, 0 to 255.
        maps: Each glimpse's weights over equal cells of the canvas.
        probabilities: After each glimpse, in [0, 1]; the greatest stands below the map.
        classes: Class names, in the order of the probabilities.
        truth: The right class's name, where it is known; the heading then tells whether the prediction is right.
    """
    size = tuple(canvas.shape[:2])
    covered = [draw_map(canvas, cell_weights(weights, *size)) for weights in maps]
    width, height = covered[0].size
    panels = [resize(to_picture(canvas), (width, height)), *covered]
    colours = time_colours(len(maps))
    rows = math.ceil(len(panels) / _MOST_COLUMNS)
    columns = math.ceil(len(panels) / rows)
    block = _HEAD + height + 2 * _LINE + GAP
    inside = max(columns * (width + GAP) - GAP, _LEAST_WIDTH)
    scale = legend(inside)
    picture = Image.new("RGB", (inside, rows * block + scale.height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for index, panel in enumerate(panels):
        left, top = index % columns * (width + GAP), index // columns * block
        middle = left + width // 2
        picture.paste(panel, (left, top + _HEAD))
        draw.rectangle((left, top + _HEAD, left + width - 1, top + _HEAD + height - 1), outline=OUTSIDE)
        if index == 0:
            draw_text(draw, (middle, top + _HEAD + height + _LINE - 6), "the image", 14, width, MUTED)
            continue
        number = badge(index, tuple(colours[index - 1].tolist()))
        picture.paste(number, (middle - number.width // 2, top), number)
        after = probabilities[index - 1]
        best = int(after.argmax())
        draw_text(draw, (middle, top + _HEAD + height + _LINE - 6), str(classes[best]), 14, width, TEXT)
        draw_text(draw, (middle, top + _HEAD + height + 2 * _LINE - 8), f"{after[best]:.0%}", 14, width, MUTED)
    picture.paste(scale, (0, rows * block))
    return heading(picture, probabilities[-1], classes, truth)


def draw_answer(
    image: UInt8[np.ndarray, "height width channels"],
    probabilities: Float[np.ndarray, " classes"],
    classes: Sequence[str],
    truth: str | None = None,
) -> Image.Image:
    """Draw the prediction of a model without a retina and maps: the image, and the greatest probabilities beside it.

    Args:
        image: Grey or RGB, 0 to 255.
        probabilities: After the last glimpse, in [0, 1].
        classes: Class names, in the order of the probabilities.
        truth: The right class's name, where it is known; the heading then tells whether the prediction is right.
    """
    shown = enlarge(image)
    greatest = np.argsort(-probabilities, kind="stable")[:_MOST_CLASSES]
    beside = shown.width + 2 * GAP
    block = 2 * _LINE + GAP
    height = max(shown.height, len(greatest) * block)
    picture = Image.new("RGB", (beside + _BARS_WIDTH, height), BACKGROUND)
    picture.paste(shown, (0, (height - shown.height) // 2))
    draw = ImageDraw.Draw(picture)
    top = (height - len(greatest) * block + GAP) // 2
    for label in greatest:
        right, line = beside + _BARS_WIDTH - 1, top + _LINE // 2
        draw_text(draw, (beside, line), str(classes[label]), 16, _BARS_WIDTH - 70, TEXT, "lm")
        draw_text(draw, (right, line), f"{probabilities[label]:.1%}", 16, 70, MUTED, "rm")
        bar = (beside, top + _LINE + 4, right, top + 2 * _LINE - 6)
        draw.rectangle(bar, fill=OUTSIDE)
        length = round(float(probabilities[label]) * _BARS_WIDTH)
        if length:
            draw.rectangle((*bar[:2], beside + length - 1, bar[3]), fill=TEXT)
        top += block
    return heading(picture, probabilities, classes, truth)


def draw_classification(
    image: UInt8[np.ndarray, "height width channels"],
    boxes: Shaped[np.ndarray, "time scales 4"],
    locations: Float[np.ndarray, "time 2"],
    glimpses: Float[np.ndarray, "time scales retina_channels size size"],
    probabilities: Float[np.ndarray, "time classes"],
    classes: Sequence[str],
    truth: str | None = None,
    shown: int | None = None,
) -> Image.Image:
    """Draw a prediction and the scanpath that led to it, and beside it each glimpse as the model saw it.

    Args:
        image: Grey or RGB, 0 to 255.
        boxes: Windows in the image's pixels, (left, top, right, bottom), finest scale first.
        locations: Fixations, (x, y) in [-1, 1] of this image.
        glimpses: Pixels that the model saw, in [0, 1]; grey from a colour image where the model is a grey one.
        probabilities: After each glimpse, in [0, 1].
        classes: Class names, in the order of the probabilities.
        truth: The right class's name, where it is known; the heading then tells whether the prediction is right.
        shown: How many glimpses, the first ones, are drawn, with the prediction after them, in a picture of the same
            size as with all, so that pictures make a film. All by default.
    """
    path = draw_scanpath(image, boxes, locations, shown=shown)
    best = probabilities.argmax(axis=1)
    captions = [f"{classes[label]}\n{after[label]:.0%}" for label, after in zip(best, probabilities, strict=True)]
    sides = np.asarray(boxes[:, :, 2] - boxes[:, :, 0], np.float64)
    # After a glance at the whole the windows of a row are not of one width.
    widths = None if np.ptp(sides, axis=0).max() > 1 else [round(side) for side in sides[0].tolist()]
    below = path.width > 1.5 * path.height
    room = (path.width - 60, max(400, path.height)) if below else (640, path.height)
    retina = draw_retina(glimpses, captions, widths, *retina_grid(captions, glimpses.shape[1], room), shown)

    gap = PADDING + GAP
    content = (path.width + (not below) * (gap + retina.width), path.height + below * (gap + retina.height))
    picture = Image.new("RGB", (max(content[0], retina.width), max(content[1], retina.height)), BACKGROUND)
    if below:
        path_corner, retina_corner = (0, 0), (0, path.height + gap)
    else:
        path_corner = (0, (picture.height - path.height) // 2)
        retina_corner = (path.width + gap, (picture.height - retina.height) // 2)
    picture.paste(path, path_corner)
    picture.paste(retina, retina_corner)
    return heading(picture, probabilities[:shown][-1], classes, truth)


def heading(
    content: Image.Image, probabilities: Float[np.ndarray, " classes"], classes: Sequence[str], truth: str | None = None
) -> Image.Image:
    """Put a prediction above a picture, as its heading.

    Args:
        content: The picture.
        probabilities: After the last glimpse, in [0, 1].
        classes: Class names, in the order of the probabilities.
        truth: The right class's name, where it is known; the heading then tells whether the prediction is right.
    """
    heading, room = 60, max(content.width, 360)
    picture = Image.new("RGB", (room + 2 * PADDING, content.height + heading + 2 * PADDING), BACKGROUND)
    picture.paste(content, (PADDING, heading + PADDING))
    draw = ImageDraw.Draw(picture)
    best = int(probabilities.argmax())
    predicted = str(classes[best])
    verdict = "" if truth is None else "correct" if predicted == truth else f"wrong, it is {truth}"
    colour = TEXT if truth is None else RIGHT if predicted == truth else WRONG
    baseline, end = heading - 4, picture.width - PADDING
    right = draw_text(draw, (PADDING, baseline), predicted, 36, room // 2, colour, "ls")
    right = draw_text(draw, (right + 14, baseline), f"{probabilities[best]:.1%}", 24, 100, TEXT, "ls")
    draw_text(draw, (right + 18, baseline), verdict, 18, end - right - 18, colour, "ls")
    return picture
