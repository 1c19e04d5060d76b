"""The ``glimpse`` command. Each subcommand's module is imported only when it is asked for."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import glimpse
from glimpse.cli.compare.command import _add_compare, split_training
from glimpse.cli.evaluate import _evaluate
from glimpse.cli.explain import _add_explain
from glimpse.cli.parser import Parser
from glimpse.cli.usage import UsageError, error_message, suggestion
from glimpse_envs.play.command import _add_play

if TYPE_CHECKING:
    from glimpse.training.hard import RollOut

COMMANDS = {
    "train": "train a model",
    "evaluate": "measure a trained model on images that it has never seen",
    "export": "write a trained model as one ONNX file",
    "inspect": "print what an exported model says of itself: its card, its graph, what budgets are worth",
    "classify": "classify images with an exported model",
    "serve": "answer requests over HTTP with exported models",
    "explain": "draw what a trained model attended to in images, and what its answer depends on",
    "compare": "train or load several models on one data set, and set them side by side on a page",
    "play": "look at images yourself, under a model's budget, in a terminal or a browser",
    "demo": "do it all on the embedded digits, and write a page about it",
}
EXTRAS = {"inspect": "serve", "classify": "serve", "serve": "serve", "explain": "explain", "play": "envs"}
"""The extra that a subcommand needs, where it is not ``train``."""
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}
"""What is set where the user has set nothing. The model's kernels are small: on two cores, the only machine this was
measured on, one thread trains faster than two, and threads that spin while they wait are up to ten times slower. With
more cores, or a larger model, more threads may pay: the help says how to ask for them."""
OURS = frozenset({"glimpse", "glimpse_envs", "glimpse_serve"})
"""Packages whose ValueErrors are a user's mistakes."""
MISTAKE, INTERRUPTED = 2, 130


def main(args: Sequence[str], program: str = "") -> int:
    """Run a command line.

    Args:
        args: The arguments, without the program's name.
        program: How the user calls the subcommand; ``glimpse SUBCOMMAND`` when left out.

    Returns:
        The exit status: 0, 2 for a user's mistake, 130 when interrupted.
    """
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    try:
        status = _run(args, program)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone.
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


def _drop_output() -> None:
    """Forget output that can't be written; Python would complain of it once more when it flushes at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _run(args: Sequence[str], program: str) -> int:
    command = args[0] if args else ""
    try:
        if command == "train":
            from glimpse.cli.train.command import main as train

            return train(args[1:], program or "glimpse train", {"env": _environment})
        chosen = parse(args)
        return RUN[chosen.command](chosen)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "glimpse"}:
            raise
        extra = EXTRAS.get(command, "train")
        return _fail(f"{command} needs {missing}, which is not installed; pip install 'glimpse-attention[{extra}]'")
    except UsageError as error:
        return _fail(str(error))
    except ValueError as error:
        # Those raised on purpose are of a class of ours; any other is a fault, and its traceback is wanted.
        if type(error).__module__.partition(".")[0] not in OURS:
            raise
        return _fail(error_message(error, command))
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename is None:
            raise  # Told by main, which also flushes what was printed.
        return _fail(f"can't use {os.fsdecode(error.filename)!r}: {error.strerror}")


def _environment() -> "RollOut":
    from glimpse_envs.hard_agent import rollout_in_environment

    return rollout_in_environment


def _export(args: argparse.Namespace) -> int:
    from glimpse.cli.export import run

    return run(args)


def _inspect(args: argparse.Namespace) -> int:
    from glimpse.cli.inspect import inspect

    print(inspect(args.model, args.json))
    return 0


def _classify(args: argparse.Namespace) -> int:
    from glimpse.cli.classify.command import run

    return run(args)


def _serve(args: argparse.Namespace) -> int:
    from glimpse_serve.command import run

    return run(args)


def _compare(args: argparse.Namespace) -> int:
    from glimpse.cli.compare.command import run

    return run(args)


def _demo(args: argparse.Namespace) -> int:
    from glimpse.cli.demo import run

    return run(args)


def _play(args: argparse.Namespace) -> int:
    from glimpse_envs.play.command import run

    return run(args)


def _explain(args: argparse.Namespace) -> int:
    from glimpse.cli.explain import run

    return run(args)


RUN = {
    "explain": _explain,
    "evaluate": _evaluate,
    "export": _export,
    "inspect": _inspect,
    "classify": _classify,
    "serve": _serve,
    "compare": _compare,
    "play": _play,
    "demo": _demo,
}


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Args:
        args: The arguments, without the program's name.

    Raises:
        UsageError: When a command or an option is unknown, or a value is missing or wrong.
    """
    parser = Parser(prog="glimpse", description=glimpse.__doc__.splitlines()[0] if glimpse.__doc__ else None)
    parser.add_argument("--version", action="version", version=f"glimpse {glimpse.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = {name: _add(subparsers, name, asked=name in args[:1]) for name in COMMANDS}
    own, training = split_training(args) if list(args[:1]) == ["compare"] else (list(args), [])
    chosen, unknown = parser.parse_known_args(own)
    if unknown:
        wrong = unknown[0].partition("=")[0]
        known = [*parser.options(), *parsers[chosen.command].options()]
        raise UsageError(f"{chosen.command} knows no {wrong!r}{suggestion(wrong, known)}; see --help")
    chosen.training, chosen.command_line = training, list(args)
    return chosen


def _add(subparsers: "argparse._SubParsersAction[Parser]", name: str, asked: bool) -> Parser:
    """Add a subcommand, with its arguments only if it is asked for: those of classify are in their module."""
    if asked and name == "classify":
        from glimpse.cli.classify.options import add_parser

        add_parser(subparsers)
        return subparsers.choices[name]
    parser = subparsers.add_parser(name, help=COMMANDS[name], description=f"{COMMANDS[name].capitalize()}.")
    if name == "evaluate":
        _add_checkpoint(parser)
        parser.add_argument(
            "--part",
            choices=("test", "validation"),
            default="test",
            help="which images to measure on; the test images if left out",
        )
        parser.add_argument("--json", action="store_true", help="print JSON")
    elif name == "export":
        _add_checkpoint(parser)
        from glimpse.cli.export import add_arguments

        add_arguments(parser)
    elif name == "inspect":
        parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file that 'glimpse export' wrote")
        parser.add_argument("--json", action="store_true", help="print JSON")
    elif name == "serve" and asked:
        from glimpse_serve.settings import add_arguments as add_serving

        add_serving(parser)
    elif name == "explain":
        _add_explain(parser)
    elif name == "compare":
        _add_compare(parser)
    elif name == "play":
        _add_play(parser)
    elif name == "demo":
        parser.add_argument("--output", type=Path, default=Path("demo"), metavar="DIR", help="demo if left out")
    return parser


def _add_checkpoint(parser: Parser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .ckpt file that 'glimpse train' wrote")
    parser.add_argument("--root", metavar="DIR", help="where the data set lies now; as in training if left out")


def _fail(sentence: str) -> int:
    print(f"glimpse: {sentence}", file=sys.stderr)
    return MISTAKE
