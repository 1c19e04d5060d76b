"""Score functions: how well queries match places, one unbounded number a pair.

Queries are (batch, features) or (batch, queries, features), keys (batch, places, features).
:mod:`glimpse.nn.attention` turns the scores into weights.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

SCORES = ("dot", "scaled-dot", "general", "additive", "location", "content")

Queries = Float[Tensor, "batch *queries query"]
Keys = Float[Tensor, "batch places features"]
Values = Float[Tensor, "batch places values"]
Scores = Float[Tensor, "batch *queries places"]
Near = Int[Tensor, "batch *queries near"]  # numbers of places

SHORTEST = 1e-4  # shorter vectors than this have a smaller cosine, so that the gradient at zero stays in bounds


class Score(nn.Module):
    """A score function: it rates how well queries match places, with one unbounded number a pair.

    A recurrent model compares with the same keys at every step: it calls ``prepare`` once for an image, and ``compare``
    at every step. ``forward`` does both.

    Args:
        queries: Length of a query.
    """

    def __init__(self, queries: int) -> None:
        super().__init__()
        self.queries = queries

    def prepare(self, keys: Keys) -> Float[Tensor, "batch places prepared"]:
        """Compute the part of the score that depends on the keys alone."""
        return keys

    def compare(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place of the prepared keys."""
        raise NotImplementedError

    def compare_near(self, queries: Queries, keys: Keys, near: Near) -> Float[Tensor, "batch *queries near"]:
        """Score for each query only the places with the given numbers, at the cost of only these."""
        return self.compare(queries.flatten(0, -2), pick(keys, near).flatten(0, -3)).reshape(near.shape)

    def forward(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place."""
        return self.compare(queries, self.prepare(keys))


class DotScore(Score):
    """``q . k`` (Luong et al. 2015, section 3.1, "dot"), for queries and keys of one length.

    Raises:
        ValueError: When their lengths differ.
    """

    def __init__(self, queries: int, keys: int) -> None:
        super().__init__(queries)
        if queries != keys:
            raise ValueError(
                f"expected queries and keys of one length for a dot product, got {queries} and {keys}; "
                "make them equal, or choose 'general', 'additive' or 'content'"
            )

    def compare(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place of the keys."""
        return _products(queries, keys)


class ScaledDotScore(DotScore):
    """``q . k / sqrt(length)`` (Vaswani et al. 2017, eq. 1), whose variance doesn't grow with the length."""

    def compare(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place of the keys. Scaling before the product makes float16 overflow later."""
        return _products(queries / math.sqrt(self.queries), keys)


class GeneralScore(Score):
    """``q^T W k`` with a learned matrix (Luong et al. 2015, section 3.1, "general")."""

    def __init__(self, queries: int, keys: int) -> None:
        super().__init__(queries)
        self.matrix = nn.Linear(queries, keys, bias=False)

    def compare(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place of the keys."""
        return _products(self.matrix(queries), keys)


class AdditiveScore(Score):
    """``v^T tanh(W q + U k)``, one hidden layer as long as a key, no biases (Bahdanau et al. 2015, section A.1.2)."""

    def __init__(self, queries: int, keys: int) -> None:
        super().__init__(queries)
        self.from_query = nn.Linear(queries, keys, bias=False)
        self.from_key = nn.Linear(keys, keys, bias=False)
        self.out = nn.Linear(keys, 1, bias=False)

    def prepare(self, keys: Keys) -> Keys:
        """``U k``."""
        return self.from_key(keys)  # type: ignore[no-any-return]

    def compare(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place of the prepared keys."""
        batch, places, hidden = keys.shape
        beside = keys.reshape(batch, *[1] * (queries.ndim - 2), places, hidden)
        scores: Tensor = self.out(torch.tanh(self.from_query(queries).unsqueeze(-2) + beside))
        return scores.squeeze(-1)


class LocationScore(Score):
    """``W q``, a function of the query alone (Luong et al. 2015, eq. 8), and so for a fixed number of places."""

    def __init__(self, queries: int, places: int) -> None:
        super().__init__(queries)
        self.out = nn.Linear(queries, places, bias=False)

    def prepare(self, keys: Keys) -> Keys:
        """Check the number of keys; their content is not used.

        Raises:
            ValueError: When there are more or fewer places than scores.
        """
        if keys.shape[1] != self.out.out_features:
            raise ValueError(
                f"expected {self.out.out_features} places for the location score, got {keys.shape[1]}; "
                "build it for this size of map, or choose a score that compares"
            )
        return keys

    def compare(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place."""
        return self.out(queries)  # type: ignore[no-any-return]

    def compare_near(self, queries: Queries, keys: Keys, near: Near) -> Float[Tensor, "batch *queries near"]:
        """Score every place and keep those with the given numbers."""
        return self.compare(queries, keys).gather(-1, near)


class ContentScore(Score):
    """``beta cos(a, k)`` (Graves et al. 2014, eq. 5 and 6), with the sought key (a) and the sharpness (beta) learned.

    As in the paper both come from the state: ``a = A q + c`` and ``beta = softplus(b^T q + d)``. The sharpness starts
    near 4 (d = 4). With d = 0 it would start near 0.7, and all places of a large map would have about the same weight.
    """

    def __init__(self, queries: int, keys: int) -> None:
        super().__init__(queries)
        self.sought = nn.Linear(queries, keys)
        self.sharpness = nn.Linear(queries, 1)
        nn.init.constant_(self.sharpness.bias, 4.0)

    def prepare(self, keys: Keys) -> Keys:
        """The keys' directions, vectors of length one."""
        return F.normalize(wide(keys), dim=-1, eps=SHORTEST)

    def compare(self, queries: Queries, keys: Keys) -> Scores:
        """Score every place of the prepared keys."""
        sought = F.normalize(wide(self.sought(queries)), dim=-1, eps=SHORTEST)
        return F.softplus(wide(self.sharpness(queries))) * _products(sought, keys)


def score_function(name: str, queries: int, keys: int, places: int | None = None) -> Score:
    """Build a score function.

    Args:
        name: One of ``SCORES``.
        queries: Length of a query.
        keys: Length of a key.
        places: Number of places; only the location score needs it.

    Raises:
        ValueError: When the name is unknown, when ``dot`` or ``scaled-dot`` gets different lengths, and when
            ``location`` does not get the number of places.
    """
    if name == "location":
        if places is None:
            raise ValueError("expected the number of places for the location score, got none; give it")
        return LocationScore(queries, places)
    comparing = {
        "dot": DotScore,
        "scaled-dot": ScaledDotScore,
        "general": GeneralScore,
        "additive": AdditiveScore,
        "content": ContentScore,
    }
    if name not in comparing:
        raise ValueError(f"expected a score function out of {SCORES}, got {name!r}; choose one of them")
    return comparing[name](queries, keys)


def wide(numbers: Tensor) -> Tensor:
    """Convert numbers to float32 if they are of lower precision."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _products(queries: Queries, keys: Keys) -> Scores:
    """Dot product of every query with every key."""
    return torch.einsum("b...f,bpf->b...p", queries, keys)


def pick(memory: Values, near: Near) -> Float[Tensor, "batch *queries near values"]:
    """Take for each query the places with the given numbers."""
    index = near.flatten(1).unsqueeze(2).expand(-1, -1, memory.shape[2])
    picked: Tensor = memory.gather(1, index).unflatten(1, near.shape[1:])
    return picked
