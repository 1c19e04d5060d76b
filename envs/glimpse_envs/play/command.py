"""``glimpse play``: a person looks at images through the retina of an environment, and is compared with a model."""

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from glimpse.cli.parser import Parser
from glimpse.cli.usage import UsageError, nearest, spelling
from glimpse.data.datasets import DataError
from glimpse_envs.classification.core import ClassificationCore
from glimpse_envs.classification.task import Task, TaskError
from glimpse_envs.play.game import Game, GameError, still_to_play
from glimpse_envs.play.opponent import Opponent
from glimpse_envs.play.record import GameRecord, GameSettings, compare_players, table
from glimpse_envs.registration import ENTRIES, MAZE, NAMESPACE, Registration

DEFAULT = ENTRIES[0]
SETTABLE = (
    "canvas_height",
    "canvas_width",
    "num_pieces",
    "piece_size",
    "image_height",
    "image_width",
    "channels",
    "reward",
    "glimpse_cost",
    "glimpse_size",
    "num_scales",
    "zoom",
    "first_location",
    "download",
)
"""Options of an environment that ``--set`` sets; the others have options of their own, or mean nothing to a person."""
OPTIONS = {name: f"--set {name}" for name in SETTABLE} | {
    "root": "--root",
    "split": "--split",
    "num_glimpses": "--glimpses",
}
"""The command line's options, by the names of the environment's."""


def run(args: argparse.Namespace) -> int:
    """Play, and say how it went.

    Args:
        args: What the command line holds.

    Raises:
        UsageError: When an argument is wrong, or there is no terminal to play in.
        GameError: When the environment is nothing for this game.
        OpponentError: When the model is nothing for the environment's images.
        PlayedError: When the output holds another game.
    """
    check(args)
    opponent = load(args.model) if args.model else None
    entry, options = choose(args, opponent)
    looking = core(options, args.root)
    if looking.scenes.num_targets > 1:
        raise GameError(f"expected images of one class each, but {entry.id} shows sequences; play another environment")
    if opponent:
        opponent.check(looking.scenes.image_shape, looking.scenes.classes)
    settings = settings_of(entry, options, args.seed, looking, opponent)
    record = GameRecord(args.output, settings)
    before = len(record.entries)
    images = still_to_play(settings.images, args.seed, {played.image for played in record.entries}, args.images)
    game = Game(looking, images, args.seed, record, opponent, time.monotonic)
    try:
        with interruptible():
            if args.browser:
                from glimpse_envs.play.page import serve

                serve(game, args.port, args.open)
            else:
                from glimpse_envs.play.terminal import play

                play(game, sys.stdin.fileno())
    finally:
        print(summary(record, before))
    return 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end the game, also where the process was started with SIGINT ignored.

    A shell without job control starts a command with ``&`` in that way, and every process that the command starts
    inherits it. Python then installs no handler, and Ctrl-C would do nothing. A handler of the caller stays as it is.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def core(options: dict[str, Any], root: str | None) -> ClassificationCore:
    """The core of an environment.

    Args:
        options: The environment's.
        root: Where the data set lies.

    Raises:
        UsageError: When the data are not there, do not fit the canvas, or an option is out of its range.
    """
    try:
        return Task.of(**options, root=root).looking()
    except (DataError, TaskError) as error:
        raise UsageError(error.render(spelling(OPTIONS, "="))) from error


def check(args: argparse.Namespace) -> None:
    """Refuse a command line that can't be played, before anything is loaded.

    Args:
        args: What the command line holds.

    Raises:
        UsageError: With the reason.
    """
    for name, least in (("images", 1), ("seed", 0), ("glimpses", 1)):
        given = getattr(args, name)
        if given is not None and given < least:
            raise UsageError(f"expected --{name} of at least {least}, got {given}")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"expected --port from 0 (any that is free) to 65535, got {args.port}")
    if args.browser:
        return
    if importlib.util.find_spec("termios") is None:
        raise UsageError("this system's terminals can't be played in; play in a browser with --browser")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        which = "input" if not sys.stdin.isatty() else "output"
        raise UsageError(f"standard {which} is no terminal, which the game needs; play in a browser with --browser")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError("this terminal (TERM) can't move its cursor; play in a browser with --browser")


def load(path: Path) -> Opponent:
    """Load the model to play against.

    Args:
        path: An exported model.

    Raises:
        UsageError: When onnxruntime is missing.
        ContractError: When it is no exported model.
    """
    try:
        return Opponent(path)
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise UsageError(
            "--model needs onnxruntime, which is not installed; pip install 'glimpse-attention[serve]'"
        ) from error


def find(name: str) -> Registration:
    """Find an environment by its id, with or without namespace and version, in capitals or not.

    Args:
        name: What the user called it.

    Raises:
        UsageError: When there is no such one.
    """
    short = {entry.id.rpartition("-v")[0].lower(): entry for entry in ENTRIES}
    full = {entry.id.lower(): entry for entry in ENTRIES}
    asked = name.lower().removeprefix("glimpse_envs:").removeprefix(f"{NAMESPACE.lower()}/")
    if asked in (MAZE.id.lower(), MAZE.id.rpartition("-v")[0].lower()):
        raise UsageError(f"expected images to classify, but {MAZE.id} is walked through; play another environment")
    found = full.get(asked) or short.get(asked)
    if found is None:
        meant = nearest(asked, [*short, *full])
        hint = f"; did you mean {(full.get(meant) or short[meant]).id}?" if meant else ""
        raise UsageError(f"expected one of {', '.join(entry.id for entry in ENTRIES)}; got {name!r}{hint}")
    return found


def choose(args: argparse.Namespace, opponent: Opponent | None) -> tuple[Registration, dict[str, Any]]:
    """Choose the environment and its options.

    With a model and no id, those are the images that the model learned to classify; its retina and its budget are the
    player's, whatever the environment's are, unless the command line says something else.

    Args:
        args: What the command line holds.
        opponent: The model, if any.

    Raises:
        UsageError: When there is no such environment or option.
    """
    own = opponent.data_options() if opponent and args.id is None else {}
    if args.id is not None:
        entry = find(args.id)
    else:
        matching = [entry for entry in ENTRIES if entry.options.get("dataset") == own.get("dataset")]
        entry = matching[0] if matching else DEFAULT
        own = own if matching else {}
    options = {**entry.options, **own, **(opponent.options() if opponent else {})}
    if args.glimpses is not None:
        options["num_glimpses"] = args.glimpses
    for given in args.set or ():
        name, value = parse_option(given)
        options[name] = value
    return entry, {**options, "split": args.split, "action_mode": "declare"}


def parse_option(given: str) -> tuple[str, Any]:
    """Take an option of an environment apart.

    Args:
        given: ``NAME=VALUE``.

    Raises:
        UsageError: When it has another form, or there is no such option.
    """
    name, sign, text = given.partition("=")
    kinds = {field.name: field for field in fields(Task)}
    if not sign or name not in SETTABLE:
        meant = nearest(name, SETTABLE)
        hint = f"; did you mean {meant}?" if meant and meant != name else ""
        raise UsageError(f"expected --set NAME=VALUE with a name out of {', '.join(SETTABLE)}; got {given!r}{hint}")
    return name, _value(kinds[name], text, given)


def settings_of(
    entry: Registration, options: dict[str, Any], seed: int, looking: ClassificationCore, opponent: Opponent | None
) -> GameSettings:
    """What makes another game the same as this one; where the data lie is no part of it.

    Args:
        entry: The environment.
        options: Its options.
        seed: Fixes the order of the images.
        looking: Its core.
        opponent: The model, if any.
    """
    task = Task.of(**options)
    left_out = {"root", "download", "classifier", "grid_cells", "relative", "largest_step"}
    told = {field.name: getattr(task, field.name) for field in fields(Task) if field.name not in left_out}
    model = opponent.describe() if opponent else None
    scenes = looking.scenes
    return GameSettings(f"{NAMESPACE}/{entry.id}", told, seed, scenes.classes, len(scenes), model)


def summary(record: GameRecord, before: int) -> str:
    """How it went, over all that the record holds, and where that is.

    Args:
        record: What was played.
        before: How many images of it an earlier game had left there.
    """
    if not record.entries:
        return "Nothing was played."
    earlier = f", {before} of them earlier" if before else ""
    played = f"{len(record.entries)} image{'s' * (len(record.entries) > 1)} played{earlier}"
    return f"{played}\n{table(compare_players(record.entries))}\nkept in {record.path}"


def _value(field: "Field[Any]", text: str, given: str) -> Any:
    """A value of the type that an option has."""
    kind = next((kind for kind in (bool, int, float) if field.type is kind), str)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError) as error:
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"expected {expected} in --set {given}, got {text!r}") from error


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
