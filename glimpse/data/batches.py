"""Batches of a data set: which images are in each, and what a training gets of them."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from glimpse.data.datasets import DataError, Split
from glimpse.data.held_out import generator_for
from glimpse.data.share import WHOLE, Share
from glimpse.errors import Argument


class EpochBatches(Sampler[Tensor]):
    """Places of the images in each batch, in an order that follows from seed and epoch alone.

    Lightning calls :meth:`set_epoch`, so a run that is resumed at an epoch goes on as it would have.

    Args:
        num_images: Images in the part.
        batch_size: Images in a batch; a rest too small for a batch waits for a later epoch's order.
        passes: How often each image comes in an epoch.
        seed: Fixes the order.
        share: The share of each batch that this process trains on.

    Raises:
        DataError: When a batch has no equal shares.
    """

    def __init__(self, num_images: int, batch_size: int, passes: int, seed: int, share: Share = WHOLE) -> None:
        self.num_images = num_images
        self.batch_size = min(batch_size, num_images * passes)
        self.passes = passes
        self.seed = seed
        self.share = share
        self.epoch = 0
        if self.batch_size % share.count:
            raise DataError(
                "expected ",
                Argument("batch_size"),
                f" to be a multiple of {share.count}, the number of processes that share each batch, got "
                f"{self.batch_size}; change it",
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_images * self.passes // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        # A generator, since Lightning asks for the iterator before it restores a resumed run's epoch.
        generator = generator_for("cpu", self.seed, 0, self.epoch)
        order = torch.cat([torch.randperm(self.num_images, generator=generator) for _ in range(self.passes)])
        yield from map(self.share.take, order[: len(self) * self.batch_size].split(self.batch_size))


class Batches(Dataset[tuple[Tensor, ...]]):
    """A part of a data set, indexed by whole batches: images, labels, and boxes where they are wanted and known.

    Args:
        part: The part.
        with_boxes: Whether the boxes of objects are wanted.
    """

    def __init__(self, part: Split, with_boxes: bool) -> None:
        self.part = part
        self.with_boxes = with_boxes and part.boxes is not None

    def __getitem__(self, places: Int64[Tensor, " batch"]) -> tuple[Tensor, ...]:
        chosen = self.part.take(places)
        if self.with_boxes and chosen.boxes is not None:
            return chosen.images, chosen.labels, chosen.boxes
        return chosen.images, chosen.labels
