"""The game in a terminal: what has been seen of the image in half blocks, the retina's windows as cursor, and keys."""

import os
import string
import sys
import textwrap
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import ImageDraw

from glimpse.drawing.palette import MUTED, OUTSIDE, RIGHT, TEXT, WRONG, time_colours
from glimpse.drawing.text import Colour
from glimpse.images.geometry import boxes, to_pixels, to_unit
from glimpse_envs.play.blocks import beside, half_blocks, paint, scale_for, scaled
from glimpse_envs.play.game import Game, GameError
from glimpse_envs.play.keyboard import keyboard
from glimpse_envs.play.record import AlreadyPlayedError

SIDE, GAP = 30, 2
"""Letters in a line of what stands beside the image, and between the two."""
SMALLEST = (60, 18)
"""Columns and rows that a screen needs."""
FEWEST_LINES = 4
"""Lines below the pictures once the answer is given."""
RESIZED = 0.5
"""Seconds until it is noticed that the terminal has another size."""
CURSOR: Colour = (255, 214, 92)
COARSE: Colour = (120, 110, 80)
RESERVED = "hjklq?"
"""Letters that mean something else than a class."""
HELP = """\
You see the image only through a retina: a small sharp
window in the middle of wider and coarser ones. What no
glimpse has shown stays dark. Every glimpse counts, the
first one included, which is taken for you. Answer as soon
as you know: that ends the image, and you see all of it.

  arrows, h j k l         move the window by a quarter
  shift arrows, H J K L   move it by its whole width
  Enter, space            look there
  a class's key           answer; the keys stand beside it
  ?                       this page
  q                       leave; what was played is kept

Any key goes back to the image."""


def class_keys(classes: Sequence[str]) -> list[str]:
    """The key for each class: its name where all names are characters of one column that are free, else a letter.

    Args:
        classes: Class names.

    Raises:
        GameError: When there are more classes than keys.
    """
    if all(len(name) == columns_of(cleaned(name)) == 1 and name.lower() not in f"{RESERVED} " for name in classes):
        return list(classes)
    keys = [key for key in string.ascii_letters + string.digits if key.lower() not in RESERVED]
    if len(classes) > len(keys):
        raise GameError(f"expected at most {len(keys)} classes, one a key, got {len(classes)}; play with --browser")
    return keys[: len(classes)]


def cleaned(text: str) -> str:
    """A text without what a terminal would do instead of writing it: escapes, line feeds, marks of direction.

    Args:
        text: Whatever a folder may be called.
    """
    return "".join(letter for letter in text if letter.isprintable())


def columns_of(text: str) -> int:
    """How many columns a text takes on the screen.

    Args:
        text: Printable.
    """
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def cut(text: str, columns: int) -> str:
    """A text, cleaned, and cut with a mark where it takes more columns than there are.

    Args:
        text: Whatever a folder may be called.
        columns: At least 1.
    """
    text = cleaned(text)
    if columns_of(text) <= columns:
        return text
    while text and columns_of(text) >= columns:
        text = text[:-1]
    return f"{text}…"


def filled(sentence: str, names: Sequence[str], columns: int) -> str:
    """A sentence with names in it, the names cut so that it fits on a line.

    Args:
        sentence: A format with as many empty fields as there are names.
        names: At least one.
        columns: Of the line.
    """
    room = (columns - columns_of(sentence.format(*[""] * len(names)))) // len(names)
    return sentence.format(*(cut(name, max(1, room)) for name in names))


class Face:
    """What stands on the screen, and what keys do.

    Args:
        game: The game.

    Raises:
        GameError: When there are more classes than keys.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.keys = class_keys(game.classes)
        self.ended = False
        self.helping = False
        self._message = "Move the yellow window, and look with Enter."
        self._centre()

    def press(self, key: str) -> None:
        """Do what a key means.

        Args:
            key: Its name, see :class:`glimpse.keys.Decoder`.
        """
        self._message = ""
        try:
            self._act(key)
        except AlreadyPlayedError as error:
            self._message = str(error)

    def _act(self, key: str) -> None:
        if key == "q":
            self.ended = True
        elif self.helping or key == "?":
            self.helping = not self.helping
        elif self.game.round.over:
            if key in ("enter", "space"):
                self.ended = not self.game.go_on()
                self._centre()
        elif key in ("enter", "space"):
            self._look()
        elif key in self.keys:
            self.game.answer(self.keys.index(key))
        else:
            self._move(key)

    def screen(self, columns: int, rows: int) -> list[str]:
        """The lines of the screen, no more than there are rows.

        Args:
            columns: Letters in a line.
            rows: Lines.
        """
        if columns < SMALLEST[0] or rows < SMALLEST[1]:
            text = f"The terminal has {columns}x{rows} places; make it at least {SMALLEST[0]}x{SMALLEST[1]}."
            return textwrap.wrap(text, max(1, columns))[:rows]
        if self.helping:
            return HELP.splitlines()[:rows]
        heading = f"image {self.game.position + 1} of {len(self.game.images)}"
        body = self._verdict if self.game.round.over else self._search
        return [paint(heading, MUTED), *body(columns, rows - 1)]

    def _centre(self) -> None:
        self.point = (self.game.round.width / 2, self.game.round.height / 2)

    def _location(self) -> tuple[float, float]:
        played = self.game.round
        return to_unit(self.point[0], played.width), to_unit(self.point[1], played.height)

    def _look(self) -> None:
        try:
            self.game.round.look(self._location())
        except GameError as error:
            self._message = str(error)

    def _move(self, key: str) -> None:
        whole = self.game.looking.retina.size
        far = key.startswith("far-") or key in tuple("HJKL")
        step = whole if far else max(1, whole // 4)
        name = {"h": "left", "j": "down", "k": "up", "l": "right"}.get(key.lower(), key.removeprefix("far-"))
        x, y = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(name, (0, 0))
        if not (x or y):
            self._message = f"{key!r} is no key of the game; ? tells which ones are."
        played = self.game.round
        self.point = (
            min(max(self.point[0] + x * step, 0.0), float(played.width)),
            min(max(self.point[1] + y * step, 0.0), float(played.height)),
        )

    def _search(self, columns: int, rows: int) -> list[str]:
        """The image as far as it is known, with the cursor, and beside it what there is to know."""
        played = self.game.round
        scale = scale_for(played.height, played.width, rows - 1, columns - SIDE - GAP)
        view = played.view()
        shown = scaled(np.where(view.known[..., None], view.image, np.array(OUTSIDE, np.uint8)), scale)
        retina = self.game.looking.retina
        here = np.array(self._location(), np.float32)
        nested = boxes(here, played.height, played.width, retina.size, retina.num_scales, retina.zoom)
        draw = ImageDraw.Draw(shown)
        for box in reversed(nested[1:]):
            _brackets(draw, [float(side) * scale for side in box], COARSE)
        left, top, right, bottom = (float(side) * scale for side in nested[0])
        # Just outside of the window, whose every pixel is worth seeing.
        draw.rectangle((left - 1, top - 1, right, bottom), outline=CURSOR)
        picture = half_blocks(np.asarray(shown))
        lines = beside([picture, self._side(rows - 1, scale)], [shown.width, SIDE], GAP)
        return [*lines[: rows - 1], paint(self._message[:columns], CURSOR)]

    def _side(self, rows: int, scale: float) -> list[str]:
        played, colours = self.game.round, time_colours(self.game.looking.rule.num_glimpses).tolist()
        marks = "".join(paint("●", tuple(colours[place])) for place in range(played.taken))
        left = paint("○" * played.left, MUTED)
        counted = f"{marks}{left}" if len(colours) <= SIDE else f"{played.taken} of {len(colours)} glimpses"
        lines = ["", counted, paint(f"{played.left} left" if played.left else "none left: answer", TEXT), ""]
        lines += [paint("Which class is it?", TEXT), *self._choices(rows - 9), ""]
        size = self.game.looking.retina.size
        if rows - len(lines) >= size // 2 + 4:
            # Where the image is reduced, this is where every pixel of a glimpse is seen.
            fitting = played.seen[-1].pixels[: max(1, (SIDE + GAP) // (size + GAP))]
            windows = [half_blocks(_rgb(pixels)) for pixels in fitting] if size <= SIDE else []
            if windows:
                reduced = f" (image at {scale:.0%})" if scale < 1 else ""
                lines += [paint(f"the last glimpse{reduced}", MUTED), *beside(windows, [size] * len(windows), GAP), ""]
        return [*lines, paint("arrows move   Enter looks", MUTED), paint("? help        q leaves", MUTED)]

    def _choices(self, rows: int) -> list[str]:
        """The classes with their keys, in as many columns as it takes."""
        if self.keys == list(self.game.classes):
            return textwrap.wrap(" ".join(self.keys), SIDE)
        across = max(1, -(-len(self.keys) // max(1, rows)))
        room = SIDE // across
        named = [cut(f"{key} {name}", room - 1) for key, name in zip(self.keys, self.game.classes, strict=True)]
        named = [name + " " * (room - columns_of(name)) for name in named]
        return ["".join(named[start : start + across]).rstrip() for start in range(0, len(named), across)]

    def _verdict(self, columns: int, rows: int) -> list[str]:
        """The whole image with the path, beside it the model's, and below who was right."""
        played = self.game.round
        image = _rgb(played.whole())
        message = [paint(line, CURSOR) for line in textwrap.wrap(self._message, columns)]
        told = ["", *self._words(columns), *message, ""]
        ways = [(np.array([seen.location for seen in played.seen]), np.stack([seen.boxes for seen in played.seen]))]
        titles = ["you"]
        if self.game.sight:
            seen = self.game.sight.on_image
            windows = np.zeros((len(seen.locations[0]), 0, 4)) if seen.boxes is None else seen.boxes[0]
            ways.append((seen.locations[0], windows))
            titles.append("the model")
        room = (columns - GAP) // 2
        scale = scale_for(played.height, played.width, rows - 1 - max(FEWEST_LINES, len(told) + 1), room)
        panels = [path(image, locations, windows, scale) for locations, windows in ways]
        width = scaled(image, scale).width
        column = max(width, max(map(len, titles)))
        blocks = [
            [paint(title.ljust(column), MUTED), *(line + " " * (column - width) for line in panel)]
            for title, panel in zip(titles, panels, strict=True)
        ]
        last = self.game.position + 1 == len(self.game.images)
        keys = f"Enter: {'the result' if last else 'the next image'}    q: leave"
        return [*beside(blocks, [column] * len(blocks), GAP), *told, paint(keys, MUTED)][:rows]

    def _words(self, columns: int) -> list[str]:
        entry, classes = self.game.entry(), self.game.classes
        spent = f"{entry.glimpses} glimpse{'s' * (entry.glimpses > 1)}"
        if entry.correct:
            words = [paint(filled(f"✓ right: {{}}, with {spent}", [classes[entry.label]], columns), RIGHT)]
        else:
            names = [classes[entry.answer], classes[entry.label]]
            words = [paint(filled(f"✗ you said {{}}, it is {{}}; {spent}", names, columns), WRONG)]
        if entry.model:
            for place in sorted({entry.model.after(entry.glimpses), len(entry.model.answers) - 1}):
                said = entry.model.answers[place]
                sure = f"the model with {place + 1}: {{}}, {entry.model.confidences[place]:.0%} sure"
                words.append(paint(filled(sure, [classes[said]], columns), RIGHT if said == entry.label else WRONG))
        return words


def path(
    image: UInt8[np.ndarray, "height width 3"],
    locations: Float[np.ndarray, "time 2"],
    windows: Shaped[np.ndarray, "time scales 4"],
    scale: float,
) -> list[str]:
    """Write an image with the numbered fixations on it, their finest windows, and the path between them.

    Args:
        image: RGB.
        locations: Fixations, (x, y) in [-1, 1].
        windows: Pixels of the image, (left, top, right, bottom), finest scale first; no scale without a retina.
        scale: How many times larger it is shown.
    """
    shown = scaled(image, scale)
    draw = ImageDraw.Draw(shown)
    colours = [tuple(shade) for shade in time_colours(len(locations)).tolist()]
    points = [(to_pixels(float(x), shown.width), to_pixels(float(y), shown.height)) for x, y in locations]
    for shade, nested in zip(colours, windows, strict=True):
        for box in nested[:1].astype(float) * scale:
            _brackets(draw, box.tolist(), shade)
    for shade, start, end in zip(colours[1:], points, points[1:], strict=False):
        draw.line((*start, *end), fill=tuple(part // 2 for part in shade))
    marks = {}
    for number, (shade, (x, y)) in enumerate(zip(colours, points, strict=True), start=1):
        line, column = min(int(y), shown.height - 1) // 2, min(max(int(x), 0), shown.width - 1)
        marks[(max(line, 0), column)] = (str(number % 10), shade)
    return half_blocks(np.asarray(shown), marks)


def play(game: Game, descriptor: int) -> None:
    """Play until all images are done, or the player leaves.

    Args:
        game: The game.
        descriptor: Of the terminal.

    Raises:
        GameError: When there are more classes than keys.
        OSError: When what was played can't be kept.
    """
    face = Face(game)
    with keyboard(descriptor) as pressed:
        shown: tuple[os.terminal_size, bool] | None = None
        while not face.ended:
            size = os.get_terminal_size(descriptor)
            if shown is None or shown != (size, True):
                sys.stdout.write(_frame(face.screen(size.columns, size.lines)))
                sys.stdout.flush()
            keys = pressed.wait(RESIZED)
            if keys is None:
                return
            for key in keys:
                face.press(key)
                if face.ended:
                    return
            shown = (size, not keys)


def _frame(lines: Sequence[str]) -> str:
    """What puts lines on a screen in place of those that were there."""
    placed = [f"\x1b[{number};1H{line}\x1b[K" for number, line in enumerate(lines, start=1)]
    return "\x1b[?2026h" + "".join(placed) + "\x1b[J\x1b[?2026l"


def _brackets(draw: ImageDraw.ImageDraw, box: Sequence[float], shade: Colour) -> None:
    """Draw the corners of a box, just outside of it, so that little of the image is hidden."""
    left, top, right, bottom = box[0] - 1, box[1] - 1, box[2], box[3]
    arm = max(1.0, (right - left) // 5)
    for x, inwards in ((left, arm), (right, -arm)):
        for y, down in ((top, arm), (bottom, -arm)):
            draw.line((x, y, x + inwards, y), fill=shade)
            draw.line((x, y, x, y + down), fill=shade)


def _rgb(image: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
