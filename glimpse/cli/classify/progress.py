"""A progress line for a long run. Standard library only."""

import shutil
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

_WIDTH = 24
_SECONDS = 0.1
"""Least time between two drawings, so that drawing takes no time."""


@runtime_checkable
class Terminal(Protocol):
    """What a line is drawn on."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Show what was written."""


class ProgressLine:
    """A line with a bar, drawn over itself. It is erased at the end.

    Args:
        total: How many there are, at least 1.
        stream: Where it is drawn.
        clock: Returns seconds, from any start.
    """

    def __init__(self, total: int, stream: Terminal, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._stream, self._clock = total, stream, clock
        self._done, self._started, self._drawn = 0, clock(), float("-inf")
        self._draw()

    def advance(self, count: int = 1) -> None:
        """Count some more as done.

        Args:
            count: How many.
        """
        self._done += count
        if self._clock() - self._drawn >= _SECONDS:
            self._draw()

    def clear(self) -> None:
        """Erase the line, so that something else can be written in its place; the next advance draws it again."""
        self._stream.write("\r\x1b[K")
        self._stream.flush()
        self._drawn = float("-inf")

    def _draw(self) -> None:
        self._drawn = self._clock()
        filled = _WIDTH * self._done // self._total
        line = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._done:,} of {self._total:,} images"
        seconds = self._drawn - self._started
        if self._done and seconds > 1:
            left = round(seconds / self._done * (self._total - self._done))
            line += f", {self._done / seconds:,.1f} a second, {left // 60}:{left % 60:02} left"
        self._stream.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        self._stream.flush()
