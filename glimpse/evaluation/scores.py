"""Figures of predictions: balanced accuracy, macro F1, top-5 accuracy, and what a constant answer would get."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

TOP = 5
"""The classes among which the true one is looked for, beside the first alone."""
UNBALANCED = 2.0
"""Ratio of the largest class to the smallest from which on the plain error says too little."""


@dataclass(frozen=True)
class PredictionScores:
    """A model's figures on some images, each in [0, 1].

    Attributes:
        error: Share of wrong predictions.
        balanced_accuracy: Mean over the classes of the share of right predictions (Brodersen et al. 2010).
        macro_f1: Mean over the classes of the harmonic mean of precision and recall.
        top5_accuracy: Share of the images whose class is among the five likeliest; None of at most five classes.
        majority_accuracy: Share of right predictions if the most frequent class were always predicted.
        majority_class: Number of that class.
    """

    error: float
    balanced_accuracy: float
    macro_f1: float
    top5_accuracy: float | None
    majority_accuracy: float
    majority_class: int


def scores_of(logits: Float[Tensor, "images classes"], labels: Int64[Tensor, " images"]) -> PredictionScores:
    """Measure predictions.

    Args:
        logits: The belief about each image.
        labels: True classes.
    """
    counts = count_confusion(logits.argmax(1), labels, logits.shape[1])
    frequency = counts.sum(1)
    top = logits.topk(TOP, 1).indices if logits.shape[1] > TOP else None
    return PredictionScores(
        error=1 - int(counts.diagonal().sum()) / len(labels),
        balanced_accuracy=balanced_accuracy(counts),
        macro_f1=macro_f1(counts),
        top5_accuracy=None if top is None else float((top == labels[:, None]).any(1).double().mean()),
        majority_accuracy=int(frequency.max()) / len(labels),
        majority_class=int(frequency.argmax()),
    )


def count_confusion(
    predictions: Int64[Tensor, " images"], labels: Int64[Tensor, " images"], classes: int
) -> Int64[Tensor, "classes classes"]:
    """Count the images by true class (row) and prediction (column).

    Args:
        predictions: Predicted classes.
        labels: True classes.
        classes: How many classes there are.
    """
    return torch.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(counts: Int64[Tensor, "classes classes"]) -> float:
    """The mean over the classes of the share of right predictions; a class without images does not count.

    Args:
        counts: See :func:`count_confusion`.
    """
    images = counts.sum(1)
    there = images > 0
    return float((counts.diagonal()[there].double() / images[there]).mean())


def macro_f1(counts: Int64[Tensor, "classes classes"]) -> float:
    """The mean over the classes of F1; a class that no image has and none is taken for does not count.

    Args:
        counts: See :func:`count_confusion`.
    """
    either = counts.sum(0) + counts.sum(1)
    there = either > 0
    return float((2 * counts.diagonal()[there].double() / either[there]).mean())


def is_unbalanced(images: Int64[Tensor, " classes"]) -> bool:
    """Whether the largest class has so many more images than the smallest that all classes should count alike.

    Args:
        images: Images of each class.
    """
    return bool(images.max() >= UNBALANCED * images.min())
