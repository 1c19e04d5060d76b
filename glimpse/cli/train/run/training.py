"""A training from its command line, errors included. torch is imported when it runs."""

from collections.abc import Sequence
from pathlib import Path

from glimpse.cli.train.run.memory import keep_freed_memory
from glimpse.cli.usage import UsageError
from glimpse.errors import ArgumentError


def train(args: Sequence[str], program: str, concludes: bool = True) -> None:
    """Train as a command line states.

    Args:
        args: The arguments, without the program's name.
        program: How the user calls the command.
        concludes: Whether the best and the last model are measured at the end, and one is recommended.

    Raises:
        UsageError: When the user has made a mistake.
        RunError: When the training failed.
    """
    from glimpse.cli.train.arguments import complete_arguments
    from glimpse.cli.train.class_names import names_own_alone
    from glimpse.cli.train.lightning_setup import import_metrics_lightly, quiet
    from glimpse.cli.train.messages import ParserError, explain_mistake
    from glimpse.cli.train.options.names import known_options
    from glimpse.cli.train.recipes import read_recipe

    keep_freed_memory()
    files: dict[str, list[str]] = {}
    try:
        with quiet():
            arguments, name = complete_arguments(args, files)
            if names_own_alone(arguments, {file: read_recipe(Path(file)) for file in files}):
                import_metrics_lightly()
            from glimpse.cli.train.training_cli import TrainingCLI, UnconcludedTraining

            (TrainingCLI if concludes else UnconcludedTraining)(arguments, program, name)
    except ParserError as error:
        raise UsageError(explain_mistake(str(error), args, files, known_options)) from error
    except ArgumentError as error:
        raise UsageError(str(error)) from error
