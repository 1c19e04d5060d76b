import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from glimpse.nn.attention import (
    GlobalAttention,
    LocalAttention,
    MultiHeadSelfAttention,
    check_mask,
    masked_softmax,
    rollout_attention,
)
from glimpse.nn.scores import SCORES, score_function
from tests.glimpse.nn.test_scores import BATCH, KEY, QUERY, VALUE, Array, ask, build, weight


def softmax(x: Array) -> Any:
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_weights_sum_to_one_over_what_is_unmasked(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = (10**seed * torch.randn(50, 3, 31, generator=generator)).to(dtype)
    mask = torch.rand(50, 1, 31, generator=generator) < 0.3
    mask[0] = False
    weights = masked_softmax(scores, mask)
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (weights >= 0).all()
    assert not weights.masked_select(~mask).any()
    torch.testing.assert_close(weights.sum(-1), mask.any(-1).expand(50, 3).to(weights.dtype))
    for row, kept, given in zip(weights[:, 0], mask[:, 0], scores[:, 0], strict=True):
        if kept.any():
            torch.testing.assert_close(row[kept], given[kept].to(row.dtype).softmax(0))


def test_without_a_mask_every_place_counts():
    scores = torch.randn(4, 9)
    torch.testing.assert_close(masked_softmax(scores), scores.softmax(1))
    assert masked_softmax(scores).equal(masked_softmax(scores, torch.ones(4, 9, dtype=torch.bool)))


def test_infinite_scores_share_the_weight():
    scores = torch.tensor([[math.inf, 1.0, math.inf, -math.inf], [-math.inf] * 4], dtype=torch.float16)
    expected = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.25] * 4])
    torch.testing.assert_close(masked_softmax(scores), expected)
    mask = torch.tensor([True, True, False, True])
    expected = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1 / 3, 1 / 3, 0.0, 1 / 3]])
    torch.testing.assert_close(masked_softmax(scores, mask), expected)


def test_a_masked_softmax_has_the_right_gradient():
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]).bool()
    assert torch.autograd.gradcheck(lambda given: masked_softmax(given, mask), (scores,))


def test_a_mask_that_leaves_nothing_is_refused_by_who_asks():
    mask = torch.ones(4, 6, dtype=torch.bool)
    check_mask(mask)
    mask[2:] = False
    with pytest.raises(ValueError, match=r"at least one of 6 places in every row, got 2 rows .* being row 2; set a"):
        check_mask(mask)


def attentions(name: str, places: int, height: int, width: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """All attentions that share an interface, with what the local ones want besides."""
    yield GlobalAttention(build(name, places)), {}
    yield LocalAttention(build(name, places), 1, True).double(), {"shape": (height, width)}
    centres = torch.tensor([[-1.0, -1.0], [0.1, 0.3], [1.0, 0.2]], dtype=torch.float64)
    yield LocalAttention(build(name, places), 1, False).double(), {"shape": (height, width), "centres": centres}


@pytest.mark.parametrize("name", SCORES)
def test_context_is_the_values_under_the_weights(name):
    queries, keys, values = ask(15)
    mask = torch.rand(BATCH, 15, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[0, 0] = True  # all that the window in the corner holds
    for attention, options in attentions(name, 15, 3, 5):
        context, weights = attention(queries, keys, values, mask, **options)
        assert context.shape == (BATCH, VALUE)
        assert weights.shape == (BATCH, 15)
        assert (weights >= 0).all()
        assert not weights[~mask].any()
        torch.testing.assert_close(weights.sum(1), torch.ones(BATCH, dtype=torch.float64))
        torch.testing.assert_close(context, (weights.unsqueeze(2) * values).sum(1))


@pytest.mark.parametrize("name", SCORES)
def test_global_attention_is_the_softmax_of_the_scores(name):
    score = build(name, 7)
    queries, keys, values = ask(7, (4,))
    mask = torch.ones(BATCH, 7, dtype=torch.bool)
    mask[1, 2:5] = False
    weights = GlobalAttention(score)(queries, keys, values, mask).weights.detach().numpy()
    scores = score(queries, keys).detach().numpy()
    for batch, query in np.ndindex(BATCH, 4):
        kept = mask[batch].numpy()
        np.testing.assert_allclose(weights[batch, query, kept], softmax(scores[batch, query, kept]), atol=1e-12)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("queries", [(), (4,), (2, 3)])
def test_prepared_keys_queries_in_any_number_and_a_batch_of_one_change_nothing(name, queries):
    asked, keys, values = ask(15, queries)
    mask = torch.rand(BATCH, 15, generator=torch.Generator().manual_seed(1)) < 0.7
    centres = torch.zeros(BATCH, *queries, 2)
    for attention, options in attentions(name, 15, 3, 5):
        if "centres" in options:
            options["centres"] = centres
        whole = attention(asked, keys, values, mask, **options)
        assert whole.weights.shape == (BATCH, *queries, 15)
        again = attention(asked, attention.score.prepare(keys), values, mask, prepared=True, **options)
        torch.testing.assert_close(again, whole, rtol=0, atol=0)
        flat = asked.flatten(1, -2) if queries else asked.unsqueeze(1)
        for number in range(flat.shape[1]):
            if "centres" in options:
                options["centres"] = centres[1:2].flatten(1, -2)[:, 0] if queries else centres[1:2]
            alone = attention(flat[1:2, number], keys[1:2], values[1:2], mask[1:2], **options)
            torch.testing.assert_close(alone.weights, whole.weights[1:2].reshape(1, -1, 15)[:, number])
            torch.testing.assert_close(alone.context, whole.context[1:2].reshape(1, -1, VALUE)[:, number])


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_keeps_the_promise(name, dtype, autocast):
    queries, keys, values = ask(15, dtype=torch.float32 if autocast else dtype)
    queries.requires_grad_()
    mask = torch.ones(BATCH, 15, dtype=torch.bool)
    mask[1] = False
    mask[2, 4:] = False
    for attention, options in attentions(name, 15, 3, 5):
        attention.to(queries.dtype)
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):
            context, weights = attention(queries, keys, values, mask, **options)
        assert weights.dtype == torch.float32
        assert (weights >= 0).all()
        kept = weights.sum(1)
        torch.testing.assert_close(kept[0], torch.tensor(1.0))
        assert kept[1] == 0
        assert not context[1].any()
        assert context.isfinite().all()
        context.float().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in (queries, *attention.parameters()))


def test_a_dot_product_that_overflows_is_no_nan():
    queries, keys, values = ask(5, dtype=torch.float16)
    context, weights = GlobalAttention(score_function("dot", QUERY, KEY))(300 * queries, 300 * keys, values)
    assert not (300 * queries).unsqueeze(1).mul(300 * keys).sum(2).isfinite().all()
    torch.testing.assert_close(weights.sum(1), torch.ones(BATCH))
    assert context.isfinite().all()


@pytest.mark.parametrize("name", SCORES)
def test_a_fully_masked_row_gives_zero_and_zero_gradient(name):
    mask = torch.ones(BATCH, 15, dtype=torch.bool)
    mask[1] = False
    for attention, options in attentions(name, 15, 3, 5):
        inputs = [given.requires_grad_() for given in ask(15)]
        context, weights = attention(*inputs, mask, **options)
        assert not weights[1].any()
        assert not context[1].any()
        (context.square().sum() + weights.square().sum()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in attention.parameters())
        for given in inputs:
            if given.grad is not None:
                assert given.grad.isfinite().all()
                assert not given.grad[1].any()
        assert inputs[0].grad is not None


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_exact(name):
    mask = torch.ones(BATCH, 15, dtype=torch.bool)
    mask[1, ::2] = False
    mask[2] = False
    for attention, options in attentions(name, 15, 3, 5):
        parameters = tuple(attention.parameters())
        inputs = tuple(given.requires_grad_() for given in ask(15))

        def attend(*given, attention=attention, options=options):
            return tuple(attention(*given[:3], mask, **options))

        assert torch.autograd.gradcheck(attend, (*inputs, *parameters), fast_mode=True)


def naive_local(scores: Array, middle: Any, window: int, shape: tuple[int, int], gaussian: bool) -> Any:
    """Weights of one query, by loops: over the window, softmax; times the Gaussian; divided by the sum."""
    height, width = shape
    weights = np.zeros(height * width)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5 - middle[0], row + 0.5 - middle[1]
            if max(abs(x), abs(y)) <= window:
                weights[row * width + column] = np.exp(scores[row * width + column])
                if gaussian:
                    weights[row * width + column] *= np.exp(-(x**2 + y**2) / (2 * (window / 2) ** 2))
    return weights / weights.sum()


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("shape", [(1, 20), (4, 7), (7, 4)])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_predictive_attention_is_the_papers(name, shape, window):
    height, width = shape
    queries, keys, values = ask(height * width, (5,))
    score = build(name, height * width)
    attention: Any = LocalAttention(score, window, True).double()
    torch.nn.init.normal_(attention.centre[2].weight)
    weights = attention(queries, keys, values, shape=shape).weights.detach().numpy()
    scores = score(queries, keys).detach().numpy()
    inner, outer = weight(attention.centre[0]), weight(attention.centre[2])
    for batch, query in np.ndindex(BATCH, 5):
        sigmoid = 1 / (1 + np.exp(-outer @ np.tanh(inner @ queries[batch, query].numpy())))
        expected = naive_local(scores[batch, query], np.array([width, height]) * sigmoid, window, shape, True)
        np.testing.assert_allclose(weights[batch, query], expected, atol=1e-12)
        location = attention.predict(queries)[batch, query].detach().numpy()
        np.testing.assert_allclose(location, 2 * sigmoid - 1, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 9), (4, 6)])
def test_monotonic_attention_looks_at_place_t_with_query_t(shape):
    height, width = shape
    places = height * width
    queries, keys, values = ask(places, (places,))
    score = build("general", places)
    weights = LocalAttention(score, 2, False)(queries, keys, values, shape=shape).weights.detach().numpy()
    scores = score(queries, keys).detach().numpy()
    for batch, place in np.ndindex(BATCH, places):
        middle = (place % width + 0.5, place // width + 0.5)
        expected = naive_local(scores[batch, place], middle, 2, shape, False)
        np.testing.assert_allclose(weights[batch, place], expected, atol=1e-12)


def test_given_centres_are_locations():
    queries, keys, values = ask(12)
    score = build("dot", 12)
    centres = torch.tensor([[-1.0, -1.0], [0.3, -0.2], [1.0, 1.0]])
    weights = LocalAttention(score, 1, False)(queries, keys, values, shape=(3, 4), centres=centres).weights
    looked = [set(row.nonzero().flatten().tolist()) for row in weights.reshape(BATCH, 12)]
    assert looked == [{0}, {2, 3, 6, 7}, {11}]
    for batch in range(BATCH):
        middle = ((centres[batch, 0].item() + 1) * 2, (centres[batch, 1].item() + 1) * 1.5)
        expected = naive_local(score(queries, keys)[batch].detach().numpy(), middle, 1, (3, 4), False)
        np.testing.assert_allclose(weights[batch].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("shape", [(1, 11), (3, 5), (5, 3)])
def test_a_window_that_covers_all_is_global(name, shape):
    places = shape[0] * shape[1]
    queries, keys, values = ask(places, (places,))
    mask = torch.rand(BATCH, places, generator=torch.Generator().manual_seed(1)) < 0.5
    score = build(name, places)
    local = LocalAttention(score, max(shape) - 1, False)(queries, keys, values, mask, shape=shape)
    torch.testing.assert_close(local, GlobalAttention(score)(queries, keys, values, mask), rtol=1e-13, atol=1e-13)


def test_a_window_keeps_its_edges_on_long_maps():
    queries, keys, values = ask(1000, (1000,), dtype=torch.float32)
    weights = LocalAttention(score_function("scaled-dot", QUERY, KEY), 5, False)(queries, keys, values).weights
    place = torch.arange(1000)
    assert weights.gt(0).equal(((place - place.unsqueeze(1)).abs() <= 5).expand(BATCH, -1, -1))


def test_a_predicted_centre_learns_where_to_look():
    torch.manual_seed(0)
    attention: Any = LocalAttention(score_function("location", QUERY, QUERY, 63), 2, True)
    queries = torch.randn(1, QUERY)
    keys = torch.zeros(1, 63, QUERY)
    row, column = 1, 7
    values = torch.zeros(1, 63, 2)
    values[0, :, 0], values[0, :, 1] = torch.arange(63) % 9, torch.arange(63) // 9
    optimiser = torch.optim.Adam(attention.centre.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        context = attention(queries, keys, values, shape=(7, 9)).context
        (context - torch.tensor([[column, row]])).square().sum().backward()
        optimiser.step()
    x, y = attention.predict(queries)[0].tolist()
    assert ((x + 1) * 4.5 - 0.5, (y + 1) * 3.5 - 0.5) == pytest.approx((column, row), abs=0.5)


def test_what_a_window_cannot_be_is_refused():
    score = build("dot", 15)
    queries, keys, values = ask(15, (15,))
    with pytest.raises(ValueError, match="window of at least 1 cell to each side, got 0; raise it"):
        LocalAttention(score, 0, False)
    with pytest.raises(ValueError, match="at most 4 cells to each side on a map of 3 x 5, got 5; lower it, or attend"):
        LocalAttention(score, 5, False)(queries, keys, values, shape=(3, 5))
    with pytest.raises(ValueError, match="expected a map of 15 cells, got 4 x 4; give the shape of the keys' map"):
        LocalAttention(score, 1, False)(queries, keys, values, shape=(4, 4))


def test_centres_are_given_to_monotonic_attention_alone():
    score = build("dot", 15)
    queries, keys, values = ask(15)
    monotonic, predictive = LocalAttention(score, 1, False), LocalAttention(score, 1, True).double()
    with pytest.raises(ValueError, match=r"of up to 15 places, got queries of shape \(3, 6\) alone; give centres"):
        monotonic(queries, keys, values)
    with pytest.raises(ValueError, match=r"of up to 15 places, got queries of shape \(3, 16, 6\) alone; give centres"):
        monotonic(queries.unsqueeze(1).expand(-1, 16, -1), keys, values)
    with pytest.raises(ValueError, match="which predictive attention learns, got some; leave them out"):
        predictive(queries, keys, values, centres=torch.zeros(BATCH, 2))
    with pytest.raises(ValueError, match="expected predictive attention, got monotonic"):
        monotonic.predict(queries)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_self_attention_is_torchs(heads, masked):
    torch.manual_seed(0)
    ours = MultiHeadSelfAttention(8, heads).double()
    theirs = torch.nn.MultiheadAttention(8, heads, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.project.weight,
            "in_proj_bias": ours.project.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    places = torch.randn(BATCH, 5, 8, dtype=torch.float64)
    mask = torch.tensor([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]]).bool() if masked else None
    padding = None if mask is None else ~mask
    expected = theirs(places, places, places, key_padding_mask=padding, average_attn_weights=False)
    torch.testing.assert_close(tuple(ours(places, mask)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_self_attention_with_nothing_left_hands_back_its_bias(dtype):
    attention = MultiHeadSelfAttention(8, 2).to(dtype)
    places = torch.randn(BATCH, 5, 8).to(dtype).requires_grad_()
    mask = torch.ones(BATCH, 5, dtype=torch.bool)
    mask[1] = False
    context, weights = attention(places, mask)
    assert not weights[1].any()
    torch.testing.assert_close(context[1], attention.out.bias.expand(5, 8))
    torch.testing.assert_close(weights[::2].sum(-1), torch.ones(2, 2, 5))
    context.float().square().sum().backward()
    assert places.grad is not None
    assert places.grad.isfinite().all()
    assert not places.grad[1].any()


def test_dropout_leaves_the_weights_whole():
    torch.manual_seed(0)
    attention = MultiHeadSelfAttention(8, 2, dropout=0.5)
    places = torch.randn(BATCH, 5, 8)
    first, second = attention(places), attention(places)
    torch.testing.assert_close(first.weights, second.weights)
    assert not first.context.allclose(second.context)
    attention.eval()
    torch.testing.assert_close(attention(places), attention(places))


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_must_divide_the_features(heads):
    with pytest.raises(ValueError, match=rf"heads that divide 8 features, got {heads}; change one of the two"):
        MultiHeadSelfAttention(8, heads)


def test_rollout_is_the_papers():
    torch.manual_seed(0)
    layers = [torch.randn(2, 3, 4, 4, dtype=torch.float64).softmax(-1) for _ in range(3)]
    expected = np.stack([np.eye(4)] * 2)
    for layer in layers:
        for image in range(2):
            mixed = 0.5 * layer[image].numpy().mean(0) + 0.5 * np.eye(4)
            expected[image] = mixed / mixed.sum(1, keepdims=True) @ expected[image]
    rolled = rollout_attention(layers)
    np.testing.assert_allclose(rolled.numpy(), expected, atol=1e-12)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_rollout_of_weights_that_were_masked_away_is_the_residual():
    rolled = rollout_attention([torch.zeros(1, 2, 3, 3, dtype=torch.float16)])
    torch.testing.assert_close(rolled, torch.eye(3).unsqueeze(0))


def test_rollout_needs_a_layer():
    with pytest.raises(ValueError, match="weights of at least one layer, got none; hand in one tensor for each"):
        rollout_attention([])
