"""The error of a user's mistake, the nearest name to a mistyped one, and how the command is called. No torch."""

import difflib
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path


class UsageError(Exception):
    """A user's mistake, described in one or two lines."""


def invocation() -> str:
    """How the user calls the ``glimpse`` command from the current folder, for messages with a command to run next.

    ``glimpse`` where the shell finds the one that runs now; else its path, if it lies beside the interpreter; else
    ``python -m glimpse``.
    """
    folder = Path(sys.executable).parent
    found = shutil.which("glimpse")
    if found and Path(found).resolve().parent == folder.resolve():
        return "glimpse"
    beside = shutil.which("glimpse", path=str(folder))
    if beside is None:
        return "python -m glimpse"
    path = Path(beside)
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The name that is most similar to a mistyped one; None where none is similar.

    Args:
        wrong: What was typed.
        known: The names there are.
    """
    found = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """The end of a message about a mistyped name: the nearest right one; empty where none is similar.

    Args:
        wrong: What was typed.
        known: The names there are.
    """
    meant = nearest(wrong, known)
    return f"; did you mean {meant}?" if meant else ""
