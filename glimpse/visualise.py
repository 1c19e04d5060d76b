"""Pictures of what a model did, from plain arrays: where it looked, what it saw, and what it made of it.

In a scanpath colour means time: the first glimpse is blue, the last one amber.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageDraw

from glimpse.images.geometry import to_pixels
from glimpse.lettering import Colour, draw_text, font, to_picture

BACKGROUND: Colour = (22, 24, 29)
OUTSIDE: Colour = (41, 44, 52)
"""What lies around the image, where windows hang over its edge."""
TEXT: Colour = (236, 238, 242)
MUTED: Colour = (150, 156, 168)
RIGHT: Colour = (74, 201, 126)
WRONG: Colour = (255, 92, 92)

_TIME_ANCHORS = np.array([[64, 190, 255], [142, 124, 255], [255, 92, 148], [255, 188, 76]])
_SHORTEST_LONG_SIDE, _LONGEST_LONG_SIDE = 480, 960
_SUPERSAMPLING = 3
_GAP = 8
_PADDING = 20
_BADGE = 11


def time_colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """Give each glimpse its RGB colour, from blue by violet and pink to amber.

    Args:
        count: Glimpses in the episode, at least 1.
    """
    place = np.linspace(0, len(_TIME_ANCHORS) - 1, count)
    channels = [np.interp(place, np.arange(len(_TIME_ANCHORS)), channel) for channel in _TIME_ANCHORS.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def enlarge(image: UInt8[np.ndarray, "height width channels"]) -> Image.Image:
    """Enlarge a small image by a whole number until its long side has at least 480 pixels; reduce a large one to 960.

    Args:
        image: Grey or RGB, 0 to 255.
    """
    height, width = image.shape[:2]
    long_side = max(height, width)
    scale = min(max(1.0, math.ceil(_SHORTEST_LONG_SIDE / long_side)), _LONGEST_LONG_SIDE / long_side)
    filter_ = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return to_picture(image).resize((max(1, round(width * scale)), max(1, round(height * scale))), filter_)


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
    windows = boxes.astype(np.float64) * (np.array(extent * 2) / (width, height, width, height))
    points = to_pixels(locations.astype(np.float64), np.array(extent))

    finest = windows[:, 0]
    usual = (finest[:, 2:] - finest[:, :2]).max(axis=0) / 2
    if budget is not None:
        # A window hangs over an edge by half its width, and by what its place is rounded by: a pixel at most.
        hanging_before = hanging_after = usual + np.array(extent) / (width, height)
    else:
        hanging_before = np.maximum(usual, -finest[:, :2].min(axis=0))
        hanging_after = np.maximum(usual, (finest[:, 2:] - extent).max(axis=0))
    before, after = (np.ceil(hanging).astype(int) + _BADGE + 2 for hanging in (hanging_before, hanging_after))
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
    layer = Image.new("RGBA", (2 * _BADGE * _SUPERSAMPLING,) * 2)
    _draw_badge(ImageDraw.Draw(layer), (float(_BADGE * _SUPERSAMPLING),) * 2, str(number), colour)
    return layer.reduce(_SUPERSAMPLING)


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


def draw_classification(
    image: UInt8[np.ndarray, "height width channels"],
    boxes: Shaped[np.ndarray, "time scales 4"],
    locations: Float[np.ndarray, "time 2"],
    glimpses: Float[np.ndarray, "time scales seen_channels size size"],
    probabilities: Float[np.ndarray, "time classes"],
    classes: Sequence[str],
    truth: str | None = None,
    shown: int | None = None,
) -> Image.Image:
    """Draw an answer and the path that led to it: the scanpath, and beside it what the retina saw at each glimpse.

    Args:
        image: Grey or RGB, 0 to 255.
        boxes: Windows in the image's pixels, (left, top, right, bottom), finest scale first.
        locations: Fixations, (x, y) in [-1, 1] of this image.
        glimpses: What was sensed, in [0, 1]; grey from a colour image where the model is a grey one.
        probabilities: The belief after each glimpse, in [0, 1].
        classes: Class names, in the order of the probabilities.
        truth: The right class's name, where it is known; the heading then says whether the answer is right.
        shown: How many glimpses, the first ones, are drawn, with the answer after them, in a picture of the same size
            as with all, so that pictures make a film. All by default.
    """
    path = draw_scanpath(image, boxes, locations, shown=shown)
    best = probabilities.argmax(axis=1)
    captions = [f"{classes[label]}\n{belief[label]:.0%}" for label, belief in zip(best, probabilities, strict=True)]
    widths = [round(float(box[2] - box[0])) for box in boxes[0]]
    below = path.width > 1.5 * path.height
    room = (path.width - 60, max(400, path.height)) if below else (640, path.height)
    retina = draw_retina(glimpses, captions, widths, *_arrange(captions, glimpses.shape[1], room), shown)

    gap = _PADDING + _GAP
    content = (path.width + (not below) * (gap + retina.width), path.height + below * (gap + retina.height))
    picture = Image.new("RGB", (max(content[0], retina.width), max(content[1], retina.height)), BACKGROUND)
    if below:
        path_corner, retina_corner = (0, 0), (0, path.height + gap)
    else:
        path_corner = (0, (picture.height - path.height) // 2)
        retina_corner = (path.width + gap, (picture.height - retina.height) // 2)
    picture.paste(path, path_corner)
    picture.paste(retina, retina_corner)
    return entitle(picture, probabilities[:shown][-1], classes, truth)


def entitle(
    content: Image.Image, probabilities: Float[np.ndarray, " classes"], classes: Sequence[str], truth: str | None = None
) -> Image.Image:
    """Put an answer above a picture, as its heading.

    Args:
        content: What led to the answer.
        probabilities: The last belief, in [0, 1].
        classes: Class names, in the order of the probabilities.
        truth: The right class's name, where it is known; the heading then says whether the answer is right.
    """
    heading, room = 60, max(content.width, 360)
    picture = Image.new("RGB", (room + 2 * _PADDING, content.height + heading + 2 * _PADDING), BACKGROUND)
    picture.paste(content, (_PADDING, heading + _PADDING))
    draw = ImageDraw.Draw(picture)
    best = int(probabilities.argmax())
    answer = str(classes[best])
    verdict = "" if truth is None else "correct" if answer == truth else f"wrong, it is {truth}"
    colour = TEXT if truth is None else RIGHT if answer == truth else WRONG
    baseline, end = heading - 4, picture.width - _PADDING
    right = draw_text(draw, (_PADDING, baseline), answer, 36, room // 2, colour, "ls")
    right = draw_text(draw, (right + 14, baseline), f"{probabilities[best]:.1%}", 24, 100, TEXT, "ls")
    draw_text(draw, (right + 18, baseline), verdict, 18, end - right - 18, colour, "ls")
    return picture


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
    draw.circle(middle, _BADGE * unit, fill=(*BACKGROUND, 255))
    draw.circle(middle, (_BADGE - 1.5) * unit, fill=(*colour, 255))
    draw.text(middle, text, (*BACKGROUND, 255), font((14 if len(text) == 1 else 11) * unit), anchor="mm")


def _free_place(
    box: Float[np.ndarray, "4"], size: tuple[int, int], taken: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """Find a place for a badge that hides no other one: a corner of its box, or else as near to one as can be."""
    left, top, right, bottom = (float(side) for side in box)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    radius = _BADGE * _SUPERSAMPLING
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
