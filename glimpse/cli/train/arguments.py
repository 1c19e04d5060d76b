"""The arguments of a training: completed with the command, the recipe and the family that a user may leave out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glimpse.cli.train.class_names import check_names, groups_of_ours, import_path
from glimpse.cli.train.messages import check_decided
from glimpse.cli.train.options.names import check_known, complete_flags, take
from glimpse.cli.train.recipes import (
    CONFIG_FILE,
    DEFAULT_RECIPE,
    FOLDER_RECIPE,
    find_recipe,
    flatten_recipe,
    read_recipe,
)
from glimpse.cli.train.run.resuming import find_run
from glimpse.cli.usage import UsageError

COMMAND = "fit"
DEFAULT_FAMILY = "HardAttentionTraining"
"""The family that is trained where neither a recipe nor the user names one."""


def complete_arguments(args: Sequence[str], files: dict[str, list[str]]) -> tuple[list[str], str]:
    """Add what a user may leave out: the command, and the recipe. Recipes go first, so that options win over them.

    Args:
        args: The command line.
        files: Gets the names of the options that each recipe sets, by the recipe's path.

    Returns:
        The complete command line, in which flags have the value ``true``, and a name for the run.

    Raises:
        UsageError: When there is no such command, recipe, class or option, or one is given that something else decides.
    """
    if args and not args[0].startswith("-") and args[0] != COMMAND:
        raise UsageError(f"expected options, or the command {COMMAND}, got {args[0]!r}; see --help")
    options = complete_flags(args[1:] if args[:1] == [COMMAND] else args)
    run = resumed_run(options)
    names = take(options, "--config", "-c")
    resumed, tuned = (
        [Path(file).expanduser() for file in take(list(options), name)] for name in ("--ckpt_path", "--finetune")
    )
    if resumed and tuned:
        raise UsageError(
            f"expected --ckpt_path, to go on with the run of {resumed[-1]}, or --finetune, to begin a new one with the "
            f"weights of {tuned[-1]}; got both; leave one of them out"
        )
    if names:
        chosen = [find_recipe(name) for name in names]
    elif run:
        chosen = [run / CONFIG_FILE]
        options.append(f"--resume={run}")
    elif resumed or tuned:
        chosen = [recipe_beside([*resumed, *tuned][-1])]
    else:
        chosen = [find_recipe(usual_recipe(options))]
    contents = {str(path): read_recipe(path) for path in chosen}
    files.update({path: list(flatten_recipe(content)) for path, content in contents.items()})
    check_decided(args, files)
    check_names(options, contents)
    check_known(options, files, {"trainer", *groups_of_ours(options, contents)})
    # No parser's default: options of the default family would stay behind when a recipe chooses another one.
    family = [] if any(map(names_family, contents.values())) else [f"--model={import_path(DEFAULT_FAMILY)}"]
    last = chosen[-1]
    name = last.resolve().parent.name if last.name == CONFIG_FILE else last.stem
    return [COMMAND, *family, *(f"--config={path}" for path in chosen), *options], name


def usual_recipe(options: Sequence[str]) -> str:
    """The recipe where the user names none: that of folders for a folder's images, whose sizes are others than digits'.

    Args:
        options: The command line.
    """
    datasets = take(list(options), "--data.dataset", "--data.init_args.dataset")
    return FOLDER_RECIPE if datasets[-1:] == [FOLDER_RECIPE] else DEFAULT_RECIPE


def resumed_run(options: list[str]) -> Path | None:
    """Take ``--resume RUN`` out of a command line, and return the run's folder; None where there is no such option.

    Args:
        options: The command line.

    Raises:
        UsageError: When there is no such run, or an option is given that the run decides.
    """
    runs = take(options, "--resume")
    if not runs:
        return None
    for name in ("--config", "-c", "--ckpt_path", "--output", "--overwrite"):
        if any(option.partition("=")[0] == name for option in options):
            raise UsageError(f"{name} can't be given with --resume, which takes it from the run; leave it out")
    return find_run(runs[-1])


def names_family(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe names the family of models that it trains."""
    model = recipe.get("model")
    return isinstance(model, str) or (isinstance(model, dict) and "class_path" in model)


def recipe_beside(checkpoint: Path) -> Path:
    """The resolved configuration of the run that a checkpoint is of.

    Raises:
        CheckpointError: When the checkpoint is not there.
        UsageError: When there is no configuration beside it.
    """
    recipe = checkpoint.parent / CONFIG_FILE
    if not recipe.is_file():
        from glimpse.training.checkpoint import read_checkpoint

        read_checkpoint(checkpoint)
        raise UsageError(f"expected the run's {CONFIG_FILE} beside {checkpoint}, found none; give it with --config")
    return recipe
