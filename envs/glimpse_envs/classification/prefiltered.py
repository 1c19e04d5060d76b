"""The retina for fixed images: all block averages are computed in advance, and a glimpse is one gather of bytes.

For every scale, the average of the block at each position is stored, rounded to a whole grey level. The blocks of one
glimpse are ``zoom**scale`` pixels apart. The averages are sorted by their phase, the position modulo this distance, so
that the blocks in a row of a glimpse are adjacent bytes.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from glimpse.images.geometry import RetinaWindow, window_start, windows
from glimpse.nn.retina import PIXEL_MAX, Retina

CHUNK_PIXELS = 2**22
"""Pixels that are filtered at a time."""


class PrefilteredRetina:
    """A :class:`glimpse.nn.retina.Retina` for fixed images; its glimpses differ by at most half a grey level.

    Args:
        images: The images.
        retina: The retina to reproduce.
    """

    def __init__(self, images: UInt8[Tensor, "images channels height width"], retina: Retina) -> None:
        count, channels, height, width = images.shape
        self.num_scales = retina.num_scales
        nested = windows(retina.size, retina.num_scales, retina.zoom)
        self._widest = nested[-1].width
        device = images.device
        first = [int(window_start(torch.tensor(-1.0), length, self._widest)) for length in (width, height)]
        # A number for square images avoids the conversion of a tensor at every glimpse.
        self._lengths = width if width == height else torch.tensor([width, height], dtype=torch.float32, device=device)
        # Indices into the table of steps: first those of the columns, then those of the rows.
        self._shift = torch.tensor([-first[0], -first[1] + width + 1], device=device)
        grids = [_Grid.of(window, retina.size, first, height, width) for window in nested]
        starts = [channels * sum(grid.num_bytes for grid in grids[:scale]) for scale in range(len(grids) + 1)]
        across, down = torch.arange(width + 1), torch.arange(height + 1)
        tables = [
            torch.cat(
                [
                    across % grid.factor * grid.phase_size + across // grid.factor,
                    down % grid.factor * grid.factor * grid.phase_size + down // grid.factor * grid.columns,
                ]
            )
            for grid in grids
        ]
        self._steps: Int64[Tensor, "positions scales"] = torch.stack(tables, dim=1).to(device)
        rows = [
            start + channel * grid.num_bytes + torch.arange(retina.size) * grid.columns
            for start, grid in zip(starts[:-1], grids, strict=True)
            for channel in range(channels)
        ]
        shape = (retina.num_scales, channels, retina.size)
        self._rows: Int64[Tensor, "scales channels size"] = torch.stack(rows).view(shape).to(device)
        self._stride = starts[-1]
        # numpy requests huge pages from the system and torch does not; they speed up random access.
        kept = torch.from_numpy(np.empty((count, self._stride), np.uint8))
        for start, end, grid in zip(starts[:-1], starts[1:], grids, strict=True):
            chunk = max(1, CHUNK_PIXELS // (channels * grid.num_bytes))
            for at in range(0, count, chunk):
                kept[at : at + chunk, start:end] = grid.averages(images[at : at + chunk]).flatten(1).cpu()
        flat = kept.to(device).flatten()
        # All runs of `size` bytes, one for each first byte.
        self._runs = flat.as_strided((len(flat) - retina.size + 1, retina.size), (1, 1))

    def __call__(
        self, scene: Int64[Tensor, " batch"], location: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch scales channels size size"]:
        """Take glimpses.

        Args:
            scene: Indices of the images.
            location: Centres of the glimpses, (x, y) in [-1, 1].

        Returns:
            Pixels in [0, 1], finest scale first; 0 outside the image.
        """
        start = window_start(location, self._lengths, self._widest).long() + self._shift
        across, down = torch.embedding(self._steps, start).unbind(1)
        begin = across + down + (scene * self._stride).unsqueeze(1)
        runs = torch.embedding(self._runs, begin.view(-1, self.num_scales, 1, 1) + self._rows)
        return runs.to(torch.float32).mul_(1 / PIXEL_MAX)


def prefiltered_bytes(shape: tuple[int, ...], retina: Retina) -> int:
    """Approximate memory of a prefiltered retina, in bytes.

    Args:
        shape: Shape of the images: count, channels, height, width.
        retina: The retina.
    """
    count, channels, height, width = shape
    sides = [window.width for window in windows(retina.size, retina.num_scales, retina.zoom)]
    return count * channels * sum((height + side) * (width + side) for side in sides)


class _Grid(NamedTuple):
    """Memory layout of the averages of one scale: row phase, column phase, row, column."""

    factor: int
    """Side of a block, and distance between adjacent blocks of a glimpse, in pixels."""
    left: int
    """Padding to the left of the image, in pixels."""
    top: int
    """Padding above the image, in pixels."""
    rows: int
    """Blocks of one phase along the vertical axis."""
    columns: int
    """Blocks of one phase along the horizontal axis."""

    @classmethod
    def of(cls, window: RetinaWindow, size: int, first: list[int], height: int, width: int) -> "_Grid":
        """The layout of the averages of a window for all its positions on the image."""
        factor = window.width // size
        # This window starts at its offset inside the widest window.
        left, top = (-(start + window.offset) for start in first)
        columns, rows = (-(-(length + 1 + (size - 1) * factor) // factor) for length in (width, height))
        return cls(factor, left, top, rows, columns)

    @property
    def phase_size(self) -> int:
        """Bytes of one phase."""
        return self.rows * self.columns

    @property
    def num_bytes(self) -> int:
        """Bytes of one channel of one image."""
        return self.factor**2 * self.phase_size

    def averages(
        self, images: UInt8[Tensor, "images channels height width"]
    ) -> UInt8[Tensor, "images channels row_phase column_phase rows columns"]:
        """Average the blocks at all positions."""
        height, width = images.shape[2:]
        right, bottom = ((cells + 1) * self.factor - 1 for cells in (self.columns, self.rows))
        padded = functional.pad(
            images.float(), (self.left, right - self.left - width, self.top, bottom - self.top - height)
        )
        # One axis after the other: the cost of a block is proportional to its side, not to its area.
        across = functional.avg_pool2d(padded, (1, self.factor), stride=1)
        blocks: Tensor = functional.avg_pool2d(across, (self.factor, 1), stride=1)
        blocks = blocks[:, :, : self.rows * self.factor, : self.columns * self.factor].round_().to(torch.uint8)
        phased: Tensor = blocks.unflatten(3, (self.columns, self.factor)).unflatten(2, (self.rows, self.factor))
        return phased.permute(0, 1, 3, 5, 2, 4)
