"""The figures of a trained model: error after each glimpse, with its own and other fixations, and its cost.

Every figure is deterministic: the policy's mode, one run, nothing averaged over samples. First locations at random are
drawn with a fixed seed, so that each image has its own, whatever the size of the batches. Beside the own fixations of a
model with a retina the *same weights* are run under others, so that the gaze's share in the result can be seen.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchmetrics.functional.classification import multiclass_calibration_error

from glimpse.contract.episode import FIRST_LOCATIONS
from glimpse.data.held_out import generator_for
from glimpse.evaluation.scores import count_confusion, scores_of
from glimpse.images.geometry import grid
from glimpse.models.observer import Observer

FIXATIONS = ("own", "random", "centre", "grid")
"""The model's own fixations, and the baselines that the same weights are run under."""
CALIBRATION_BINS = 15
RANDOM_FIXATIONS = 3
"""Seed of the random fixations."""
RANDOM_FIRST_LOCATIONS = 5
"""Seed of the random first locations."""

FirstLocation = str | tuple[float, float]
"""Where the first glimpses are taken: one of :data:`glimpse.contract.episode.FIRST_LOCATIONS`, or (x, y) in [-1, 1]."""


@dataclass(frozen=True)
class ClassReport:
    """Precision and recall of one class.

    Attributes:
        name: The class.
        precision: Share of the predictions of this class that are right, in [0, 1].
        recall: Share of the images of this class that are classified correctly, in [0, 1].
        images: Images of this class.
    """

    name: str
    precision: float
    recall: float
    images: int


@dataclass(frozen=True)
class ClassifierEvaluation:
    """A model's figures on one part of a data set.

    Attributes:
        images: Images that it was tried on.
        error: Share of wrong predictions after the last glimpse, in [0, 1].
        errors: Share of wrong predictions after each glimpse, under each kind of fixations; a model without a retina
            has its own only.
        calibration_error: Expected calibration error after the last glimpse, 15 bins (Guo et al. 2017), in [0, 1].
        per_class: Precision and recall of each class.
        confusion: Images by true class (row) and prediction (column).
        num_glimpses: Glimpses in an episode.
        pixels_sensed: Pixels that an episode's glimpses hold, over all scales and channels.
        pixels_of_image: Pixels of the image, over all channels.
        multiply_accumulates: Of one episode on one image.
        parameters: Trained numbers in the model.
        balanced_accuracy: See :class:`glimpse.evaluation.scores.PredictionScores`, as the next four.
        macro_f1: Mean F1 of the classes, in [0, 1].
        top5_accuracy: Share of the images whose class is among the five likeliest; None of at most five classes.
        majority_class: The most frequent class of the part.
        majority_accuracy: Share of right predictions if that class were always predicted.
        first_location: Where the first glimpses were taken, in words; None of a model without a retina.
    """

    images: int
    error: float
    errors: dict[str, list[float]]
    calibration_error: float
    per_class: list[ClassReport]
    confusion: list[list[int]]
    num_glimpses: int
    pixels_sensed: int
    pixels_of_image: int
    multiply_accumulates: int
    parameters: int
    balanced_accuracy: float
    macro_f1: float
    top5_accuracy: float | None
    majority_class: str
    majority_accuracy: float
    first_location: str | None = None

    def to_json(self) -> str:
        """Write the figures as JSON."""
        return json.dumps(asdict(self), indent=2)


def first_locations(where: FirstLocation, batch: int, generator: np.random.Generator) -> Float[Tensor, "batch 2"]:
    """Locations of the first glimpses, (x, y) in [-1, 1].

    Args:
        where: Where they are taken.
        batch: How many images.
        generator: Where the randomness comes from. Batches one after another get what one large batch would get.

    Raises:
        ValueError: When there is no such choice, or the location lies outside the image.
    """
    if where == "random":
        return torch.from_numpy(generator.uniform(-1, 1, (batch, 2)).astype(np.float32))
    if where == "centre":
        return torch.zeros(batch, 2)
    if isinstance(where, str) or not all(-1 <= each <= 1 for each in where):
        raise ValueError(
            f"expected a first location out of {', '.join(FIRST_LOCATIONS)}, or (x, y) in [-1, 1], got {where!r}; "
            "choose one of them, (0, 0) is the image's centre"
        )
    return torch.tensor([where], dtype=torch.float32).expand(batch, -1)


def baseline_locations(
    kind: str, batch: int, num_glimpses: int, generator: torch.Generator
) -> Float[Tensor, "batch time 2"]:
    """Fixations that no policy chose.

    Args:
        kind: ``random``: the centre first, then uniform over the image. ``centre``: always the
            centre. ``grid``: the middles of the cells of the squarest grid with at least so many cells, row by row.
        batch: How many images.
        num_glimpses: How many fixations each.
        generator: Where the randomness comes from.

    Returns:
        Locations (x, y) in [-1, 1].

    Raises:
        ValueError: When the kind is unknown.
    """
    if kind == "random":
        locations = torch.rand(batch, num_glimpses, 2, generator=generator) * 2 - 1
        locations[:, 0] = 0.0
        return locations
    if kind == "centre":
        return torch.zeros(batch, num_glimpses, 2)
    if kind == "grid":
        return torch.tensor(grid(num_glimpses)).expand(batch, -1, -1)
    raise ValueError(f"expected fixations out of {FIXATIONS}, got {kind!r}; choose one of them")


@torch.no_grad()
def beliefs(
    observer: Observer,
    batches: Iterable[tuple[Tensor, Tensor]],
    fixations: str = "own",
    first_location: FirstLocation = "centre",
) -> tuple[Float[Tensor, "images time classes"], Int64[Tensor, " images"]]:
    """Run a model over a part of a data set.

    Args:
        observer: The model; it is run as it is, in evaluation mode.
        batches: Images and labels.
        fixations: ``own``, or for a model with a retina one of the baselines, see :func:`baseline_locations`.
        first_location: Where a model with a retina begins, under its own and under random fixations.

    Returns:
        The logits after each glimpse, and the labels, on the CPU.

    Raises:
        ValueError: When there are no such fixations, or there is no such first location.
    """
    was_training = observer.training
    observer.eval()
    logits, labels = [], []
    generator, of_first = generator_for("cpu", RANDOM_FIXATIONS), np.random.default_rng(RANDOM_FIRST_LOCATIONS)
    for images, truth in batches:
        placed = images.to(observer.device)
        first = first_locations(first_location, len(placed), of_first)
        if fixations == "own":
            trace = observer(placed, first.to(placed.device)) if observer.retina else observer(placed)
        else:
            locations = baseline_locations(fixations, len(placed), observer.num_glimpses, generator)
            if fixations == "random":
                locations[:, 0] = first
            trace = observer.following(placed, locations.to(placed.device))
        logits.append(trace.logits.float().cpu())
        labels.append(truth.cpu())
    observer.train(was_training)
    return torch.cat(logits), torch.cat(labels)


def errors_of(logits: Float[Tensor, "images time classes"], labels: Int64[Tensor, " images"]) -> list[float]:
    """Share of wrong predictions after each glimpse, in [0, 1]."""
    return (logits.argmax(2) != labels.unsqueeze(1)).double().mean(0).tolist()


def multiply_accumulates(observer: Observer, image_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of the matrix products and convolutions in an episode: half of what torch counts as flops.

    Args:
        observer: The model; it is run in evaluation mode.
        image_shape: Channels, height and width of the image.
    """
    image = torch.zeros(1, *image_shape, dtype=torch.uint8, device=observer.device)
    counter = FlopCounterMode(display=False)
    was_training = observer.training
    observer.eval()
    with torch.no_grad(), counter:
        observer(image)
    observer.train(was_training)
    return int(counter.get_total_flops()) // 2


def costs_of(observer: Observer, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Multiply-accumulates for one image with 1 glimpse, 2 glimpses, up to the whole episode.

    Args:
        observer: The model.
        image_shape: Channels, height and width of the image.
    """
    whole, costs = observer.num_glimpses, []
    try:
        for count in range(1, whole + 1):
            observer.num_glimpses = count
            costs.append(multiply_accumulates(observer, image_shape))
    finally:
        observer.num_glimpses = whole
    return tuple(costs)


def evaluate_classifier(
    observer: Observer,
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: tuple[str, ...],
    image_shape: tuple[int, ...],
    first_location: FirstLocation = "centre",
) -> ClassifierEvaluation:
    """Evaluate a model on one part of a data set.

    Args:
        observer: The model.
        batches: Images and labels; gone through once for each kind of fixations.
        classes: Class names, in the order of the labels.
        image_shape: Channels, height and width.
        first_location: Where a model with a retina begins.

    Raises:
        ValueError: When there is no such first location.
    """
    logits, labels = beliefs(observer, batches, "own", first_location)
    errors = {"own": errors_of(logits, labels)}
    for kind in FIXATIONS[1:] if observer.retina else ():
        errors[kind] = errors_of(*beliefs(observer, batches, kind, first_location))
    counts = count_confusion(logits[:, -1].argmax(1), labels, len(classes))
    scores = scores_of(logits[:, -1], labels)
    right, predicted, actual = counts.diagonal(), counts.sum(0), counts.sum(1)
    channels, height, width = image_shape
    return ClassifierEvaluation(
        images=len(labels),
        error=errors["own"][-1],
        errors=errors,
        calibration_error=float(
            multiclass_calibration_error(
                logits[:, -1].softmax(1), labels, num_classes=len(classes), n_bins=CALIBRATION_BINS
            )
        ),
        per_class=[
            ClassReport(
                name,
                int(right[at]) / max(1, int(predicted[at])),
                int(right[at]) / max(1, int(actual[at])),
                int(actual[at]),
            )
            for at, name in enumerate(classes)
        ],
        confusion=counts.tolist(),
        num_glimpses=observer.num_glimpses,
        pixels_sensed=observer.pixels_sensed(channels, height, width),
        pixels_of_image=channels * height * width,
        multiply_accumulates=multiply_accumulates(observer, image_shape),
        parameters=sum(parameter.numel() for parameter in observer.parameters()),
        balanced_accuracy=scores.balanced_accuracy,
        macro_f1=scores.macro_f1,
        top5_accuracy=scores.top5_accuracy,
        majority_class=classes[scores.majority_class],
        majority_accuracy=scores.majority_accuracy,
        first_location=_in_words(first_location) if observer.retina else None,
    )


def _in_words(where: FirstLocation) -> str:
    return where if isinstance(where, str) else f"{where[0]:g},{where[1]:g}"


def evaluation_table(evaluation: ClassifierEvaluation) -> str:
    """The figures in words and columns, for a terminal."""
    times = range(1, evaluation.num_glimpses + 1)
    glimpses = f" after {evaluation.num_glimpses} glimpses" if evaluation.num_glimpses > 1 else ""
    lines = [
        f"error {evaluation.error:.2%} on {evaluation.images:,} images{glimpses} "
        f"(calibration error {evaluation.calibration_error:.2%})",
        f"balanced accuracy {evaluation.balanced_accuracy:.2%}, macro F1 {evaluation.macro_f1:.3f}"
        + (f", top-5 accuracy {top5:.2%}" if (top5 := evaluation.top5_accuracy) is not None else ""),
        f"always answering {evaluation.majority_class}, the most frequent class: error "
        f"{1 - evaluation.majority_accuracy:.2%}",
    ]
    if evaluation.first_location is not None:
        lines.append(f"first glimpses: {evaluation.first_location}")
    several = evaluation.num_glimpses > 1 or len(evaluation.errors) > 1
    if several:
        lines += ["", "error after glimpse   " + "".join(f"{time:>8}" for time in times)]
    names = {"own": "the model's own gaze", "random": "random", "centre": "always the centre", "grid": "a grid"}
    for kind, errors in evaluation.errors.items() if several else ():
        lines.append(f"{names[kind]:<22}" + "".join(f"{100 * error:>7.2f}%" for error in errors))
    lines += ["", f"{'class':<16}{'precision':>10}{'recall':>10}{'images':>8}"]
    for report in evaluation.per_class:
        lines.append(f"{report.name:<16}{report.precision:>10.1%}{report.recall:>10.1%}{report.images:>8}")
    share = evaluation.pixels_sensed / evaluation.pixels_of_image
    lines += [
        "",
        f"pixels sensed         {evaluation.pixels_sensed:,} ({share:.2f} times those of the image)",
        f"multiply-accumulates  {evaluation.multiply_accumulates:,} an image",
        f"parameters            {evaluation.parameters:,}",
    ]
    return "\n".join(lines)
