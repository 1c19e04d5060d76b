"""A linear classifier on fixed features, fitted at once instead of step by step: multinomial logistic regression."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from glimpse.evaluation.scores import scores_of

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Weight decay of the standardised features' coefficients, as shares of the mean loss, the strongest last."""
STEPS = 100


class LinearHead(NamedTuple):
    """A fitted classifier."""

    weight: Float[Tensor, "classes features"]
    bias: Float[Tensor, " classes"]
    penalty: float
    """The one of ``PENALTIES`` that was best on the validation images."""


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
