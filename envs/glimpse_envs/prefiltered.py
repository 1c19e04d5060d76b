"""The retina for images that never change: all averages are taken beforehand, and a glimpse is one gather of bytes.

Of every scale the average of each block of pixels is kept, wherever the block may lie, rounded to a whole grey level.
The blocks of one glimpse lie ``zoom**scale`` pixels apart; sorted by their phase they lie side by side, so that a row
of a glimpse is a run of neighbouring bytes.
"""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from glimpse.geometry import Window, window_start, windows
from glimpse.retina import PIXEL_MAX, Retina

CHUNK_PIXELS = 2**22
"""Pixels that are filtered at a time."""


class PrefilteredRetina:
    """A :class:`glimpse.retina.Retina` over fixed images; equal to it within half a grey level.

    Args:
        images: The images.
        retina: Its shape.
    """

    def __init__(self, images: UInt8[Tensor, "images channels height width"], retina: Retina) -> None:
        channels, height, width = images.shape[1:]
        self.size, self.num_scales, self.channels = retina.size, retina.num_scales, channels
        self._widest = windows(retina.size, retina.num_scales, retina.zoom)[-1].width
        device = images.device
        first = [int(window_start(torch.tensor(-1.0), length, self._widest)) for length in (width, height)]
        self._lengths = torch.tensor([width, height], dtype=torch.float32, device=device)
        # Places in the table below: those of the columns come first, then those of the rows.
        self._shift = torch.tensor([-first[0], -first[1] + width + 1], device=device)
        maps, column_steps, row_steps, row_lengths = [], [], [], []
        offset = 0
        offsets = []
        for window in windows(retina.size, retina.num_scales, retina.zoom):
            phases, phase_size, row_length = _phases(images, window, retina.size, first)
            factor = window.width // retina.size
            column = torch.arange(width + 1, device=device)
            row = torch.arange(height + 1, device=device)
            column_steps.append(column % factor * phase_size + column // factor)
            row_steps.append(row % factor * factor * phase_size + row // factor * row_length)
            offsets.append([offset + channel * factor**2 * phase_size for channel in range(channels)])
            row_lengths.append(row_length)
            maps.append(phases.flatten(1))
            offset += maps[-1].shape[1]
        self._steps: Int64[Tensor, "places scales"] = torch.cat(
            [torch.stack(column_steps, 1), torch.stack(row_steps, 1)]
        )
        down = torch.arange(retina.size, device=device) * torch.tensor(row_lengths, device=device)[:, None, None]
        self._rows: Int64[Tensor, "scales channels size"] = torch.tensor(offsets, device=device)[:, :, None] + down
        self._stride = offset
        flat = torch.cat(maps, dim=1).flatten()
        # Every run of `size` bytes, wherever it begins.
        self._runs = flat.as_strided((len(flat) - retina.size + 1, retina.size), (1, 1))

    def __call__(
        self, scene: Int64[Tensor, " batch"], location: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch scales channels size size"]:
        """Cut glimpses.

        Args:
            scene: Numbers of the images.
            location: Middles of the glimpses, (x, y) in [-1, 1].

        Returns:
            Pixels in [0, 1], finest scale first; 0 where a window hangs over the image's edge.
        """
        start = window_start(location, self._lengths, self._widest).long() + self._shift
        across, down = self._steps.index_select(0, start.view(-1)).view(-1, 2, self.num_scales).unbind(1)
        begin = across + down + (scene * self._stride).unsqueeze(1)
        runs = self._runs.index_select(0, (begin.view(-1, self.num_scales, 1, 1) + self._rows).view(-1))
        shape = (-1, self.num_scales, self.channels, self.size, self.size)
        return runs.to(torch.float32).mul_(1 / PIXEL_MAX).view(shape)


def prefiltered_bytes(shape: tuple[int, ...], retina: Retina) -> int:
    """Memory that the prefiltered retina takes, roughly.

    Args:
        shape: Of the images: count, channels, height, width.
        retina: Its shape.
    """
    count, channels, height, width = shape
    sides = [window.width for window in windows(retina.size, retina.num_scales, retina.zoom)]
    return count * channels * sum((height + side) * (width + side) for side in sides)


def _phases(
    images: UInt8[Tensor, "images channels height width"], window: Window, size: int, first: list[int]
) -> tuple[UInt8[Tensor, "images channels row_phase column_phase rows columns"], int, int]:
    """Averages of all blocks of one scale, by their phase; the bytes of a phase, and of a row of it."""
    height, width = images.shape[2:]
    factor = window.width // size
    # The outermost windows begin where the widest does, moved by this window's place in it.
    left, top = (-(start + window.offset) for start in first)
    columns, rows = (-(-(length + 1 + (size - 1) * factor) // factor) for length in (width, height))
    right, bottom = ((cells + 1) * factor - 1 for cells in (columns, rows))
    padding = (left, right - left - width, top, bottom - top - height)
    chunk = max(1, CHUNK_PIXELS // (images.shape[1] * right * bottom))
    filtered = []
    for part in images.split(chunk):
        padded = functional.pad(part.float(), padding)
        blocks = functional.avg_pool2d(padded, factor, stride=1) if factor > 1 else padded
        blocks = blocks[:, :, : rows * factor, : columns * factor].round_().to(torch.uint8)
        filtered.append(blocks.unflatten(3, (columns, factor)).unflatten(2, (rows, factor)).permute(0, 1, 3, 5, 2, 4))
    return torch.cat(filtered).contiguous(), rows * columns, columns
