"""Which of a training's two models to take: the best on the validation images, or the last."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from glimpse.evaluation.scores import scores_of


@dataclass(frozen=True)
class Finalist:
    """A model of a training, and what it answered.

    Attributes:
        name: What it is called.
        epoch: After which epoch it was saved, from 1.
        logits: Its belief about each validation image after the last glimpse.
    """

    name: str
    epoch: int
    logits: Float[Tensor, "images classes"]


def recommend(
    best: Finalist, last: Finalist, labels: Int64[Tensor, " images"], balanced: bool, finished: bool
) -> tuple[Finalist, str]:
    """Choose one of the two, and say why.

    The best was chosen out of as many as there were epochs by the same images, so that part of its lead is luck; the
    last has been trained down to the end of the learning rate. The best is therefore taken only where it leads by more
    than one standard error (Breiman et al. 1984, section 3.4.3), which is that of the difference on the same images.

    Args:
        best: The model of the epoch whose error was least.
        last: The model of the last epoch.
        labels: True classes of the validation images.
        balanced: Whether every class counts alike, or every image.
        finished: Whether the training came to the end that it was planned to have.

    Returns:
        The one to take, and the reason, which goes on after its name.
    """
    if best.epoch == last.epoch:
        return last, "which is the best one on the validation images, too"
    lead, deviation = _lead(best, last, labels, balanced)
    error = "balanced error" if balanced else "error"
    if lead > deviation:
        return best, (
            f"whose {error} on the validation images is {100 * lead:.2f} points lower than that of {last.name}, more "
            f"than chance explains (standard error {100 * deviation:.2f})"
        )
    if not finished and lead >= 0:
        return best, f"since the training ended before the learning rate did, and {last.name} is no better"
    if lead <= 0:
        return last, f"since {best.name} is no better on the validation images"
    return last, (
        f"since {best.name}, of {100 * lead:.2f} points less {error} on the validation images, leads by no more than "
        f"chance explains (standard error {100 * deviation:.2f})"
    )


def _lead(best: Finalist, last: Finalist, labels: Tensor, balanced: bool) -> tuple[float, float]:
    """How much lower the error of the best is, and the standard error of that, from the images on which they differ."""
    wrong_best, wrong_last = ((each.logits.argmax(1) != labels).double() for each in (best, last))
    images = labels.bincount()
    weights = 1 / ((images > 0).sum() * images[labels]) if balanced else torch.full(labels.shape, 1 / len(labels))
    differences = weights * (wrong_last - wrong_best)
    return float(differences.sum()), float(differences.square().sum().sqrt())


def finalists_table(finalists: list[Finalist], labels: Int64[Tensor, " images"], classes: tuple[str, ...]) -> list[str]:
    """The finalists' figures and the majority line, in columns for a terminal.

    Args:
        finalists: The models.
        labels: True classes of the validation images.
        classes: Class names, in the order of the labels.
    """
    scores = [scores_of(each.logits, labels) for each in finalists]
    constant = f"always {classes[scores[0].majority_class]}, the most frequent class"
    heading = f"on the {len(labels):,} validation images"
    names = [f"{each.name}, after epoch {each.epoch}" for each in finalists]
    width = max(map(len, (heading, constant, *names))) + 2
    top = scores[0].top5_accuracy is not None
    lines = [f"{heading:<{width}}{'error':>8}{'balanced accuracy':>19}{'macro F1':>10}" + "  top-5 accuracy" * top]
    for name, each in zip(names, scores, strict=True):
        shown = "" if each.top5_accuracy is None else f"{each.top5_accuracy:>16.2%}"
        lines.append(f"{name:<{width}}{each.error:>8.2%}{each.balanced_accuracy:>19.2%}{each.macro_f1:>10.3f}{shown}")
    return [*lines, f"{constant:<{width}}{1 - scores[0].majority_accuracy:>8.2%}"]
