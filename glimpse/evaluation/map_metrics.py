"""The quality of a map of importance: whether it points at the digit, and whether those pixels decide the prediction.

Maps are weights on an image's pixels, not negative; of most scores only their order counts. Such maps have *ties*: all
that a hard model never looked at, all that lies under one cell of a coarse map, a flat map as a whole. Ties broken by
position would reveal the image from its upper left corner onwards, and a digit's place on the canvas would pass for a
merit of the map. So ties are broken by a random order of the pixels, the same for every image and every map.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Probabilities = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch classes"]]


class Curve(NamedTuple):
    """The label's probability while pixels are changed, the most important ones first."""

    shares: Float[Tensor, " points"]
    """Share of the pixels that are changed, from 0 to 1."""
    probabilities: Float[Tensor, "batch points"]
    """Of the label, in [0, 1]."""
    area: Float[Tensor, " batch"]
    """Under the curve, by trapezoids, in [0, 1]."""


class MapEntropy(NamedTuple):
    """How far a map's weight is spread."""

    nats: Float[Tensor, " batch"]
    """From 0, all in one place, to the logarithm of the number of places, even."""
    share: Float[Tensor, " batch"]
    """Of that logarithm, in [0, 1]; 1 for a map of a single place, which is as even as can be."""


def deletion(
    function: Probabilities,
    images: Float[Tensor, "batch channels height width"],
    maps: Float[Tensor, "batch height width"],
    labels: Int64[Tensor, " batch"],
    steps: int = 32,
    fill: float = 0.0,
    seed: int = 0,
) -> Curve:
    """Follow the label's probability as the most important pixels go first (Petsiuk et al. 2018, algorithm 1).

    The smaller the area, the better the map.

    Args:
        function: Gives images in [0, 1] their classes' probabilities. It is called once for each point of the curve,
            with the whole batch in the batch's order, so that it may hold something fixed for each image.
        images: Pixels in [0, 1].
        maps: Importance of each pixel.
        labels: The class whose probability is followed, for each image.
        steps: Equal shares of the pixels in which the curve is drawn, from 1 to the number of pixels.
        fill: What a deleted pixel becomes, in [0, 1]; 0 is black, the ground of digits.
        seed: Fixes the order of tied pixels.

    Raises:
        ValueError: When there are no steps or more than pixels, or the function's values are no probabilities.
    """
    return _curve(function, images, maps, labels, steps, fill, seed, inserts=False)


def insertion(
    function: Probabilities,
    images: Float[Tensor, "batch channels height width"],
    maps: Float[Tensor, "batch height width"],
    labels: Int64[Tensor, " batch"],
    steps: int = 32,
    fill: float = 0.0,
    seed: int = 0,
) -> Curve:
    """Follow the label's probability as the most important pixels come first (Petsiuk et al. 2018).

    The larger the area, the better the map. It begins from an image that is all ``fill``, where the paper begins from a
    blurred one; arguments and errors are those of :func:`deletion`.
    """
    return _curve(function, images, maps, labels, steps, fill, seed, inserts=True)


def pointing_game(
    maps: Float[Tensor, "batch height width"], boxes: Int64[Tensor, "batch 4"]
) -> Float[Tensor, " batch"]:
    """Check whether each map's maximum lies in the box of the object (Zhang et al. 2018, section 4.2).

    If several pixels share the maximum, the result is the share of them that lies in the box, which is the mean over a
    random choice among them. No margin around the box counts as a hit.

    Args:
        maps: Importance of each pixel.
        boxes: In pixels, (left, top, right, bottom), right and bottom exclusive.

    Returns:
        1 for a hit, 0 for a miss, between them for a tie.
    """
    height, width = maps.shape[1:]
    left, top, right, bottom = boxes.unsqueeze(-1).unbind(1)
    row, column = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
    down, across = (row >= top) & (row < bottom), (column >= left) & (column < right)
    inside = down.unsqueeze(2) & across.unsqueeze(1)
    best = maps == maps.amax((1, 2), keepdim=True)
    return (best & inside).sum((1, 2)) / best.sum((1, 2))


def map_entropy(maps: Float[Tensor, "batch height width"]) -> MapEntropy:
    """Measure how far each map's weight is spread: ``-sum_i p_i ln p_i``, the weights scaled to sum to one.

    Raises:
        ValueError: When a map has a negative weight, or none above zero.
    """
    weights = maps.flatten(1).double()
    total = weights.sum(1, keepdim=True)
    if not bool((weights >= 0).all() and (total > 0).all()):
        raise ValueError("expected maps of weights that are not negative and not all zero; got others; check the maps")
    nats = torch.special.entr(weights / total).sum(1)
    places = weights.shape[1]
    share = nats / math.log(places) if places > 1 else torch.ones_like(nats)
    return MapEntropy(nats.float(), share.float())


def agreement(
    maps: Float[Tensor, "batch height width"], others: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """Compare two maps of each image by the order of their pixels: Spearman's rank correlation, ties sharing a rank.

    Returns:
        From -1, the opposite order, by 0 to 1, the same order. A flat map, which has no order, agrees with nothing: 0,
        the average over all ways to break its ties.
    """
    ranks, other_ranks = _ranks(maps.flatten(1)), _ranks(others.flatten(1))
    product = (ranks * other_ranks).sum(1)
    sizes = ranks.square().sum(1) * other_ranks.square().sum(1)
    return torch.where(sizes > 0, product / sizes.where(sizes > 0, 1).sqrt(), 0.0).float()


def _ranks(values: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch pixels"]:
    """Ranks less their mean; equal values share the mean of their ranks."""
    ordered = values.sort(1).values
    values = values.contiguous()
    below, not_above = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return ((below + not_above - values.shape[1]) / 2).double()


def _curve(
    function: Probabilities,
    images: Tensor,
    maps: Tensor,
    labels: Tensor,
    steps: int,
    fill: float,
    seed: int,
    *,
    inserts: bool,
) -> Curve:
    pixels = maps[0].numel()
    if not 1 <= steps <= pixels:
        raise ValueError(f"expected from 1 step to as many as the image has pixels, {pixels}; got {steps}")
    places = _places(maps, seed)
    counts = [round(step * pixels / steps) for step in range(steps + 1)]
    probabilities = []
    with torch.no_grad():
        for count in counts:
            kept = (places < count) == inserts
            values = _checked(function(images.where(kept.unsqueeze(1), fill)), len(images))
            probabilities.append(values.gather(1, labels.unsqueeze(1)).squeeze(1).float())
    shares = torch.tensor(counts, device=images.device) / pixels
    curve = torch.stack(probabilities, dim=1)
    return Curve(shares, curve, torch.trapezoid(curve, shares))


def _places(maps: Float[Tensor, "batch height width"], seed: int) -> Int64[Tensor, "batch height width"]:
    """Each pixel's place in the order of importance, from 0."""
    shuffle = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(seed)).to(maps.device)
    order = shuffle[maps.flatten(1)[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view(maps.shape)


def _checked(values: Tensor, batch: int) -> Tensor:
    if values.ndim != 2 or len(values) != batch:
        raise ValueError(
            f"expected a function that gives each of {batch} images its classes' probabilities, got values of shape "
            f"{tuple(values.shape)}; let it return (batch, classes)"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1.001):
        raise ValueError(
            f"expected a function that gives probabilities, in [0, 1], got values from {low:.3g} to {high:.3g}; "
            "put a softmax behind it"
        )
    return values
