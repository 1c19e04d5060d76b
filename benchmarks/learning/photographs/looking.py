"""What looking earns a model that glances and focuses: where its windows lie, and what they do to its predictions.

The same weights see their own windows, random ones, ones in the middle, and an oracle's, which lie on the objects'
boxes. An image without an object has no box: there the oracle's windows are the model's own, so that its figure says
what a better gaze would earn, and nothing of where no box is.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.learning.photographs.uncertainty import standard_error
from glimpse.data.datasets import Split
from glimpse.data.held_out import generator_for
from glimpse.evaluation.evaluate import RANDOM_FIXATIONS, baseline_locations, costs_of
from glimpse.evaluation.scores import scores_of
from glimpse.models.focus import FocusObserver

WINDOWS = 4
"""Windows of an episode, even if the trained model takes fewer."""
BATCH = 64


def measure_looking(
    observer: FocusObserver, test: Split, groups: Sequence[str], small: Sequence[bool], balanced: bool
) -> dict[str, Any]:
    """Measure a model under its own windows and under others.

    Args:
        observer: The model.
        test: The test images, with boxes where they are known.
        groups: The name of each image's group.
        small: Whether each image's object is of a small kind.
        balanced: Whether every class counts alike.

    Returns:
        ``gazes``: accuracy after each glimpse, with its standard error, and shares of the objects that were found; and
        ``random_less_glance``, ``multiply_accumulates``, ``kept``.
    """
    labels, size = test.labels.numpy(), test.images.shape[2:]
    shape = tuple(test.images.shape[1:])
    kinds = {"all": torch.ones(len(test), dtype=torch.bool), "small": torch.tensor(list(small), dtype=torch.bool)}
    gazes: dict[str, Any] = {}
    rights: dict[str, Float[np.ndarray, "images time"]] = {}
    kept = observer.num_glimpses
    with taking(observer, max(kept, 1 + WINDOWS)):
        traces = {"own": roll_out(observer, test.images)}
        for gaze, locations in _other_gazes(test, traces["own"][1]).items():
            traces[gaze] = roll_out(observer, test.images, locations)
        for gaze, (logits, seen) in traces.items():
            rights[gaze] = (logits.argmax(2) == test.labels[:, None]).double().numpy()
            scores = [scores_of(each, test.labels) for each in logits.unbind(1)]
            gazes[gaze] = {
                "accuracy": [each.balanced_accuracy if balanced else 1 - each.error for each in scores],
                "standard_error": [standard_error(each, labels, groups, balanced) for each in rights[gaze].T],
            }
            if test.boxes is not None:
                found = covered(test.boxes, seen[:, 1:], observer.model.window, *size)
                gazes[gaze]["found"] = {kind: found_shares(found, test.boxes, of) for kind, of in kinds.items()}
        costs = costs_of(observer, shape)
    less = rights["random"] - rights["random"][:, :1]
    accuracy = gazes["random"]["accuracy"]
    return {
        "kept": kept,
        "multiply_accumulates": list(costs),
        "gazes": gazes,
        "random_less_glance": [each - accuracy[0] for each in accuracy[1:]],
        "random_less_glance_standard_error": [standard_error(each, labels, groups, balanced) for each in less.T[1:]],
    }


@contextmanager
def taking(observer: FocusObserver, glimpses: int) -> Iterator[None]:
    """Have a model take so many glimpses inside the context.

    Args:
        observer: The model.
        glimpses: How many, the glance among them.
    """
    before, observer.num_glimpses = observer.num_glimpses, glimpses
    try:
        yield
    finally:
        observer.num_glimpses = before


def _other_gazes(test: Split, own: Float[Tensor, "images time 2"]) -> dict[str, Float[Tensor, "images time 2"]]:
    """Fixations that the model did not choose, by the name of the gaze."""
    gazes = {
        kind: baseline_locations(kind, len(test), own.shape[1], generator_for("cpu", RANDOM_FIXATIONS))
        for kind in ("random", "centre")
    }
    return gazes if test.boxes is None else gazes | {"oracle": oracle_locations(test.boxes, own)}


@torch.no_grad()
def roll_out(
    observer: FocusObserver, images: Tensor, locations: Float[Tensor, "images time 2"] | None = None
) -> tuple[Float[Tensor, "images time classes"], Float[Tensor, "images time 2"]]:
    """Run a model in evaluation mode.

    Args:
        observer: The model.
        images: uint8 in [0, 255].
        locations: Fixations, (x, y) in [-1, 1], the first of which is the glance's and is not used; None for the
            model's own.

    Returns:
        The logits after each glimpse, and where the glimpses were taken.
    """
    observer.eval()
    logits, seen = [], []
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        trace = observer(images[rows]) if locations is None else observer.following(images[rows], locations[rows])
        logits.append(trace.logits.float())
        seen.append(trace.locations)
    return torch.cat(logits), torch.cat(seen)


def oracle_locations(
    boxes: Float[Tensor, "images most 4"], own: Float[Tensor, "images time 2"]
) -> Float[Tensor, "images time 2"]:
    """Windows on the middles of each image's boxes, in turn; where it has none, the model's own.

    Args:
        boxes: In fractions of the image, NaN rows where there is none.
        own: Where the model looked, the glance first, (x, y) in [-1, 1].
    """
    locations = own.clone()
    for image, of_image in enumerate(boxes):
        there = of_image[~of_image[:, 0].isnan()]
        if len(there):
            middles = there[:, :2] + there[:, 2:] - 1
            locations[image, 1:] = middles[torch.arange(own.shape[1] - 1) % len(there)]
    return locations


def covered(
    boxes: Float[Tensor, "images most 4"],
    locations: Float[Tensor, "images windows 2"],
    window: int,
    height: int,
    width: int,
) -> Bool[Tensor, "images most windows"]:
    """Whether a window lies on an object: the box's middle is in the window, or the window's middle in the box.

    Args:
        boxes: (left, top, right, bottom) in fractions of the image; NaN rows, where there is none, are never covered.
        locations: Middles of the windows, (x, y) in [-1, 1].
        window: Side of a window, pixels.
        height: Of the image, pixels.
        width: Of the image, pixels.
    """
    middles = (locations + 1)[:, None] / 2
    start, end = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    reach = boxes.new_tensor([window / width, window / height]) / 2
    in_window = ((start + end) / 2 - middles).abs() <= reach
    in_box = (start <= middles) & (middles <= end)
    return in_window.all(3) | in_box.all(3)


def found_shares(
    found: Bool[Tensor, "images most windows"], boxes: Float[Tensor, "images most 4"], chosen: Bool[Tensor, " images"]
) -> dict[str, Any]:
    """Shares of the objects, and of the images with objects, that were found by the first 1, 2, ... windows.

    Args:
        found: See :func:`covered`.
        boxes: NaN rows where there is none.
        chosen: The images that count.

    Returns:
        ``objects``: shares of the boxes; ``images``: shares of the images with a box, of which one is found; how many
        there are of each. Shares are None where there are none.
    """
    by_then = found[chosen].cummax(2).values
    there = ~boxes[chosen][:, :, 0].isnan()
    with_objects = there.any(1)
    return {
        "objects": _shares(by_then[there]),
        "images": _shares(by_then[with_objects].any(1)),
        "number_of_objects": int(there.sum()),
        "number_of_images": int(with_objects.sum()),
    }


def _shares(by_then: Bool[Tensor, "things windows"]) -> list[float] | None:
    return by_then.double().mean(0).tolist() if len(by_then) else None


def judge(looking: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the questions: does looking earn half of what an oracle's gaze would, and do random windows harm?

    It is judged after as many windows as the model takes, or after all where it takes none.

    Args:
        looking: What :func:`measure_looking` found.

    Returns:
        ``windows``; ``earned``, ``possible`` (points of accuracy over the glance, the latter None without boxes);
        ``earns_half``, None where nothing is possible; ``random_worst``, with its ``standard_error``;
        ``random_lowers``: by more than two standard errors; and ``sentences``.
    """
    windows = looking["kept"] - 1 or WINDOWS
    own, oracle = (looking["gazes"].get(gaze, {}).get("accuracy") for gaze in ("own", "oracle"))
    earned = 100 * (own[windows] - own[0])
    possible = None if oracle is None else 100 * (oracle[windows] - own[0])
    half = None if possible is None or possible <= 0 else earned >= possible / 2
    share = {None: "so that there is nothing to earn", True: "at least half", False: "less than half"}[half]
    differences = [100 * each for each in looking["random_less_glance"]]
    worst = min(range(len(differences)), key=differences.__getitem__)
    error = 100 * looking["random_less_glance_standard_error"][worst]
    lowers = differences[worst] < -2 * error
    sentences = [
        f"looking earns {earned:.1f} points over the glance alone with {windows} windows"
        + ("" if possible is None else f", windows on the objects would earn {possible:.1f}: {share}"),
        f"random windows change the glance's figure by {', '.join(f'{each:+.1f}' for each in differences)} points; the "
        f"worst is {differences[worst]:+.1f} (standard error {error:.1f}): "
        + ("lower by more than two standard errors" if lowers else "not lower by more than chance"),
    ]
    return {
        "windows": windows,
        "earned": earned,
        "possible": possible,
        "earns_half": half,
        "random_worst": differences[worst],
        "random_worst_standard_error": error,
        "random_lowers": lowers,
        "sentences": sentences,
    }
