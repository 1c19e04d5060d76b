"""The interface of export targets, which write what a model server needs to serve an exported file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from glimpse.contract.card import ModelCard


class TargetOption(NamedTuple):
    """An option that a target needs beside its place and the model's name; a field of the target has the same name."""

    name: str
    metavar: str
    meaning: str
    """Its meaning, for the help."""
    example: str
    reason: str
    """Why the target needs it, for the error when it is missing."""


@dataclass(frozen=True)
class Target(ABC):
    """A place that one exported model is delivered to.

    Attributes:
        place: The file or the folder to write.
        name: What the model is called there.
        gpu: Whether the model is to run on GPUs.
    """

    kind: ClassVar[str]
    """The word that chooses this target on the command line."""
    place_metavar: ClassVar[str]
    """Whether ``place`` is a ``FOLDER`` or a ``FILE``, for the help."""
    summary: ClassVar[str]
    """A description of what is written, for the help."""
    options: ClassVar[Sequence[TargetOption]] = ()
    """Further options that it needs."""

    place: Path
    name: str
    gpu: bool = False

    @staticmethod
    @abstractmethod
    def check_name(name: str) -> None:
        """Reject a name that the target could not give a model.

        Args:
            name: What the model is to be called.

        Raises:
            DeploymentError: When the name is not valid.
        """

    @abstractmethod
    def check(self) -> None:
        """Reject a place, a name or an option that :meth:`deliver` would reject; nothing is written.

        Raises:
            DeploymentError: When one of them is not valid, or what is at the place must not be replaced.
        """

    @abstractmethod
    def deliver(self, model: Path, card: ModelCard) -> Path:
        """Write the files of a model for the target.

        Args:
            model: The exported file.
            card: Its card.

        Returns:
            The file or the folder that was written.

        Raises:
            ContractError: When the file is not sealed, or was changed after it was.
            DeploymentError: As for :meth:`check`, or when the file does not match its card.
            OSError: When it can't be written.
        """
