from typing import Any

import pytest
import torch

from glimpse.models.hard import GAZES, HardAttention, rollout_hard
from glimpse.nn.core import CORES
from glimpse.nn.retina import Retina


def make(**changes: Any) -> HardAttention:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "num_classes": 4,
        "channels": 1,
        "glimpse_size": 6,
        "num_scales": 2,
        "hidden": 12,
        "what": "conv",
        "combine": "multiply",
        "core": "gru",
        "policy": "gaussian",
        "relative": True,
        "grid_cells": 3,
        "gaze": "layer",
        "gaze_hidden": 8,
    }
    return HardAttention(**(options | changes))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("gaze", GAZES)
@pytest.mark.parametrize("policy", ["gaussian", "grid"])
def test_every_composition_takes_a_step(policy, gaze, core, channels):
    model = make(policy=policy, gaze=gaze, core=core, channels=channels)
    state = model.initial_state(5)
    step = model(torch.rand(5, 2, channels, 6, 6), torch.zeros(5, 2), state)
    assert step.logits.shape == (5, 4)
    assert step.policy.shape == (5, 2 if policy == "gaussian" else 9)
    assert step.value.shape == (5,)
    assert [part.shape for part in step.state] == [part.shape for part in state]


@pytest.mark.parametrize(("height", "width"), [(20, 45), (45, 20), (7, 6), (3, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_shape_are_looked_at(channels, height, width):
    model = make(channels=channels)
    trace = rollout_hard(model, Retina(6, 2, 2), torch.rand(2, channels, height, width), 3)
    assert trace.logits.shape == (2, 3, 4)
    assert trace.logits.isfinite().all()


@pytest.mark.parametrize("gaze", GAZES)
@pytest.mark.parametrize("core", CORES)
def test_a_batch_mate_never_changes_an_answer(core, gaze):
    model = make(core=core, gaze=gaze).eval()
    images = torch.rand(32, 1, 20, 30, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = rollout_hard(model, Retina(6, 2, 2), images, 3)
        for row in (0, 13, 31):
            alone = rollout_hard(model, Retina(6, 2, 2), images[row : row + 1], 3)
            for field in ("logits", "locations", "value"):
                torch.testing.assert_close(
                    getattr(together, field)[row], getattr(alone, field)[0], atol=1e-6, rtol=1e-6
                )


def test_pixels_are_normalised_inside_and_nowhere_else():
    model, plain = make(channels=3), make(channels=3)
    model.mean.copy_(torch.tensor([0.1, 0.2, 0.3]))
    model.std.copy_(torch.tensor([0.5, 0.25, 0.2]))
    glimpse = torch.rand(2, 2, 3, 6, 6)
    by_hand = (glimpse - model.mean.view(1, 1, 3, 1, 1)) / model.std.view(1, 1, 3, 1, 1)
    location, state = torch.zeros(2, 2), model.initial_state(2)
    torch.testing.assert_close(model(glimpse, location, state).logits, plain(by_hand, location, state).logits)


def test_mean_and_standard_deviation_are_saved_with_the_weights():
    assert {"mean", "std"} <= make().state_dict().keys()


def test_the_state_is_what_it_remembers():
    model = make()
    glimpse, location = torch.rand(1, 2, 1, 6, 6), torch.zeros(1, 2)
    first = model(glimpse, location, model.initial_state(1))
    again = model(glimpse, location, model.initial_state(1))
    later = model(glimpse, location, first.state)
    assert torch.equal(first.logits, again.logits)
    assert not torch.allclose(first.logits, later.logits)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"what": "vit"}, "expected a glimpse encoder out of .* got 'vit'; choose one of them"),
        ({"combine": "max"}, "expected a way to combine out of .* got 'max'; choose one of them"),
        ({"core": "xlstm"}, "expected a recurrent core out of .* got 'xlstm'; choose one of them"),
        ({"policy": "beta"}, "expected a location policy out of .* got 'beta'; choose one of them"),
        ({"gaze": "nose"}, "expected a gaze out of .* got 'nose'; choose one of them"),
    ],
)
def test_unknown_parts_are_refused(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**option)
