"""A linear classifier on fixed features, fitted at once instead of step by step: multinomial logistic regression."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import Split
from glimpse.errors import Argument, ArgumentError, Setting
from glimpse.evaluation.scores import is_unbalanced, scores_of

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Weight decay of the standardised features' coefficients, as shares of the mean loss, the strongest last."""
STEPS = 100
HEADS = ("trained", "fitted")
"""How a linear head begins: at random or at zero, or as a regression on the features of a pretrained network."""
AT_ONCE = 32
"""Images whose features are computed at once."""


class LinearHead(NamedTuple):
    """A fitted classifier."""

    weight: Float[Tensor, "classes features"]
    bias: Float[Tensor, " classes"]
    penalty: float
    """The one of ``PENALTIES`` that was best on the validation images."""


def check_head(head: str, weights: str | None, fit_images: int | None) -> None:
    """Reject a head that can't be fitted.

    Args:
        head: One of ``HEADS``.
        weights: The weights of the backbone at the start, if any.
        fit_images: Images that it is fitted on at most; None for all.

    Raises:
        ArgumentError: When there are no weights that give features before the first step, or images are counted for no
            purpose.
    """
    if head == "fitted" and weights is None:
        raise ArgumentError(
            "expected ",
            Argument("backbone_weights"),
            " with ",
            Setting("head", head),
            ", got none: features of random weights tell little; give weights, or leave ",
            Argument("head"),
            " out",
        )
    if fit_images is not None and (head != "fitted" or fit_images < 1):
        raise ArgumentError(
            "expected ",
            Argument("fit_images"),
            " of at least 1 with ",
            Setting("head", "fitted"),
            f", got {fit_images} with {head}; raise it, or leave it out",
        )


def fit_on_images(
    layer: nn.Linear,
    encode: Callable[[Tensor], Tensor],
    data: ImageData,
    class_weights: Float[Tensor, " classes"],
    most: int | None = None,
) -> LinearHead:
    """Fit a linear layer on the training images' features, and set its weights.

    Args:
        layer: The layer.
        encode: From uint8 images, (batch, channels, height, width), to the features that the layer sees.
        data: The images; the penalty is chosen on the validation images.
        class_weights: Weight of each class in the loss.
        most: Training images that are used at most, spread evenly over all; all when left out.
    """
    device = layer.weight.device
    features, labels = _features_of(data.source.train, encode, device, most)
    held_out, held_out_labels = _features_of(data.source.validation, encode, device)
    balanced = is_unbalanced(data.class_counts)
    head = fit_linear_head(features, labels, held_out, held_out_labels, class_weights.cpu(), balanced)
    layer.weight.data.copy_(head.weight)
    layer.bias.data.copy_(head.bias)
    return head


@torch.no_grad()
def _features_of(
    part: Split, encode: Callable[[Tensor], Tensor], device: torch.device, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """Features and labels of a part's images, or of some of them, spread evenly."""
    count = min(len(part), most or len(part))
    places = torch.arange(count) * len(part) // count
    found = [encode(part.images[chunk].to(device)).float().cpu() for chunk in places.split(AT_ONCE)]
    return torch.cat(found), part.labels[places]


def fit_linear_head(
    features: Float[Tensor, "images features"],
    labels: Int64[Tensor, " images"],
    held_out: Float[Tensor, "held_out features"],
    held_out_labels: Int64[Tensor, " held_out"],
    class_weights: Float[Tensor, " classes"],
    balanced: bool,
) -> LinearHead:
    """Fit a classifier for each penalty by L-BFGS, and keep the one with the least error on held-out images.

    Args:
        features: Features of the training images.
        labels: Their classes.
        held_out: Features of the validation images.
        held_out_labels: Their classes.
        class_weights: Weight of each class in the loss.
        balanced: Whether the error counts every class alike.
    """
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    scaled, scaled_held_out = (features - mean) / std, (held_out - mean) / std
    best: tuple[float, LinearHead] | None = None
    weight = torch.zeros(len(class_weights), features.shape[1], requires_grad=True)
    bias = torch.zeros(len(class_weights), requires_grad=True)
    for penalty in reversed(PENALTIES):  # each begins where the stronger one ended
        _minimise(weight, bias, scaled, labels, class_weights, penalty)
        with torch.no_grad():
            found = scores_of(scaled_held_out @ weight.T + bias, held_out_labels)
            error = 1 - found.balanced_accuracy if balanced else found.error
            if best is None or error < best[0]:
                in_pixels = weight / std
                best = error, LinearHead(in_pixels, bias - in_pixels @ mean, penalty)
    assert best is not None
    return best[1]


def _minimise(
    weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, class_weights: Tensor, penalty: float
) -> None:
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = features @ weight.T + bias
        total = functional.cross_entropy(logits, labels, weight=class_weights) + penalty * weight.square().sum() / 2
        total.backward()
        return total

    optimiser.step(loss)
