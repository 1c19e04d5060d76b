"""Self-attention: the patches of an image as the nodes of a fully connected, weighted graph.

Vaswani et al., Attention Is All You Need (2017); Dosovitskiy et al., An Image is Worth 16x16 Words (2021). Beside the
patches there is one more node, the class node, whose vector the classifier reads. In every layer each node gathers from
all nodes, under weights that sum to one: row i of a head's matrix holds the weights of the edges that lead to node i.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.models.observer import Observer
from glimpse.nn.attention import MultiHeadSelfAttention, rollout_attention
from glimpse.nn.encoders import ImageEncoder, Images, mean_location, middles, standardise
from glimpse.nn.heads import precisely
from glimpse.rollout import Trace

STEMS = ("conv", "linear")
LONGEST_WAVE = 10_000.0  # the slowest position wave, in patches, over 2 pi


class AttentionGraph(NamedTuple):
    """The model's output: logits, and the attention weights as a graph."""

    logits: Float[Tensor, "batch classes"]
    """Belief about the class, before the softmax."""
    weights: tuple[Float[Tensor, "batch heads nodes nodes"], ...]
    """Edge weights of every layer, in [0, 1], the first layer first; (i, j) is the edge from node j to node i. Node 0
    is the class node, the others are the patches row by row."""


class SelfAttention(nn.Module):
    """A pre-norm transformer over patches.

    Positions are encoded by sinusoids (Vaswani et al. 2017, section 3.5, along each axis), so that the image may have
    any size. If the patch doesn't divide a side, the last patches extend beyond the right or lower edge, where pixels
    have the mean value, and the side of the map is rounded up.

    Args:
        num_classes: Number of classes.
        channels: Channels of the image.
        patch: Side of a patch, pixels.
        features: Length of a node's vector.
        heads: Heads of each layer.
        layers: Number of layers.
        mlp_ratio: Length of the hidden layer after the attention, divided by that of a node's vector.
        stem: The map from a patch to a vector. ``linear``: one matrix for all patches. ``conv``: convolutions that
            halve the sides until each place is a patch (Xiao et al., Early Convolutions Help Transformers See Better,
            2021); its vector then also depends on pixels next to the patch.

    Raises:
        ValueError: When the stem is unknown, the features aren't a multiple of 4 and of the heads, a number is below
            1, or a convolutional stem's patch is no power of 2 that the features allow.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        patch: int = 8,
        features: int = 64,
        heads: int = 2,
        layers: int = 2,
        mlp_ratio: float = 2.0,
        stem: str = "conv",
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"expected a stem out of {STEMS}, got {stem!r}; choose one of them")
        if features % 4:
            raise ValueError(f"expected features in a multiple of 4, got {features}; the positions' waves need it")
        if min(patch, layers) < 1:
            raise ValueError(f"expected a patch and layers of at least 1, got {patch} and {layers}; raise those below")
        self.patch = patch
        self.stem = _convolutions(channels, features, patch) if stem == "conv" else _linear(channels, features, patch)
        self.class_node = nn.Parameter(torch.zeros(features))
        self.layers = nn.ModuleList(Layer(features, heads, round(mlp_ratio * features)) for _ in range(layers))
        self.norm = nn.LayerNorm(features)
        self.classifier = nn.Linear(features, num_classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Number of patches along the height and the width of an image, which are in pixels."""
        return math.ceil(height / self.patch), math.ceil(width / self.patch)

    def forward(self, images: Images) -> AttentionGraph:
        """Classify images.

        Args:
            images: Pixels, uint8 in [0, 255] or floating point in [0, 1]; of any size.
        """
        pixels = standardise(images, self.mean, self.std)
        pixels = F.pad(pixels, (0, -pixels.shape[3] % self.patch, 0, -pixels.shape[2] % self.patch))
        patches = self.stem(pixels)
        features, height, width = patches.shape[1:]
        nodes = patches.flatten(2).transpose(1, 2) + positions(features, height, width, pixels.device).to(pixels.dtype)
        nodes = torch.cat([self.class_node.expand(nodes.shape[0], 1, -1), nodes], dim=1)
        weights = []
        for layer in self.layers:
            nodes, attention = layer(nodes)
            weights.append(attention)
        return AttentionGraph(precisely(self.classifier, self.norm(nodes[:, 0])), tuple(weights))

    def attention_map(
        self, weights: tuple[Float[Tensor, "batch heads nodes nodes"], ...], height: int, width: int
    ) -> Float[Tensor, "batch map_height map_width"]:
        """The contribution of each patch to the class node: the attention rolled out over the layers.

        Args:
            weights: Edge weights of every layer, the first layer first.
            height: Height of the image, pixels.
            width: Width of the image, pixels.

        Returns:
            Weights in [0, 1], which sum to one.
        """
        patches = rollout_attention(weights)[:, 0, 1:]
        rolled: Tensor = (patches / patches.sum(1, keepdim=True)).unflatten(1, self.map_size(height, width))
        return rolled


class SelfAttentionObserver(Observer):
    """A model of self-attention with its trace: one glimpse, whose map is the attention rolled out over the layers.

    Args:
        model: The model.
    """

    model: SelfAttention

    def __init__(self, model: SelfAttention) -> None:
        super().__init__(model, num_glimpses=1)

    def forward(self, images: Images) -> Trace:
        """Classify, as :meth:`glimpse.models.observer.Observer.forward`: a trace of one glimpse."""
        logits, weights = self.model(images)
        weighting = self.model.attention_map(weights, *images.shape[-2:])
        shares, (height, width) = weighting.flatten(1), weighting.shape[1:]
        nothing = shares.new_zeros(shares.shape[0], 1)
        return Trace(
            logits=logits.unsqueeze(1),
            locations=mean_location(shares, middles(height, width, weighting.device)).unsqueeze(1),
            log_prob=nothing,
            entropy=-torch.special.xlogy(shares, shares).sum(1, keepdim=True),
            maps=weighting.unsqueeze(1),
        )


class Layer(nn.Module):
    """Attention, then two linear layers at every node, each with a residual connection (pre-norm, Xiong et al. 2020).

    Args:
        features: Length of a node's vector.
        heads: Heads of the attention.
        hidden: Length between the two linear layers.
    """

    def __init__(self, features: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(features)
        self.attention = MultiHeadSelfAttention(features, heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(features), nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features)
        )

    def forward(
        self, nodes: Float[Tensor, "batch nodes features"]
    ) -> tuple[Float[Tensor, "batch nodes features"], Float[Tensor, "batch heads nodes nodes"]]:
        """Return the nodes' new vectors, and the attention weights."""
        context, weights = self.attention(self.attention_norm(nodes))
        nodes = nodes + context
        return nodes + self.mlp(nodes), weights


def positions(
    features: int, height: int, width: int, device: torch.device | None = None
) -> Float[Tensor, "places features"]:
    """Sinusoids of the places of a map: of the row in the first half of the features, of the column in the second.

    In each half ``PE(p, 2i) = sin(p / 10000^(2i/d))`` and ``PE(p, 2i+1) = cos(...)``, sines first and cosines after
    them, d being the length of the half (Vaswani et al. 2017, section 3.5).

    Args:
        features: A multiple of 4.
        height: Rows of the map.
        width: Columns of the map.
        device: Where to compute.
    """
    waves = LONGEST_WAVE ** -(torch.arange(features // 4, device=device) / (features // 4))
    rows = (torch.arange(height, device=device)[:, None, None] * waves).expand(-1, width, -1)
    columns = (torch.arange(width, device=device)[None, :, None] * waves).expand(height, -1, -1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=-1).flatten(0, 1)


def _linear(channels: int, features: int, patch: int) -> nn.Module:
    """Read patches that don't overlap."""
    return nn.Conv2d(channels, features, patch, stride=patch)


def _convolutions(channels: int, features: int, patch: int) -> nn.Module:
    """Halve the sides and double the features until each place is a patch."""
    halvings = patch.bit_length() - 1
    if patch != 2**halvings or halvings < 1 or features % 2 ** (halvings - 1):
        raise ValueError(
            f"expected a patch of a power of 2 from 2 on for a convolutional stem, half of which divides the features, "
            f"got a patch of {patch} and {features} features; change one of the two, or choose the linear stem"
        )
    widths = tuple(features >> (halvings - 1 - stage) for stage in range(halvings))
    return nn.Sequential(ImageEncoder(channels, widths, (1,) * halvings), nn.Conv2d(features, features, 1))
