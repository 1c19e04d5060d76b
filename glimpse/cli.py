"""The ``glimpse`` command. Each subcommand's module is imported only when it is asked for."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import glimpse
from glimpse.invocation import UsageError, did_you_mean

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
TRAINING_GROUPS = ("--data.", "--model.", "--trainer.")
"""What the options begin with that ``compare`` hands to its trainings, besides ``--seed``."""
OURS = frozenset({"glimpse", "glimpse_envs", "glimpse_serve"})
"""Packages whose ValueErrors are a user's mistakes."""
MISTAKE, INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """A parser that knows no abbreviations and, for a mistyped command, the nearest right one."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Hand the mistake on."""
        found = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
        if not found:
            message = f"{message}; see --help"
        else:
            choices = re.findall(r"[\w-]+", found.group(2))
            message = (
                f"expected one of {', '.join(choices)}; got {found.group(1)!r}{did_you_mean(found.group(1), choices)}"
            )
        raise UsageError(message)

    def options(self) -> list[str]:
        """Names of the options, with their dashes."""
        return [name for action in self._actions for name in action.option_strings]


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
            from glimpse.training.command import main as train

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
        return _fail(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename is None:
            raise  # Told by main, which also flushes what was printed.
        return _fail(f"can't use {os.fsdecode(error.filename)!r}: {error.strerror}")


def _environment() -> "RollOut":
    from glimpse_envs.hard_agent import look_in_environment

    return look_in_environment


def _evaluate(args: argparse.Namespace) -> int:
    from glimpse.evaluation.evaluate import table
    from glimpse.export.checkpoint import evaluate_checkpoint

    evaluation = evaluate_checkpoint(args.checkpoint, args.part, args.root)
    print(evaluation.to_json() if args.json else table(evaluation))
    return 0


def _export(args: argparse.Namespace) -> int:
    from glimpse.export_command import run

    return run(args)


def _inspect(args: argparse.Namespace) -> int:
    from glimpse.inspection import inspect

    print(inspect(args.model, args.json))
    return 0


def _classify(args: argparse.Namespace) -> int:
    from glimpse.classify import run

    return run(args)


def _serve(args: argparse.Namespace) -> int:
    from glimpse_serve.serve_command import run

    return run(args)


def _compare(args: argparse.Namespace) -> int:
    from glimpse.compare import run

    return run(args)


def _demo(args: argparse.Namespace) -> int:
    from glimpse.demo import run

    return run(args)


def _play(args: argparse.Namespace) -> int:
    from glimpse_envs.play.command import run

    return run(args)


def _explain(args: argparse.Namespace) -> int:
    from glimpse.look_inside import run

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
        raise UsageError(f"{chosen.command} knows no {wrong!r}{did_you_mean(wrong, known)}; see --help")
    chosen.training, chosen.command_line = training, list(args)
    return chosen


def split_training(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into what is the command's own and the options that every training gets.

    Args:
        args: The arguments; all behind ``--`` is the trainings', and so are ``--seed`` and the options of data, model
            and trainer wherever they stand.
    """
    own: list[str] = []
    training: list[str] = []
    remaining = list(args)
    while remaining:
        option = remaining.pop(0)
        if option == "--":
            return own, training + remaining
        if option.startswith(TRAINING_GROUPS) or option.partition("=")[0] == "--seed":
            valued = "=" not in option and remaining and not remaining[0].startswith("--")
            training += [option, remaining.pop(0)] if valued else [option]
        else:
            own.append(option)
    return own, training


def _add(subparsers: "argparse._SubParsersAction[Parser]", name: str, asked: bool) -> Parser:
    """Add a subcommand, with its arguments only if it is asked for: those of classify are in their module."""
    if asked and name == "classify":
        from glimpse.classify_options import add_parser

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
        from glimpse.export_command import add_arguments

        add_arguments(parser)
    elif name == "inspect":
        parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file that 'glimpse export' wrote")
        parser.add_argument("--json", action="store_true", help="print JSON")
    elif name == "serve" and asked:
        from glimpse_serve.serve_options import add_arguments as add_serving

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


def _add_explain(parser: Parser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .ckpt file that 'glimpse train' wrote")
    parser.add_argument("images", type=Path, metavar="IMAGE", nargs="+", help="PNG, JPEG, BMP, GIF, TIFF, WebP or PPM")
    parser.add_argument("--output", type=Path, default=Path("explained"), metavar="DIR", help="explained if left out")
    parser.add_argument(
        "--method",
        dest="methods",
        action="append",
        choices=("jacobian", "smoothed", "integrated"),
        help="how it is found out what the answer depends on; may be given several times; jacobian if left out, the "
        "others need captum",
    )
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="the class whose logit is explained; the answer if left out"
    )


def _add_compare(parser: Parser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a recipe to train (a name or a YAML file), or a .ckpt file to load; at least two, side by side",
    )
    parser.add_argument("--output", type=Path, default=Path("compare"), metavar="DIR", help="compare if left out")
    parser.add_argument("--root", metavar="DIR", help="where the data set lies; as the recipes say if left out")
    parser.add_argument("--images", type=int, default=6, metavar="N", help="test images that are shown; 6 if left out")
    parser.add_argument(
        "--overwrite",
        choices=("true", "false"),
        default="false",
        help="whether to train anew what DIR/runs holds already; it is taken as it is if left out",
    )
    parser.epilog = (
        "Options of training, such as --trainer.max_epochs 8, --data.dataset mnist or --seed 1, hold for every recipe, "
        "and so does all behind '--'. A finished run in DIR/runs is not trained again."
    )


def _add_play(parser: Parser) -> None:
    parser.add_argument(
        "id",
        nargs="?",
        metavar="ID",
        help="an environment, such as Glimpse/Digits-v0 or digits for short; if left out, the images that the model "
        "learned to classify, or the embedded digits without one",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="MODEL",
        help="an ONNX file written by 'glimpse export' to compare with; you play with its retina and its budget",
    )
    parser.add_argument("--browser", action="store_true", help="play in a browser, not in this terminal")
    parser.add_argument("--images", type=int, default=10, metavar="N", help="how many to play; 10 if left out")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="fixes which images, and their order; 0 if left out"
    )
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="test",
        help="which images; those of the test if left out",
    )
    parser.add_argument("--root", metavar="DIR", help="where the data set lies; GLIMPSE_DATA or ./data if left out")
    parser.add_argument(
        "--glimpses", type=int, metavar="N", help="your budget; the model's or the environment's if left out"
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="another option of the environment, such as glimpse_size=8; may be given several times",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("played.json"),
        metavar="FILE",
        help="the record; played.json if left out. One of the same game is gone on with, with images that it does not "
        "hold yet; one of another game is refused",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="N",
        help="of the page on this machine, for --browser; a free one if left out",
    )
    parser.add_argument(
        "--no-open", dest="open", action="store_false", help="with --browser, only say where the page is"
    )
    parser.epilog = "What you played is written after every image. In the terminal, ? tells the keys."


def _add_checkpoint(parser: Parser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .ckpt file that 'glimpse train' wrote")
    parser.add_argument("--root", metavar="DIR", help="where the data set lies now; as in training if left out")


def _fail(sentence: str) -> int:
    print(f"glimpse: {sentence}", file=sys.stderr)
    return MISTAKE
