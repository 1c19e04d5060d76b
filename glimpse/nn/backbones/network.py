"""A network that makes a map of features out of an image."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
        _, self.features, rows, _ = self._probe(PROBE, PROBE).shape
        self.stride = 2 ** round(math.log2(PROBE / rows))

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the map of an image of so many pixels, found by trying.

        Raises:
            ValueError: When the network can't take such an image.
        """
        rows, columns = self._probe(height, width).shape[2:]
        return rows, columns

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
        like = next(self.body.parameters())
        training = self.body.training
        try:
            with torch.no_grad():
                self.body.eval()
                return self.body(like.new_zeros(1, 3, height, width))["map"]  # type: ignore[no-any-return]
        except UNTAKEN as error:
            raise ValueError(
                f"expected images that {self.name} can take, got {height} x {width} pixels (height x width): {error}; "
                "scale them up, or choose a backbone or an earlier layer of a smaller stride"
            ) from error
        finally:
            self.body.train(training)
