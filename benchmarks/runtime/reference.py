"""The reference implementation in PyTorch, github.com/kevinzakka/recurrent-visual-attention, from a checkout of it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glimpse.nn.retina import fractions

NAME = "kevinzakka/recurrent-visual-attention"
MISSING = f"left out: no checkout of github.com/{NAME} was named with --reference"
GLIMPSES = 6
ARGUMENTS = (8, 1, 1, 1, 128, 128, 0.05, 256, 10)
"""Patch, patches, scale, channels, the two hidden layers, spread, state and classes, as in its own configuration."""


def reference_episode(folder: Path, images: Tensor) -> Callable[[], Any]:
    """Its unchanged model on images, as its own trainer calls it: six steps, the first at the centre.

    Args:
        folder: A checkout. Its modules have plain names, such as ``model``, and stay in ``sys.modules``.
        images: uint8 (batch, 1, 28, 28).

    Raises:
        ValueError: When the folder holds no ``model.py``.
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
    location, state = torch.zeros(len(images), 2), torch.zeros(len(images), 256)

    def episode() -> Any:
        next_location, next_state = location, state
        with torch.no_grad():
            for _ in range(GLIMPSES - 1):
                next_state, next_location, _, _ = model(pixels, next_location, next_state)
            return model(pixels, next_location, next_state, last=True)

    return episode
