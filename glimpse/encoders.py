"""From a glimpse and its location to one vector: the what-and-where encoder.

Mnih et al. 2014, section 3.1, the glimpse network f_g: ``h_g = Rect(Linear(rho))`` and ``h_l = Rect(Linear(l))`` are
computed apart and joined. The paper adds them; Larochelle and Hinton (2010) and Ba et al. (ICLR 2015, eq. 1) multiply
them, so that where the eye is decides what its pixels mean.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

WHAT = ("conv", "mlp")
COMBINE = ("multiply", "add")


class GlimpseEncoder(nn.Module):
    """Encode what was seen together with where it was seen.

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
            location: Where they were cut, (x, y) in [-1, 1].

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
