"""Held-out images on canvases that never change, and generators whose state follows from numbers alone.

No Lightning here: the environments use it without a trainer.
"""

from collections.abc import Sized

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from glimpse.data.canvas import Canvas
from glimpse.data.datasets import DataError, Split
from glimpse.data.share import WHOLE, Share, ShareGenerator
from glimpse.errors import Argument

LabelledBatch = tuple[UInt8[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]

VALIDATION_CANVASES, TEST_CANVASES = 1, 2
"""Seeds that freeze the canvases of the held-out parts."""
BLOCK = 500
"""Held-out canvases are drawn in blocks of this many, each from a seed of its own, so that they never change."""


def generator_for(device: torch.device | str, *numbers: int, share: Share = WHOLE) -> torch.Generator:
    """A random generator whose state follows from the given numbers (none negative), and from nothing else.

    Args:
        device: Where it draws.
        numbers: What its state follows from.
        share: The share of the batch that it draws for.
    """
    # Numpy makes no difference between numbers that end in zeros and the same without them, hence the count.
    entropy = np.random.SeedSequence((*numbers, len(numbers)))
    seed = int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = ShareGenerator(device)
    generator.manual_seed(seed)
    generator.share = share
    return generator


class FrozenBlocks(Dataset[LabelledBatch], Sized):
    """A held-out part, in blocks, on canvases that are the same every time.

    Args:
        part: The images.
        canvas: How they are drawn; None to show them as they are.
        seed: Freezes the canvases.
    """

    def __init__(self, part: Split, canvas: Canvas | None, seed: int) -> None:
        self.part = part
        self.canvas = canvas
        self.seed = seed

    def __len__(self) -> int:
        return -(-len(self.part) // BLOCK)

    def __getitem__(self, block: int) -> LabelledBatch:
        if not 0 <= block < len(self):
            raise IndexError(f"expected a block from 0 to {len(self) - 1}, got {block}")
        chosen = self.part.take(torch.arange(block * BLOCK, min((block + 1) * BLOCK, len(self.part))))
        if self.canvas is None:
            return chosen.images, chosen.labels
        return self.canvas.draw(chosen.images, self.part.images, self._generator(block)), chosen.labels

    def boxes(self) -> Int64[Tensor, "images 4"]:
        """Where each image lies on its canvas, in pixels, (left, top, right, bottom).

        Raises:
            DataError: When the images are shown as they are.
        """
        if self.canvas is None:
            raise DataError(
                "expected images on canvases, where it is known in which box each one lies; got images without a "
                "canvas; set ",
                Argument("canvas_height"),
                " and ",
                Argument("canvas_width"),
            )
        height, width = self.part.images.shape[2:]
        counts = [min(BLOCK, len(self.part) - block * BLOCK) for block in range(len(self))]
        drawn = [self.canvas.boxes(count, height, width, self._generator(block)) for block, count in enumerate(counts)]
        return torch.cat(drawn)

    def _generator(self, block: int) -> torch.Generator:
        return generator_for("cpu", self.seed, block)
