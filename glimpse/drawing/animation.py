"""A scanpath, or attention maps, as a film: a frame for each glimpse, with the prediction after it.

The frames of a film are of one size. They are drawn by the functions that draw the still pictures.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageDraw

from glimpse.drawing.answer import cell_weights, draw_classification, heading
from glimpse.drawing.heatmap import draw_map, legend
from glimpse.drawing.layout import GAP, resize
from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, TEXT, time_colours
from glimpse.drawing.scanpath import badge
from glimpse.drawing.text import Colour, to_picture

FRAME_MILLISECONDS, LAST_MILLISECONDS = 900, 3000
"""How long each frame stays, and the last one, before the film begins again."""
_HEAD = 34
_SHADES, _MOST_COLOURS = 32, 64


def exact_colours(time: int, of_maps: bool) -> list[Colour]:
    """RGB colours with a meaning in a film, which a format with few colours should not approximate.

    Args:
        time: Glimpses in the film.
        of_maps: Whether attention maps are laid over the image.
    """
    scale = np.asarray(legend(_SHADES + 2))[3, 1:-1] if of_maps else np.empty((0, 3), np.uint8)
    return [
        BACKGROUND,
        OUTSIDE,
        TEXT,
        MUTED,
        *map(tuple, time_colours(time)[:_MOST_COLOURS].tolist()),
        *map(tuple, scale.tolist()),
    ]


def milliseconds(time: int) -> list[int]:
    """How long each frame of a film stays; the last one stays longer.

    Args:
        time: Glimpses in the film.
    """
    return [FRAME_MILLISECONDS] * (time - 1) + [LAST_MILLISECONDS]


def animate_gaze(
    image: UInt8[np.ndarray, "height width channels"],
    boxes: Shaped[np.ndarray, "time scales 4"],
    locations: Float[np.ndarray, "time 2"],
    glimpses: Float[np.ndarray, "time scales retina_channels size size"],
    probabilities: Float[np.ndarray, "time classes"],
    classes: Sequence[str],
    truth: str | None = None,
) -> list[Image.Image]:
    """Draw a scanpath that grows: each frame adds a glimpse, as the retina sampled it, and the prediction after it.

    Of the coarse windows only the newest are drawn.

    Args:
        image: Grey or RGB, 0 to 255.
        boxes: Windows in the image's pixels, (left, top, right, bottom), finest scale first.
        locations: Fixations, (x, y) in [-1, 1] of this image.
        glimpses: Pixels of the retina, in [0, 1]; grey from a colour image where the model is a grey one.
        probabilities: Probabilities after each glimpse, in [0, 1].
        classes: Class names, in the order of the probabilities.
        truth: Name of the true class, if it is known; the heading then shows whether the prediction is right.
    """
    arguments = image, boxes, locations, glimpses, probabilities, classes, truth
    return [draw_classification(*arguments, shown=shown) for shown in range(1, len(probabilities) + 1)]


def animate_maps(
    canvas: UInt8[np.ndarray, "height width channels"],
    maps: Float[np.ndarray, "time map_height map_width"],
    probabilities: Float[np.ndarray, "time classes"],
    classes: Sequence[str],
    truth: str | None = None,
) -> list[Image.Image]:
    """Draw attention that moves: each frame lays a glimpse's map over the image, which stands beside it.

    Args:
        canvas: The model's input image, grey or RGB, 0 to 255.
        maps: Each glimpse's weights over equal cells of the canvas.
        probabilities: After each glimpse, in [0, 1]; the most probable class is the heading.
        classes: Class names, in the order of the probabilities.
        truth: Name of the true class, if it is known; the heading then shows whether the prediction is right.
    """
    height, width = canvas.shape[:2]
    colours = [tuple(colour.tolist()) for colour in time_colours(len(maps))]
    frames = []
    for time, (weights, after) in enumerate(zip(maps, probabilities, strict=True)):
        covered = draw_map(canvas, cell_weights(weights, height, width))
        panels = [resize(to_picture(canvas), covered.size), covered]
        numbers = [badge(index + 1, colour if index <= time else OUTSIDE) for index, colour in enumerate(colours)]
        step = numbers[0].width + GAP // 2
        columns = max(1, (2 * covered.width + GAP) // step)
        rows = -(-len(numbers) // columns)
        scale = legend(2 * covered.width + GAP)
        head = _HEAD + (rows - 1) * step
        frame = Image.new("RGB", (scale.width, head + covered.height + GAP + scale.height), BACKGROUND)
        for index, number in enumerate(numbers):
            frame.paste(number, (index % columns * step, index // columns * step), number)
        draw = ImageDraw.Draw(frame)
        for index, panel in enumerate(panels):
            left = index * (covered.width + GAP)
            frame.paste(panel, (left, head))
            draw.rectangle((left, head, left + panel.width - 1, head + panel.height - 1), outline=OUTSIDE)
        frame.paste(scale, (0, head + covered.height + GAP))
        frames.append(heading(frame, after, classes, truth))
    return frames
