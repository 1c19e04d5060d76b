"""Losses, returns and baselines: their formulas written out, and which parts of a model each of them trains."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from glimpse.contract.episode import EpisodeRule
from glimpse.models.hard import HardAttention, rollout_hard
from glimpse.nn.retina import Retina
from glimpse.rollout import Trace, fixed, sample_from
from glimpse.training import objectives

OWN = {"eyes": {"gaze_encoder", "gaze_core"}, "layer": {"gaze_core"}, "nothing": set[str]()}
"""What a policy has of its own, besides its head."""
PARTS = {
    "classification": {"encoder", "core", "classifier"},
    "policy": {"policy"},
    "baseline": {"baseline"},
}


def small_model(policy: str, gaze: str = "layer", core: str = "gru") -> HardAttention:
    torch.manual_seed(2)
    made = HardAttention(
        num_classes=3,
        channels=1,
        glimpse_size=6,
        num_scales=2,
        hidden=12,
        what="conv",
        combine="multiply",
        core=core,
        policy=policy,
        relative=True,
        grid_cells=3,
        gaze=gaze,
        gaze_hidden=8,
    )
    for parameter in made.policy.parameters():  # type: ignore[attr-defined]
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def sampled(model: HardAttention, num_glimpses: int = 4, batch: int = 16) -> tuple[Trace, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(batch, 1, 20, 26, generator=generator)
    retina = Retina(6, 2, 2)
    trace = rollout_hard(model, retina, images, num_glimpses, sample_from(model.policy, 0.3, generator))
    return trace, torch.arange(batch) % 3


@pytest.mark.parametrize("part", list(PARTS))
@pytest.mark.parametrize("gaze", list(OWN))
@pytest.mark.parametrize(("policy", "core"), [("gaussian", "gru"), ("gaussian", "lstm"), ("grid", "plain")])
def test_each_loss_reaches_its_own_parts_and_no_other(policy, core, gaze, part):
    model = small_model(policy, gaze, core)
    trace, labels = sampled(model)
    parts = objectives.losses(
        trace, labels, EpisodeRule(4, "improvement"), baseline="learned", num_rollouts=1, normalise=True
    )
    getattr(parts, part).backward()
    reached = {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }
    assert reached == (PARTS[part] | OWN[gaze] if part == "policy" else PARTS[part])


def test_the_entropy_reaches_the_policy_alone():
    model = small_model("grid", "eyes")
    trace, labels = sampled(model)
    objectives.losses(trace, labels, EpisodeRule(4), normalise=False).entropy.backward()
    reached = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {"policy", "gaze_core", "gaze_encoder"}


def test_rewards_are_numbers_and_the_log_probability_alone_carries_the_policys_gradient():
    trace, labels = sampled(small_model("gaussian"))
    assert trace.logits.requires_grad
    assert not objectives.rewards_of(trace.logits, labels, EpisodeRule(4, "improvement")).requires_grad
    assert not trace.locations.requires_grad


def made_up(batch: int = 6, time: int = 4, classes: int = 3) -> tuple[Trace, Tensor]:
    generator = torch.Generator().manual_seed(7)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    trace = Trace(
        numbers(batch, time, classes),
        numbers(batch, time, 2),
        numbers(batch, time),
        numbers(batch, time),
        numbers(batch, time),
    )
    return trace, torch.arange(batch) % classes


@pytest.mark.parametrize("reward", ["improvement", "terminal"])
@pytest.mark.parametrize("baseline", ["none", "learned", "leave-one-out"])
def test_the_surrogate_is_the_papers_sum_written_out(reward, baseline):
    trace, labels = made_up()
    discount, rollouts = 0.8, 3
    parts = objectives.losses(
        trace,
        labels,
        EpisodeRule(4, reward),
        discount=discount,
        baseline=baseline,
        num_rollouts=rollouts,
        normalise=False,
    )
    beliefs = trace.logits.detach().log_softmax(2)
    returns = torch.zeros(6, 4, dtype=torch.float64)
    earned = torch.zeros(6, 4, dtype=torch.float64)
    for row, label in enumerate(labels.tolist()):
        for time in range(4):
            true = beliefs[row, :, label]
            if reward == "improvement":
                earned[row, time] = true[time] - (true[time - 1] if time else -math.log(3))
            elif time == 3:
                earned[row, time] = float(beliefs[row, 3].argmax() == label)
        for time in range(4):
            returns[row, time] = sum(discount ** (later - time) * earned[row, later] for later in range(time, 4))
    surrogate, squared = 0.0, 0.0
    assert trace.value is not None
    value, log_prob = trace.value.detach(), trace.log_prob.detach()
    for row in range(6):
        group = range(row // rollouts * rollouts, row // rollouts * rollouts + rollouts)
        for time in range(1, 4):
            level = {
                "none": 0.0,
                "learned": float(value[row, time - 1]),
                "leave-one-out": float(sum(returns[other, time] for other in group if other != row)) / (rollouts - 1),
            }[baseline]
            surrogate -= float(log_prob[row, time]) * (float(returns[row, time]) - level) / 6
            squared += (float(value[row, time - 1]) - float(returns[row, time])) ** 2 / 6
    assert parts.policy.item() == pytest.approx(surrogate)
    assert parts.baseline.item() == pytest.approx(squared)
    assert parts.reward.item() == pytest.approx(float(earned.sum(1).mean()))


def test_the_first_location_and_the_value_after_the_last_glimpse_have_no_term():
    trace, labels = made_up()
    parts = objectives.losses(trace, labels, EpisodeRule(4), baseline="learned", normalise=False)
    (parts.policy + parts.baseline + parts.entropy).backward()
    assert trace.log_prob.grad is not None
    assert trace.value is not None
    assert trace.value.grad is not None
    assert trace.entropy.grad is not None
    assert trace.log_prob.grad[:, 0].abs().max() == 0
    assert trace.log_prob.grad[:, 1:].abs().min() > 0
    assert trace.entropy.grad[:, 0].abs().max() == 0
    assert trace.value.grad[:, -1].abs().max() == 0
    assert trace.value.grad[:, :-1].abs().min() > 0


def test_the_baseline_is_trained_by_its_own_loss_only():
    trace, labels = made_up()
    objectives.losses(trace, labels, EpisodeRule(4), baseline="learned", normalise=True).policy.backward()
    assert trace.value is not None
    assert trace.value.grad is None
    assert trace.logits.grad is None


def test_one_glimpse_leaves_the_policy_nothing():
    trace, labels = made_up(time=1)
    for normalise in (True, False):
        parts = objectives.losses(trace, labels, EpisodeRule(1), baseline="none", normalise=normalise)
        assert parts.policy.item() == 0
        assert parts.baseline.item() == 0


def test_normalised_advantages_have_a_mean_square_of_one_and_their_signs():
    trace, labels = made_up()
    plain = objectives.losses(trace, labels, EpisodeRule(4), baseline="learned", normalise=False)
    scaled = objectives.losses(trace, labels, EpisodeRule(4), baseline="learned", normalise=True)
    advantages = torch.autograd.grad(plain.policy, trace.log_prob)[0][:, 1:] * -6
    after = torch.autograd.grad(scaled.policy, trace.log_prob)[0][:, 1:] * -6
    assert float(after.square().mean()) == pytest.approx(1)
    torch.testing.assert_close(after, advantages / advantages.square().mean().sqrt())


def test_the_others_mean_leaves_ones_own_return_out():
    returns = torch.tensor([[1.0], [2.0], [6.0], [10.0], [20.0], [60.0]])
    others = objectives.leave_one_out(returns, 3)
    assert others.squeeze(1).tolist() == [4.0, 3.5, 1.5, 40.0, 35.0, 15.0]


def test_returns_are_discounted_from_each_glimpse_on():
    returns = objectives.returns_of(torch.tensor([[1.0, 10.0, 100.0]]), 0.5)
    assert returns.tolist() == [[31.0, 60.0, 100.0]]


def test_classification_counts_every_glimpse_or_the_last():
    trace, labels = made_up()
    last = torch.nn.functional.cross_entropy(trace.logits[:, -1], labels)
    every = torch.stack([torch.nn.functional.cross_entropy(logits, labels) for logits in trace.logits.unbind(1)])
    assert objectives.classification_loss(trace.logits, labels, False).item() == pytest.approx(last.item())
    assert objectives.classification_loss(trace.logits, labels, True).item() == pytest.approx(every.mean().item())


def test_smoothing_spreads_a_share_over_all_classes():
    trace, labels = made_up()
    beliefs = trace.logits.log_softmax(2)
    true = beliefs.gather(2, labels[:, None, None].expand(-1, 4, 1)).mean()
    expected = -(0.9 * true + 0.1 * beliefs.mean())
    smoothed = objectives.classification_loss(trace.logits, labels, True, 0.1)
    assert smoothed.item() == pytest.approx(expected.item())


def test_an_unknown_baseline_is_refused():
    trace, labels = made_up()
    with pytest.raises(ValueError, match=r"expected a baseline out of \('learned'.*got 'oracle'; choose one of them"):
        objectives.losses(trace, labels, EpisodeRule(4), baseline="oracle")


def test_leave_one_out_needs_others():
    trace, labels = made_up()
    with pytest.raises(ValueError, match="num_rollouts of at least 2, got 1; raise it, or learn one"):
        objectives.losses(trace, labels, EpisodeRule(4), baseline="leave-one-out", num_rollouts=1)


def test_a_fixed_choice_has_no_log_probability_and_no_entropy():
    choice = fixed(torch.rand(3, 2))
    assert not choice.log_prob.any()
    assert not choice.entropy.any()


def test_balanced_weights_give_each_class_the_same_share_of_the_loss() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = objectives.balanced_weights(labels.bincount(minlength=4))
    torch.testing.assert_close(weights[[0, 1, 3]], torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    logits = torch.randn(10, 1, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    by_class = [objectives.classification_loss(logits[labels == label], labels[labels == label]) for label in (0, 1, 3)]
    torch.testing.assert_close(objectives.classification_loss(logits, labels, class_weights=weights), sum(by_class) / 3)
    each = functional.cross_entropy(logits[:, 0], labels, weights, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(objectives.classification_loss(logits, labels, True, 0.1, weights), each.mean())
    halves = [
        objectives.classification_loss(logits[at], labels[at], True, 0.1, weights) for at in (slice(5), slice(5, 10))
    ]
    torch.testing.assert_close(sum(halves) / 2, each.mean())
