"""Drawing what a retina saw: the windows of each glimpse, side by side."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, TEXT, time_colours
from glimpse.drawing.scanpath import _BADGE, _GAP, badge
from glimpse.drawing.text import draw_text, font, to_picture


def draw_retina(
    glimpses: Float[np.ndarray, "time scales channels size size"],
    captions: Sequence[str],
    widths: Sequence[int] | None = None,
    columns: int | None = None,
    cell: int = 96,
    shown: int | None = None,
) -> Image.Image:
    """Draw what the retina saw: time across, scales down, the finest on top.

    Args:
        glimpses: Pixels in [0, 1].
        captions: What stands below each glimpse; a line break starts a second line.
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
    label_width = 0 if widths is None else int(font(13).getlength(f"{max(widths)} px")) + _GAP
    rows, colours = math.ceil(time / columns), time_colours(time)
    size = (label_width + columns * (cell + _GAP) - _GAP, rows * (block_height + 2 * _GAP) - 2 * _GAP)
    picture = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for index, (seen, caption) in enumerate(zip(glimpses, captions, strict=True)):
        left = label_width + index % columns * (cell + _GAP)
        top = index // columns * (block_height + 2 * _GAP)
        to_come = shown is not None and index >= shown
        colour = OUTSIDE if to_come else tuple(colours[index].tolist())
        picture.paste(number := badge(index + 1, colour), (left + cell // 2 - _BADGE, top), number)
        top += 2 * _BADGE + _GAP // 2
        for scale, pixels in enumerate(seen):
            if not to_come:
                values = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
                window = to_picture(values.transpose(1, 2, 0)).resize((cell, cell), Image.Resampling.NEAREST)
                picture.paste(window, (left, top))
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), outline=colour if scale == 0 else OUTSIDE)
            if widths is not None and index % columns == 0:
                draw.text((label_width - _GAP, top + cell // 2), f"{widths[scale]} px", MUTED, font(13), anchor="rm")
            top += cell + _GAP // 2
        for line, text in enumerate("" if to_come else caption.split("\n")):
            draw_text(draw, (left + cell // 2, top + 10 + 18 * line), text, 14, cell, TEXT if line == 0 else MUTED)
    return picture


def _block_height(captions: Sequence[str], scales: int, cell: int) -> int:
    """Height in pixels of one glimpse with its badge and its caption."""
    lines = max(caption.count("\n") + 1 for caption in captions)
    return 2 * _BADGE + _GAP // 2 + scales * (cell + _GAP // 2) + 18 * lines + 2


def _arrange(captions: Sequence[str], scales: int, room: tuple[int, int]) -> tuple[int, int]:
    """Choose how many glimpses stand in a row, and the side of their windows: few columns, but nearly the largest."""
    sides = {}
    for columns in range(1, len(captions) + 1):
        rows = math.ceil(len(captions) / columns)
        fixed = rows * (_block_height(captions, scales, 0) + 2 * _GAP) - 2 * _GAP
        sides[columns] = min((room[1] - fixed) // (rows * scales), 150, room[0] // columns - _GAP)
    largest = max(sides.values())
    columns = next(columns for columns, side in sides.items() if side >= 0.85 * largest)
    return columns, max(sides[columns], 40)
