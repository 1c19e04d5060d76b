"""Drawing glimpses as the retina sampled them: the windows of each glimpse, side by side."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from glimpse.drawing.layout import BADGE_RADIUS, WINDOW_GAP
from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, TEXT, time_colours
from glimpse.drawing.scanpath import badge
from glimpse.drawing.text import draw_text, font, to_picture


def draw_retina(
    glimpses: Float[np.ndarray, "time scales channels size size"],
    captions: Sequence[str],
    widths: Sequence[int] | None = None,
    columns: int | None = None,
    cell: int = 96,
    shown: int | None = None,
) -> Image.Image:
    """Draw the pixels of the retina at each glimpse: time across, scales down, the finest on top.

    Args:
        glimpses: Pixels in [0, 1].
        captions: Text below each glimpse; a line break starts a second line.
        widths: Each scale's width in pixels of the image, written beside its row.
        columns: Glimpses in a row before the next row of glimpses starts; all of them by default.
        cell: Side of one drawn window, pixels.
        shown: How many glimpses, the first ones, are drawn; the places of the others stay empty. All by default.

    Raises:
        ValueError: When there is not one caption for each glimpse.
    """
    time, scales = glimpses.shape[:2]
    if len(captions) != time:
        raise ValueError(f"expected a caption for each of {time} glimpses, got {len(captions)}")
    columns = min(columns or time, time)
    block_height = _block_height(captions, scales, cell)
    label_width = 0 if widths is None else int(font(13).getlength(f"{max(widths)} px")) + WINDOW_GAP
    rows, colours = math.ceil(time / columns), time_colours(time)
    width = label_width + columns * (cell + WINDOW_GAP) - WINDOW_GAP
    height = rows * (block_height + 2 * WINDOW_GAP) - 2 * WINDOW_GAP
    picture = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for index, (windows, caption) in enumerate(zip(glimpses, captions, strict=True)):
        left = label_width + index % columns * (cell + WINDOW_GAP)
        top = index // columns * (block_height + 2 * WINDOW_GAP)
        to_come = shown is not None and index >= shown
        colour = OUTSIDE if to_come else tuple(colours[index].tolist())
        picture.paste(number := badge(index + 1, colour), (left + cell // 2 - BADGE_RADIUS, top), number)
        top += 2 * BADGE_RADIUS + WINDOW_GAP // 2
        for scale, pixels in enumerate(windows):
            if not to_come:
                values = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
                window = to_picture(values.transpose(1, 2, 0)).resize((cell, cell), Image.Resampling.NEAREST)
                picture.paste(window, (left, top))
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), outline=colour if scale == 0 else OUTSIDE)
            if widths is not None and index % columns == 0:
                place = (label_width - WINDOW_GAP, top + cell // 2)
                draw.text(place, f"{widths[scale]} px", MUTED, font(13), anchor="rm")
            top += cell + WINDOW_GAP // 2
        for line, text in enumerate("" if to_come else caption.split("\n")):
            draw_text(draw, (left + cell // 2, top + 10 + 18 * line), text, 14, cell, TEXT if line == 0 else MUTED)
    return picture


def _block_height(captions: Sequence[str], scales: int, cell: int) -> int:
    """Height in pixels of one glimpse with its badge and its caption."""
    lines = max(caption.count("\n") + 1 for caption in captions)
    return 2 * BADGE_RADIUS + WINDOW_GAP // 2 + scales * (cell + WINDOW_GAP // 2) + 18 * lines + 2


def retina_grid(captions: Sequence[str], scales: int, room: tuple[int, int]) -> tuple[int, int]:
    """Choose the columns and the cell of :func:`draw_retina`, so that the drawing fits its room.

    Args:
        captions: Of all the glimpses.
        scales: Windows of a glimpse.
        room: Width and height, pixels.

    Returns:
        The fewest columns with which the windows are nearly as large as can be, and the side of a window, from 40 to
        150 pixels. Where 40 pixels are too many for the room, the drawing is larger than it.
    """
    sides = {}
    for columns in range(1, len(captions) + 1):
        rows = math.ceil(len(captions) / columns)
        fixed = rows * (_block_height(captions, scales, 0) + 2 * WINDOW_GAP) - 2 * WINDOW_GAP
        sides[columns] = min((room[1] - fixed) // (rows * scales), 150, room[0] // columns - WINDOW_GAP)
    largest = max(sides.values())
    nearly = min(0.85 * largest, largest)  # it is negative where nothing fits
    columns = next(columns for columns, side in sides.items() if side >= nearly)
    return columns, max(sides[columns], 40)
