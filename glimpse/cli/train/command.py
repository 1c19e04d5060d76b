"""``glimpse train``: train a model from a recipe and options. torch is imported when it runs.

Its options are parsed by Lightning's parser, which builds them from the signatures of the classes that are trained.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from glimpse.cli.parser import CommandParser
from glimpse.cli.train.run.training import train
from glimpse.cli.usage import RunError, UsageError


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
        The exit status: 0, 1 for a training that failed, or 2 for a user's mistake.
    """
    from glimpse.cli.train.options.help import short_help

    if "-h" in args or "--help" in args:
        print(short_help(program))
        return 0
    if "--help-all" in args:
        from glimpse.cli.train.options.parser import complete_help

        print(f"{short_help(program)}\n\n{complete_help()}")
        return 0
    try:
        if args and not args[0].startswith("-") and args[0] != "fit":
            return _train_folder(Path(args[0]).expanduser(), args[1:], program)
        train(args, program)
        return 0
    except UsageError as error:
        status, sentence = 2, str(error)
    except RunError as error:
        status, sentence = 1, str(error)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    print(f"{program}: {sentence}", file=sys.stderr)
    return status


def _train_folder(root: Path, args: Sequence[str], program: str) -> int:
    """Train on a folder of images: as a recipe or a family says that is named, or else what suits the images."""
    if not root.is_dir():
        raise UsageError(f"expected options, or a folder of images, got {str(root)!r}, which is no folder; see --help")
    if any(each.partition("=")[0] in ("--config", "-c", "--model", "--ckpt_path") for each in args):
        train(["--data.dataset=folder", f"--data.root={root}", *args], program)
        return 0
    from glimpse.cli.automatic.command import main as choose_and_train

    return choose_and_train(root, args)
