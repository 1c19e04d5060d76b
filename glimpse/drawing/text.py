"""Text in drawings, shortened to the room it has, and images as RGB pictures."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, ...]


def to_picture(image: UInt8[np.ndarray, "height width channels"]) -> Image.Image:
    """Make an RGB picture of a grey or an RGB image, 0 to 255."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else np.ascontiguousarray(image)).convert("RGB")


def font(size: int, text: str = "") -> Any:
    """Pillow's own font; it knows ASCII only, so that other texts get a common system font where there is one.

    Args:
        size: Of the letters, pixels.
        text: The text to write in it.
    """
    if not text.isascii():
        try:
            return ImageFont.truetype("DejaVuSans.ttf", size)
        except OSError:
            pass
    return ImageFont.load_default(size)


def draw_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    room: int,
    colour: Colour,
    anchor: str = "mm",
) -> int:
    """Write a text, shortened to the room it has, and return where its right end lies when anchored at its left.

    A first letter is left even where there is no room.

    Args:
        draw: Of the picture.
        place: Of the anchor, pixels.
        text: One line.
        size: Of the letters, pixels.
        room: Greatest width of the text, pixels.
        colour: RGB or RGBA, 0 to 255.
        anchor: Which point of the text the place is, in Pillow's two letters.
    """
    letters = font(size, text)
    shortened = text
    while len(shortened) > 3 and letters.getlength(shortened) > room:
        shortened = shortened[:-3].rstrip() + ".."
    draw.text(place, shortened, colour, letters, anchor=anchor)
    return place[0] + int(letters.getlength(shortened))
