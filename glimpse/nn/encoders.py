"""Encoders: from a glimpse and its location to one vector (what and where), and from an image to a map of features.

Mnih et al. 2014, section 3.1, the glimpse network f_g: ``h_g = Rect(Linear(rho))`` and ``h_l = Rect(Linear(l))`` are
computed separately and combined. The paper adds them; Larochelle and Hinton (2010) and Ba et al. (ICLR 2015, eq. 1)
multiply them, so that the location gates the features of the pixels.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from glimpse.images.geometry import to_unit
from glimpse.nn.retina import fractions

WHAT = ("conv", "mlp")
COMBINE = ("multiply", "add")


class GlimpseEncoder(nn.Module):
    """Encode the pixels of a glimpse together with its location.

    Args:
        size: Side of a glimpse in pixels.
        num_scales: Windows in a glimpse.
        channels: Channels of the image.
        features: Length of the encoding.
        what: ``conv`` (two small convolutions, the scales as channels, then a linear layer) or ``mlp`` (the paper's).
        combine: ``multiply`` gates the one with the other; ``add`` is the paper's ``Rect(Linear(h_g) + Linear(h_l))``.

    Raises:
        ValueError: When ``what`` or ``combine`` is unknown.
    """

    def __init__(
        self,
        size: int,
        num_scales: int,
        channels: int,
        features: int,
        what: str = "mlp",
        combine: str = "multiply",
    ) -> None:
        super().__init__()
        if what not in WHAT:
            raise ValueError(f"expected a glimpse encoder out of {WHAT}, got {what!r}; choose one of them")
        if combine not in COMBINE:
            raise ValueError(f"expected a way to combine out of {COMBINE}, got {combine!r}; choose one of them")
        self.combine = combine
        inputs = num_scales * channels
        pixels = inputs * size**2
        trunk = _convolutions(inputs, size, features) if what == "conv" else [nn.Linear(pixels, features)]
        self.what = nn.Sequential(*trunk, nn.ReLU(), nn.Linear(features, features))
        self.where = nn.Sequential(nn.Linear(2, features // 2), nn.ReLU(), nn.Linear(features // 2, features))
        self.flatten_first = what == "mlp"

    def forward(
        self,
        glimpse: Float[Tensor, "batch scales channels size size"],
        location: Float[Tensor, "batch 2"],
    ) -> Float[Tensor, "batch features"]:
        """Encode glimpses.

        Args:
            glimpse: Pixels, normalised.
            location: Location of each glimpse, (x, y) in [-1, 1].

        Returns:
            Encodings, none below 0.
        """
        what = self.what(glimpse.flatten(1) if self.flatten_first else glimpse.flatten(1, 2))
        where = self.where(location)
        return torch.relu(what + where if self.combine == "add" else what * where)


def _convolutions(inputs: int, size: int, features: int) -> list[nn.Module]:
    """Two strided convolutions and a linear layer, for square inputs of the given size."""
    reduced = -(-(size // 2) // 2)
    return [
        nn.Conv2d(inputs, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * reduced**2, features),
    ]


Images = Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"]


class ImageEncoder(nn.Module):
    """Stages of convolutions, each of which halves the sides in its first layer.

    A layer is a convolution, batch normalisation (Ioffe and Szegedy 2015) and a ReLU. Kernels are 3 x 3, but 5 x 5 in
    the first layer. Odd sides are rounded up when they are halved.

    Attributes:
        features: Channels of the map, the last of the widths.
        stride: Pixels from one place of the map to the next.

    Args:
        channels: Channels of the image.
        widths: Channels of each stage; multiples of 16 are fastest.
        depths: Layers of each stage.

    Raises:
        ValueError: When there is no stage, the two differ in length, or a number is below 1.
    """

    def __init__(self, channels: int, widths: tuple[int, ...] = (16, 32), depths: tuple[int, ...] = (1, 4)) -> None:
        super().__init__()
        if not widths or len(widths) != len(depths) or min(*widths, *depths) < 1:
            raise ValueError(
                "expected a width and a depth of at least 1 for each of one or more stages, "
                f"got widths {tuple(widths)} and depths {tuple(depths)}; give equally many of both"
            )
        self.features = widths[-1]
        self.stride = 2 ** len(widths)
        strides = [stride for depth in depths for stride in (2, *[1] * (depth - 1))]
        outputs = [width for width, depth in zip(widths, depths, strict=True) for _ in range(depth)]
        layers: list[nn.Module] = []
        for inputs, output, stride in zip([channels, *outputs], outputs, strides, strict=False):
            kernel = 3 if layers else 5
            layers += [
                nn.Conv2d(inputs, output, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(output),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the map of an image, whose height and width are in pixels."""
        return math.ceil(height / self.stride), math.ceil(width / self.stride)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch features map_height map_width"]:
        """Encode images.

        Args:
            images: Pixels, standardised.

        Returns:
            Features, none below 0.
        """
        return self.layers(images)  # type: ignore[no-any-return]


def standardise(
    images: Images, mean: Float[Tensor, " known"], std: Float[Tensor, " known"]
) -> Float[Tensor, "batch channels height width"]:
    """Subtract the mean from pixels and divide by the standard deviation.

    Args:
        images: uint8 in [0, 255], or floating point in [0, 1].
        mean: Mean of each channel, of pixels in [0, 1].
        std: Standard deviation of each channel, of pixels in [0, 1].

    Raises:
        ValueError: When the number of channels differs from the number of means.
    """
    if images.shape[1] != len(mean):
        raise ValueError(
            f"expected images of {len(mean)} channels, got {images.shape[1]}; convert them, or build the model for them"
        )
    return (fractions(images, mean.dtype) - mean[:, None, None]) / std[:, None, None]


def middles(height: Any, width: Any, device: torch.device) -> Float[Tensor, "places 2"]:
    """Middles of a map's places, row by row, (x, y) in [-1, 1].

    Args:
        height: Height of the map, cells.
        width: Width of the map, cells.
        device: Device of the result.
    """
    rows, columns = (to_unit(torch.arange(length, device=device) + 0.5, length) for length in (height, width))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=2).flatten(0, 1)


def mean_location(
    weights: Float[Tensor, "batch places"], places: Float[Tensor, "places 2"]
) -> Float[Tensor, "batch 2"]:
    """The mean location under weights, (x, y) in [-1, 1]; without a matrix product, which autocast would round.

    Args:
        weights: They sum to one.
        places: Locations, (x, y) in [-1, 1].
    """
    return (weights.unsqueeze(2) * places).sum(1)
