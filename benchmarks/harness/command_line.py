"""The command line of a benchmark: how it is called, and the options that all of them have."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def command_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m MODULE`` without options yet; an option must be spelt in full.

    Args:
        module: Import path of the benchmark's module.
        description: Shown by ``--help``; usually the module's docstring.
    """
    return argparse.ArgumentParser(prog=f"python -m {module}", description=description, allow_abbrev=False)


def add_root(parser: argparse.ArgumentParser, default: str = "GLIMPSE_DATA if left out") -> None:
    """Add ``--root``, the folder of the data.

    Args:
        parser: Gets the option.
        default: What is used without the option, for ``--help``.
    """
    parser.add_argument("--root", metavar="DIR", help=f"the folder that holds MNIST/raw; {default}")


def options_of(args: Sequence[str], parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse a command line with ``--output`` and ``--quick``, the two options that every benchmark has.

    Args:
        args: The command line.
        parser: Has the benchmark's own options.
    """
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument(
        "--quick", action="store_true", help="take seconds instead of minutes; the figures mean nothing"
    )
    options = parser.parse_args(args)
    if options.output and not options.output.parent.is_dir():
        parser.error(f"--output: expected a folder at {options.output.parent}, found none; make it first")
    return options
