"""Handing an exported file to the target that serves it."""

from dataclasses import dataclass
from pathlib import Path

from glimpse.export.checkpoint import Exported
from glimpse.export.targets.kserve import check_manifest, check_service_name, write_kserve
from glimpse.export.targets.triton import check_model_name, check_repository, write_triton


@dataclass(frozen=True)
class Destination:
    """What an exported model is delivered to, besides the file.

    Attributes:
        kind: ``triton``, a model repository, or ``kserve``, the manifest of a service.
        place: The repository's folder, or the manifest's file.
        name: What the model is called there.
        storage_uri: Where a cluster finds the model repository; of a manifest.
        gpu: Whether it is to run on GPUs.
    """

    kind: str
    place: Path
    name: str
    storage_uri: str = ""
    gpu: bool = False


def check_name(kind: str, name: str) -> None:
    """Refuse what a server could not call a model.

    Args:
        kind: The destination's kind.
        name: What the model is to be called.

    Raises:
        DeploymentError: When it is no name there.
    """
    check = check_model_name if kind == "triton" else check_service_name
    check(name)


def check_destination(destination: Destination) -> None:
    """Refuse a destination that :func:`deliver` could not deliver to, before minutes go into measuring the model.

    Args:
        destination: Where an exported model is to go.

    Raises:
        DeploymentError: When its name, place or address will not do.
    """
    if destination.kind == "triton":
        check_repository(destination.place, destination.name)
    else:
        check_manifest(destination.place, destination.name, destination.storage_uri)


def deliver(exported: Exported, destination: Destination) -> Path:
    """Hand an exported file on to what serves it.

    Args:
        exported: The file.
        destination: What to hand it to.

    Returns:
        What was written: a version's folder in the repository, or the manifest.

    Raises:
        DeploymentError: When the destination's name, place or address will not do.
    """
    if destination.kind == "triton":
        return write_triton(exported.path, exported.card, destination.place, destination.name, gpu=destination.gpu)
    write_kserve(
        exported.path,
        exported.card,
        destination.place,
        destination.name,
        destination.storage_uri,
        gpu=destination.gpu,
    )
    return destination.place
