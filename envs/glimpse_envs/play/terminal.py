"""The game in a terminal: the revealed parts of the image in half blocks, with the retina's windows as the cursor."""

import os
import string
import sys
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import ImageDraw

from glimpse.drawing.palette import MUTED, OUTSIDE, RIGHT, TEXT, WRONG, time_colours
from glimpse.drawing.text import Colour
from glimpse.images.geometry import boxes, to_pixels, to_unit
from glimpse_envs.play.blocks import coloured, fitting_scale, join_side_by_side, scaled, to_half_blocks
from glimpse_envs.play.game import Game, GameError
from glimpse_envs.play.keyboard import keyboard
from glimpse_envs.play.record import AlreadyRecordedError
from glimpse_envs.play.text_width import display_width, format_to_width, remove_unprintable, truncate_to_width

SIDE_COLUMNS, GAP_COLUMNS = 30, 2
"""Columns of the panel beside the image, and of the gap between them."""
MIN_SCREEN_SIZE = (60, 18)
"""Smallest screen, columns and rows."""
MIN_RESULT_LINES = 4
"""Smallest number of lines below the images after the answer."""
RESIZE_INTERVAL = 0.5
"""Seconds between checks of the size of the terminal."""
CURSOR: Colour = (255, 214, 92)
COARSE: Colour = (120, 110, 80)
RESERVED_KEYS = "hjklq?"
"""Characters of other keys, which can't stand for a class."""
HELP_TEXT = """\
You see the image only through a retina: a small sharp
window in the middle of wider and coarser ones. Parts
without a glimpse stay dark. Every glimpse counts, also
the first one, which is taken automatically. Answer as soon
as you know: that ends the image, and you see all of it.

  arrows, h j k l         move the window by a quarter
  shift arrows, H J K L   move it by its whole width
  Enter, space            look there
  a class's key           answer; the keys stand beside it
  ?                       this page
  q                       quit; the record is kept

Any key goes back to the image."""


def class_keys(classes: Sequence[str]) -> list[str]:
    """The key for each class: its name if all names are single characters that are free, otherwise a letter or digit.

    Args:
        classes: Class names.

    Raises:
        GameError: When there are more classes than keys.
    """
    if all(
        len(name) == display_width(remove_unprintable(name)) == 1 and name.lower() not in f"{RESERVED_KEYS} "
        for name in classes
    ):
        return list(classes)
    keys = [key for key in string.ascii_letters + string.digits if key.lower() not in RESERVED_KEYS]
    if len(classes) > len(keys):
        raise GameError(f"expected at most {len(keys)} classes, one a key, got {len(classes)}; play with --browser")
    return keys[: len(classes)]


class GameScreen:
    """The content of the screen, and the effect of keys.

    Args:
        game: The game.

    Raises:
        GameError: When there are more classes than keys.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.keys = class_keys(game.classes)
        self.finished = False
        self.showing_help = False
        self._message = "Move the yellow window, and look with Enter."
        self._centre_cursor()

    def press(self, key: str) -> None:
        """Handle a key.

        Args:
            key: Its name, see :class:`glimpse_envs.play.keyboard.KeyDecoder`.
        """
        self._message = ""
        try:
            self._handle_key(key)
        except AlreadyRecordedError as error:
            self._message = str(error)

    def _handle_key(self, key: str) -> None:
        if key == "q":
            self.finished = True
        elif self.showing_help or key == "?":
            self.showing_help = not self.showing_help
        elif self.game.round.over:
            if key in ("enter", "space"):
                self.finished = not self.game.next_image()
                self._centre_cursor()
        elif key in ("enter", "space"):
            self._look()
        elif key in self.keys:
            self.game.answer(self.keys.index(key))
        else:
            self._move(key)

    def screen(self, columns: int, rows: int) -> list[str]:
        """The lines of the screen.

        Args:
            columns: Width of the screen.
            rows: Largest number of lines.
        """
        if columns < MIN_SCREEN_SIZE[0] or rows < MIN_SCREEN_SIZE[1]:
            text = (
                f"The terminal has {columns}x{rows} places; make it at least {MIN_SCREEN_SIZE[0]}x{MIN_SCREEN_SIZE[1]}."
            )
            return textwrap.wrap(text, max(1, columns))[:rows]
        if self.showing_help:
            return HELP_TEXT.splitlines()[:rows]
        heading = f"image {self.game.position + 1} of {len(self.game.images)}"
        body = self._result_lines if self.game.round.over else self._search_lines
        return [coloured(heading, MUTED), *body(columns, rows - 1)]

    def _centre_cursor(self) -> None:
        self.cursor = (self.game.round.width / 2, self.game.round.height / 2)

    def _location(self) -> tuple[float, float]:
        played = self.game.round
        return to_unit(self.cursor[0], played.width), to_unit(self.cursor[1], played.height)

    def _look(self) -> None:
        try:
            self.game.round.look(self._location())
        except GameError as error:
            self._message = str(error)

    def _move(self, key: str) -> None:
        whole = self.game.core.retina.size
        far = key.startswith("far-") or key in tuple("HJKL")
        step = whole if far else max(1, whole // 4)
        name = {"h": "left", "j": "down", "k": "up", "l": "right"}.get(key.lower(), key.removeprefix("far-"))
        x, y = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(name, (0, 0))
        if not (x or y):
            self._message = f"{key!r} is no key of the game; ? tells which ones are."
        played = self.game.round
        self.cursor = (
            min(max(self.cursor[0] + x * step, 0.0), float(played.width)),
            min(max(self.cursor[1] + y * step, 0.0), float(played.height)),
        )

    def _search_lines(self, columns: int, rows: int) -> list[str]:
        """The revealed parts of the image with the cursor, and the side panel."""
        played = self.game.round
        scale = fitting_scale(played.height, played.width, rows - 1, columns - SIDE_COLUMNS - GAP_COLUMNS)
        view = played.revealed()
        shown = scaled(np.where(view.visible[..., None], view.image, np.array(OUTSIDE, np.uint8)), scale)
        retina = self.game.core.retina
        here = np.array(self._location(), np.float32)
        nested = boxes(here, played.height, played.width, retina.size, retina.num_scales, retina.zoom)
        draw = ImageDraw.Draw(shown)
        for box in reversed(nested[1:]):
            _brackets(draw, [float(side) * scale for side in box], COARSE)
        left, top, right, bottom = (float(side) * scale for side in nested[0])
        # Just outside of the window, so that all its pixels stay visible.
        draw.rectangle((left - 1, top - 1, right, bottom), outline=CURSOR)
        picture = to_half_blocks(np.asarray(shown))
        lines = join_side_by_side(
            [picture, self._side_panel(rows - 1, scale)], [shown.width, SIDE_COLUMNS], GAP_COLUMNS
        )
        return [*lines[: rows - 1], coloured(self._message[:columns], CURSOR)]

    def _side_panel(self, rows: int, scale: float) -> list[str]:
        played, colours = self.game.round, time_colours(self.game.core.rule.num_glimpses).tolist()
        marks = "".join(coloured("●", tuple(colours[place])) for place in range(played.glimpses_taken))
        left = coloured("○" * played.glimpses_left, MUTED)
        counted = (
            f"{marks}{left}" if len(colours) <= SIDE_COLUMNS else f"{played.glimpses_taken} of {len(colours)} glimpses"
        )
        lines = [
            "",
            counted,
            coloured(f"{played.glimpses_left} left" if played.glimpses_left else "none left: answer", TEXT),
            "",
        ]
        lines += [coloured("Which class is it?", TEXT), *self._class_list(rows - 9), ""]
        size = self.game.core.retina.size
        if rows - len(lines) >= size // 2 + 4:
            # At full resolution, also if the image is displayed smaller.
            fitting = played.glimpses[-1].pixels[: max(1, (SIDE_COLUMNS + GAP_COLUMNS) // (size + GAP_COLUMNS))]
            windows = [to_half_blocks(_rgb(pixels)) for pixels in fitting] if size <= SIDE_COLUMNS else []
            if windows:
                reduced = f" (image at {scale:.0%})" if scale < 1 else ""
                lines += [
                    coloured(f"the last glimpse{reduced}", MUTED),
                    *join_side_by_side(windows, [size] * len(windows), GAP_COLUMNS),
                    "",
                ]
        return [*lines, coloured("arrows move   Enter looks", MUTED), coloured("? help        q leaves", MUTED)]

    def _class_list(self, rows: int) -> list[str]:
        """The classes with their keys, in as many columns as necessary."""
        if self.keys == list(self.game.classes):
            return textwrap.wrap(" ".join(self.keys), SIDE_COLUMNS)
        across = max(1, -(-len(self.keys) // max(1, rows)))
        room = SIDE_COLUMNS // across
        named = [
            truncate_to_width(f"{key} {name}", room - 1) for key, name in zip(self.keys, self.game.classes, strict=True)
        ]
        named = [name + " " * (room - display_width(name)) for name in named]
        return ["".join(named[start : start + across]).rstrip() for start in range(0, len(named), across)]

    def _result_lines(self, columns: int, rows: int) -> list[str]:
        """The full image with the scanpaths of player and model, and the results below."""
        played = self.game.round
        image = _rgb(played.full_image())
        message = [coloured(line, CURSOR) for line in textwrap.wrap(self._message, columns)]
        texts = ["", *self._result_texts(columns), *message, ""]
        paths = [
            (
                np.array([glimpse.location for glimpse in played.glimpses]),
                np.stack([glimpse.boxes for glimpse in played.glimpses]),
            )
        ]
        titles = ["you"]
        if self.game.model_view:
            prediction = self.game.model_view.on_image
            windows = (
                np.zeros((len(prediction.locations[0]), 0, 4)) if prediction.boxes is None else prediction.boxes[0]
            )
            paths.append((prediction.locations[0], windows))
            titles.append("the model")
        room = (columns - GAP_COLUMNS) // 2
        scale = fitting_scale(played.height, played.width, rows - 1 - max(MIN_RESULT_LINES, len(texts) + 1), room)
        panels = [scanpath_lines(image, locations, windows, scale) for locations, windows in paths]
        width = scaled(image, scale).width
        column = max(width, max(map(len, titles)))
        blocks = [
            [coloured(title.ljust(column), MUTED), *(line + " " * (column - width) for line in panel)]
            for title, panel in zip(titles, panels, strict=True)
        ]
        last = self.game.position + 1 == len(self.game.images)
        keys = f"Enter: {'the result' if last else 'the next image'}    q: leave"
        return [*join_side_by_side(blocks, [column] * len(blocks), GAP_COLUMNS), *texts, coloured(keys, MUTED)][:rows]

    def _result_texts(self, columns: int) -> list[str]:
        entry, classes = self.game.entry(), self.game.classes
        spent = f"{entry.glimpses} glimpse{'s' * (entry.glimpses > 1)}"
        if entry.correct:
            words = [coloured(format_to_width(f"✓ right: {{}}, with {spent}", [classes[entry.label]], columns), RIGHT)]
        else:
            names = [classes[entry.answer], classes[entry.label]]
            words = [coloured(format_to_width(f"✗ you said {{}}, it is {{}}; {spent}", names, columns), WRONG)]
        if entry.model:
            for place in sorted({entry.model.after(entry.glimpses), len(entry.model.answers) - 1}):
                predicted = entry.model.answers[place]
                sentence = f"the model with {place + 1}: {{}}, {entry.model.confidences[place]:.0%} sure"
                words.append(
                    coloured(
                        format_to_width(sentence, [classes[predicted]], columns),
                        RIGHT if predicted == entry.label else WRONG,
                    )
                )
        return words


def scanpath_lines(
    image: UInt8[np.ndarray, "height width 3"],
    locations: Float[np.ndarray, "time 2"],
    windows: Shaped[np.ndarray, "time scales 4"],
    scale: float,
) -> list[str]:
    """Draw a scanpath as lines of text: the image with numbered fixations, their finest windows, and lines between.

    Args:
        image: RGB.
        locations: Fixations, (x, y) in [-1, 1].
        windows: Pixels of the image, (left, top, right, bottom), finest scale first; no scale without a retina.
        scale: Scale of the image on the screen.
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
    return to_half_blocks(np.asarray(shown), marks)


def play(game: Game, descriptor: int) -> None:
    """Run the game until all images have been played, or the player quits.

    Args:
        game: The game.
        descriptor: File descriptor of the terminal.

    Raises:
        GameError: When there are more classes than keys.
        OSError: When the record can't be written.
    """
    screen = GameScreen(game)
    with keyboard(descriptor) as pressed:
        shown: tuple[os.terminal_size, bool] | None = None
        while not screen.finished:
            size = os.get_terminal_size(descriptor)
            if shown is None or shown != (size, True):
                sys.stdout.write(_frame(screen.screen(size.columns, size.lines)))
                sys.stdout.flush()
            keys = pressed.wait(RESIZE_INTERVAL)
            if keys is None:
                return
            for key in keys:
                screen.press(key)
                if screen.finished:
                    return
            shown = (size, not keys)


def _frame(lines: Sequence[str]) -> str:
    """The escape sequences that replace the content of the screen by the given lines."""
    placed = [f"\x1b[{number};1H{line}\x1b[K" for number, line in enumerate(lines, start=1)]
    return "\x1b[?2026h" + "".join(placed) + "\x1b[J\x1b[?2026l"


def _brackets(draw: ImageDraw.ImageDraw, box: Sequence[float], shade: Colour) -> None:
    """Draw the corners of a box just outside of it, so that they hide little of the image."""
    left, top, right, bottom = box[0] - 1, box[1] - 1, box[2], box[3]
    arm = max(1.0, (right - left) // 5)
    for x, inwards in ((left, arm), (right, -arm)):
        for y, down in ((top, arm), (bottom, -arm)):
            draw.line((x, y, x + inwards, y), fill=shade)
            draw.line((x, y, x, y + down), fill=shade)


def _rgb(image: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
