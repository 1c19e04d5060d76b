"""The temperature of a model, and its accuracy when it stops early: both measured on validation images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from glimpse.contract.card import Budget

COLDEST, HOTTEST = 0.05, 20.0
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Probabilities at which the budgets stop."""


def fit_temperature(logits: Float[Tensor, "batch time classes"], labels: Int64[Tensor, " batch"]) -> float:
    """Find what to divide logits by, so that their softmax is the probability of being right.

    The temperature of Guo et al., On Calibration of Modern Neural Networks (ICML 2017): the one under which the labels
    are likeliest, here after every glimpse alike, as a model may stop after any.

    Args:
        logits: Of validation images.
        labels: Their classes.

    Returns:
        From ``COLDEST`` to ``HOTTEST``, rounded to four digits.
    """
    beliefs = logits.double().flatten(0, 1)
    targets = labels.repeat_interleave(logits.shape[1])
    # The loss is convex in the inverse temperature, so that a search by thirds ends at its minimum.
    least, most = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        third = (most - least) / 3
        losses = [
            float(functional.cross_entropy(beliefs * inverse, targets)) for inverse in (least + third, most - third)
        ]
        least, most = (least, most - third) if losses[0] < losses[1] else (least + third, most)
    return round(2 / (least + most), 4)


def glimpses_until(
    probabilities: Float[Tensor, "batch time classes"], confidence: float | None
) -> Int64[Tensor, " batch"]:
    """How many glimpses each image takes until a class has so much probability; all of them where none comes to it.

    Args:
        probabilities: After each glimpse.
        confidence: In (0, 1]; None to take all.
    """
    times = probabilities.shape[1]
    if confidence is None:
        return torch.full((probabilities.shape[0],), times)
    sure = probabilities.max(2).values >= confidence
    return torch.where(sure.any(1), sure.int().argmax(1) + 1, times)


def budget_table(
    logits: Float[Tensor, "batch time classes"],
    labels: Int64[Tensor, " batch"],
    temperature: float,
    multiply_accumulates: Sequence[int],
) -> tuple[Budget, ...]:
    """Accuracy and cost for each limit on the glimpses, and for each confidence at which the model stops.

    Args:
        logits: Of validation images.
        labels: Their classes.
        temperature: What the logits are divided by.
        multiply_accumulates: For one image with 1 glimpse, 2 glimpses, and so on.

    Returns:
        One budget for each number of glimpses, the whole episode last, then one for each of ``CONFIDENCES`` if there is
        more than one glimpse. Their milliseconds are None.
    """
    costs = torch.tensor([0, *multiply_accumulates], dtype=torch.float64)
    times = logits.shape[1]
    probabilities = (logits / temperature).softmax(2)
    limits: list[tuple[int, float | None]] = [(limit, None) for limit in range(1, times + 1)]
    limits += [(times, confidence) for confidence in CONFIDENCES] if times > 1 else []
    table = []
    for limit, confidence in limits:
        taken = glimpses_until(probabilities[:, :limit], confidence)
        right = logits[torch.arange(len(labels)), taken - 1].argmax(1) == labels
        table.append(
            Budget(
                max_glimpses=limit,
                confidence=confidence,
                glimpses=round(float(taken.double().mean()), 4),
                accuracy=round(float(right.double().mean()), 6),
                multiply_accumulates=round(float(costs[taken].mean())),
                milliseconds=None,
            )
        )
    return tuple(table)
