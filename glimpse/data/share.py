"""The share of each batch that one of several processes trains on. No Lightning here.

Several processes are to train as one would: on the same batches, with the same random numbers. So each of them draws
the numbers of the whole batch, and keeps those of its share.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Share:
    """One of several equal parts of a batch, which follow one another.

    Attributes:
        index: Which part, from 0.
        count: How many parts there are.
    """

    index: int = 0
    count: int = 1

    def take(self, whole: Tensor) -> Tensor:
        """The rows of this share.

        Args:
            whole: A row for each image of the batch; their number is a multiple of ``count``.
        """
        return whole if self.count == 1 else whole.chunk(self.count)[self.index]

    def widen(self, rows: Tensor) -> Tensor:
        """Put the rows of this share at their places in a batch whose other rows are 0; the inverse of :meth:`take`.

        Args:
            rows: A row for each image of the share.
        """
        if self.count == 1:
            return rows
        others = torch.zeros_like(rows)
        return torch.cat([rows if index == self.index else others for index in range(self.count)])


WHOLE = Share()
"""The share of a process that trains alone."""


def share_of_this_process() -> Share:
    """The share of each batch that this process trains on, as torch knows the processes of the training."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return WHOLE
    return Share(distributed.get_rank(), distributed.get_world_size())


def mean_over_processes(number: Tensor) -> Tensor:
    """The mean of a number over the processes that share a batch, without gradient; itself where there is one.

    Args:
        number: The share's mean of something.
    """
    count = share_of_this_process().count
    if count == 1:
        return number.detach()
    total = number.detach().clone()
    distributed.all_reduce(total)
    return total / count


class ShareGenerator(torch.Generator):
    """A generator that knows for which share of the batch it draws; see :func:`drawn_for`."""

    share: Share = WHOLE


def drawn_for(generator: torch.Generator | None, rows: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Draw for each image of a share what a process that has the whole batch draws for it.

    Args:
        generator: What ``draw`` draws from; where it is no :class:`ShareGenerator`, the rows are the whole batch.
        rows: What the draw depends on, a row for each image.
        draw: Draws a row for each row; a row depends on no other row, but for its place.
    """
    share = getattr(generator, "share", WHOLE)
    return share.take(draw(share.widen(rows)))
