"""The loggers that ``--logger`` names: Lightning's, which write into the run's folder; MLflow's, where MLflow would.

It imports torch.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from glimpse.cli.usage import UsageError

PROJECT = "glimpse"
"""The project or experiment of all runs, where a service groups them."""


class NamedLogger(NamedTuple):
    """A logger, and what it needs."""

    package: str | None
    """The package without which it can't be made; None where there is none."""
    make: Callable[[Path], Logger]
    """Makes it for a run's folder."""


LOGGERS = {
    "csv": NamedLogger(None, lambda output: CSVLogger(str(output), name="csv")),
    "mlflow": NamedLogger(
        "mlflow",
        lambda output: MLFlowLogger(
            PROJECT, output.name, tracking_uri=import_module("mlflow").get_tracking_uri(), save_dir=None
        ),
    ),
    "tensorboard": NamedLogger("tensorboard", lambda output: TensorBoardLogger(str(output), name="", version="")),
    "wandb": NamedLogger("wandb", lambda output: WandbLogger(name=output.name, project=PROJECT, save_dir=str(output))),
}


def choose_loggers(given: Any, names: Iterable[str | None], output: Path) -> Any:
    """The trainer's loggers: those that are named, or those that the trainer's own options make; none by default.

    Args:
        given: What the trainer's option ``logger`` is.
        names: Names out of :data:`LOGGERS`, each once however often it is given; None for nothing.
        output: The run's folder.

    Raises:
        UsageError: When both are given, or a logger can't be made.
    """
    named = sorted({name for name in names if name is not None})
    if given and named:
        raise UsageError("expected --logger or --trainer.logger, got both; leave one of them out")
    return given or [make_logger(name, output) for name in named] or False


def make_logger(name: str, output: Path) -> Logger:
    """Make a logger; it writes nothing into the run's folder before the training starts.

    Args:
        name: One of :data:`LOGGERS`.
        output: The run's folder.

    Raises:
        UsageError: When there is no such logger, or its package is not installed.
    """
    if name not in LOGGERS:
        raise UsageError(f"--logger: expected one of {', '.join(LOGGERS)}; got {name!r}")
    package, make = LOGGERS[name]
    if package is not None and find_spec(package) is None:
        raise UsageError(
            f"--logger {name}: expected the package {package}, which is not installed; install it with "
            f"'pip install {package}', or choose another logger (csv needs none)"
        )
    return make(output)
