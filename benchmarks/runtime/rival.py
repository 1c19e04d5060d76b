"""The best-known PyTorch implementation, github.com/kevinzakka/recurrent-visual-attention, from a copy of it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glimpse.nn.retina import fractions

NAME = "kevinzakka/recurrent-visual-attention"
MISSING = f"left out: no copy of github.com/{NAME} was named with --rival"
GLIMPSES = 6
ARGUMENTS = (8, 1, 1, 1, 128, 128, 0.05, 256, 10)
"""Patch, patches, scale, channels, the two hidden layers, spread, state and classes, as its own configuration has
them."""


def rival_episode(folder: Path, images: Tensor) -> Callable[[], Any]:
    """Its model as it is, looking at images as its trainer has it look: six calls, from the middle.

    Args:
        folder: A checkout; its modules have plain names and stay importable.
        images: uint8 (batch, 1, 28, 28).

    Raises:
        ValueError: When there is no such code.
    """
    if not (folder / "model.py").is_file():
        raise ValueError(f"expected a checkout of github.com/{NAME} in {folder}, found no model.py there; clone it")
    sys.path.insert(0, str(folder))
    try:
        from model import RecurrentAttention  # type: ignore[import-not-found, unused-ignore]
    finally:
        sys.path.remove(str(folder))
    model = RecurrentAttention(*ARGUMENTS).eval()
    pixels = fractions(images)
    place, state = torch.zeros(len(images), 2), torch.zeros(len(images), 256)

    def episode() -> Any:
        looked, known = place, state
        with torch.no_grad():
            for _ in range(GLIMPSES - 1):
                known, looked, _, _ = model(pixels, looked, known)
            return model(pixels, looked, known, last=True)

    return episode
