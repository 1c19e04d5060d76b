"""The models that come with the package: two that read handwritten digits scattered over cluttered canvases.

``glimpse serve`` serves them where it is told of no other. ``bundled_files/README.md`` says what they are worth and
how they are made anew.
"""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

FOLDER = "bundled_files"


class BundledModel(NamedTuple):
    """A model that comes with the package."""

    name: str
    """What it is called when it is served."""
    made_by: str
    """The command of its training; its card says so, too."""

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(str(resources.files("glimpse_serve.models") / FOLDER / f"{self.name}.onnx"))


HARD = BundledModel("digits-hard", "glimpse train --config cluttered-60-8 --seed 0 --trainer.max_epochs 56")
"""It looks through a retina, one glimpse after another, as many as it needs."""
SOFT = BundledModel("digits-soft", "glimpse train --config cluttered-60-soft --seed 0")
"""It spreads its attention over the whole image, and answers with the map of it."""


def models() -> tuple[BundledModel, ...]:
    """The models, in the order in which they are told of."""
    return HARD, SOFT
