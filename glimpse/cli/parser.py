"""The command line's parser, and the arguments that several subcommands share."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from glimpse.cli.usage import UsageError
from glimpse.errors import suggestion

ArgumentSplitter = Callable[[Sequence[str]], tuple[list[str], list[str]]]
"""Divides arguments into those of a subcommand's own parser and those of another parser."""


_NEGATIVE_NUMBERS = re.compile(r"-\.?\d[\d.,eE+-]*$")
"""Arguments that begin with a minus sign and are no options: a number, or numbers with commas in between."""


class CommandParser(argparse.ArgumentParser):
    """A parser without abbreviations that raises :class:`UsageError`, with the nearest name for a mistyped choice.

    Args:
        args: Those of :class:`argparse.ArgumentParser`.
        fill: Adds the parser's arguments. It is called when the parser is first used, so that a subcommand's module is
            imported only when that subcommand is called.
        kwargs: Those of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, *args: Any, fill: "Callable[[CommandParser], None] | None" = None, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})
        self._negative_number_matcher = _NEGATIVE_NUMBERS  # argparse's own takes "-0.5,1" for an option
        self._fill = fill
        self._split: tuple[ArgumentSplitter, str] | None = None

    def set_aside(self, split: ArgumentSplitter, dest: str) -> None:
        """Leave some of the arguments to another parser.

        Args:
            split: Divides the arguments into those of this parser and the others.
            dest: The namespace's attribute that gets the others.
        """
        self._split = split, dest

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments, without those that are set aside for another parser."""
        fill, self._fill = self._fill, None
        if fill:
            fill(self)
        if self._split is None or args is None:
            return super().parse_known_args(args, namespace)
        split, dest = self._split
        own, others = split(args)
        parsed, unknown = super().parse_known_args(own, namespace)
        setattr(parsed, dest, others)
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Raise the error as a :class:`UsageError`."""
        found = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
        flag = re.search(r"argument ([^:]*): ignored explicit argument (.*)", message)
        if flag:
            message = f"{flag.group(1)}: expected no value, got {flag.group(2)}; leave the value out"
        elif not found:
            message = f"{message}; see --help"
        else:
            choices = re.findall(r"[\w-]+", found.group(2))
            message = (
                f"expected one of {', '.join(choices)}; got {found.group(1)!r}{suggestion(found.group(1), choices)}"
            )
        raise UsageError(message)

    def options(self) -> list[str]:
        """Names of the options, with their dashes."""
        return [name for action in self._actions for name in action.option_strings]


def options_by_argument(add_arguments: Callable[[CommandParser], None]) -> dict[str, str]:
    """The options of a subcommand, by the names of the arguments that they set: an option's ``dest`` is that name.

    Args:
        add_arguments: Adds the subcommand's arguments to a parser.
    """
    parser = CommandParser(add_help=False)
    add_arguments(parser)
    return {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``CHECKPOINT``, a path."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .ckpt file that 'glimpse train' wrote")


def add_root(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--root``, the folder of the data set.

    Args:
        parser: The parser of a subcommand.
        default: Describes the folder that is used without the option.
    """
    parser.add_argument("--root", metavar="DIR", help=f"folder of the data set; {default} if left out")


def add_output_folder(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--output``, the folder to write, a path.

    Args:
        parser: The parser of a subcommand.
        default: The folder that is used without the option.
    """
    parser.add_argument(
        "--output", type=Path, default=Path(default), metavar="DIR", help=f"folder to write; {default} if left out"
    )


def parse_location(text: str) -> tuple[float, float]:
    """Read a location within an image, ``X,Y``.

    Args:
        text: As it was given on the command line.

    Raises:
        ArgumentTypeError: When it is no two numbers in [-1, 1].
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = math.nan
    if not (-1 <= x <= 1 and -1 <= y <= 1):
        raise argparse.ArgumentTypeError(f"expected X,Y, both in [-1, 1], got {text!r}; 0,0 is the image's centre")
    return x, y


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the flag ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
