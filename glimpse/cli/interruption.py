"""Ctrl-C: the first one ends the command in good order, with a last sentence; the second one ends it at once.

Nothing but light modules of the standard library is imported, so that it holds from the first import on.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C has ended, as shells have it: 128 and the number of SIGINT."""
_AT_ONCE = b"glimpse: interrupted a second time, ended at once\n"


class ToldInterrupt(KeyboardInterrupt):
    """An interruption after which the user has been told already how things stand."""


class _Interrupts:
    """The handler of SIGINT, which counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            os.write(2, _AT_ONCE)
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt


def end_on_interrupt(work: Callable[[], int]) -> int:
    """Do the work of a command; when Ctrl-C interrupts it, say so.

    A handler that somebody else has set stays: that of a program of which the command is a part.

    Args:
        work: Returns the exit status.

    Returns:
        The exit status, 130 when interrupted.
    """
    interrupts = _Interrupts()
    own = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if own:
        signal.signal(signal.SIGINT, interrupts)
    try:
        return work()
    except ToldInterrupt:
        return INTERRUPTED
    except BaseException as error:
        # An interrupted import may end in another error.
        if not (interrupts.count or isinstance(error, KeyboardInterrupt)):
            raise
        print("glimpse: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
    finally:
        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)
