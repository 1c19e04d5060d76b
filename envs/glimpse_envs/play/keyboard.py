"""Single key presses from a terminal, whose settings are restored afterwards.

Uses only the standard library, and needs a system with termios.
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
MODIFIER_CODES = frozenset("23456789")
"""Codes in the sequence of an arrow key that is pressed together with shift, alt or control."""
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[0m\x1b[?25h\x1b[?1049l"
"""Switch to the alternate screen and hide the cursor; switch back and show it."""
SEQUENCE_TIMEOUT = 0.05
"""Seconds to wait for the rest of the escape sequence of a key."""


class KeyDecoder:
    """Decodes the bytes that a terminal sends to names of keys.

    The name of a letter is the letter. Other names are ``up``, ``down``, ``left``, ``right``, ``enter`` and ``space``.
    The name of an arrow key that is pressed with shift, alt or control begins with ``far-``. Other keys are ignored.
    """

    def __init__(self) -> None:
        self._letters = codecs.getincrementaldecoder("utf-8")("ignore")
        self._begun = ""

    @property
    def waiting(self) -> bool:
        """Whether an escape sequence is incomplete."""
        return bool(self._begun)

    def feed(self, sent: bytes) -> list[str]:
        """Decode bytes, and return the keys that are complete.

        Args:
            sent: Bytes from the terminal.
        """
        text = self._begun + self._letters.decode(sent)
        self._begun = ""
        keys: list[str] = []
        while text:
            if text[0] == "\x1b":
                length, name = _parse_sequence(text)
                if length is None:
                    self._begun = text
                    break
            else:
                length, name = 1, _key_name(text[0])
            if name:
                keys.append(name)
            text = text[length:]
        return keys

    def give_up(self) -> None:
        """Discard an incomplete sequence, as that of the escape key."""
        self._begun = ""


def _parse_sequence(text: str) -> tuple[int | None, str | None]:
    """Length and name of the escape sequence at the start of a text; length None if it is incomplete."""
    if len(text) == 1:
        return None, None
    if text[1] not in "[O":
        return 1, None
    for place, letter in enumerate(text[2:], start=2):
        if "@" <= letter <= "~":
            name = ARROWS.get(letter)
            pressed_with = text[2:place].rpartition(";")[2]
            return place + 1, f"far-{name}" if name and text[2:place] and pressed_with in MODIFIER_CODES else name
    return None, None


def _key_name(letter: str) -> str | None:
    if letter in "\r\n":
        return "enter"
    if letter == " ":
        return "space"
    return letter if letter.isprintable() else None


class Keyboard:
    """The keys of a terminal in cbreak mode.

    Args:
        descriptor: File descriptor of the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._decoder = KeyDecoder()

    def wait(self, seconds: float) -> list[str] | None:
        """Return the keys that have been pressed; empty after a timeout, None if the terminal has been closed.

        Args:
            seconds: Longest time to wait for the first key.
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
            if not self._ready(SEQUENCE_TIMEOUT):
                self._decoder.give_up()
                return keys

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._descriptor], [], [], seconds)[0])


@contextmanager
def keyboard(descriptor: int) -> Iterator[Keyboard]:
    """Read single keys and use the alternate screen; the terminal's settings are restored on exit, also after an error.

    Ctrl-C interrupts as usual. Ctrl-Z and the quit key are disabled, because they would not restore the settings. After
    SIGTERM or SIGHUP the settings are restored before the process exits.

    Args:
        descriptor: File descriptor of the terminal for input; output goes to standard output.
    """
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _exit_on_signal) for number in (signal.SIGTERM, signal.SIGHUP)}
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


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
