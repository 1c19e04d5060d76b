"""``glimpse train``: train a model from a recipe and options. torch is imported when it runs.

Its options are parsed by Lightning's parser, which builds them from the signatures of the classes that are trained.
"""

import argparse
import sys
from collections.abc import Sequence

from glimpse.cli.parser import CommandParser
from glimpse.cli.usage import UsageError
from glimpse.contract.texts import visible_lines


def add_arguments(parser: CommandParser) -> None:
    """Set all arguments aside for Lightning's parser, the help included."""
    parser.set_aside(lambda args: ([], list(args)), "training")


def run(args: argparse.Namespace) -> int:
    """Train as the command line states.

    Args:
        args: The arguments of :func:`add_arguments`, and ``program``.

    Returns:
        See :func:`main`.
    """
    return main(args.training, args.program)


def main(args: Sequence[str], program: str) -> int:
    """Train as a command line states; a user's mistake is printed on standard error.

    Args:
        args: The arguments, without the program's name.
        program: How the user calls the command.

    Returns:
        The exit status: 0, or 2 for a user's mistake.
    """
    from glimpse.cli.train.arguments import complete_arguments
    from glimpse.cli.train.lightning_output import quiet
    from glimpse.cli.train.messages import ParserError, explain_mistake
    from glimpse.cli.train.options import complete_help, known_options, short_help
    from glimpse.cli.train.training_cli import TrainingCLI
    from glimpse.data.datasets import DataError
    from glimpse.training.checkpoint import CheckpointError

    if "-h" in args or "--help" in args:
        print(short_help(program))
        return 0
    if "--help-all" in args:
        print(f"{short_help(program)}\n\n{complete_help()}")
        return 0
    files: dict[str, list[str]] = {}
    try:
        with quiet():
            arguments, name = complete_arguments(args, files)
            TrainingCLI(arguments, program, name)
    except ParserError as error:
        sentence = explain_mistake(str(error), args, files, known_options)
    except (UsageError, DataError, CheckpointError) as error:
        sentence = str(error)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    else:
        return 0
    print(f"{program}: {visible_lines(sentence)}", file=sys.stderr)
    return 2
