"""Messages of Lightning that do not help the user, suppressed."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

QUIET_WARNINGS = (
    # Small data sets live in memory: there is nothing for worker processes to do.
    r".*does not have many workers",
    # A run that goes on from a checkpoint writes into its own folder.
    r"Checkpoint directory .* exists and is not empty",
    # One that goes on in another folder keeps the best of that folder.
    r"The dirpath has changed from",
    # Figures are logged by epoch, however few steps it has.
    r"The number of training batches .* is smaller than the logging interval",
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
    ),
    "lightning_fabric.utilities.seed": ("Seed set to",),
}
"""Messages that do not help the user: advertising, rare hardware, and what the command line prints itself."""


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


class _Without(logging.Filter):
    """Suppresses messages that contain one of some texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self.texts = texts

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in self.texts)
