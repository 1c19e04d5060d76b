"""``glimpse play``: a person classifies images through the retina of an environment, and is compared with a model.

torch is imported when it runs.
"""

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
from typing import TYPE_CHECKING, Any

from glimpse.cli.usage import UsageError, spelling
from glimpse.errors import nearest
from glimpse_envs.play.record import GameRecord, GameSettings, score_players, score_table
from glimpse_envs.registration import ENTRIES, MAZE, NAMESPACE, Registration

if TYPE_CHECKING:
    from glimpse_envs.classification.core import ClassificationCore
    from glimpse_envs.play.opponent import Opponent

DEFAULT_ENVIRONMENT = ENTRIES[0]
SETTABLE = (
    "canvas_height",
    "canvas_width",
    "num_pieces",
    "piece_size",
    "image_height",
    "image_width",
    "fit",
    "channels",
    "reward",
    "glimpse_cost",
    "glimpse_size",
    "num_scales",
    "zoom",
    "first_location",
    "download",
)
"""Arguments of an environment for ``--set``; the others have their own options or do not apply to a person."""
_OPTIONS = {name: f"--set {name}" for name in SETTABLE} | {
    "root": "--root",
    "split": "--split",
    "num_glimpses": "--glimpses",
}
"""The command line's options, by the names of the environment's."""


def run(args: argparse.Namespace) -> int:
    """Run the game, and print the scores.

    Args:
        args: The parsed command line.

    Raises:
        UsageError: When an argument is wrong, or there is no terminal to play in.
        GameError: When the environment cannot be played.
        OpponentError: When the model does not match the environment's images.
        RecordError: When the output file has another game.
    """
    from glimpse_envs.play.game import Game, GameError, next_images

    check_arguments(args)
    opponent = load_opponent(args.model) if args.model else None
    entry, options = choose_environment(args, opponent)
    core = build_core(options, args.root)
    if core.scenes.num_targets > 1:
        raise GameError(f"expected images of one class each, but {entry.id} shows sequences; play another environment")
    if opponent:
        opponent.check_images(core.scenes.image_shape, core.scenes.classes)
    settings = game_settings(entry, options, args.seed, core, opponent)
    record = GameRecord(args.output, settings)
    before = len(record.entries)
    images = next_images(settings.images, args.seed, {played.image for played in record.entries}, args.images)
    game = Game(core, images, args.seed, record, opponent, time.monotonic)
    try:
        with interruptible():
            if args.browser:
                from glimpse_envs.play.page import serve_game

                serve_game(game, args.port, args.open)
            else:
                from glimpse_envs.play.terminal import play

                play(game, sys.stdin.fileno())
    finally:
        print(game_summary(record, before))
    return 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end the game, even if the process was started with SIGINT ignored.

    A shell without job control ignores SIGINT in commands that it starts with ``&``, and their child processes inherit
    this. Python then installs no handler, and Ctrl-C has no effect. A handler of the caller is not changed.
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


def build_core(options: dict[str, Any], root: str | None) -> "ClassificationCore":
    """The core of an environment.

    Args:
        options: The environment's.
        root: Folder of the data set; None for the default.

    Raises:
        UsageError: When the data are not there, do not fit the canvas, or an option is out of its range.
    """
    from glimpse.data.datasets import DataError
    from glimpse_envs.classification.task import Task, TaskError

    try:
        return Task.of(**options, root=root).core()
    except (DataError, TaskError) as error:
        raise UsageError(error.render(spelling(_OPTIONS, "="))) from error


def check_arguments(args: argparse.Namespace) -> None:
    """Check the arguments before anything is loaded.

    Args:
        args: The parsed command line.

    Raises:
        UsageError: When an argument is out of its range, or the terminal is not suitable.
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


def load_opponent(path: Path) -> "Opponent":
    """Load the model to play against.

    Args:
        path: An exported model.

    Raises:
        UsageError: When onnxruntime is missing.
        ContractError: When the file is not an exported model.
    """
    from glimpse_envs.play.opponent import Opponent

    try:
        return Opponent(path)
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise UsageError(
            "--model needs onnxruntime, which is not installed; pip install 'glimpse-attention[serve]'"
        ) from error


def find_environment(name: str) -> Registration:
    """Find an environment by its id; namespace, version and case may be omitted or differ.

    Args:
        name: The id from the command line.

    Raises:
        UsageError: When no environment has this id.
    """
    short = {entry.id.rpartition("-v")[0].lower(): entry for entry in ENTRIES}
    full = {entry.id.lower(): entry for entry in ENTRIES}
    wanted = name.lower().removeprefix("glimpse_envs:").removeprefix(f"{NAMESPACE.lower()}/")
    if wanted in (MAZE.id.lower(), MAZE.id.rpartition("-v")[0].lower()):
        raise UsageError(f"expected images to classify, but {MAZE.id} is walked through; play another environment")
    found = full.get(wanted) or short.get(wanted)
    if found is None:
        meant = nearest(wanted, [*short, *full])
        hint = f"; did you mean {(full.get(meant) or short[meant]).id}?" if meant else ""
        raise UsageError(f"expected one of {', '.join(entry.id for entry in ENTRIES)}; got {name!r}{hint}")
    return found


def choose_environment(args: argparse.Namespace, opponent: "Opponent | None") -> tuple[Registration, dict[str, Any]]:
    """Choose the environment and its arguments.

    With a model and no id, the environment is the one with the data set that the model was trained on. The player gets
    the model's retina and glimpse budget in place of the environment's, unless the command line sets them.

    Args:
        args: The parsed command line.
        opponent: The model, or None.

    Raises:
        UsageError: When the environment or an option does not exist.
    """
    own = opponent.data_options() if opponent and args.id is None else {}
    if args.id is not None:
        entry = find_environment(args.id)
    else:
        matching = [entry for entry in ENTRIES if entry.options.get("dataset") == own.get("dataset")]
        entry = matching[0] if matching else DEFAULT_ENVIRONMENT
        own = own if matching else {}
    options = {**entry.options, **own, **(opponent.retina_options() if opponent else {})}
    if args.glimpses is not None:
        options["num_glimpses"] = args.glimpses
    for given in args.set or ():
        name, value = parse_option(given)
        options[name] = value
    return entry, {**options, "split": args.split, "action_mode": "declare"}


def parse_option(given: str) -> tuple[str, Any]:
    """Parse a value of ``--set``.

    Args:
        given: ``NAME=VALUE``.

    Raises:
        UsageError: When the text has another form, the option does not exist, or the value has another type.
    """
    from glimpse_envs.classification.task import Task

    name, sign, text = given.partition("=")
    kinds = {field.name: field for field in fields(Task)}
    if not sign or name not in SETTABLE:
        meant = nearest(name, SETTABLE)
        hint = f"; did you mean {meant}?" if meant and meant != name else ""
        raise UsageError(f"expected --set NAME=VALUE with a name out of {', '.join(SETTABLE)}; got {given!r}{hint}")
    return name, _value(kinds[name], text, given)


def game_settings(
    entry: Registration, options: dict[str, Any], seed: int, core: "ClassificationCore", opponent: "Opponent | None"
) -> GameSettings:
    """The settings that identify a game; the location of the data set is not one of them.

    Args:
        entry: The environment.
        options: Its arguments.
        seed: Seeds the order of the images.
        core: The core of the environment.
        opponent: The model, or None.
    """
    from glimpse_envs.classification.task import Task

    task = Task.of(**options)
    left_out = {"root", "download", "classifier", "grid_cells", "relative", "largest_step"}
    values = {field.name: getattr(task, field.name) for field in fields(Task) if field.name not in left_out}
    model = opponent.description() if opponent else None
    scenes = core.scenes
    return GameSettings(f"{NAMESPACE}/{entry.id}", values, seed, scenes.classes, len(scenes), model)


def game_summary(record: GameRecord, before: int) -> str:
    """The scores over all images of the record, and the path of its file.

    Args:
        record: The record of the game.
        before: Number of images that the record had before this session.
    """
    if not record.entries:
        return "Nothing was played."
    earlier = f", {before} of them earlier" if before else ""
    played = f"{len(record.entries)} image{'s' * (len(record.entries) > 1)} played{earlier}"
    return f"{played}\n{score_table(score_players(record.entries))}\nsaved in {record.path}"


def _value(field: "Field[Any]", text: str, given: str) -> Any:
    """Convert the text of a value to the type of the field."""
    kind = next((kind for kind in (bool, int, float) if field.type in (kind, kind | None)), str)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError) as error:
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"expected {expected} in --set {given}, got {text!r}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
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
        help="the record; played.json if left out. A record of the same game is continued with images that it does "
        "not have yet; that of another game is an error",
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
    parser.epilog = "The record is written after every image. In the terminal, ? tells the keys."
