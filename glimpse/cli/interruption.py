"""Ctrl-C: the first one ends the command in good order, with a last sentence; the second one ends it at once.

Nothing but light modules of the standard library is imported, so that it holds from the first import on.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C has ended, as shells have it: 128 and the number of SIGINT."""
_AT_ONCE = b"glimpse: interrupted a second time, ended at once\n"


class ToldInterrupt(KeyboardInterrupt):
    """An interruption after which the user has been told already how things stand."""


class Interrupts:
    """Counts the interruptions from the entry of the context to its end; the second ends the process at once.

    A handler that somebody else has set stays: that of a program of which the command is a part.

    Attributes:
        count: How many there have been.
    """

    def __init__(self) -> None:
        self.count = 0
        self._own = threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def __enter__(self) -> "Interrupts":
        if self._own:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._own:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            os.write(2, _AT_ONCE)
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt


def end_on_interrupt(work: Callable[[], int], interrupts: Interrupts | None = None) -> int:
    """Do the work of a command; when Ctrl-C interrupts it, say so.

    Args:
        work: Returns the exit status.
        interrupts: What counts them, if anything does: an interrupted import may end in another error.

    Returns:
        The exit status, 130 when interrupted.
    """
    try:
        return work()
    except ToldInterrupt:
        return INTERRUPTED
    except BaseException as error:
        if not (isinstance(error, KeyboardInterrupt) or (interrupts and interrupts.count)):
            raise
        print("glimpse: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
