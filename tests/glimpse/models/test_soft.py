"""Soft attention: one step by its papers' equations, and what holds whatever the score and the attention."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glimpse.data.datamodule import ImageData
from glimpse.images.geometry import grid
from glimpse.models.soft import ATTENTIONS, SoftAttention, SoftObserver
from glimpse.nn.backbones.torchvision_networks import torchvision_backbone
from glimpse.nn.encoders import ImageEncoder
from glimpse.nn.scores import SCORES
from glimpse.rollout import Trace

Array = npt.NDArray[np.float64]
HIDDEN = FEATURES = 12
CLASSES, GLIMPSES = 5, 3


def observer_of(
    height: int = 20, width: int = 28, channels: int = 1, num_glimpses: int = GLIMPSES, seed: int = 0, **options: Any
) -> SoftObserver:
    """A small model of random weights, whose attention is sharp enough to be seen."""
    torch.manual_seed(seed)
    encoder = ImageEncoder(channels, (6, FEATURES), (1, 1))
    size = encoder.map_size(height, width)
    options = {"hidden": HIDDEN, "window": 2, **options}
    model = SoftAttention(encoder, CLASSES, channels, num_glimpses=num_glimpses, map_size=size, **options)
    for parameter in model.attention.parameters():
        torch.nn.init.normal_(parameter)
    model.mean.fill_(0.2)
    model.std.fill_(0.4)
    return SoftObserver(model, num_glimpses).eval()


def pictures(batch: int = 4, channels: int = 1, height: int = 20, width: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, channels, height, width), generator=generator, dtype=torch.uint8)


def watch(observer: SoftObserver, images: Tensor) -> Trace:
    with torch.no_grad():
        trace: Trace = observer(images)
    return trace


def same(one: Trace, other: Trace, tolerance: float = 1e-5) -> None:
    for field in ("logits", "locations", "entropy", "maps"):
        torch.testing.assert_close(getattr(one, field), getattr(other, field), atol=tolerance, rtol=0)


every_score = pytest.mark.parametrize("score", SCORES)
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(20, 28), (33, 14), (3, 50)])
@every_attention
def test_a_trace_has_the_shapes_of_its_map(attention, height, width, channels):
    observer = observer_of(height, width, channels, attention=attention)
    trace = watch(observer, pictures(2, channels, height, width))
    rows, columns = -(-height // 4), -(-width // 4)
    assert trace.logits.shape == (2, GLIMPSES, CLASSES)
    assert trace.locations.shape == (2, GLIMPSES, 2)
    assert trace.entropy.shape == trace.log_prob.shape == (2, GLIMPSES)
    assert trace.maps is not None
    assert trace.maps.shape == (2, GLIMPSES, rows, columns)
    assert trace.value is None
    assert not trace.log_prob.any()
    assert observer.any_size is (attention == "global")


@every_attention
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_as_bytes_and_as_fractions_give_one_answer(attention, channels):
    observer = observer_of(channels=channels, attention=attention)
    images = pictures(channels=channels)
    same(watch(observer, images), watch(observer, images / 255))


@every_score
@every_attention
def test_a_batch_mate_changes_nothing(score, attention):
    observer = observer_of(score=score, attention=attention)
    images = pictures()
    together = watch(observer, images)
    for row, image in enumerate(images):
        alone = watch(observer, image.unsqueeze(0))
        for field in ("logits", "locations", "entropy", "maps"):
            torch.testing.assert_close(getattr(together, field)[row], getattr(alone, field)[0], atol=1e-5, rtol=0)


@every_score
@every_attention
@pytest.mark.parametrize("half", [False, True])
def test_a_map_is_a_distribution_whose_mean_and_entropy_the_trace_has(score, attention, half):
    observer = observer_of(score=score, attention=attention, gate=half)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        trace = watch(observer, pictures())
    assert trace.maps is not None
    assert trace.maps.dtype == trace.logits.dtype == torch.float32
    maps = trace.maps.double().numpy()
    assert (maps >= 0).all()
    np.testing.assert_allclose(maps.sum((2, 3)), 1, atol=1e-5)
    _, _, rows, columns = maps.shape
    x = (maps.sum(2) * ((2 * np.arange(columns) + 1) / columns - 1)).sum(2)
    y = (maps.sum(3) * ((2 * np.arange(rows) + 1) / rows - 1)).sum(2)
    np.testing.assert_allclose(trace.locations.float().numpy(), np.stack([x, y], 2), atol=1e-2 if half else 1e-5)
    kept = np.where(maps > 0, maps, 1)
    np.testing.assert_allclose(trace.entropy.numpy(), -(maps * np.log(kept)).sum((2, 3)), atol=1e-5)
    assert (trace.entropy > 0).all()


def numbers(parameter: Tensor) -> Array:
    return parameter.detach().double().numpy()


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def gru(cell: Any, inputs: Array, hidden: Array) -> Array:
    """Cho et al. 2014, with torch's order of the gates: reset, update, new."""
    reset_in, update_in, new_in = np.split(numbers(cell.weight_ih) @ inputs + numbers(cell.bias_ih), 3)
    reset_by, update_by, new_by = np.split(numbers(cell.weight_hh) @ hidden + numbers(cell.bias_hh), 3)
    reset, update = sigmoid(reset_in + reset_by), sigmoid(update_in + update_by)
    mixed: Array = (1 - update) * np.tanh(new_in + reset * new_by) + update * hidden
    return mixed


def affine(layer: Any, inputs: Array) -> Array:
    outputs: Array = numbers(layer.weight) @ inputs + numbers(layer.bias)
    return outputs


def energies(model: Any, score: str, hidden: Array, annotations: Array) -> Array:
    """How well a state fits each annotation vector: Bahdanau et al. 2015, A.1.2; Luong et al. 2015, "general"."""
    compare = model.attention.score
    if score == "additive":
        query, key, out = (numbers(layer.weight) for layer in (compare.from_query, compare.from_key, compare.out))
        fits: Array = np.tanh(query @ hidden + annotations @ key.T) @ out[0]
    else:
        fits = annotations @ numbers(compare.matrix.weight) @ hidden
    return fits


@pytest.mark.parametrize("score", ["additive", "general"])
@pytest.mark.parametrize("gate", [False, True])
def test_an_episode_is_the_papers_equations(score, gate):
    observer = observer_of(score=score, gate=gate)
    model: Any = observer.model
    images = pictures(3)
    trace = watch(observer, images)
    with torch.no_grad():
        maps = numbers(model.encoder((images / 255 - 0.2) / 0.4))
    for image, encoded in enumerate(maps):
        _, rows, columns = encoded.shape
        places = [(2 * (p % columns) + 1, 2 * (p // columns) + 1) for p in range(rows * columns)]
        middles = np.array(places) / (columns, rows) - 1
        where = np.array([affine(model.where[2], np.maximum(affine(model.where[0], place), 0)) for place in middles])
        annotations = encoded.reshape(FEATURES, -1).T + where
        hidden = np.tanh(affine(model.begin, annotations.mean(0)))
        for time in range(GLIMPSES):
            exponentials = np.exp(energies(model, score, hidden, annotations))
            weights = exponentials / exponentials.sum()
            context = weights @ annotations
            if gate:
                context = sigmoid(affine(model.gate, hidden)) * context
            assert trace.maps is not None
            np.testing.assert_allclose(trace.maps[image, time].flatten(), weights, atol=1e-5)
            np.testing.assert_allclose(trace.locations[image, time], weights @ middles, atol=1e-5)
            hidden = gru(model.core.cell, context, hidden)
            np.testing.assert_allclose(trace.logits[image, time], affine(model.classifier, hidden), atol=1e-5)
    assert trace.maps is not None
    assert trace.maps.std(1).max() > 0.01, "the attention should move"


@pytest.mark.parametrize("core", ["lstm", "plain"])
def test_other_cores_begin_with_the_annotations_mean_too(core):
    observer = observer_of(core=core)
    model = observer.model
    features = model.encode(pictures())
    state = model.initial_state(features)
    expected = torch.tanh(model.begin(features.values.mean(1)))
    torch.testing.assert_close(model.core.output(state.belief), expected)
    assert not state.belief[:, HIDDEN:].any(), "an LSTM's memory begins empty"
    assert watch(observer, pictures()).logits.isfinite().all()


@every_score
@every_attention
def test_the_loss_falls_and_every_weight_has_its_gradient(score, attention):
    observer = observer_of(24, 24, score=score, attention=attention, gate=attention == "local-m").train()
    for parameter in observer.model.attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    data = ImageData("digits", batch_size=128)
    images, labels = next(iter(data.train_dataloader()))
    images, labels = images[labels < CLASSES], labels[labels < CLASSES]
    optimiser = torch.optim.Adam(observer.parameters(), lr=1e-2)
    losses = []
    for _ in range(16):
        optimiser.zero_grad()
        loss = F.cross_entropy(observer(images).logits.flatten(0, 1), labels.repeat_interleave(GLIMPSES))
        loss.backward()
        losses.append(loss.item())
        if len(losses) == 1:
            grads = {name: parameter.grad for name, parameter in observer.named_parameters()}
            assert [name for name, grad in grads.items() if grad is None or not grad.any()] == []
            assert all(grad.isfinite().all() for grad in grads.values() if grad is not None)
        optimiser.step()
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("num_glimpses", [1, 4, 5])
def test_monotonic_attention_visits_the_middles_of_a_grid_in_order(num_glimpses):
    observer = observer_of(24, 40, attention="local-m", window=1, num_glimpses=num_glimpses)
    trace = watch(observer, pictures(2, height=24, width=40))
    rows, columns = 6, 10
    assert trace.maps is not None
    for time, (x, y) in enumerate(grid(num_glimpses)):
        seen = trace.maps[:, time].amax(0) > 0
        for row, column in np.ndindex(rows, columns):
            off = max(abs(column + 0.5 - (x + 1) * columns / 2), abs(row + 0.5 - (y + 1) * rows / 2))
            assert bool(seen[row, column]) == (off <= 1 + 1e-6)


@every_score
def test_a_window_that_covers_all_is_global_attention(score):
    images = pictures(height=9, width=17)
    whole = observer_of(9, 17, score=score, num_glimpses=1)
    local = observer_of(9, 17, score=score, num_glimpses=1, attention="local-m", window=4, seed=9)
    local.load_state_dict(whole.state_dict())
    same(watch(local, images), watch(whole, images))


def test_a_gate_can_shut_the_context_out():
    observer = observer_of(gate=True)
    gate: Any = observer.model.gate
    images = pictures()
    open_maps = watch(observer, images).maps
    torch.nn.init.constant_(gate.bias, -1e4)
    shut = watch(observer, images)
    assert open_maps is not None
    features = observer.model.encode(images)
    state = observer.model.initial_state(features)
    assert not observer.model.attend(features, state).context.any()
    assert shut.maps is not None
    torch.testing.assert_close(shut.maps[:, 0], open_maps[:, 0])
    assert not shut.maps[:, 1].allclose(open_maps[:, 1], atol=1e-4)


def test_one_model_takes_any_size_with_global_attention():
    observer = observer_of(20, 28)
    assert watch(observer, pictures(height=41, width=9)).logits.shape == (4, GLIMPSES, CLASSES)
    placed = observer_of(20, 28, score="location")
    assert not placed.any_size
    with pytest.raises(ValueError, match="expected 35 places for the location score, got 33; build it for this size"):
        watch(placed, pictures(height=41, width=9))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_backbone_is_an_encoder_like_any_other(channels):
    torch.manual_seed(0)
    encoder = torchvision_backbone("resnet18", layer="layer2.1.relu_1")
    observer = SoftObserver(SoftAttention(encoder, CLASSES, channels, HIDDEN), 2).eval()
    trace = watch(observer, pictures(2, channels, 32, 40))
    assert trace.maps is not None
    assert trace.maps.shape == (2, 2, 4, 5)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match=r"attention out of \('global', 'local-m', 'local-p'\), got 'local'; choose"):
        observer_of(attention="local")
    with pytest.raises(ValueError, match=r"score function out of \('dot', .*, got 'cosine'; choose one of them"):
        observer_of(score="cosine")
    with pytest.raises(ValueError, match="queries and keys of one length for a dot product, got 7 and 12; make them"):
        observer_of(score="dot", hidden=7)
    with pytest.raises(ValueError, match=r"recurrent core out of .*, got 'rnn'"):
        observer_of(core="rnn")
    with pytest.raises(ValueError, match="a window of at least 1 cell to each side, got 0; raise it"):
        observer_of(attention="local-p", window=0)
