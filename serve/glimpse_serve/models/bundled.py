"""The models that come with the package: two that classify handwritten digits on cluttered canvases.

``glimpse serve`` serves them when no other model is given. ``bundled_files/README.md`` states their accuracy and how
they are trained again.
"""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

BUNDLED_FOLDER = "bundled_files"


class BundledModel(NamedTuple):
    """A model that comes with the package."""

    name: str
    """Its name in requests."""
    made_by: str
    """The command that trained it; its card names it, too."""

    @property
    def path(self) -> Path:
        """Path of its ONNX file."""
        return Path(str(resources.files("glimpse_serve.models") / BUNDLED_FOLDER / f"{self.name}.onnx"))


HARD = BundledModel("digits-hard", "glimpse train --config cluttered-60-8 --seed 0 --trainer.max_epochs 56")
"""Hard attention: glimpses through a retina, until it is confident."""
SOFT = BundledModel("digits-soft", "glimpse train --config cluttered-60-soft --seed 0")
"""Soft attention over the whole image; it returns attention maps."""


def models() -> tuple[BundledModel, ...]:
    """The models, in the order in which they are listed."""
    return HARD, SOFT
