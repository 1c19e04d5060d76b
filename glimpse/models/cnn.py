"""The convolutional network: the baseline without attention, which weighs all places equally."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glimpse.nn.backbones import Backbone
from glimpse.nn.encoders import ImageEncoder, Images, standardise
from glimpse.nn.heads import precisely

POOLING = ("max", "mean")


class ConvolutionalNet(nn.Module):
    """Convolutions, global pooling, and a linear classifier (Lin et al., Network In Network, 2014, section 3.2).

    Pooling over the whole map lets the image have any size.

    Args:
        num_classes: Number of classes.
        channels: Channels of the image.
        widths: Channels of each stage, see :class:`glimpse.nn.encoders.ImageEncoder`.
        depths: Layers of each stage.
        pooling: ``max``: of a feature the place where it is strongest. ``mean``: its mean over all places.
        backbone: A network in place of our own encoder, whose widths and depths then don't count.

    Raises:
        ValueError: When the pooling is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        widths: tuple[int, ...] = (16, 32, 64),
        depths: tuple[int, ...] = (1, 2, 3),
        pooling: str = "max",
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"expected a pooling out of {POOLING}, got {pooling!r}; choose one of them")
        self.encoder: ImageEncoder | Backbone = backbone or ImageEncoder(channels, widths, depths)
        self.pooling = pooling
        self.classifier = nn.Linear(self.encoder.features, num_classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, images: Images) -> Float[Tensor, "batch classes"]:
        """Classify images.

        Args:
            images: Pixels, uint8 in [0, 255] or floating point in [0, 1]; of any size.

        Returns:
            Logits.
        """
        return precisely(self.classifier, self.pooled_features(images))

    def pooled_features(self, images: Images) -> Float[Tensor, "batch features"]:
        """What the classifier sees of images, as :meth:`forward` takes them."""
        features: Tensor = self.encoder(standardise(images, self.mean, self.std))
        return features.amax((2, 3)) if self.pooling == "max" else features.mean((2, 3))
