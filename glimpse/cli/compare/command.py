"""``glimpse compare``: several models on one data set with one budget, and a page that sets them side by side."""

import argparse
import hashlib
import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glimpse.cli.compare.pictures import draw_pictures, look_at_images
from glimpse.cli.compare.report import FIGURES, PAGE, ComparedModel, Comparison, table, write_page
from glimpse.cli.parser import Parser
from glimpse.cli.train.command import MAY_CHANGE
from glimpse.cli.train.command import main as train
from glimpse.cli.train.dry_run import dry_run, flattened
from glimpse.cli.train.recipes import find_recipe, read_recipe
from glimpse.cli.train.run_folder import CONFIG_FILE, choose_output
from glimpse.cli.usage import UsageError, invocation
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import FOLDER, DataError, data_root
from glimpse.evaluation.evaluate import ClassifierEvaluation, evaluate_classifier
from glimpse.training.callbacks import LAST_FILE, METRICS_FILE, read_metrics
from glimpse.training.checkpoint import load_with_data, read_checkpoint

PROGRAM = "glimpse compare"
TIMES_FILE = "times.json"
"""What a training took, beside its checkpoint."""
OF_TRAINING_ALONE = ("root", "download", "jitter", "batch_size", "passes", "seed")
"""Options of the data that leave the held-out images as they are."""
BUDGET = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.limit_train_batches",
    "data.passes",
)
"""Options that say how many images a training gets to see."""
RESERVED = ("--config", "-c", "--ckpt_path", "--output", "--overwrite", "--print_config", "--help-all")
"""Options of a training that the comparison sets itself."""
TOLD = 4
"""How many differences between recipes a sentence lists."""


class Contender(NamedTuple):
    """A model that takes part, before anything is trained."""

    name: str
    given: str
    """The recipe or the checkpoint, as the user has it."""
    checkpoint: Path
    """Its last model: a file that is there, or that training is going to write."""
    training: tuple[str, ...]
    """The training's command line; empty for a model that is loaded."""
    data: ImageData
    budget: Mapping[str, Any]
    """The options of ``BUDGET``; none for a checkpoint, which has had its training."""


class Times(NamedTuple):
    """What a training took, in seconds; None where nobody knows."""

    wall: float | None
    cpu: float | None


def run(args: argparse.Namespace) -> int:
    """Check everything, train what is to be trained, measure all, and write the page last.

    Args:
        args: ``models``, recipes and checkpoints; ``output``, the folder to write; ``root``, where the data set lies;
            ``images``, how many are shown; ``overwrite``, true or false; ``training``, options for every training;
            ``command_line``, as it was given.

    Raises:
        UsageError: When the models can't be compared, or a recipe or an option is wrong.
        CheckpointError: When a checkpoint is none of ours, or its data have changed.
        DataError: When the data are not there.
    """
    folder: Path = args.output
    if args.images < 1:
        raise UsageError(f"--images: expected at least 1, got {args.images}; raise it")
    contenders = plan_contenders(args.models, folder, args.training, args.root, args.overwrite == "true")
    for old in (PAGE, FIGURES):
        (folder / old).unlink(missing_ok=True)
    for number, contender in enumerate(contenders, start=1):
        doing = "training" if contender.training else f"taking {contender.checkpoint}, which is trained"
        print(f"{number}/{len(contenders)}  {contender.name}: {doing}", flush=True)
        if contender.training and (status := train_timed(contender)):
            return status
    print("measuring all on the same held-out test images", flush=True)
    data = contenders[0].data
    entries, observers = [], []
    for contender in contenders:
        training, _ = load_with_data(contender.checkpoint, args.root)
        observers.append(training.observer)
        evaluation = evaluate_classifier(
            training.observer, data.test_dataloader(), training.classes, training.image_shape
        )
        entries.append(entry_of(contender, training.kind, evaluation))
    order = sorted(range(len(entries)), key=lambda place: (entries[place].evaluation.error, entries[place].name))
    views, disputed = look_at_images([observers[place] for place in order], data, args.images)
    comparison = Comparison(
        data=data.describe(),
        command=f"{invocation()} {shlex.join(args.command_line)}",
        entries=[entries[place] for place in order],
        views=[view.told for view in views],
        disputed=round(disputed, 4),
    )
    draw_pictures(comparison, views, folder)
    write_page(comparison, folder)
    print(f"\n{table(comparison)}\n\nthe page: {folder / PAGE}")
    return 0


def plan_contenders(
    models: Sequence[str], folder: Path, training: Sequence[str], root: str | None, overwrite: bool
) -> list[Contender]:
    """Find out what every model is, and refuse those that can't be trained, loaded or compared. Nothing is written.

    Args:
        models: Recipes and checkpoints.
        folder: The comparison's folder.
        training: Options for every training.
        root: Where the data set lies.
        overwrite: Whether runs that the folder holds are made again.
    """
    wrong = [option for option in training if option.partition("=")[0] in RESERVED]
    if wrong:
        raise UsageError(f"{wrong[0]} can't be handed to the trainings: the comparison sets it itself; leave it out")
    if len(models) < 2:
        raise UsageError(f"expected at least 2 models to compare, got {len(models)}; give another recipe or checkpoint")
    given: dict[str, str] = {}
    for model in models:
        name = name_of(model)
        if name in given:
            raise UsageError(
                f"expected models of different names, got {name!r} twice, {given[name]} and {model}; rename one file"
            )
        given[name] = model
    contenders = [
        _loaded(name, model, root) if _is_checkpoint(model) else _recipe(name, model, folder, training, root, overwrite)
        for name, model in given.items()
    ]
    for contender in contenders[1:]:
        check_comparable(contenders[0], contender)
    written = {contender.checkpoint.resolve().parent: contender for contender in contenders if contender.training}
    for contender in contenders:
        other = written.get(contender.checkpoint.resolve().parent, contender)
        if other is not contender:
            raise UsageError(
                f"{contender.given} would be overwritten by the training of {other.given}; copy it to another folder, "
                "or choose another --output"
            )
    planned = [contender for contender in contenders if contender.budget]
    for contender in planned[1:]:
        _check_budget(planned[0], contender)
    return contenders


def name_of(model: str) -> str:
    """What a model is called: its recipe's name, or its run's; ``RUN-best`` for a run's best model.

    Args:
        model: A recipe or a checkpoint.
    """
    path = Path(model).expanduser()
    run = path.resolve().parent.name
    if _is_checkpoint(model):
        return {"last": run, "best": f"{run}-best"}.get(path.stem, path.stem)
    return run if path.name == CONFIG_FILE else path.stem


def check_comparable(one: Contender, other: Contender) -> None:
    """Refuse models whose held-out images are not the same.

    Raises:
        UsageError: When they differ.
    """
    mine, others = _held_out(one.data), _held_out(other.data)
    told = [f"--data.{name} is {mine[name]}, {others[name]}" for name in mine if mine[name] != others[name]]
    if not told and one.data.classes != other.data.classes:
        told = [f"the classes are {', '.join(one.data.classes)}; {', '.join(other.data.classes)}"]
    if told:
        raise UsageError(
            f"expected models of one data set, got {one.name} on {one.data.describe()} and {other.name} on "
            f"{other.data.describe()}: {'; '.join(told)}; give every training the same --data.OPTION, or leave one out"
        )


def _held_out(data: ImageData) -> dict[str, Any]:
    options = {name: value for name, value in data.hparams.items() if name not in OF_TRAINING_ALONE}
    return options | {"root": data_root(data.root).resolve() if data.dataset == FOLDER else ""}


def _check_budget(one: Contender, other: Contender) -> None:
    told = [
        f"--{name} is {one.budget[name]}, {other.budget[name]}"
        for name in BUDGET
        if one.budget[name] != other.budget[name]
    ]
    if told:
        raise UsageError(
            f"expected one budget for all trainings, got {one.name} and {other.name}: {'; '.join(told)}; give "
            f"{told[0].split()[0]} behind the models, and it holds for all"
        )


def _is_checkpoint(model: str) -> bool:
    return Path(model).suffix == ".ckpt"


def _loaded(name: str, model: str, root: str | None) -> Contender:
    path = Path(model).expanduser()
    return Contender(name, model, path, (), load_with_data(path, root)[1], {})


def _recipe(
    name: str, model: str, folder: Path, training: Sequence[str], root: str | None, overwrite: bool
) -> Contender:
    try:
        file = find_recipe(model)
        rooted = ["--data.root", root] if root else []
        options = ["fit", "--config", str(file), *rooted, *training]
        data, recipe = dry_run(options, PROGRAM)
    except (UsageError, DataError) as error:
        raise UsageError(f"{model}: {str(error).removeprefix(f'--config {model}: ')}") from error
    output = folder / "runs" / name
    last = output / LAST_FILE
    budget = {option: recipe.get(option) for option in BUDGET}
    if last.is_file() and not overwrite:
        check_finished_run(last, recipe)
        return Contender(name, model, last, (), data, budget)
    # What was stopped before its first checkpoint holds no work to lose.
    replace = overwrite or not list(output.glob("*.ckpt"))
    choose_output(str(output), name, replace, None)
    given = (*options, "--output", str(output), "--overwrite", str(replace).lower())
    return Contender(name, model, last, given, data, budget)


def check_finished_run(last: Path, recipe: Mapping[str, Any]) -> None:
    """Refuse to take a run for that of a recipe when it was of another one, or was stopped.

    Args:
        last: The run's last checkpoint.
        recipe: The options that a training would have now, by name.

    Raises:
        UsageError: When it is not what a training would give.
        CheckpointError: When the file is no checkpoint of ours.
    """
    checkpoint = read_checkpoint(last)
    was = flattened(read_recipe(last.parent / CONFIG_FILE))
    moved = {".".join(option) for option in MAY_CHANGE}
    told = [
        f"--{name} was {was.get(name)}, is {recipe.get(name)}"
        for name in dict.fromkeys([*recipe, *was])
        if was.get(name) != recipe.get(name) and name not in moved
    ]
    again = "to train it anew, add --overwrite true"
    if told:
        more = f"; and {len(told) - TOLD} more" if len(told) > TOLD else ""
        raise UsageError(
            f"{last.parent} holds a run of another recipe: {'; '.join(told[:TOLD])}{more}; {again}, or choose "
            "another --output"
        )
    epochs, planned = checkpoint["epoch"] + 1, recipe["trainer.max_epochs"] or 0
    if epochs < planned and times_of(last).cpu is None:
        raise UsageError(
            f"{last.parent} holds a run that was stopped after {epochs} of {planned} epochs; finish it with: "
            f"{invocation()} train --ckpt_path {shlex.quote(str(last))}; {again}"
        )


def train_timed(contender: Contender) -> int:
    """Train, and note beside the checkpoint what it took.

    Returns:
        The exit status, see :func:`glimpse.cli.train.command.main`.
    """
    wall, cpu = time.monotonic(), time.process_time()
    status = train(list(contender.training), PROGRAM)
    if status == 0:
        took = {"wall_seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
        noted = {"checkpoint_sha256": _digest(contender.checkpoint)} | {what: round(s, 1) for what, s in took.items()}
        (contender.checkpoint.parent / TIMES_FILE).write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
    return status


def times_of(checkpoint: Path) -> Times:
    """What a checkpoint's training took: as it was measured by a comparison, or the wall time that its log adds up to.

    Args:
        checkpoint: A file that training wrote.
    """
    file = checkpoint.parent / TIMES_FILE
    noted = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if noted.get("checkpoint_sha256") == _digest(checkpoint):
        return Times(noted["wall_seconds"], noted["cpu_seconds"])
    seconds = [row["seconds"] for row in _epochs_of(checkpoint)]
    return Times(sum(seconds) if seconds else None, None)


def _epochs_of(checkpoint: Path) -> list[dict[str, float]]:
    """The rows of the log beside a checkpoint, as far as the checkpoint goes."""
    reached = read_checkpoint(checkpoint)["epoch"] + 1
    return [row for row in read_metrics(checkpoint.parent / METRICS_FILE) if row["epoch"] <= reached]


def entry_of(contender: Contender, family: str, evaluation: ClassifierEvaluation) -> ComparedModel:
    """Bring together what is known of a trained model.

    Args:
        contender: The model.
        family: Its family's name.
        evaluation: Its figures on the test images.
    """
    checkpoint = read_checkpoint(contender.checkpoint)
    times = times_of(contender.checkpoint)
    return ComparedModel(
        name=contender.name,
        family=family,
        given=contender.given,
        checkpoint=str(contender.checkpoint),
        trained_now=bool(contender.training),
        epochs=checkpoint["epoch"] + 1,
        images_seen=images_seen(checkpoint, len(contender.data.source.train)),
        wall_seconds=times.wall,
        cpu_seconds=times.cpu,
        validation_errors=[
            (int(row["epoch"]), row.get("val_error", math.nan)) for row in _epochs_of(contender.checkpoint)
        ],
        evaluation=evaluation,
    )


def images_seen(checkpoint: Mapping[str, Any], images: int) -> int | None:
    """How many images a training was shown, each as often as it was shown; None where only its weights were kept.

    Args:
        checkpoint: What :func:`glimpse.training.checkpoint.read_checkpoint` read.
        images: Training images that there are.
    """
    if "loops" not in checkpoint:
        return None
    options = checkpoint["datamodule_hyper_parameters"]
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    seen: int = batches * min(options["batch_size"], images * options["passes"])
    return seen


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


TRAINING_GROUPS = ("--data.", "--model.", "--trainer.")
"""What the options begin with that ``compare`` hands to its trainings, besides ``--seed``."""


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
