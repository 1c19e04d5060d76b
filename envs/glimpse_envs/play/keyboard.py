"""Keys of a terminal, one by one as they are pressed, and the terminal as it was when that is over.

Standard library only; needs a system with termios.
"""

import codecs
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
SHIFTED = frozenset("23456789")
"""What stands in an arrow's sequence when it is pressed together with shift, alt or control."""
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[0m\x1b[?25h\x1b[?1049l"
"""A screen of our own, without a cursor; the former one again."""
PATIENCE = 0.05
"""Seconds that the rest of a key's sequence may take."""


class Decoder:
    """Makes names of keys out of the bytes that a terminal sends.

    A letter is its own name. Others are ``up``, ``down``, ``left``, ``right``, the same with ``far-`` before it when
    pressed together with shift, alt or control, ``enter`` and ``space``. What has no name is left out.
    """

    def __init__(self) -> None:
        self._letters = codecs.getincrementaldecoder("utf-8")("ignore")
        self._begun = ""

    @property
    def waiting(self) -> bool:
        """Whether a sequence has begun that may go on."""
        return bool(self._begun)

    def feed(self, sent: bytes) -> list[str]:
        """Take in bytes, and return the keys that they complete.

        Args:
            sent: What the terminal sent.
        """
        text = self._begun + self._letters.decode(sent)
        self._begun = ""
        keys: list[str] = []
        while text:
            if text[0] == "\x1b":
                length, name = _sequence(text)
                if length is None:
                    self._begun = text
                    break
            else:
                length, name = 1, _plain(text[0])
            if name:
                keys.append(name)
            text = text[length:]
        return keys

    def give_up(self) -> None:
        """Forget a sequence that does not go on: a lone escape key."""
        self._begun = ""


def _sequence(text: str) -> tuple[int | None, str | None]:
    """Length and name of the sequence that a text begins with; no length where it has not all come yet."""
    if len(text) == 1:
        return None, None
    if text[1] not in "[O":
        return 1, None
    for place, letter in enumerate(text[2:], start=2):
        if "@" <= letter <= "~":
            name = ARROWS.get(letter)
            pressed_with = text[2:place].rpartition(";")[2]
            return place + 1, f"far-{name}" if name and text[2:place] and pressed_with in SHIFTED else name
    return None, None


def _plain(letter: str) -> str | None:
    if letter in "\r\n":
        return "enter"
    if letter == " ":
        return "space"
    return letter if letter.isprintable() else None


class Keyboard:
    """The keys of a terminal in cbreak mode.

    Args:
        descriptor: Of the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._decoder = Decoder()

    def wait(self, seconds: float) -> list[str] | None:
        """Return the keys that have been pressed, or none when the time is over; None when the terminal has gone.

        Args:
            seconds: How long to wait for the first of them.
        """
        if not self._ready(seconds):
            return []
        keys: list[str] = []
        while True:
            sent = os.read(self._descriptor, 1024)
            if not sent:
                return None
            keys += self._decoder.feed(sent)
            if not self._decoder.waiting:
                return keys
            if not self._ready(PATIENCE):
                self._decoder.give_up()
                return keys

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._descriptor], [], [], seconds)[0])


@contextmanager
def keyboard(descriptor: int) -> Iterator[Keyboard]:
    """Have a terminal send keys at once and show a screen of our own; afterwards it is as it was, whatever happens.

    Ctrl-C interrupts as ever; Ctrl-Z and its like are out of use meanwhile, as they would leave the terminal behind as
    it is. When told to end by SIGTERM or SIGHUP, it is put in order first.

    Args:
        descriptor: Of the terminal, where keys come from; the screen is standard output.
    """
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(descriptor)
        changed = termios.tcgetattr(descriptor)
        for character in (termios.VSUSP, termios.VQUIT):
            changed[6][character] = bytes([os.fpathconf(descriptor, "PC_VDISABLE") & 0xFF])
        termios.tcsetattr(descriptor, termios.TCSANOW, changed)
        sys.stdout.write(ENTER_SCREEN)
        sys.stdout.flush()
        yield Keyboard(descriptor)
    finally:
        try:
            sys.stdout.write(LEAVE_SCREEN)
            sys.stdout.flush()
        finally:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
