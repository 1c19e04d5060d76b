"""The plan of a comparison: what each model is, and the checks before any training."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glimpse.cli.compare.training import PROGRAM, Candidate, times_of
from glimpse.cli.train.recipes import CONFIG_FILE, find_recipe, flatten_recipe, read_recipe
from glimpse.cli.train.run.dry_run import dry_run
from glimpse.cli.train.run.folder import choose_output
from glimpse.cli.train.run.resuming import MAY_CHANGE
from glimpse.cli.usage import UsageError, invocation
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import FOLDER, DataError, data_root
from glimpse.training.callbacks import LAST_FILE
from glimpse.training.checkpoint import load_with_data, read_checkpoint

OF_TRAINING_ALONE = ("root", "download", "jitter", "augmentation", "flips", "batch_size", "passes", "seed")
"""Options of the data that leave the held-out images as they are."""
BUDGET = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.limit_train_batches",
    "data.passes",
)
"""Options that decide how many images a training uses."""
OWN_OPTIONS = ("--config", "-c", "--ckpt_path", "--output", "--overwrite", "--print_config", "--help-all")
"""Options of a training that the comparison sets itself."""
MAX_DIFFERENCES = 4
"""How many differences between recipes a message lists."""


def plan_candidates(
    models: Sequence[str], folder: Path, training: Sequence[str], root: str | None, overwrite: bool
) -> list[Candidate]:
    """Plan the comparison, and reject models that can't be trained, loaded or compared. Nothing is written.

    Args:
        models: Recipes and checkpoints.
        folder: The comparison's folder.
        training: Options for every training.
        root: Where the data set lies.
        overwrite: Whether recipes whose runs the folder holds are trained again.

    Raises:
        UsageError: When the models can't be compared, or a recipe or an option is wrong.
        CheckpointError: When a checkpoint is none of ours, or its data have changed.
        DataError: When the data are not there.
    """
    wrong = [option for option in training if option.partition("=")[0] in OWN_OPTIONS]
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
    candidates = [
        _plan_checkpoint(name, model, root)
        if _is_checkpoint(model)
        else _plan_recipe(name, model, folder, training, root, overwrite)
        for name, model in given.items()
    ]
    for candidate in candidates[1:]:
        check_comparable(candidates[0], candidate)
    written = {candidate.checkpoint.resolve().parent: candidate for candidate in candidates if candidate.training}
    for candidate in candidates:
        other = written.get(candidate.checkpoint.resolve().parent, candidate)
        if other is not candidate:
            raise UsageError(
                f"{candidate.given} would be overwritten by the training of {other.given}; copy it to another folder, "
                "or choose another --output"
            )
    planned = [candidate for candidate in candidates if candidate.budget]
    for candidate in planned[1:]:
        _check_budget(planned[0], candidate)
    return candidates


def name_of(model: str) -> str:
    """The name of a model: its recipe's name, or its run's; ``RUN-best`` for a run's best model.

    Args:
        model: A recipe or a checkpoint.
    """
    path = Path(model).expanduser()
    run = path.resolve().parent.name
    if _is_checkpoint(model):
        return {"last": run, "best": f"{run}-best"}.get(path.stem, path.stem)
    return run if path.name == CONFIG_FILE else path.stem


def check_comparable(one: Candidate, other: Candidate) -> None:
    """Reject models whose held-out images are not the same.

    Raises:
        UsageError: When they differ.
    """
    mine, others = _held_out(one.data), _held_out(other.data)
    differences = [f"--data.{name} is {mine[name]}, {others[name]}" for name in mine if mine[name] != others[name]]
    if not differences and one.data.classes != other.data.classes:
        differences = [f"the classes are {', '.join(one.data.classes)}; {', '.join(other.data.classes)}"]
    if differences:
        raise UsageError(
            f"expected models of one data set, got {one.name} on {one.data.describe()} and {other.name} on "
            f"{other.data.describe()}: {'; '.join(differences)}; give every training the same --data.OPTION, "
            "or leave one out"
        )


def _held_out(data: ImageData) -> dict[str, Any]:
    options = {name: value for name, value in data.hparams.items() if name not in OF_TRAINING_ALONE}
    return options | {"root": data_root(data.root).resolve() if data.dataset == FOLDER else ""}


def _check_budget(one: Candidate, other: Candidate) -> None:
    differences = [
        f"--{name} is {one.budget[name]}, {other.budget[name]}"
        for name in BUDGET
        if one.budget[name] != other.budget[name]
    ]
    if differences:
        raise UsageError(
            f"expected one budget for all trainings, got {one.name} and {other.name}: {'; '.join(differences)}; give "
            f"{differences[0].split()[0]} behind the models, and it holds for all"
        )


def _is_checkpoint(model: str) -> bool:
    return Path(model).suffix == ".ckpt"


def _plan_checkpoint(name: str, model: str, root: str | None) -> Candidate:
    path = Path(model).expanduser()
    return Candidate(name, model, path, (), load_with_data(path, root)[1], {})


def _plan_recipe(
    name: str, model: str, folder: Path, training: Sequence[str], root: str | None, overwrite: bool
) -> Candidate:
    file = find_recipe(model, option="")
    try:
        rooted = ["--data.root", root] if root else []
        options = ["fit", "--config", str(file), *rooted, *training]
        data, recipe = dry_run(options, PROGRAM)
    except (UsageError, DataError) as error:
        raise UsageError(f"{model}: {error}") from error
    output = folder / "runs" / name
    last = output / LAST_FILE
    budget = {option: recipe.get(option) for option in BUDGET}
    if last.is_file() and not overwrite:
        check_finished_run(last, recipe)
        return Candidate(name, model, last, (), data, budget)
    # A run that was stopped before its first checkpoint can be replaced: nothing is lost.
    replace = overwrite or not list(output.glob("*.ckpt"))
    choose_output(str(output), name, replace, None)
    given = (*options, "--output", str(output), *["--overwrite"] * replace)
    return Candidate(name, model, last, given, data, budget)


def check_finished_run(last: Path, recipe: Mapping[str, Any]) -> None:
    """Reject a run that is not the finished run of a recipe: it was of another recipe, or it was stopped.

    Args:
        last: The run's last checkpoint.
        recipe: The options that a training would have now, by name.

    Raises:
        UsageError: When it is not what a training would give.
        CheckpointError: When the file is no checkpoint of ours.
    """
    checkpoint = read_checkpoint(last)
    was = flatten_recipe(read_recipe(last.parent / CONFIG_FILE))
    moved = {".".join(option) for option in MAY_CHANGE}
    differences = [
        f"--{name} was {was.get(name)}, is {recipe.get(name)}"
        for name in dict.fromkeys([*recipe, *was])
        if was.get(name) != recipe.get(name) and name not in moved
    ]
    again = "to train it anew, add --overwrite"
    if differences:
        more = f"; and {len(differences) - MAX_DIFFERENCES} more" if len(differences) > MAX_DIFFERENCES else ""
        raise UsageError(
            f"{last.parent} holds a run of another recipe: {'; '.join(differences[:MAX_DIFFERENCES])}{more}; {again}, "
            "or choose another --output"
        )
    epochs, planned = checkpoint["epoch"] + 1, recipe["trainer.max_epochs"] or 0
    if epochs < planned and times_of(last).cpu is None:
        raise UsageError(
            f"{last.parent} holds a run that was stopped after {epochs} of {planned} epochs; finish it with: "
            f"{invocation()} train --ckpt_path {shlex.quote(str(last))}; {again}"
        )
