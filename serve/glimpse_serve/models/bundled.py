"""The models that come with the package: two that classify handwritten digits on cluttered canvases.

``glimpse serve`` serves them when no other model is given. ``bundled_files/README.md`` states their accuracy and how
they are trained again.
"""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from glimpse.contract.card import ContractError
from glimpse.contract.seal import read_seal

BUNDLED_FOLDER = "bundled_files"


class BundledModel(NamedTuple):
    """A model that comes with the package."""

    name: str
    """Its name in requests."""
    made_by: str
    """The command that trained it; its card names it, too."""
    sha256: str
    """The seal of its file."""

    @property
    def path(self) -> Path:
        """Path of its ONNX file."""
        return Path(str(resources.files("glimpse_serve.models") / BUNDLED_FOLDER / f"{self.name}.onnx"))


HARD = BundledModel(
    "digits-hard",
    "glimpse train --config cluttered-60-8 --seed 0 --trainer.max_epochs 56",
    "4016187a3d4d57987fa4e6f94e11fcd57d801f5a7e07201a2d0eda7b4ace61c1",
)
"""Hard attention: glimpses through a retina, until it is confident."""
SOFT = BundledModel(
    "digits-soft",
    "glimpse train --config cluttered-60-soft --seed 0",
    "9924879525d22179305a0b24ef4f8db1db7a218a81757148b1a9954523b9d213",
)
"""Soft attention over the whole image; it returns attention maps."""


def models() -> tuple[BundledModel, ...]:
    """The models, in the order in which they are listed."""
    return HARD, SOFT


def is_bundled(path: Path) -> bool:
    """Whether a file is one that comes with the package, unchanged; such a file needs no trial.

    Args:
        path: The file.
    """
    known = [model.sha256 for model in models() if model.path == path]
    try:
        return bool(known) and read_seal(path.read_bytes()) in known
    except (OSError, ContractError):
        return False
