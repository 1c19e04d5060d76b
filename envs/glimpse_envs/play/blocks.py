"""Pictures in a terminal: two pixels in each letter's place, one above the other, in 24-bit colour. No torch."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from glimpse.drawing.layout import resize, scaled_size
from glimpse.drawing.text import Colour

UPPER_HALF = "\N{UPPER HALF BLOCK}"
RESET = "\x1b[0m"

Marks = Mapping[tuple[int, int], tuple[str, Colour]]
"""Letters that stand on a picture, with their colours, by (line, column)."""


def half_blocks(picture: UInt8[np.ndarray, "height width 3"], marks: Marks | None = None) -> list[str]:
    """Write a picture as lines of text, half as many as it has rows.

    Args:
        picture: RGB; an odd last row gets a black one below it.
        marks: Letters that stand on it.
    """
    marks = marks or {}
    if len(picture) % 2:
        picture = np.concatenate([picture, np.zeros_like(picture[:1])])
    lines = []
    for number, (above, below) in enumerate(zip(picture[::2].tolist(), picture[1::2].tolist(), strict=True)):
        line: list[str] = []
        pen = ("", "")
        for column, (upper, lower) in enumerate(zip(above, below, strict=True)):
            letter, ink = marks.get((number, column), (UPPER_HALF, tuple(upper)))
            paper = tuple(lower)
            if letter != UPPER_HALF:
                paper = tuple((high + low) // 2 for high, low in zip(upper, lower, strict=True))
            wanted = (colour(ink), colour(paper, behind=True))
            line.extend(new for new, old in zip(wanted, pen, strict=True) if new != old)
            line.append(letter)
            pen = wanted
        lines.append("".join(line) + RESET)
    return lines


def colour(shade: Colour, behind: bool = False) -> str:
    """What tells a terminal to write in a colour.

    Args:
        shade: RGB, 0 to 255.
        behind: Whether it is that of the ground, not that of the letters.
    """
    return f"\x1b[{48 if behind else 38};2;{';'.join(map(str, shade))}m"


def paint(text: str, shade: Colour) -> str:
    """A text in a colour.

    Args:
        text: On one line.
        shade: RGB, 0 to 255.
    """
    return f"{colour(shade)}{text}{RESET}"


def scale_for(height: int, width: int, rows: int, columns: int) -> float:
    """How many times larger an image can be shown: a whole number where it is at least 1, for even pixels.

    Args:
        height: The image's, pixels.
        width: Likewise.
        rows: Lines that there are.
        columns: Letters in a line.
    """
    fits = min(columns / width, 2 * rows / height)
    return float(int(fits)) if fits >= 1 else fits


def scaled(image: UInt8[np.ndarray, "height width 3"], scale: float) -> Image.Image:
    """An image enlarged in even squares, or reduced by averages.

    Args:
        image: RGB.
        scale: How many times larger it becomes.
    """
    picture = Image.fromarray(image)
    return resize(picture, scaled_size(picture.size, scale), reducing=Image.Resampling.BOX)


def beside(blocks: Sequence[Sequence[str]], widths: Sequence[int], gap: int = 2) -> list[str]:
    """Set blocks of lines side by side, the shorter ones with room below.

    Args:
        blocks: Lines; each is as wide on the screen as its block.
        widths: Of the blocks, in letters.
        gap: Between two blocks, likewise.
    """
    tallest = max(len(block) for block in blocks)
    filled = [[*block, *[" " * width] * (tallest - len(block))] for block, width in zip(blocks, widths, strict=True)]
    return [(" " * gap).join(parts) for parts in zip(*filled, strict=True)]
