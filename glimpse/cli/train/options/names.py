"""The names of a training's options, and the first look at a command line by them. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, NamedTuple

from glimpse.cli.train.messages import DECIDED, OPTION_GROUPS, option_name, unknown_option
from glimpse.cli.train.options.signatures import ClassArgument, class_arguments, classes_of
from glimpse.cli.usage import UsageError

FUSED = "fused"
"""The usual roll-out, without an environment."""
FAMILIES_MODULE = "glimpse.training.families"
DATA_CLASS = ("glimpse.data.datamodule", "ImageData")
TRAINER_CLASS = ("pytorch_lightning.trainer.trainer", "Trainer")


class OwnOption(NamedTuple):
    """An option that is neither the data's, the model's nor the trainer's."""

    name: str
    type: Any
    default: Any
    help: str


COMMAND_OPTIONS = (
    OwnOption("seed", int, 0, "Fixes the whole run."),
    OwnOption("output", str | None, None, "Folder of the run; runs/RECIPE if left out."),
    OwnOption("resume", str | None, None, "Run to go on with: its folder, or its name."),
    OwnOption("overwrite", bool, False, "Whether to replace a run that is there already."),
    OwnOption("rollout", str, FUSED, "fused, or env: glimpses and rewards from a Gymnasium environment."),
    OwnOption(
        "early_stopping", int | None, None, "Epochs without a better model after which to stop; never if left out."
    ),
    OwnOption(
        "finetune", str | None, None, "Checkpoint whose weights, but for other classes, the training begins with."
    ),
    OwnOption("logger", str | None, None, "csv, mlflow, tensorboard or wandb, beside the run's own metrics.csv."),
    OwnOption("tensorboard", bool, False, "Whether to write TensorBoard's files as well."),
)
PARSERS_OPTIONS = ("config", "ckpt_path", "print_config", "help", "help-all")
"""Options of the command that Lightning's parser, or the command itself, adds."""
OF_CLASSES = ("class_path", "init_args", "dict_kwargs", "help")
"""What may be set of a class beside its arguments."""


@cache
def families_by_name() -> dict[str, str]:
    """The training classes of all families, by name, each with its module."""
    return classes_of(FAMILIES_MODULE, "FAMILIES")


@cache
def arguments_by_group() -> dict[str, dict[str, ClassArgument]]:
    """The arguments of the data, the trainer, and the models of all families, by name, for each group of options."""
    models = [each for name, module in families_by_name().items() for each in class_arguments(module, name)]
    found = {"data": class_arguments(*DATA_CLASS), "model": models, "trainer": class_arguments(*TRAINER_CLASS)}
    return {
        group: {each.name: each for each in found if f"{group}.{each.name}" not in DECIDED}
        for group, found in found.items()
    }


@cache
def known_options() -> tuple[str, ...]:
    """Names of all options, without leading dashes."""
    own = [option.name for option in COMMAND_OPTIONS]
    return (
        *own,
        *(name for name in PARSERS_OPTIONS if name != "help"),
        *(f"{group}.{name}" for group, arguments in arguments_by_group().items() for name in arguments),
        *arguments_by_group(),
    )


@cache
def boolean_options() -> frozenset[str]:
    """Names of the options that are true or false, without leading dashes."""
    own = [option.name for option in COMMAND_OPTIONS if option.type is bool]
    of_groups = [
        f"{group}.{each.name}"
        for group, arguments in arguments_by_group().items()
        for each in arguments.values()
        if each.is_boolean
    ]
    return frozenset(own + of_groups)


def check_known(args: Sequence[str], files: Mapping[str, Iterable[str]], groups: Iterable[str] = OPTION_GROUPS) -> None:
    """Reject options that no class of ours and no trainer has, before anything is imported.

    Args:
        args: The command line.
        files: Names of the options that each recipe sets, by the recipe's path.
        groups: The groups whose classes are ours or Lightning's; a user's own class may have any option.

    Raises:
        UsageError: With the nearest option, and the recipe that sets the wrong one.
    """
    checked = set(groups)
    given = [arg for arg in args if arg.startswith("--") and arg != "--"]
    for file, names in [(None, map(option_name, given)), *files.items()]:
        for name in names:
            if not _is_known(name, checked):
                raise UsageError(unknown_option(name, file, known_options()))


def _is_known(name: str, checked: set[str]) -> bool:
    group, dot, rest = name.partition(".")
    if not dot or group not in OPTION_GROUPS:
        return name.rstrip("+") in {*(option.name for option in COMMAND_OPTIONS), *PARSERS_OPTIONS, *OPTION_GROUPS}
    argument = rest.partition(".")[0].rstrip("+")
    return group not in checked or argument in arguments_by_group()[group] or argument in OF_CLASSES


def complete_flags(args: Sequence[str]) -> list[str]:
    """Give the value ``true`` to boolean options that stand alone, so that they are flags.

    Args:
        args: The command line. A boolean option that is followed by a value, or holds one, stays as it is.
    """
    completed = []
    for arg, following in zip_longest(args, args[1:], fillvalue="--"):
        alone = arg.startswith("--") and "=" not in arg and following.startswith("-")
        flag = alone and arg[2:].replace(".init_args.", ".") in boolean_options()
        completed.append(f"{arg}=true" if flag else arg)
    return completed


def take(options: list[str], *names: str) -> list[str]:
    """Take every occurrence of an option out of a command line.

    Args:
        options: The command line, which loses them.
        names: The option's names, with their dashes.

    Returns:
        Their values, in order.

    Raises:
        UsageError: When one of them has no value.
    """
    values, rest = [], []
    remaining = iter(options)
    for option in remaining:
        name, equals, value = option.partition("=")
        if name not in names:
            rest.append(option)
            continue
        given = value if equals else next(remaining, "")
        if not given or (not equals and given.startswith("--")):
            raise UsageError(f"{name}: expected a value after it, got none; see --help")
        values.append(given)
    options[:] = rest
    return values
