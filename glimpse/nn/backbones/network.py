"""A network that makes a map of features out of an image."""

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from glimpse.nn.backbones.stages import stages_of

PROBE = 224
"""Side of the square image, pixels, that a network is tried on: some take no other size."""
UNTAKEN = (RuntimeError, AssertionError, ValueError)
"""What networks raise on images that they can't take."""


class Normalisation(NamedTuple):
    """How pixels in [0, 1] are standardised: less the mean, divided by the standard deviation."""

    mean: tuple[float, float, float]
    """Mean of the red, green and blue pixels."""
    std: tuple[float, float, float]
    """Their standard deviation."""


class Backbone(nn.Module):
    """A network that makes a map of features out of an image.

    Grey images are repeated to the three channels that it expects. It doesn't standardise pixels: the model does, with
    its own mean and standard deviation, which should be those that the weights were trained with.

    Attributes:
        features: Channels of the map.
        stride: Pixels from one place of the map to the next.
        normalisation: What its weights were trained with; None for random weights, which expect nothing.
        any_size: Whether an exported graph of it can leave the images' height and width open. Padding as TensorFlow
            has it (``SAME``) is computed from them, by a graph that torch would take many minutes to write. In a graph
            of one size it is a constant of each convolution.

    Args:
        body: From standardised images of three channels to a dictionary with a ``map``.
        name: What errors call it.
        normalisation: What its weights were trained with.

    Raises:
        ValueError: When it can't take an image of ``PROBE`` pixels a side.
    """

    def __init__(self, body: nn.Module, name: str, normalisation: Normalisation | None = None) -> None:
        super().__init__()
        self.body = body
        self.name = name
        self.normalisation = normalisation
        self.any_size = not any(type(part).__name__.endswith("Same") for part in body.modules())
        self._frozen: tuple[nn.Module, ...] = ()
        self._keeps_averages = False
        _, self.features, rows, _ = self._probe(PROBE, PROBE).shape
        self.stride = 2 ** round(math.log2(PROBE / rows))

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the map of an image of so many pixels, found by trying.

        Raises:
            ValueError: When the network can't take such an image.
        """
        rows, columns = self._probe(height, width).shape[2:]
        return rows, columns

    def freeze(self, stages: int | None = None) -> None:
        """Train a part of the network no longer: no gradient for its weights, and none of its averages moves.

        Args:
            stages: How many stages (:func:`glimpse.nn.backbones.stages.stages_of`), from the first on; all when left
                out.

        Raises:
            ValueError: When there are not so many.
        """
        parts = [self.body]
        if stages is not None:
            with self._evaluating():
                found = stages_of(self.body, self._black(PROBE, PROBE))
            if not 0 <= stages <= len(found):
                raise ValueError(
                    f"expected 0 to {len(found)} stages of {self.name} to freeze, got {stages}; give such a number"
                )
            parts = [part for stage in found[:stages] for part in stage]
        for part in parts:
            for parameter in part.parameters(recurse=stages is None):
                parameter.requires_grad_(False)
        self._frozen = tuple(parts)
        self.train(self.training)

    def keep_averages(self) -> None:
        """Have batch normalisation use the averages that it has, in training too.

        Those of a large data set are better than those of a small batch, and hold for images of several sizes at once.
        """
        self._keeps_averages = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Turn training on or off; frozen parts, and averages that are kept, always stay in evaluation."""
        super().train(mode)
        averages = [part for part in self.modules() if self._keeps_averages and isinstance(part, _BatchNorm)]
        for part in (*self._frozen, *averages):
            part.eval()
        return self

    def glimpse_features(
        self, glimpse: Float[Tensor, "batch scales channels size size"]
    ) -> Float[Tensor, "batch scales features 1 1"]:
        """Encode each window of glimpses by the same weights: the mean of its map.

        Args:
            glimpse: Pixels, standardised.
        """
        pooled = self(glimpse.flatten(0, 1)).mean((2, 3), keepdim=True)
        return pooled.unflatten(0, (-1, glimpse.shape[1]))  # type: ignore[no-any-return]

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch features map_height map_width"]:
        """Encode images.

        Args:
            images: Pixels, standardised, of one or three channels.

        Raises:
            ValueError: When they have another number of channels.
        """
        if images.shape[1] not in (1, 3):
            raise ValueError(f"expected images of 1 or 3 channels, got {images.shape[1]}; convert them to grey or RGB")
        return self.body(images.expand(-1, 3, -1, -1))["map"]  # type: ignore[no-any-return]

    def _probe(self, height: int, width: int) -> Tensor:
        """The map of a black image, made without touching the running averages."""
        try:
            with torch.no_grad(), self._evaluating():
                return self.body(self._black(height, width))["map"]  # type: ignore[no-any-return]
        except UNTAKEN as error:
            raise ValueError(
                f"expected images that {self.name} can take, got {height} x {width} pixels (height x width): {error}; "
                "scale them up, or choose a backbone or an earlier layer of a smaller stride"
            ) from error

    def _black(self, height: int, width: int) -> Tensor:
        return next(self.body.parameters()).new_zeros(1, 3, height, width)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        try:
            self.eval()
            yield
        finally:
            self.train(training)
