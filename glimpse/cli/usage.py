"""The error of a user's mistake, and how the command is called. No torch."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from glimpse.errors import Argument, ArgumentError, Setting, Spelling


class UsageError(Exception):
    """A user's mistake, described in one or two lines."""


class RunError(Exception):
    """Work that came to no good end, through no mistake in how it was asked for; described in one or two lines."""


def spelling(options: Mapping[str, str], sign: str = " ") -> Spelling:
    """Write arguments of the library as options of a command line.

    Args:
        options: The options, by the names of the arguments.
        sign: What stands between an option and its value.

    Returns:
        A function that writes an argument that is among them; it returns None for others.
    """

    def spell(argument: Argument) -> str | None:
        option = options.get(argument.name)
        if option is None or not isinstance(argument, Setting):
            return option
        value = str(argument.value).lower() if isinstance(argument.value, bool) else argument.value
        return f"{option}{sign}{value}"

    return spell


def error_message(error: Exception, options: Mapping[str, str]) -> str:
    """The sentence of an error, with the options of the subcommand that met it.

    Args:
        error: An error of the library or of the command line.
        options: The subcommand's options, by the names of the arguments.
    """
    return error.render(spelling(options)) if isinstance(error, ArgumentError) else str(error)


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
