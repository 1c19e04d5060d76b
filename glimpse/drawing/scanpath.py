"""Scanpaths, from plain arrays: an image with its fixations, their windows and the saccades between them.

Colour means time: the first glimpse is blue, the last one amber.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageDraw

from glimpse.drawing.layout import BADGE_RADIUS, display_size, resize
from glimpse.drawing.palette import BACKGROUND, OUTSIDE, time_colours
from glimpse.drawing.text import Colour, font, to_picture
from glimpse.images.geometry import to_pixels

_SHORTEST_LONG_SIDE, _LONGEST_LONG_SIDE = 480, 960
_SUPERSAMPLING = 3


def enlarge(image: UInt8[np.ndarray, "height width channels"]) -> Image.Image:
    """Enlarge a small image by a whole number until its long side has at least 480 pixels; reduce a large one to 960.

    Args:
        image: Grey or RGB, 0 to 255.
    """
    picture = to_picture(image)
    return resize(picture, display_size(picture.size, _SHORTEST_LONG_SIDE, _LONGEST_LONG_SIDE))


def draw_scanpath(
    image: UInt8[np.ndarray, "height width channels"],
    boxes: Shaped[np.ndarray, "time scales 4"],
    locations: Float[np.ndarray, "time 2"],
    budget: int | None = None,
    shown: int | None = None,
) -> Image.Image:
    """Draw an image, enlarged, with its numbered fixation boxes and the path between them.

    Around it is room for the windows that hang over its edges.

    Args:
        image: Grey or RGB, 0 to 255.
        boxes: Windows in the image's pixels, (left, top, right, bottom), finest scale first.
        locations: Fixations, (x, y) in [-1, 1] of this image.
        budget: Glimpses in the whole episode, of which these are the first. Colours are then spread over all of them,
            and the picture has the same size after each, so that pictures make a film.
        shown: How many of these glimpses, the first ones, are drawn, in a picture of the same size as with all, and
            the coarse windows of the last of them alone. All by default.
    """
    height, width = image.shape[:2]
    enlarged = enlarge(image)
    extent = enlarged.size
    scale = np.array(extent) / (width, height)
    windows = boxes.astype(np.float64) * np.tile(scale, 2)
    points = to_pixels(locations.astype(np.float64), np.array(extent))

    finest = windows[:, 0]
    # Of whole pixels: the difference of two enlarged edges is rounded differently from place to place.
    # The smallest, since a glance at the whole image hangs over no edge.
    usual = (boxes[:, 0, 2:] - boxes[:, 0, :2]).min(axis=0) * scale / 2
    if budget is not None:
        # A window hangs over an edge by half its width, and by what its place is rounded by: a pixel at most.
        hanging_before = hanging_after = usual + scale
    else:
        hanging_before = np.maximum(usual, -finest[:, :2].min(axis=0))
        hanging_after = np.maximum(usual, (finest[:, 2:] - extent).max(axis=0))
    before, after = (np.ceil(hanging).astype(int) + BADGE_RADIUS + 2 for hanging in (hanging_before, hanging_after))
    picture = Image.new("RGB", (extent[0] + before[0] + after[0], extent[1] + before[1] + after[1]), OUTSIDE)
    picture.paste(enlarged, (int(before[0]), int(before[1])))

    layer = Image.new("RGBA", (picture.width * _SUPERSAMPLING, picture.height * _SUPERSAMPLING))
    windows, points = (windows + np.tile(before, 2)) * _SUPERSAMPLING, (points + before) * _SUPERSAMPLING
    colours = [tuple(colour.tolist()) for colour in time_colours(budget or len(points))[: len(points)]]
    windows, points, colours = windows[:shown], points[:shown], colours[:shown]
    draw = ImageDraw.Draw(layer)
    newest = 0 if shown is None else len(points) - 1
    for colour, nested in zip(colours[newest:], windows[newest:], strict=True):
        for index in range(len(nested) - 1, 0, -1):
            _draw_brackets(draw, nested[index], (*colour, 215 if index == 1 else 150))
    _draw_path(draw, points, colours)
    for shades, width in (([(0, 0, 0, 150)] * len(colours), 5.0), ([(*colour, 255) for colour in colours], 2.5)):
        for shade, nested in zip(shades, windows, strict=True):
            _outline(draw, nested[0], shade, width)
    taken: list[tuple[float, float]] = []
    for number, (colour, nested) in enumerate(zip(colours, windows, strict=True), start=1):
        taken.append(_free_place(nested[0], layer.size, taken))
        _draw_badge(draw, taken[-1], str(number), colour)
    picture.paste(layer := layer.reduce(_SUPERSAMPLING), mask=layer)
    return picture


def badge(number: int, colour: Colour) -> Image.Image:
    """Draw a glimpse's number on a disc of its colour, RGBA.

    Args:
        number: Of the glimpse, from 1.
        colour: See :func:`time_colours`.
    """
    layer = Image.new("RGBA", (2 * BADGE_RADIUS * _SUPERSAMPLING,) * 2)
    _draw_badge(ImageDraw.Draw(layer), (float(BADGE_RADIUS * _SUPERSAMPLING),) * 2, str(number), colour)
    return layer.reduce(_SUPERSAMPLING)


def _outline(draw: ImageDraw.ImageDraw, box: Float[np.ndarray, "4"], colour: Colour, width: float) -> None:
    """Outline a box, the line's middle on the box's edge."""
    half = width * _SUPERSAMPLING / 2
    corners = (box[0] - half, box[1] - half, box[2] + half - 1, box[3] + half - 1)
    draw.rectangle(corners, outline=colour, width=round(2 * half))


def _draw_brackets(draw: ImageDraw.ImageDraw, box: Float[np.ndarray, "4"], colour: Colour) -> None:
    """Mark a coarse window by its corners alone, so that many of them stay legible."""
    left, top, right, bottom = (float(side) for side in box)
    reach, width = 0.16 * (right - left), round(1.5 * _SUPERSAMPLING)
    for x, inwards in ((left, reach), (right, -reach)):
        for y, downwards in ((top, reach), (bottom, -reach)):
            draw.line((x + inwards, y, x, y, x, y + downwards), colour, width, joint="curve")


def _draw_path(draw: ImageDraw.ImageDraw, points: Float[np.ndarray, "time 2"], colours: Sequence[Colour]) -> None:
    """Draw the saccades, each fading from its start's colour to its end's, with an arrow head in its middle."""
    unit = float(_SUPERSAMPLING)
    for width, dark in ((5.0, True), (2.5, False)):
        for start, end, first, last in zip(points[:-1], points[1:], colours[:-1], colours[1:], strict=True):
            length = float(np.hypot(*(end - start)))
            steps = max(2, int(length / (4 * unit)))
            ramp = np.linspace(0, 1, steps + 1)[:, None]
            places = start + (end - start) * ramp
            shades = np.array(first) * (1 - ramp) + np.array(last) * ramp
            for step in range(steps):
                shade = (0, 0, 0, 150) if dark else (*shades[step].astype(int).tolist(), 255)
                draw.line((*places[step], *places[step + 1]), shade, round(width * unit))
            if length > 30 * unit:
                forward = (end - start) / length * unit
                sideways, middle = forward[::-1] * (-5.5, 5.5), (start + end) / 2
                corners = [middle + forward * 7, middle - forward * 6 + sideways, middle - forward * 6 - sideways]
                shade = (0, 0, 0, 150) if dark else (*shades[steps // 2].astype(int).tolist(), 255)
                outline = [tuple(corner.tolist()) for corner in (*corners, *corners[:2])]
                draw.line(outline, shade, round(unit * (3.0 if dark else 1.0)), joint="curve")
                draw.polygon(outline[:3], fill=shade)
        for point, colour in zip(points, colours, strict=True):
            radius = (5.0 if dark else 3.5) * unit
            draw.circle(tuple(point), radius, fill=(0, 0, 0, 150) if dark else (*colour, 255))


def _draw_badge(draw: ImageDraw.ImageDraw, middle: tuple[float, float], text: str, colour: Colour) -> None:
    """Draw a numbered disc on a supersampled layer."""
    unit = _SUPERSAMPLING
    draw.circle(middle, BADGE_RADIUS * unit, fill=(*BACKGROUND, 255))
    draw.circle(middle, (BADGE_RADIUS - 1.5) * unit, fill=(*colour, 255))
    draw.text(middle, text, (*BACKGROUND, 255), font((14 if len(text) == 1 else 11) * unit), anchor="mm")


def _free_place(
    box: Float[np.ndarray, "4"], size: tuple[int, int], taken: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """Find a place for a badge that hides no other one: a corner of its box, or else as near to one as can be."""
    left, top, right, bottom = (float(side) for side in box)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    radius = BADGE_RADIUS * _SUPERSAMPLING
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    around = [
        (x + ring * radius * float(np.cos(turn)), y + ring * radius * float(np.sin(turn)))
        for ring in range(1, 40)
        for x, y in corners
        for turn in turns
    ]
    for x, y in corners + around:
        inside = radius <= x <= size[0] - radius and radius <= y <= size[1] - radius
        if inside and all(math.hypot(x - other[0], y - other[1]) >= 2 * radius for other in taken):
            return x, y
    return left, top
