"""Objectives that the boxes of objects teach: where the evidence lies, and what a window shows.

Boxes are (left, top, right, bottom) as fractions of the image, NaN where there is none.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from glimpse.data.datasets import Split
from glimpse.data.share import drawn_for
from glimpse.models.focus import NEVER, FocusState
from glimpse.nn.encoders import middles

CORE = 0.5
"""Share of a box's sides within which a place counts as on the object."""
SEEN = 0.8
"""Share of a window's sides within which the middle of an object must lie for the window to show it."""


class Windows(NamedTuple):
    """Windows of a batch that were looked at in training."""

    locations: Float[Tensor, "batch windows 2"]
    evidence: Float[Tensor, "batch windows classes"]
    covered: Bool[Tensor, "batch windows map_height map_width"]


def known_first(boxes: Float[Tensor, "batch most 4"]) -> Float[Tensor, "batch most 4"]:
    """Order each image's boxes so that those that are NaN come last.

    Args:
        boxes: The boxes.
    """
    order = boxes[..., :1].isnan().long().argsort(dim=1, stable=True)
    return boxes.gather(1, order.expand(-1, -1, 4))


def empty_class(part: Split, classes: int) -> int | None:
    """The class whose images show no object, while those of all others do; None where there is none, or several.

    Args:
        part: Training images with boxes.
        classes: Number of classes.
    """
    assert part.boxes is not None
    has_object = ~part.boxes[:, :, 0].isnan().all(1)
    empty = [each for each in range(classes) if not has_object[part.labels == each].any()]
    return empty[0] if len(empty) == 1 else None


def evenly(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1), one for each entry of ``rows``; see :func:`glimpse.data.share.drawn_for`.

    Args:
        rows: A row for each image of the batch.
        generator: Where the randomness comes from.
    """
    return drawn_for(
        generator, rows.detach(), lambda whole: torch.rand(whole.shape, generator=generator, device=whole.device)
    )


def near_objects(
    boxes: Float[Tensor, "batch most 4"],
    reach: Float[Tensor, " 2"],
    wanted: Bool[Tensor, " batch"],
    generator: torch.Generator,
) -> Float[Tensor, "batch 2"]:
    """Locations from which one of each image's objects is within reach; anywhere where none is, or none is wanted.

    Args:
        boxes: Where objects are, NaN where there is none, the known ones first.
        reach: From the middle of a window to its edges along x and y, half images.
        wanted: Of which images an object is wanted.
        generator: Where the randomness comes from.

    Returns:
        (x, y), mostly in [-1, 1]: a window there may hang over the edge.
    """
    share = evenly(boxes[:, 0], generator)
    known = ~boxes[:, :, 0].isnan()  # those come first
    pick = (share[:, :1] * known.sum(1, keepdim=True)).long()
    chosen = boxes.gather(1, pick[:, :, None].expand(-1, -1, 4)).squeeze(1)
    middle, half = chosen[:, :2] + chosen[:, 2:] - 1, chosen[:, 2:] - chosen[:, :2]
    # As much of the object as fits is within reach.
    free = (reach - half).clamp_min(0.1 * reach)
    offset = share[:, 2:] * 2 - 1
    return torch.where((known.any(1) & wanted)[:, None], middle + offset * free, offset)


def _inside_boxes(
    points: Float[Tensor, "points 2"], boxes: Float[Tensor, "batch most 4"], share: float
) -> Bool[Tensor, "batch points"]:
    """Whether points, (x, y) in [-1, 1], lie in the middle part of any box."""
    corners = boxes * 2 - 1
    middle, half = (corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]) / 2 * share
    return ((points[None, :, None] - middle[:, None]).abs() <= half[:, None]).all(3).any(2)


def placed_loss(
    state: FocusState,
    labels: Int64[Tensor, " batch"],
    boxes: Float[Tensor, "batch most 4"],
    told: Bool[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Minus the log-probability of the true pair of class and place, nats.

    That is of any place on an object; of no place in an image without one; and of all places and none together where
    the place is not known.

    Args:
        state: The evidence of the glance.
        labels: True classes.
        boxes: Where objects are, NaN where there is none.
        told: Whether it is known of an image where its objects are.
    """
    on, known = places_on_objects(boxes, *state.places.shape[2:])
    truth = state.places.flatten(2)[torch.arange(len(labels), device=labels.device), labels]
    placed = truth.masked_fill(~on, NEVER).logsumexp(1)
    nowhere = state.nowhere.gather(1, labels[:, None]).squeeze(1)
    anywhere = torch.logaddexp(nowhere, truth.logsumexp(1))
    target = torch.where(known, placed, torch.where(told, nowhere, anywhere))
    every = torch.cat([state.nowhere, state.places.flatten(1)], dim=1).logsumexp(1)
    return every - target


def places_on_objects(
    boxes: Float[Tensor, "batch most 4"], rows: int, columns: int
) -> tuple[Bool[Tensor, "batch places"], Bool[Tensor, " batch"]]:
    """Which places of a map lie on an object, and which images have one.

    Args:
        boxes: Where objects are, NaN where there is none.
        rows: Height of the map, places.
        columns: Width of the map, places.
    """
    points = middles(rows, columns, boxes.device)
    on = _inside_boxes(points, boxes, CORE)
    # An object that is smaller than a place has the nearest one.
    middle = (boxes[:, :, :2] + boxes[:, :, 2:]) - 1
    known = ~middle[..., 0].isnan()
    nearest = (points[None, None] - middle.nan_to_num(9.0).unsqueeze(2)).square().sum(3).argmin(2)
    on = on | (functional.one_hot(nearest, rows * columns).bool() & known.unsqueeze(2)).any(1)
    return on, known.any(1)


def window_loss(
    windows: Windows,
    labels: Int64[Tensor, " batch"],
    boxes: Float[Tensor, "batch most 4"],
    told: Bool[Tensor, " batch"],
    wide: float,
    high: float,
) -> Float[Tensor, ""]:
    """Cross-entropy of what each window shows, the class or nothing; a window that cuts an object does not count.

    Args:
        windows: The windows.
        labels: True classes.
        boxes: Where objects are, NaN where there is none.
        told: Whether it is known of an image where its objects are; windows of others do not count.
        wide: Width of a window as a share of the image's.
        high: Height of it.
    """
    reach = windows.locations.new_tensor([wide, high])
    middle = ((boxes[:, :, :2] + boxes[:, :, 2:]) - 1).unsqueeze(1)
    half = (boxes[:, :, 2:] - boxes[:, :, :2]).unsqueeze(1)
    away = (middle - windows.locations.unsqueeze(2)).abs()
    shown = (away <= reach * SEEN).all(3) | (away <= half * CORE).all(3)
    touched = (away < reach + half).all(3).any(2)
    shows = shown.any(2)
    target = torch.where(shows, labels.unsqueeze(1) + 1, 0)
    logits = functional.pad(windows.evidence, (1, 0))
    loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    counted = ((shows | ~touched) & told.unsqueeze(1)).flatten().float()
    return (loss * counted).sum() / counted.sum().clamp_min(1)
