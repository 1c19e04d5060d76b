"""Heat maps: where the weight of an attention map, or of a Jacobian, lies on an image. Plain arrays in, pictures out.

All maps of all models share one scale of colours, from black over violet and red to a pale yellow, whose lightness
rises evenly, so that it reads the same in grey. Each map is scaled to its own maximum, as the legend states: colours
compare places within a map, not maps with one another.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from glimpse.drawing.layout import GAP, PADDING, display_size, resize
from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, TEXT
from glimpse.drawing.text import draw_text, font, to_picture
from glimpse.images.pixels import Placement

LEAST, MOST = "no weight", "most weight"
"""The ends of the scale."""
SCALED = "each map scaled to its own maximum"

_ANCHORS = np.array([[8, 8, 24], [74, 24, 110], [158, 42, 110], [226, 84, 66], [250, 154, 42], [255, 228, 128]])
_DIMMED = 0.7
"""How much of the image's light is left where there is no weight."""
_OPAQUE = 0.8
"""How much of the image is covered where there is most weight."""
_SHORTEST_LONG_SIDE, _LONGEST_LONG_SIDE = 240, 480
_TITLE = 26
_LINE = 18


def colour_scale(weights: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 3"]:
    """Give weights their RGB colours, 0 to 255.

    Args:
        weights: In [0, 1]; what lies outside takes the nearest end's colour.
    """
    place = weights * (len(_ANCHORS) - 1)
    channels = [np.interp(place, np.arange(len(_ANCHORS)), channel) for channel in _ANCHORS.T]
    return np.stack(channels, axis=-1)


def draw_map(
    image: UInt8[np.ndarray, "height width channels"],
    map_: Float[np.ndarray, "height width"],
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Lay a map over its image, which is shown dimmed and in grey.

    Args:
        image: Grey or RGB, 0 to 255.
        map_: Weight of each pixel, not negative; scaled to its maximum.
        size: Width and height of the picture, pixels. By default a small image is enlarged by a whole number until its
            long side has at least 240 pixels, and a large one is reduced to 480.

    Raises:
        ValueError: When a weight is negative or no number.
    """
    if not (np.isfinite(map_).all() and (map_ >= 0).all()):
        raise ValueError("expected a map of weights that are finite and not negative, got others; check the map")
    grey = np.asarray(to_picture(image).convert("L"), np.float64)
    weights = map_.astype(np.float64)
    blended = _blend(grey, weights / max(weights.max(), np.finfo(np.float64).tiny))
    picture = Image.fromarray(blended)
    return resize(picture, size or _display_size(picture.size))


def over_image(
    map_: Float[np.ndarray, "canvas_height canvas_width"], place: Placement, height: int, width: int
) -> Float[np.ndarray, "{height} {width}"]:
    """Move a map from a model's canvas to an image that was fitted onto it, in a larger size than on the canvas.

    Each pixel has the weight of the canvas's pixel that shows it.

    Args:
        map_: Weights of the canvas's pixels.
        place: Where the image lies on the canvas.
        height: Of the image, pixels.
        width: Of the image, pixels.
    """
    rows = place.top + (np.arange(height) + 0.5) * place.height / height
    columns = place.left + (np.arange(width) + 0.5) * place.width / width
    moved: Float[np.ndarray, "height width"] = map_[rows.astype(int)[:, None], columns.astype(int)]
    return moved


def legend(width: int, scale: float = 1.0) -> Image.Image:
    """Draw the scale of colours with its captions, over black pixels (upper half) and over white ones (lower half).

    Args:
        width: Of the picture, pixels.
        scale: How many times larger bar and captions are than in small pictures.
    """
    bar, size, line_height = 2 * round(7 * scale), round(13 * scale), round(_LINE * scale)
    letters = font(size)
    ends = max(int(letters.getlength(caption)) for caption in (LEAST, MOST))
    apart = width < 2 * (ends + GAP * scale) + letters.getlength(SCALED)
    grey = np.repeat([0.0, 255.0], bar // 2)[:, None] * np.ones(width)
    picture = Image.new("RGB", (width, bar + (2 if apart else 1) * line_height + 4), BACKGROUND)
    picture.paste(Image.fromarray(_blend(grey, np.broadcast_to(np.linspace(0, 1, width), grey.shape))))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, bar - 1), outline=OUTSIDE)
    line = bar + 4 + line_height // 2
    draw_text(draw, (0, line), LEAST, size, width // 2, TEXT, "lm")
    draw_text(draw, (width - 1, line), MOST, size, width // 2, TEXT, "rm")
    draw_text(draw, (width // 2, line + apart * line_height), SCALED, size, width, MUTED)
    return picture


def draw_maps(
    image: UInt8[np.ndarray, "height width channels"],
    maps: Sequence[tuple[str, Float[np.ndarray, "map_height map_width"]]],
    columns: int | None = None,
    note: str = "",
    longest: int = _LONGEST_LONG_SIDE,
) -> Image.Image:
    """Draw an image and, side by side, several maps of it, each under its title, with one legend for all.

    Args:
        image: Grey or RGB, 0 to 255; it is the first panel.
        maps: Titles and weights of the image's pixels, see :func:`draw_map`.
        columns: Panels in a row, the image's own among them; at most 4 by default.
        note: Text below the panels, such as what was held fixed.
        longest: Longest side of a panel, pixels; a larger image is reduced. The letters grow with the panels.

    Raises:
        ValueError: When a map is not of the image's size, has a negative weight or one that is no number, or there are
            no columns.
    """
    height, width = image.shape[:2]
    if columns is not None and columns < 1:
        raise ValueError(f"expected at least 1 column, got {columns}; raise it")
    for title, weights in maps:
        if weights.shape != (height, width):
            raise ValueError(
                f"expected maps of {height}x{width} pixels, the image's size, got {title!r} of "
                f"{'x'.join(map(str, weights.shape))}; resize it"
            )
    shown = display_size((width, height), _SHORTEST_LONG_SIDE, longest)
    scale = max(1.0, max(shown) / _LONGEST_LONG_SIDE)
    head, line_height, title_size, note_size = (round(scale * length) for length in (_TITLE, _LINE, 15, 14))
    plain = resize(to_picture(image), shown)
    panels = [("image", plain), *((title, draw_map(image, weights, shown)) for title, weights in maps)]
    columns = min(columns or 4, len(panels))
    rows = math.ceil(len(panels) / columns)
    inside = columns * (shown[0] + GAP) - GAP
    below = PADDING + rows * (head + shown[1] + GAP)
    colours = legend(inside, scale)
    lines = _lines(note, note_size, inside)
    end = below + colours.height + len(lines) * line_height + (GAP // 2 if lines else 0)
    picture = Image.new("RGB", (inside + 2 * PADDING, end + PADDING), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for index, (title, panel) in enumerate(panels):
        left = PADDING + index % columns * (shown[0] + GAP)
        top = PADDING + index // columns * (head + shown[1] + GAP)
        draw_text(draw, (left, top + head // 2 - 3), title, title_size, shown[0], TEXT, "lm")
        picture.paste(panel, (left, top + head))
        corners = (left - 1, top + head - 1, left + shown[0], top + head + shown[1])
        draw.rectangle(corners, outline=OUTSIDE)
    picture.paste(colours, (PADDING, below))
    for number, line in enumerate(reversed(lines)):
        draw_text(draw, (PADDING, end - number * line_height - line_height // 2), line, note_size, inside, TEXT, "lm")
    return picture


def _blend(
    grey: Float[np.ndarray, "height width"], weights: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Cover grey pixels with the colours of their weights, the more the greater the weight."""
    cover = (_OPAQUE * np.sqrt(weights))[..., None]
    blended: UInt8[np.ndarray, "height width 3"] = (
        (_DIMMED * grey[..., None] * (1 - cover) + colour_scale(weights) * cover).round().astype(np.uint8)
    )
    return blended


def _display_size(size: tuple[int, int]) -> tuple[int, int]:
    return display_size(size, _SHORTEST_LONG_SIDE, _LONGEST_LONG_SIDE)


def _lines(text: str, size: int, room: int) -> list[str]:
    """Break a text between words into lines that fit their room."""
    letters, lines = font(size, text), list[str]()
    for word in text.split():
        if lines and letters.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
