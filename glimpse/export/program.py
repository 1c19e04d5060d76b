"""The export of a model as a program of torch.export: the episode, which runs in torch without Glimpse.

``torch.export.load(path).module()`` runs it. Before a file is kept, it is loaded again and compared with the model on
real images.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.tensors import LOGITS
from glimpse.export.graph.annotations import drop_program_annotations
from glimpse.export.graph.whole import Episode
from glimpse.files import whole_path, write_problem
from glimpse.models.observer import Observer

PROGRAM_TOLERANCE = 1e-4
"""Largest difference in any number between the program and the model."""
SUFFIX = ".pt2"
"""The suffix that torch gives such files."""


class ProgramError(ValueError):
    """A program whose outputs would differ from the model's, or that can't be written."""


class ProgramParity(NamedTuple):
    """How a program compares with the model that it was made from."""

    images: int
    """Images compared."""
    difference: float
    """Largest difference in any output."""
    labels_differ: int
    """Images on which the predicted class differs."""


def check_program_file(path: Path) -> None:
    """Reject a path that :func:`export_program` could not write; nothing is written.

    Args:
        path: The file to write.

    Raises:
        ProgramError: When it does not end in ``SUFFIX``, or can't be written, see :func:`glimpse.files.write_problem`.
    """
    if path.suffix != SUFFIX:
        raise ProgramError(f"expected a file name that ends in {SUFFIX}, got {path.name!r}; rename it")
    if problem := write_problem(path):
        raise ProgramError(problem)


def export_program(
    observer: Observer, card: ModelCard, path: Path, images: UInt8[Tensor, "batch channels height width"]
) -> ProgramParity:
    """Write a model's episode as a program, and keep the file only if its outputs equal the model's.

    The program takes uint8 images of any batch, and of any height and width if the card says so. It returns a tuple,
    in the order of ``outputs`` of its card, which describes an episode and is stored in the file under ``CARD_KEY``.

    Args:
        observer: The model to write.
        card: The model's card, of any graph.
        path: The file, ending in ``SUFFIX``; an existing one is replaced only when the comparison succeeds.
        images: Real images, at least 2, on which the program is compared with the model.

    Returns:
        How the program compares with the model.

    Raises:
        ProgramError: When the program differs from the model by more than ``PROGRAM_TOLERANCE`` or in any label, when
            there are too few images, or when the file can't be written there.
    """
    check_program_file(path)
    if len(images) < 2:
        raise ProgramError(f"expected at least 2 images to compare the program with the model, got {len(images)}")
    card = replace(card, graph="episode", state_size=None, input_type="uint8", precision="float32")
    episode = Episode(observer, card.temperature).eval()
    with whole_path(path) as draft:
        _write(episode, card, draft, images[:2])
        parity = compare_with_program(episode, card, draft, images)
        if not parity.difference <= PROGRAM_TOLERANCE or parity.labels_differ:
            raise ProgramError(
                f"expected the program to answer as the model does, within {PROGRAM_TOLERANCE}; on {parity.images} "
                f"images it differed by up to {parity.difference:.1e}, and in {parity.labels_differ} labels, so {path} "
                "was not written; report this together with the recipe"
            )
    return parity


def _write(
    episode: Episode, card: ModelCard, path: Path, example: UInt8[Tensor, "batch channels height width"]
) -> None:
    dimensions = {0: torch.export.Dim("batch", min=1)}
    if card.any_size:
        # DYNAMIC lets torch derive the smallest size, which a convolution bounds.
        dimensions |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(episode, (example,), dynamic_shapes=(dimensions,))
    drop_program_annotations(program)
    torch.export.save(program, path, extra_files={CARD_KEY: card.to_json()})


def read_program(path: Path) -> tuple[nn.Module, ModelCard]:
    """Load a program.

    Args:
        path: A file that :func:`export_program` wrote.

    Returns:
        A module from images to the outputs, and the card that names them.

    Raises:
        ContractError: When the file has no card.
    """
    extra = {CARD_KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), ModelCard.from_json(extra[CARD_KEY])


def compare_with_program(
    episode: Episode, card: ModelCard, path: Path, images: UInt8[Tensor, "batch channels height width"]
) -> ProgramParity:
    """Run a program and the model that it was made from on the same images.

    Args:
        episode: The model.
        card: The program's card.
        path: The program.
        images: Pixels in [0, 255].
    """
    program, carried = read_program(path)
    if carried != card:
        raise ProgramError(f"expected {path.name} to carry its card, got another; report this together with the recipe")
    logits = card.outputs.index(LOGITS)
    difference, differ = torch.zeros(()), 0
    for chunk in images.split(250):
        with torch.no_grad():
            expected, got = episode(chunk), program(chunk)
        for ours, theirs in zip(expected, got, strict=True):
            # torch.maximum propagates NaN.
            difference = torch.maximum(difference, (ours - theirs).abs().max())
        differ += int((expected[logits][:, -1].argmax(1) != got[logits][:, -1].argmax(1)).sum())
    return ProgramParity(len(images), float(difference), differ)
