"""A training rehearsed: all that happens before it begins, so that what would refuse it does so early."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glimpse.cli.train.arguments import complete_arguments
from glimpse.cli.train.lightning_output import quiet
from glimpse.cli.train.messages import ParserError, explain_mistake
from glimpse.cli.train.options import known_options
from glimpse.cli.train.recipes import read_recipe
from glimpse.cli.train.run_folder import CONFIG_FILE
from glimpse.cli.train.training_cli import SaveRun, TrainingCLI
from glimpse.cli.usage import UsageError
from glimpse.data.datamodule import ImageData


class DryRun(TrainingCLI):
    """All that a training does before it begins, so that it is refused early; then no training, and no file."""

    def before_fit(self) -> None:
        """Load pretrained weights, which may be refused; leave the folders as they are."""
        self.load_pretrained()

    def fit(self, **kwargs: Any) -> None:
        """Train nothing."""

    def after_fit(self) -> None:
        """Say nothing."""


def dry_run(options: Sequence[str], program: str) -> tuple[ImageData, dict[str, Any]]:
    """Do all that a training does before it begins.

    Args:
        options: The training's command line, without its folder.
        program: How the user calls the command.

    Returns:
        Its data, read, and its resolved recipe, each option by its name.

    Raises:
        UsageError: When the training would be refused, or would keep no checkpoint.
        DataError: When the data are not there.
    """
    files: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*options, "--output", folder]
        try:
            with quiet(), _informing_once():
                cli = DryRun(complete_arguments(arguments, files)[0], program, "rehearsal")
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
    return cli.datamodule, flattened(recipe)


@contextmanager
def _informing_once() -> Iterator[None]:
    """Leave out what Lightning says of the hardware; the training itself says it again."""
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def flattened(recipe: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """A recipe's options by name, such as ``model.num_glimpses``; a class goes by the name of its group."""
    options: dict[str, Any] = {}
    for key, value in recipe.items():
        name = group if key in ("init_args", "class_path") else f"{group}.{key}".strip(".")
        options |= flattened(value, name) if isinstance(value, dict) else {name: value}
    return options
