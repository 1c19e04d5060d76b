"""What a choice's figures are compared with: pixels alone, one constant answer, and what looking earns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import Split
from glimpse.evaluation.evaluate import beliefs, costs_of
from glimpse.evaluation.scores import PredictionScores, scores_of
from glimpse.files import whole_file
from glimpse.models.focus import FocusObserver
from glimpse.nn.encoders import middles
from glimpse.nn.retina import fractions
from glimpse.training.checkpoint import load_with_data, read_checkpoint
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.transfer.linear_head import fit_linear_head

PIXELS = 32
"""Side of the images that the regression on pixels sees."""
WINDOW_PLACES = ("own", "random", "centre")
"""Where the windows of a model that looks are: where it chose, at random places, in the middle."""


MOST_LOOKS = 40_000
"""Windows that are looked at where every place is: of more, the images are fewer."""


@dataclass(frozen=True)
class Everywhere:
    """A model that looks at windows next to one another all over the image.

    Attributes:
        windows: How many there are.
        error: The error, in [0, 1].
        images: Validation images that it was measured on, spread evenly over all.
        cost: Multiply-accumulates of an image.
    """

    windows: int
    error: float
    images: int
    cost: int


@dataclass(frozen=True)
class Looking:
    """What looking earns.

    Attributes:
        errors: Error after each glimpse, in [0, 1], for each of ``WINDOW_PLACES``.
        costs: Multiply-accumulates of an image after each glimpse.
        kept: Glimpses that are taken: those after which the error is least.
        everywhere: What looking at every place would earn.
    """

    errors: Mapping[str, list[float]]
    costs: tuple[int, ...]
    kept: int
    everywhere: Everywhere

    def describe(self) -> str:
        """The finding in words."""
        own = self.errors["own"]
        earned = 100 * (own[0] - own[self.kept - 1])
        if self.kept == 1:
            return (
                f"looking earns nothing over the glance's error of {100 * own[0]:.1f} % on validation images: dropped"
            )
        more = (self.costs[self.kept - 1] - self.costs[0]) / self.costs[0]
        return (
            f"looking earns {earned:.1f} points over the glance's error of {100 * own[0]:.1f} % on validation images, "
            f"for {more:.2f} times its cost more: {self.kept - 1} window{'s' * (self.kept > 2)} kept"
        )


def error_of(found: PredictionScores, balanced: bool) -> float:
    """The error that is compared: of all images, or the mean over the classes."""
    return 1 - found.balanced_accuracy if balanced else found.error


def measure_looking(training: ClassifierTraining, data: ImageData, balanced: bool) -> Looking | None:
    """Measure on validation images what windows earn; None for a model that does not look at any.

    Args:
        training: The trained model.
        data: Its data.
        balanced: Whether the error counts every class alike.
    """
    observer = training.observer
    if not isinstance(observer, FocusObserver):
        return None
    errors = {}
    for gaze in WINDOW_PLACES:
        logits, labels = beliefs(observer, data.val_dataloader(), gaze)
        errors[gaze] = [error_of(scores_of(each, labels), balanced) for each in logits.unbind(1)]
    own, costs = errors["own"], costs_of(observer, training.image_shape)
    return Looking(errors, costs, 1 + own.index(min(own)), look_everywhere(observer, data, balanced))


@torch.no_grad()
def look_everywhere(observer: FocusObserver, data: ImageData, balanced: bool) -> Everywhere:
    """Measure on validation images what a model makes of windows next to one another all over the image.

    Args:
        observer: The trained model, in evaluation.
        data: Its data.
        balanced: Whether the error counts every class alike.
    """
    shape, window = tuple(data.image_shape), observer.model.window
    places = middles(math.ceil(shape[1] / window), math.ceil(shape[2] / window), observer.device)
    locations = torch.cat([torch.zeros_like(places[:1]), places])
    every = math.ceil(len(data.source.validation) * len(places) / MOST_LOOKS)
    logits, labels = [], []
    for images, of_images in data.val_dataloader():
        seen = images[::every].to(observer.device)
        logits.append(observer.following(seen, locations.expand(len(seen), -1, -1)).logits[:, -1].cpu())
        labels.append(of_images[::every])
    truth = torch.cat(labels)
    error = error_of(scores_of(torch.cat(logits), truth), balanced)
    glance, one = (costs_of(FocusObserver(observer.model, count), shape)[-1] for count in (1, 2))
    return Everywhere(len(places), error, len(truth), glance + len(places) * (one - glance))


def keep_glimpses(checkpoint: Path, count: int) -> None:
    """Have a trained model take so many glimpses from now on; its weights stay as they are.

    Args:
        checkpoint: A file that training wrote, which is replaced.
        count: How many.
    """
    content = read_checkpoint(checkpoint)
    content["hyper_parameters"]["num_glimpses"] = count
    with whole_file(checkpoint) as stream:
        torch.save(content, stream)


def pixel_regression(data: ImageData, balanced: bool) -> tuple[PredictionScores, PredictionScores]:
    """Logistic regression on the pixels of images scaled to 32x32: its figures on validation and on test images.

    Args:
        data: The images.
        balanced: Whether the penalty is chosen by the error that counts every class alike.
    """
    train, held_out, test = (_pixels(part) for part in (data.source.train, data.source.validation, data.source.test))
    head = fit_linear_head(
        train,
        data.source.train.labels,
        held_out,
        data.source.validation.labels,
        torch.ones(len(data.classes)),
        balanced,
    )
    return (
        scores_of(held_out @ head.weight.T + head.bias, data.source.validation.labels),
        scores_of(test @ head.weight.T + head.bias, data.source.test.labels),
    )


def _pixels(part: Split) -> Tensor:
    small = [
        functional.interpolate(fractions(images), (PIXELS, PIXELS), mode="bilinear", antialias=True).flatten(1)
        for images in part.images.split(500)
    ]
    return torch.cat(small)


def scores_on_test(checkpoint: Path) -> tuple[PredictionScores, int]:
    """A trained model's figures on the test images, and its multiply-accumulates.

    Args:
        checkpoint: A file that training wrote.
    """
    training, data = load_with_data(checkpoint)
    logits, labels = beliefs(training.observer, data.test_dataloader())
    return scores_of(logits[:, -1], labels), costs_of(training.observer, training.image_shape)[-1]
