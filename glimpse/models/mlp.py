"""The fully connected network: the baseline without attention, with separate weights for every pixel."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glimpse.nn.encoders import Images, standardise
from glimpse.nn.heads import precisely


class FullyConnectedNet(nn.Module):
    """Hidden layers with ReLUs over all pixels at once, and a linear classifier.

    Every place of the image has its own weights, so the network is built for one size of image.

    Args:
        num_classes: How many classes there are.
        channels: Channels of the image.
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        hidden: Length of each hidden layer.
        layers: How many hidden layers there are.

    Raises:
        ValueError: When there is no hidden layer, or a number is below 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        height: int = 60,
        width: int = 60,
        hidden: int = 1600,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if min(channels, height, width, hidden, layers) < 1:
            raise ValueError(
                "expected channels, height, width, hidden and layers of at least 1, "
                f"got {channels}, {height}, {width}, {hidden} and {layers}; raise those below"
            )
        self.height, self.width = height, width
        lengths = [channels * height * width, *[hidden] * layers]
        parts = [(nn.Linear(inputs, outputs), nn.ReLU()) for inputs, outputs in itertools.pairwise(lengths)]
        self.hidden = nn.Sequential(*itertools.chain(*parts))
        self.classifier = nn.Linear(hidden, num_classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, images: Images) -> Float[Tensor, "batch classes"]:
        """Classify images.

        Args:
            images: Pixels, uint8 in [0, 255] or floating point in [0, 1]; of the size that the net was built for.

        Returns:
            Logits.

        Raises:
            ValueError: When the images have another size.
        """
        if images.shape[2:] != (self.height, self.width):
            raise ValueError(
                f"expected images of {self.height} x {self.width} pixels (height x width), got {images.shape[2]} x "
                f"{images.shape[3]}; a fully connected net has weights for each pixel: scale them, or build it for them"
            )
        return precisely(self.classifier, self.hidden(standardise(images, self.mean, self.std).flatten(1)))
