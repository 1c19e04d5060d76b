"""The ``glimpse`` command: the table of its subcommands, the parsing of a command line, and the exit status.

A subcommand is a module with two functions, ``add_arguments(parser)`` and ``run(args)``, which returns the exit status;
its line in :data:`SUBCOMMANDS` registers it. Only the module of the subcommand that is called is imported.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import glimpse
from glimpse.cli import threads
from glimpse.cli.interruption import end_on_interrupt
from glimpse.cli.parser import CommandParser, options_by_argument
from glimpse.cli.usage import RunError, UsageError, error_message
from glimpse.errors import suggestion


class Subcommand(NamedTuple):
    """A line of the table of subcommands."""

    name: str
    help: str
    """What it does, in words that follow its name in the help."""
    extra: str
    """The extra of the package that it needs."""
    module: str
    """The module that holds its ``add_arguments`` and its ``run``."""


SUBCOMMANDS = (
    Subcommand("train", "train a model", "train", "glimpse.cli.train.command"),
    Subcommand("evaluate", "measure a trained model on held-out images", "train", "glimpse.cli.evaluate"),
    Subcommand("export", "write a trained model as one ONNX file", "train", "glimpse.cli.export"),
    Subcommand(
        "inspect",
        "print an exported model's card, its graph, and its accuracy under several budgets",
        "serve",
        "glimpse.cli.inspect",
    ),
    Subcommand("classify", "classify images with an exported model", "serve", "glimpse.cli.classify.command"),
    Subcommand("serve", "serve exported models over HTTP", "serve", "glimpse_serve.command"),
    Subcommand(
        "explain",
        "draw what a trained model attended to in images, and what its answer depends on",
        "explain",
        "glimpse.cli.explain",
    ),
    Subcommand(
        "compare",
        "train or load several models on one data set, and show them side by side on a page",
        "train",
        "glimpse.cli.compare.command",
    ),
    Subcommand(
        "play",
        "classify images yourself, with a model's budget, in a terminal or a browser",
        "envs",
        "glimpse_envs.play.command",
    ),
    Subcommand(
        "demo",
        "train, evaluate, export and classify on the embedded digits, and write a page about it",
        "train",
        "glimpse.cli.demo.command",
    ),
)
"""All subcommands, in the order of the help."""
OWN_PACKAGES = frozenset({"glimpse", "glimpse_envs", "glimpse_serve"})
"""Packages whose ValueErrors are a user's mistakes, and whose missing modules are faults."""
FAILED, MISTAKE = 1, 2


def main(args: Sequence[str], program: str = "") -> int:
    """Run a command line.

    Args:
        args: The arguments, without the program's name.
        program: How the user calls the subcommand; ``glimpse SUBCOMMAND`` when left out.

    Returns:
        The exit status: 0, 1 for work that failed, 2 for a user's mistake, 130 when interrupted.
    """
    threads.set_defaults()
    _escape_what_is_no_text()
    return end_on_interrupt(partial(_main, args, program))


def _main(args: Sequence[str], program: str) -> int:
    try:
        status = _run(args, program)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed it.
        _drop_output()
        return 1
    except OSError as error:
        if error.errno is None:
            raise
        _drop_output()
        return _fail(
            f"a file or the output could not be read or written: {error.strerror}; put that right and run it again"
        )
    return status


def _escape_what_is_no_text() -> None:
    """Have bytes of files' names that are no UTF-8 printed as escapes: printing them raises an error by default."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Drop output that can't be written, which Python would otherwise try to flush, and report, when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())


def _run(args: Sequence[str], program: str) -> int:
    try:
        chosen = parse(args, program)
        status: int = import_module(_entry(chosen.command).module).run(chosen)
        return status
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", *OWN_PACKAGES}:
            raise
        entry = _entry(_called(args))
        return _fail(
            f"{entry.name} needs {missing}, which is not installed; pip install 'glimpse-attention[{entry.extra}]'"
        )
    except UsageError as error:
        return _fail(str(error))
    except RunError as error:
        return _fail(str(error), FAILED)
    except ValueError as error:
        # Those raised on purpose are of a class of ours; any other is a fault, and its traceback is wanted.
        if type(error).__module__.partition(".")[0] not in OWN_PACKAGES:
            raise
        return _fail(error_message(error, options_by_argument(partial(_add_arguments, _entry(_called(args)).module))))
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename is None:
            raise  # Reported by main, which also flushes what was printed.
        return _fail(f"can't use {os.fsdecode(error.filename)!r}: {error.strerror}")


def _called(args: Sequence[str]) -> str:
    """The name of the subcommand in a command line that has one."""
    names = {entry.name for entry in SUBCOMMANDS}
    return next(arg for arg in args if arg in names)


def parse(args: Sequence[str], program: str = "") -> argparse.Namespace:
    """Parse a command line.

    Args:
        args: The arguments, without the program's name.
        program: How the user calls the subcommand; ``glimpse SUBCOMMAND`` when left out.

    Returns:
        The subcommand's arguments; ``command``, its name; ``command_line``, all arguments as they were given; and
        ``program``.

    Raises:
        UsageError: When a command or an option is unknown, or a value is missing or wrong.
    """
    parser = CommandParser(prog="glimpse", description=glimpse.__doc__.splitlines()[0] if glimpse.__doc__ else None)
    parser.add_argument("--version", action="version", version=f"glimpse {glimpse.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = {
        entry.name: subparsers.add_parser(
            entry.name,
            help=entry.help,
            description=f"{entry.help[0].upper()}{entry.help[1:]}.",
            fill=partial(_add_arguments, entry.module),
        )
        for entry in SUBCOMMANDS
    }
    chosen, unknown = parser.parse_known_args(args)
    if unknown:
        wrong = unknown[0].partition("=")[0]
        known = [*parser.options(), *parsers[chosen.command].options()]
        raise UsageError(f"{chosen.command} knows no {wrong!r}{suggestion(wrong, known)}; see --help")
    chosen.command_line, chosen.program = list(args), program or f"glimpse {chosen.command}"
    return chosen


def _add_arguments(module: str, parser: CommandParser) -> None:
    import_module(module).add_arguments(parser)


def _entry(name: str) -> Subcommand:
    return next(entry for entry in SUBCOMMANDS if entry.name == name)


def _fail(sentence: str, status: int = MISTAKE) -> int:
    from glimpse.contract.texts import visible_lines  # the help is printed without it

    print(f"glimpse: {visible_lines(sentence)}", file=sys.stderr)
    return status
