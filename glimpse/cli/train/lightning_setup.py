"""Lightning as a training needs it: imported without what it does not use, and without messages that do not help."""

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from typing import Any

QUIET_WARNINGS = (
    # Small data sets live in memory: there is nothing for worker processes to do.
    r".*does not have many workers",
    # A run that goes on from a checkpoint writes into its own folder.
    r"Checkpoint directory .* exists and is not empty",
    # One that goes on in another folder keeps the best of that folder.
    r"The dirpath has changed from",
    # Figures are logged by epoch, however few steps it has.
    r"The number of training batches .* is smaller than the logging interval",
    # A head that is fitted before the first step leaves nothing to train.
    r"`training_step` returned `None`",
    # A frozen backbone is meant to be.
    r"Found .* module\(s\) in eval mode at the start of training",
    # Several processes that share the training all validate on every image, and have the same figures.
    r"It is recommended to use `self\.log\(",
    # Lightning asks torch's pytree for a class that torch deprecates.
    r".*LeafSpec.*is deprecated",
)
QUIET_LOGS = {
    "pytorch_lightning.utilities.rank_zero": (
        "litlogger",
        "litmodels",
        "TPU available",
        "`Trainer.fit` stopped",
        "to estimate number of stepping batches",
        "Automatic Mixed Precision",
        "All distributed processes registered",
        "Detected KeyboardInterrupt",
    ),
    "lightning_fabric.utilities.distributed": ("Initializing distributed",),
    "lightning_fabric.utilities.seed": ("Seed set to",),
}
"""Messages that do not help the user: advertising, rare hardware, and what the command line prints itself."""


UNUSED = ("scipy", "matplotlib", "torchvision")
"""Packages that torchmetrics imports for metrics that no model of ours uses: a quarter of a training's fixed cost."""


def import_metrics_lightly() -> None:
    """Import torchmetrics, which Lightning imports, as if the packages of :data:`UNUSED` were not installed.

    Torchmetrics leaves out the metrics that need them, for as long as the process runs; a training with a class of the
    user's own may want these. The packages themselves can be imported afterwards as ever.
    """
    if "torchmetrics" in sys.modules:
        return
    import torch  # noqa: F401 (what it imports is not to be hidden from it)

    # Any, since it exports no name of those that are needed.
    imports: Any = import_module("lightning_utilities.core.imports")
    hidden = [name for name in UNUSED if name not in sys.modules]
    version = imports._version

    def version_unless_hidden(name: str) -> str:
        if name in hidden:
            raise PackageNotFoundError(name)
        return str(version(name))

    imports._version = version_unless_hidden
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import torchmetrics  # noqa: F401
    finally:
        imports._version = version
        for name in hidden:
            del sys.modules[name]
        imports.package_available.cache_clear()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress messages of Lightning that do not help the user."""
    filters = [(logging.getLogger(name), _Without(texts)) for name, texts in QUIET_LOGS.items()]
    for logger, unwanted in filters:
        logger.addFilter(unwanted)
    try:
        with warnings.catch_warnings():
            for message in QUIET_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, unwanted in filters:
            logger.removeFilter(unwanted)


@contextmanager
def without_hardware_messages() -> Iterator[None]:
    """Suppress Lightning's messages about the hardware, which another training prints again."""
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Without(logging.Filter):
    """Suppresses messages that contain one of some texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self.texts = texts

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in self.texts)
