"""Images in a terminal: each character shows two pixels, one above the other, in 24-bit colour. No torch."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from glimpse.drawing.text import Colour

UPPER_HALF = "\N{UPPER HALF BLOCK}"
RESET = "\x1b[0m"

LetterMarks = Mapping[tuple[int, int], tuple[str, Colour]]
"""Characters drawn over an image, with their colours, by (line, column)."""


def to_half_blocks(picture: UInt8[np.ndarray, "height width 3"], marks: LetterMarks | None = None) -> list[str]:
    """Convert an image to lines of text, one for each two rows of pixels.

    Args:
        picture: RGB; a black row is appended if the number of rows is odd.
        marks: Characters to draw over it.
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
            wanted = (colour_code(ink), colour_code(paper, behind=True))
            line.extend(new for new, old in zip(wanted, pen, strict=True) if new != old)
            line.append(letter)
            pen = wanted
        lines.append("".join(line) + RESET)
    return lines


def colour_code(shade: Colour, behind: bool = False) -> str:
    """The escape sequence that sets the colour of a terminal.

    Args:
        shade: RGB, 0 to 255.
        behind: Whether to set the background colour, rather than that of the text.
    """
    return f"\x1b[{48 if behind else 38};2;{';'.join(map(str, shade))}m"


def coloured(text: str, shade: Colour) -> str:
    """A text with the escape sequences for a colour.

    Args:
        text: A single line.
        shade: RGB, 0 to 255.
    """
    return f"{colour_code(shade)}{text}{RESET}"


def fitting_scale(height: int, width: int, rows: int, columns: int) -> float:
    """The largest scale at which an image fits; a whole number if it is at least 1, so that pixels have equal sizes.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        rows: Available lines.
        columns: Available characters in a line.
    """
    fits = min(columns / width, 2 * rows / height)
    return float(int(fits)) if fits >= 1 else fits


def scaled(image: UInt8[np.ndarray, "height width 3"], scale: float) -> Image.Image:
    """An image enlarged in even squares, or reduced by averages.

    Args:
        image: RGB.
        scale: How many times larger it becomes.
    """
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return Image.fromarray(image).resize(
        (width, height), Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    )


def join_side_by_side(blocks: Sequence[Sequence[str]], widths: Sequence[int], gap: int = 2) -> list[str]:
    """Place blocks of lines side by side; shorter blocks are padded at the bottom.

    Args:
        blocks: The lines of each block; all lines of a block have its width on the screen.
        widths: Width of each block, in columns.
        gap: Space between two blocks, in columns.
    """
    tallest = max(len(block) for block in blocks)
    filled = [[*block, *[" " * width] * (tallest - len(block))] for block, width in zip(blocks, widths, strict=True)]
    return [(" " * gap).join(parts) for parts in zip(*filled, strict=True)]
