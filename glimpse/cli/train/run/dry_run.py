"""A dry run of a training: everything that happens before the first step, so that errors come early."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glimpse.cli.train.arguments import complete_arguments
from glimpse.cli.train.lightning_setup import quiet, without_hardware_messages
from glimpse.cli.train.messages import ParserError, explain_mistake
from glimpse.cli.train.options.names import known_options
from glimpse.cli.train.recipes import CONFIG_FILE, flatten_recipe, read_recipe
from glimpse.cli.train.run.callbacks import SaveRun
from glimpse.cli.train.training_cli import TrainingCLI
from glimpse.cli.usage import UsageError
from glimpse.data.datamodule import ImageData


class DryRun(TrainingCLI):
    """A training that ends before its first step, and writes no file."""

    def before_fit(self) -> None:
        """Load pretrained weights, which may fail; leave the folders as they are."""
        self.load_pretrained()

    def fit(self, **kwargs: Any) -> None:
        """Train nothing."""

    def after_fit(self) -> None:
        """Print nothing."""


def dry_run(options: Sequence[str], program: str) -> tuple[ImageData, dict[str, Any]]:
    """Do everything that a training does before its first step.

    Args:
        options: The training's command line, without its folder.
        program: How the user calls the command.

    Returns:
        Its data, loaded, and its resolved recipe, each option by its name.

    Raises:
        UsageError: When the training would fail, or would keep no checkpoint.
        DataError: When the data are not there.
    """
    files: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*options, "--output", folder]
        try:
            with quiet(), without_hardware_messages():
                cli = DryRun(complete_arguments(arguments, files)[0], program, "dry-run")
        except ParserError as error:
            raise UsageError(explain_mistake(str(error), arguments, files, known_options)) from error
        saving = [callback for callback in cli.trainer.callbacks if isinstance(callback, SaveRun)]  # type: ignore[attr-defined]
        if not saving or not cli.trainer.checkpoint_callbacks:
            raise UsageError(
                "expected a training that keeps its model, got --trainer.fast_dev_run or "
                "--trainer.enable_checkpointing false; leave it out"
            )
        saving[0].save_config(cli.trainer, cli.model, "fit")
        recipe = read_recipe(Path(folder) / CONFIG_FILE)
    if not isinstance(cli.datamodule, ImageData):
        raise UsageError(f"expected data of the class ImageData, got {type(cli.datamodule).__name__}; change data:")
    return cli.datamodule, flatten_recipe(recipe)
