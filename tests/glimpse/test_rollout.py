from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from glimpse.models.hard import HardAttention, HardState, Step, rollout_hard
from glimpse.nn.heads import GaussianPolicy, GridPolicy
from glimpse.nn.retina import Retina
from glimpse.rollout import Choice, fixed, follow, mode_of, rollout, sample_from

RETINA = Retina(6, 2, 2)


def model_of(policy: str = "gaussian") -> HardAttention:
    torch.manual_seed(0)
    model = HardAttention(4, 1, 6, 2, 12, "conv", "multiply", "gru", policy, True, 3, gaze_hidden=8)
    for parameter in model.policy.parameters():  # type: ignore[attr-defined]
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def images_of(batch: int = 8) -> Tensor:
    return torch.rand(batch, 1, 20, 34, generator=torch.Generator().manual_seed(1))


class Counted(NamedTuple):
    """A stand-in's step: its state is how many glimpses it has had."""

    state: Tensor
    logits: Tensor
    value: Tensor


def test_the_loop_is_one_whatever_the_model_senses():
    sensed: list[Tensor] = []

    def step(seen: Tensor, choice: Choice, state: Tensor) -> Counted:
        assert torch.equal(seen, choice.location * 10)
        return Counted(state + 1, (state + 1)[:, None].expand(-1, 3), state)

    def sense(choice: Choice) -> Tensor:
        sensed.append(choice.location)
        return choice.location * 10

    def choose(taken: Any, present: Choice) -> Choice:
        return Choice(present.location + 0.1, taken.state * 2, taken.state * 3)

    trace = rollout(step, sense, choose, fixed(torch.zeros(2, 2)), torch.zeros(2), 4)
    assert trace.logits[0, :, 0].tolist() == [1, 2, 3, 4]
    assert trace.value is not None
    assert trace.value[0].tolist() == [0, 1, 2, 3]
    assert trace.maps is None
    assert trace.log_prob[0].tolist() == [0, 2, 4, 6]
    assert trace.entropy[0].tolist() == [0, 3, 6, 9]
    torch.testing.assert_close(trace.locations[0, :, 0], torch.tensor([0.0, 0.1, 0.2, 0.3]))
    torch.testing.assert_close(trace.locations, torch.stack(sensed, 1))


def test_a_choice_spread_out_leaves_its_maps_and_a_step_without_a_policy_no_value():
    def choose(taken: Any, present: Choice) -> Choice:
        assert present.weights is not None
        return present._replace(weights=present.weights.roll(1, 2))

    def step(seen: Tensor, choice: Choice, state: Tensor) -> Any:
        return SimpleNamespace(state=state, logits=seen, value=None)

    first = fixed(torch.zeros(2, 2))._replace(weights=torch.tensor([[1.0, 0, 0], [0, 0, 0]]).expand(2, 2, 3))
    trace = rollout(step, lambda choice: choice.weights.flatten(1), choose, first, torch.zeros(2), 3)
    assert trace.value is None
    assert trace.maps is not None
    assert trace.maps.shape == (2, 3, 2, 3)
    assert trace.maps[1, :, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert torch.equal(trace.logits.unflatten(2, (2, 3)), trace.maps)


@pytest.mark.parametrize("num_glimpses", [1, 2, 5])
def test_one_choice_fewer_is_made_than_glimpses_are_taken(num_glimpses):
    model, choices = model_of(), []
    choose = sample_from(model.policy, 0.2, torch.Generator().manual_seed(0))

    def counted(step: Any, present: Choice) -> Choice:
        choices.append(present)
        return choose(step, present)

    trace = rollout_hard(model, RETINA, images_of(), num_glimpses, counted)
    assert len(choices) == num_glimpses - 1
    assert all(part.shape[1] == num_glimpses for part in trace if part is not None)
    assert trace.maps is None


@pytest.mark.parametrize("policy", ["gaussian", "grid"])
@pytest.mark.parametrize("num_glimpses", [1, 3])
def test_nothing_is_sampled_after_the_last_glimpse(policy, num_glimpses):
    model, images = model_of(policy), images_of()
    used, counted = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    rollout_hard(model, RETINA, images, num_glimpses, sample_from(model.policy, 0.2, used))
    parameters = torch.zeros(len(images), 2 if policy == "gaussian" else 9)
    for _ in range(num_glimpses - 1):
        model.policy.sample(parameters, 0.2, counted)
    assert torch.equal(used.get_state(), counted.get_state())


def test_evaluation_draws_nothing_at_all():
    model = model_of()
    before = torch.random.get_rng_state()
    first, second = (rollout_hard(model, RETINA, images_of(), 4) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name in ("logits", "locations", "value"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert not first.log_prob.any()
    assert not first.entropy.any()


def test_global_randomness_decides_nothing():
    model = model_of()
    traces = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        choose = sample_from(model.policy, 0.3, torch.Generator().manual_seed(9))
        traces.append(rollout_hard(model, RETINA, images_of(), 3, choose))
    assert torch.equal(traces[0].locations, traces[1].locations)
    other = rollout_hard(
        model, RETINA, images_of(), 3, sample_from(model.policy, 0.3, torch.Generator().manual_seed(8))
    )
    assert not torch.equal(traces[0].locations, other.locations)


@pytest.mark.parametrize("kind", ["gaussian", "grid"])
def test_the_log_probability_is_that_of_the_action_before_any_clamp(kind):
    model = model_of(kind)
    policy: Any = model.policy
    asked: list[tuple[Tensor, Tensor]] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(policy, name)

        def __call__(self, *given: Any) -> Any:
            return policy(*given)

        def log_prob(self, parameters: Tensor, action: Tensor, spread: float) -> Tensor:
            asked.append((parameters, action))
            result: Tensor = policy.log_prob(parameters, action, spread)
            return result

    watched: Any = Watched()
    trace = rollout_hard(model, RETINA, images_of(), 4, sample_from(watched, 0.8, torch.Generator().manual_seed(0)))
    assert len(asked) == 3
    for time, (parameters, action) in enumerate(asked, 1):
        assert torch.equal(trace.locations[:, time], policy.location(action))
        assert torch.equal(trace.log_prob[:, time], policy.log_prob(parameters, action, 0.8))
    if kind == "gaussian":
        assert max(float(action.abs().max()) for _, action in asked) > 1
        assert trace.locations.abs().max() == 1


def test_the_first_location_is_the_centre_unless_given_and_has_no_log_probability():
    model = model_of()
    choose = sample_from(model.policy, 0.3, torch.Generator().manual_seed(0))
    trace = rollout_hard(model, RETINA, images_of(), 2, choose)
    assert not trace.locations[:, 0].any()
    assert not trace.log_prob[:, 0].any()
    assert trace.log_prob[:, 1].all()
    first = torch.rand(8, 2)
    assert torch.equal(rollout_hard(model, RETINA, images_of(), 2, None, first).locations[:, 0], first)


def test_the_mode_is_the_clamp_of_the_mean():
    none = torch.zeros(1, 2)
    step = Step(HardState(none, none), none, torch.tensor([[0.3, 2.0]]), none[:, 0])
    assert torch.equal(mode_of(GaussianPolicy(4))(step, fixed(none)).location, torch.tensor([[0.3, 1.0]]))
    step = step._replace(policy=torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    assert torch.equal(mode_of(GridPolicy(4, 2))(step, fixed(none)).location, torch.tensor([[0.5, -0.5]]))


def test_given_locations_are_followed():
    locations = torch.rand(8, 3, 2) * 2 - 1
    trace = rollout_hard(model_of(), RETINA, images_of(), 3, follow(locations), locations[:, 0])
    assert torch.equal(trace.locations, locations)


def test_where_it_looks_changes_what_it_believes():
    model = model_of()
    there, elsewhere = (
        rollout_hard(model, RETINA, images_of(), 2, follow(places), places[:, 0])
        for places in (torch.zeros(8, 2, 2), torch.full((8, 2, 2), 0.7))
    )
    assert not torch.allclose(there.logits, elsewhere.logits, atol=1e-4)


def test_a_trace_is_the_same_however_many_glimpses_follow():
    model = model_of()
    short, long = (rollout_hard(model, RETINA, images_of(), budget) for budget in (2, 5))
    for name in ("logits", "locations", "log_prob", "entropy", "value"):
        torch.testing.assert_close(getattr(long, name)[:, :2], getattr(short, name))


def test_no_glimpse_is_refused():
    with pytest.raises(ValueError, match="expected at least 1 glimpse, got num_glimpses=0; raise it"):
        rollout_hard(model_of(), RETINA, images_of(), 0)


def test_a_fixed_choice_is_nobodys():
    choice = fixed(torch.ones(3, 2))
    assert choice.log_prob.tolist() == choice.entropy.tolist() == [0, 0, 0]
