from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from glimpse.nn.scores import score_function

Array = npt.NDArray[np.float64]
BATCH, QUERY, KEY, VALUE = 3, 6, 6, 4
COMPARING = ("dot", "scaled-dot", "general", "additive", "content")


def weight(layer: Any) -> Any:
    return layer.weight.detach().numpy()


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


# One query (a state, s) and one key (h), as in the papers' equations.
PAPERS: dict[str, Callable[[Any, Array, Array], Any]] = {
    "dot": lambda score, s, h: s @ h,
    "scaled-dot": lambda score, s, h: s @ h / np.sqrt(len(s)),
    "general": lambda score, s, h: s @ weight(score.matrix).T @ h,
    "additive": lambda score, s, h: (
        weight(score.out)[0] @ np.tanh(weight(score.from_query) @ s + weight(score.from_key) @ h)
    ),
    "content": lambda score, s, h: (
        softplus(weight(score.sharpness)[0] @ s + score.sharpness.bias.item())
        * (sought := weight(score.sought) @ s + score.sought.bias.detach().numpy())
        @ h
        / (np.linalg.norm(sought) * np.linalg.norm(h))
    ),
}


def build(name: str, places: int, keys: int = KEY) -> Any:
    torch.manual_seed(3)
    score = score_function(name, QUERY, keys, places).double()
    for parameter in score.parameters():
        torch.nn.init.normal_(parameter)
    return score


def ask(places: int, queries: tuple[int, ...] = (), keys: int = KEY, dtype: torch.dtype = torch.float64) -> Any:
    generator = torch.Generator().manual_seed(0)
    shapes = ((BATCH, *queries, QUERY), (BATCH, places, keys), (BATCH, places, VALUE))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)


@pytest.mark.parametrize("name", COMPARING)
def test_a_score_is_its_papers_equation(name):
    keys = QUERY if "dot" in name else KEY + 2
    score = build(name, 5, keys=keys)
    queries, memory, _ = ask(5, (2,), keys)
    scores = score(queries, memory).detach().numpy()
    for batch, query, place in np.ndindex(scores.shape):
        expected = PAPERS[name](score, queries[batch, query].numpy(), memory[batch, place].numpy())
        assert scores[batch, query, place] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(score(queries[:, 1], memory).detach().numpy(), scores[:, 1], atol=1e-12)


def test_the_location_score_is_a_function_of_the_query_alone():
    score = build("location", 5)
    queries, memory, _ = ask(5, (2,))
    expected = queries.numpy() @ weight(score.out).T
    np.testing.assert_allclose(score(queries, memory).detach().numpy(), expected, atol=1e-12)
    torch.testing.assert_close(score(queries, memory), score(queries, memory + 1))


def test_a_new_content_score_begins_sharp():
    score: Any = score_function("content", 4, 4)
    assert softplus(score.sharpness.bias.item()) == pytest.approx(4, abs=0.1)


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match=r"score function out of \('dot', .*'content'\), got 'cosine'; choose one"):
        score_function("cosine", 4, 4, 9)


@pytest.mark.parametrize("name", ["dot", "scaled-dot"])
def test_products_of_unequal_lengths_are_refused(name):
    with pytest.raises(ValueError, match="of one length for a dot product, got 4 and 5; make them equal, or choose"):
        score_function(name, 4, 5)


def test_a_location_score_must_know_the_places():
    with pytest.raises(ValueError, match="expected the number of places for the location score, got none; give it"):
        score_function("location", 4, 4)
    queries, keys, _ = ask(7)
    with pytest.raises(ValueError, match="expected 5 places for the location score, got 7; build it for this size"):
        build("location", 5)(queries, keys)


def test_zeros_have_a_bounded_gradient_under_the_content_score():
    score = score_function("content", QUERY, KEY)
    queries, keys, _ = ask(5, dtype=torch.float32)
    keys = keys.zero_().requires_grad_()
    score(queries, keys).sum().backward()
    assert keys.grad is not None
    assert keys.grad.abs().max() < 1e6
