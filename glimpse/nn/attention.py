"""Attention: each query is compared with the keys of all places, and the values are averaged by the resulting weights.

A *score function* rates how well a query matches each place. The softmax of the scores gives the *attention weights*,
and the sum of the values under these weights is the *context*: over all places (global attention), over a window around
a centre (local attention), or with the places themselves as queries (self-attention). Queries are (batch, features) or
(batch, queries, features); keys and values are (batch, places, features), the places of a map row by row; a mask is
(batch, places), true for the places that take part.

Weights are float32 for scores of any precision (float64 for float64). They are never negative, and sum to one over the
places that the mask leaves. If it leaves none, weights, context and their gradients are zero, and no error is raised:
reading the content of a mask would make the processor wait for a GPU and break the export of a graph. ``check_mask``
raises an error for such a mask.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from glimpse.images.geometry import to_pixels, to_unit
from glimpse.nn.scores import Keys, Queries, Score, Scores, Values, pick, wide

Mask = Bool[Tensor, "batch places"]

SLACK = 1e-3  # in cells: a place whose distance exceeds the window by less, through rounding, is still inside


class Attended(NamedTuple):
    """The result of an attention."""

    context: Float[Tensor, "batch *queries values"]
    """The values summed under the weights; in the values' precision."""
    weights: Scores
    """Attention weights in [0, 1], which sum to one over the places, or to zero where the mask leaves none."""


def masked_softmax(
    scores: Float[Tensor, "*rows places"], mask: Bool[Tensor, "*#rows places"] | None = None
) -> Float[Tensor, "*rows places"]:
    """Softmax over the places that the mask leaves.

    Args:
        scores: Any numbers. Infinite ones, which a dot product may reach in float16, are clamped to very large ones.
        mask: True for the places that take part; without a mask all do. The axes before the places are broadcast.

    Returns:
        Weights, float32 or float64: zero at masked places, and so all zero in a row in which every place is masked.
    """
    scores = wide(scores)
    bound = torch.finfo(scores.dtype).max / 2
    scores = scores.clamp(-bound, bound)
    if mask is None:
        return scores.softmax(-1)
    return scores.masked_fill(~mask, -2 * bound).softmax(-1).masked_fill(~mask, 0.0)


def check_mask(mask: Bool[Tensor, "*rows places"]) -> None:
    """Reject a mask that leaves a row without places. It reads the mask, and so waits for a GPU.

    Raises:
        ValueError: When a row is false everywhere.
    """
    empty = (~mask.any(-1)).flatten().nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"expected a mask that leaves at least one of {mask.shape[-1]} places in every row, got {len(empty)} rows "
            f"that leave none, the first being row {empty[0]}; set a place there to true, or leave those rows out"
        )


class GlobalAttention(nn.Module):
    """Attend to every place (Bahdanau et al. 2015, eq. 5 and 6)."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score

    def forward(
        self, queries: Queries, keys: Keys, values: Values, mask: Mask | None = None, prepared: bool = False
    ) -> Attended:
        """Attend; with ``prepared``, the keys are those that ``score.prepare`` returned."""
        scores = self.score.compare(queries, keys if prepared else self.score.prepare(keys))
        if mask is not None:
            mask = mask.reshape(mask.shape[0], *[1] * (scores.ndim - 2), mask.shape[1])
        weights = masked_softmax(scores, mask)
        return Attended(torch.einsum("b...p,bpv->b...v", weights.to(values.dtype), values), weights)


class LocalAttention(nn.Module):
    """Attend to a window around a centre (Luong et al. 2015, section 3.2), comparing only the places within it.

    Places are the cells of a map; a sequence is a map of one row. A place is within the window when its middle lies at
    most ``window`` cells from the centre along both axes. *Monotonic* (local-m): the centres are given, or query t
    has its centre at place t (``p_t = t``). *Predictive* (local-p): the centre is learned, as
    ``p = S sigmoid(v^T tanh(W q))`` along each axis (eq. 9), and weights are multiplied by
    ``exp(-d^2 / (2 sigma^2))``, where d is the distance from the centre and sigma is half of ``window`` (eq. 10).
    The paper uses that product as it is; here it is divided by its sum, so that the weights sum to one.

    Args:
        score: Score function.
        window: Cells from the centre to the window's edge, the paper's D: 2 D + 1 cells from side to side.
        predictive: Whether centres are learned or given.

    Raises:
        ValueError: When the window is below 1.
    """

    def __init__(self, score: Score, window: int, predictive: bool) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"expected a window of at least 1 cell to each side, got {window}; raise it")
        self.score = score
        self.window = window
        hidden = nn.Linear(score.queries, score.queries, bias=False)
        self.centre = nn.Sequential(hidden, nn.Tanh(), nn.Linear(score.queries, 2, bias=False)) if predictive else None

    def forward(
        self,
        queries: Queries,
        keys: Keys,
        values: Values,
        mask: Mask | None = None,
        prepared: bool = False,
        shape: tuple[int, int] | None = None,
        centres: Float[Tensor, "batch *queries 2"] | None = None,
    ) -> Attended:
        """Attend.

        Args:
            queries: Queries, one or several an image.
            keys: Keys of all places.
            values: Values of all places.
            mask: True for the places that take part. If a window has none, its weights and context are zero.
            prepared: Whether the keys are those that ``score.prepare`` returned.
            shape: Height and width of the map, cells; one row of all places unless given.
            centres: Middles of the windows, (x, y) in [-1, 1]; for monotonic attention only.

        Raises:
            ValueError: When the number of cells differs from the number of places, when the window is larger than the
                map, and when centres are missing, or given to predictive attention.
        """
        places = keys.shape[1]
        height, width = shape or (1, places)
        if height * width != places:
            raise ValueError(
                f"expected a map of {places} cells, got {height} x {width}; give the shape of the keys' map"
            )
        if self.window >= max(height, width):
            raise ValueError(
                f"expected a window of at most {max(height, width) - 1} cells to each side on a map of "
                f"{height} x {width}, got {self.window}; lower it, or attend globally"
            )
        across, down = self._centres(queries, height, width, centres).unbind(-1)
        columns, right = self._reach(across, width)
        rows, below = self._reach(down, height)
        near = (rows.unsqueeze(-1) * width + columns.unsqueeze(-2)).flatten(-2)
        distances = torch.maximum(below.abs().unsqueeze(-1), right.abs().unsqueeze(-2)).flatten(-2)
        inside = distances <= self.window + SLACK
        if mask is not None:
            inside = inside & mask.gather(1, near.flatten(1)).view(near.shape)
        scores = self.score.compare_near(queries, keys if prepared else self.score.prepare(keys), near)
        if self.centre is not None:
            squares = (below.square().unsqueeze(-1) + right.square().unsqueeze(-2)).flatten(-2)
            scores = wide(scores) - 2 * squares / self.window**2
        weights = masked_softmax(scores, inside)
        context = torch.einsum("...k,...kv->...v", weights.to(values.dtype), pick(values, near))
        return Attended(context, weights.new_zeros(*near.shape[:-1], places).scatter(-1, near, weights))

    def predict(self, queries: Queries) -> Float[Tensor, "batch *queries 2"]:
        """Predict the windows' middles from the queries, (x, y) in [-1, 1], differentiable.

        Raises:
            ValueError: When the attention is monotonic.
        """
        if self.centre is None:
            raise ValueError(
                "expected predictive attention, got monotonic, whose centres are given; make it predictive"
            )
        return 2 * torch.sigmoid(wide(self.centre(queries))) - 1

    def _centres(self, queries: Tensor, height: int, width: int, centres: Tensor | None) -> Tensor:
        """Middles of the windows, (x, y) in [-1, 1]: learned, given, or one place for each query."""
        if self.centre is not None:
            if centres is not None:
                raise ValueError("expected no centres, which predictive attention learns, got some; leave them out")
            return self.predict(queries)
        if centres is not None:
            return wide(centres)
        if queries.ndim != 3 or queries.shape[1] > height * width:
            raise ValueError(
                f"expected centres, or (batch, queries, features) with one query for each of up to {height * width} "
                f"places, got queries of shape {tuple(queries.shape)} alone; give centres, (x, y) in [-1, 1]"
            )
        place = torch.arange(queries.shape[1], device=queries.device)
        row = torch.div(place, width, rounding_mode="floor")
        middles = torch.stack([to_unit(place % width + 0.5, width), to_unit(row + 0.5, height)], dim=-1)
        return middles.expand(queries.shape[0], -1, -1)

    def _reach(self, centre: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """Return the numbers of the cells along one axis that a window may contain, and their distances.

        Every centre has the same number of cells, all of them on the map. Some lie outside of the window, if it extends
        beyond an edge or its centre lies between two cells.
        """
        middle = to_pixels(centre, cells) - 0.5
        span = min(2 * self.window + 1, cells)
        first = (middle.detach() - self.window - SLACK).ceil().clamp(0, cells - span)
        numbers = first.unsqueeze(-1) + torch.arange(span, device=centre.device)
        return numbers.long(), numbers - middle.unsqueeze(-1)


class MultiHeadSelfAttention(nn.Module):
    """Attend from every place to every place, in several heads (Vaswani et al. 2017, section 3.2.2).

    Equal to ``torch.nn.MultiheadAttention`` with the same weights, except where a mask leaves no place: the heads
    then return zeros, so that the context is the output layer's bias.

    Args:
        features: Length of a place's vector.
        heads: Number of scaled dot products, each over ``features / heads`` numbers.
        dropout: Probability of leaving out a weight in training, in [0, 1]; the returned weights are without dropout.

    Raises:
        ValueError: When the heads don't divide the features.
    """

    def __init__(self, features: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or features % heads:
            raise ValueError(f"expected heads that divide {features} features, got {heads}; change one of the two")
        self.heads = heads
        self.project = nn.Linear(features, 3 * features)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(features, features)

    def forward(self, places: Keys, mask: Mask | None = None) -> Attended:
        """Attend from every place to those that the mask leaves.

        Returns:
            Context (batch, places, features), and weights (batch, heads, places, places): the place of the query first.
        """
        split: Tensor = self.project(places).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        scores = (queries / math.sqrt(queries.shape[-1])) @ keys.transpose(-1, -2)
        weights = masked_softmax(scores, None if mask is None else mask[:, None, None, :])
        context = self.dropout(weights).to(values.dtype) @ values
        return Attended(self.out(context.transpose(1, 2).flatten(2)), weights)


def rollout_attention(
    weights: Sequence[Float[Tensor, "batch heads places places"]],
) -> Float[Tensor, "batch places places"]:
    """Follow the attention through all layers (Abnar and Zuidema 2020, section 3, "attention rollout").

    A layer's heads are averaged into A, the residual connection joins as ``0.5 A + 0.5 I``, rows are divided by their
    sums, and the layers are multiplied, the last one leftmost.

    Args:
        weights: Weights of every layer, the first layer first.

    Returns:
        Share of each input place (second axis) in each output place (first axis); rows sum to one.

    Raises:
        ValueError: When there is no layer.
    """
    if not weights:
        raise ValueError("expected the weights of at least one layer, got none; hand in one tensor for each layer")
    heads = [wide(layer).mean(1) for layer in weights]
    mixed = [0.5 * layer + 0.5 * torch.eye(layer.shape[-1], device=layer.device) for layer in heads]
    with torch.autocast(mixed[0].device.type, enabled=False):
        return reduce(lambda below, layer: layer @ below, [layer / layer.sum(-1, keepdim=True) for layer in mixed])
