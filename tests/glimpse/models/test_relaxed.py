import math
from typing import Any

import pytest
import torch
from torch import Tensor

from glimpse.models.hard import HardAttention, Step
from glimpse.models.relaxed import (
    POLICY_OF,
    RELAXATIONS,
    Spread,
    reparametrised,
    rollout_relaxed,
    sense_mixture,
    sense_smoothly,
    spread_over,
)
from glimpse.nn.heads import GaussianPolicy, GridPolicy
from glimpse.nn.relaxation import bilinear_glimpse, gaussian_glimpse
from glimpse.nn.retina import Retina
from glimpse.rollout import Choice, Trace, fixed, sample_from

SIZE, SCALES, ZOOM = 4, 2, 2
RETINA = Retina(SIZE, SCALES, ZOOM)
SPREAD = 0.2


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(batch: int, channels: int = 1, height: int = 14, width: int = 22) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=noise(4))


def model_of(relaxation: str, channels: int = 1, **changes: Any) -> HardAttention:
    torch.manual_seed(1)
    options: dict[str, Any] = {"combine": "add", "grid_cells": 3, "gaze_hidden": 6} | changes
    model = HardAttention(3, channels, SIZE, SCALES, 10, policy=POLICY_OF[relaxation], **options)
    for parameter in model.policy.parameters():  # type: ignore[attr-defined]
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def look(model: HardAttention, relaxation: str, images: Tensor, num_glimpses: int = 3, **changes: Any) -> Trace:
    options: dict[str, Any] = {"softness": 0.7, "spread": SPREAD, "generator": noise(8)} | changes
    return rollout_relaxed(model, RETINA, images, num_glimpses, relaxation, **options)


def step_with(policy: Tensor) -> Step:
    batch = len(policy)
    return Step(None, policy.new_zeros(batch, 2), policy, policy.new_zeros(batch))  # type: ignore[arg-type]


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_relaxation_looks_from_the_centre_on(relaxation, channels):
    images = images_of(5, channels)
    trace = look(model_of(relaxation, channels), relaxation, images)
    assert trace.logits.shape == (5, 3, 3)
    assert trace.locations.shape == (5, 3, 2)
    assert not trace.locations[:, 0].any()
    assert trace.locations.detach().abs().max() <= 1
    assert trace.maps is None
    assert trace.value is not None
    again = look(model_of(relaxation, channels), relaxation, images)
    assert torch.equal(trace.logits, again.logits)
    other = look(model_of(relaxation, channels), relaxation, images, generator=noise(9))
    assert not torch.equal(trace.logits, other.logits)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_the_classifiers_loss_reaches_the_policy(relaxation):
    model = model_of(relaxation)
    trace = look(model, relaxation, images_of(5))
    trace.logits[:, -1].log_softmax(1)[:, 0].mean().backward()
    reached = {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }
    assert reached == {"encoder", "core", "classifier", "gaze_encoder", "gaze_core", "policy"}


@pytest.mark.parametrize("relaxation", ["bilinear", "gaussian"])
def test_the_pathwise_gradient_is_that_of_finite_differences_at_held_noise(relaxation):
    # Two glimpses: one choice. What is differentiated is the mean over many draws, at the same noise on either side.
    torch.set_default_dtype(torch.float64)
    try:
        model, images = model_of(relaxation), images_of(1).expand(200, -1, -1, -1)

        def objective() -> Tensor:
            return look(model, relaxation, images, num_glimpses=2, spread=0.1).logits[:, -1].log_softmax(1)[:, 0].mean()

        assert look(model, relaxation, images, 2, spread=0.1).locations.detach().abs().max() < 1
        policy = model.policy
        assert isinstance(policy, GaussianPolicy)
        for parameter in (policy.mean.bias, policy.mean.weight):
            (gradient,) = torch.autograd.grad(objective(), parameter)
            place, step, slopes = parameter.detach().view(-1), 1e-6, []
            for entry in range(len(place)):
                before = float(place[entry])
                place[entry] = before + step
                above = float(objective().detach())
                place[entry] = before - step
                slopes.append((above - float(objective().detach())) / (2 * step))
                place[entry] = before
            assert max(map(abs, slopes)) > 1e-3
            torch.testing.assert_close(gradient.flatten(), torch.tensor(slopes), rtol=1e-4, atol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("mean", [0.1, 0.95, -1.4])
def test_a_reparametrised_choice_is_the_one_that_reinforce_draws(mean):
    policy, step = GaussianPolicy(4), step_with(torch.full((50, 2), mean))
    present = fixed(torch.zeros(50, 2))
    ours = reparametrised(policy, SPREAD, noise(2))(step, present)
    drawn = sample_from(policy, SPREAD, noise(2))(step, present)
    torch.testing.assert_close(ours.location, drawn.location)
    assert torch.equal(ours.log_prob, drawn.log_prob)
    assert torch.equal(ours.entropy, drawn.entropy)
    assert ours.location.abs().max() <= 1


def test_the_log_probability_is_that_of_the_sample_with_the_means_gradient():
    policy, mean = GaussianPolicy(4), torch.tensor([[0.2, -0.4], [0.99, -1.2]], requires_grad=True)
    choice = reparametrised(policy, SPREAD, noise(2))(step_with(mean), fixed(torch.zeros(2, 2)))
    drawn = policy.sample(mean, SPREAD, noise(2))
    (gradient,) = torch.autograd.grad(choice.log_prob.sum(), mean)
    torch.testing.assert_close(gradient, (drawn - mean.detach()) / SPREAD**2)


@pytest.mark.parametrize("relaxation", ["bilinear", "gaussian"])
def test_a_choice_takes_the_earlier_ones_as_given(relaxation):
    model, images = model_of(relaxation), images_of(5)

    def score(weight: float) -> list[Tensor]:
        trace = look(model, relaxation, images, 4, pathwise_weight=weight)
        named = [part for name, part in model.named_parameters() if name.startswith(("policy.", "gaze_"))]
        return list(torch.autograd.grad(trace.log_prob.square().sum(), named, allow_unused=True))

    # The score function's gradient is the same whether or not locations have one.
    for linked, cut in zip(score(1.0), score(0.0), strict=True):
        assert cut.abs().max() > 1e-3
        torch.testing.assert_close(linked, cut)


def test_a_locations_gradient_is_its_means_also_beyond_the_border():
    mean = torch.tensor([[0.2, -0.4], [3.0, -3.0]], requires_grad=True)
    choice = reparametrised(GaussianPolicy(4), SPREAD, noise(2))(step_with(mean), fixed(torch.zeros(2, 2)))
    assert choice.location[1].tolist() == [1.0, -1.0]
    weight = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    (gradient,) = torch.autograd.grad((choice.location * weight).sum(), mean)
    torch.testing.assert_close(gradient, weight)


@pytest.mark.parametrize("straight_through", [False, True])
def test_a_spread_choice_is_the_mean_of_the_cells_under_its_shares(straight_through):
    policy, scores = GridPolicy(4, 3), torch.randn(6, 9, generator=noise())
    choice = spread_over(policy, 0.8, straight_through, noise(3))(step_with(scores), fixed(torch.zeros(6, 2)))
    torch.testing.assert_close(choice.shares.sum(1), torch.ones(6))
    naive = sum(choice.shares[:, cell, None] * policy.centres[cell] for cell in range(9))
    torch.testing.assert_close(choice.location, naive)
    assert bool((choice.shares.amax(1) == 1).all()) == straight_through
    expected = torch.distributions.Categorical(logits=scores).entropy()
    torch.testing.assert_close(choice.entropy, expected)
    assert not choice.log_prob.any()


def test_straight_through_has_the_soft_choices_gradient_at_the_chosen_cells_glimpse():
    policy, images = GridPolicy(4, 3), images_of(6)
    scores = torch.randn(6, 9, generator=noise()).requires_grad_()
    weight = torch.randn(6, SCALES, 1, SIZE, SIZE, generator=noise(1))
    present, temperature = fixed(torch.zeros(6, 2)), 0.8
    sense = sense_mixture(images, RETINA, policy)
    hard = spread_over(policy, temperature, True, noise(3))(step_with(scores), present)
    soft = spread_over(policy, temperature, False, noise(3))(step_with(scores), present)
    # Forwards one cell, backwards the softmax's Jacobian: J = (diag(p) - p p') / temperature.
    torch.testing.assert_close(sense(hard), RETINA(images, policy.centres[soft.shares.argmax(1)]))
    (gradient,) = torch.autograd.grad((sense(hard) * weight).sum(), scores)
    slopes = torch.stack(
        [(RETINA(images, place.expand(6, 2)) * weight).sum((1, 2, 3, 4)) for place in policy.centres], 1
    )
    share = soft.shares.detach()
    expected = share * (slopes - (share * slopes).sum(1, keepdim=True)) / temperature
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mixture_at_one_cell_is_the_retina_there_and_in_between_the_mean(channels):
    policy, images = GridPolicy(4, 3), images_of(9, channels)
    sense = sense_mixture(images, RETINA, policy)
    nothing = torch.zeros(9)
    seen = sense(Spread(policy.centres, nothing, nothing, torch.eye(9)))
    torch.testing.assert_close(seen, RETINA(images, policy.centres))
    halves = sense(Spread(policy.centres, nothing, nothing, (torch.eye(9) + torch.eye(9).roll(1, 1)) / 2))
    torch.testing.assert_close(halves, (seen + RETINA(images, policy.centres.roll(-1, 0))) / 2)
    # A choice that is not spread, as the first one: one glimpse there, on no cell of the grid.
    between = Choice(torch.full((9, 2), 0.3), nothing, nothing)
    assert torch.equal(sense(between), RETINA(images, between.location))


def test_smooth_senses_are_the_relaxed_crops():
    images, place = images_of(5), fixed(torch.rand(5, 2, generator=noise()) * 2 - 1)
    shape = (SIZE, SCALES, ZOOM)
    assert torch.equal(
        sense_smoothly(images, RETINA, "bilinear", 9.0)(place), bilinear_glimpse(images, place.location, *shape)
    )
    assert torch.equal(
        sense_smoothly(images, RETINA, "gaussian", 0.9)(place),
        gaussian_glimpse(images, place.location, *shape, sigma=0.9),
    )


def test_a_cold_gumbel_softmax_is_the_hard_model_at_the_largest_perturbed_scores():
    model, images = model_of("gumbel"), images_of(8)
    policy = model.policy
    assert isinstance(policy, GridPolicy)
    relaxed = look(model, "gumbel", images, num_glimpses=4, softness=1e-7)
    generator, state, location = noise(8), model.initial_state(8), torch.zeros(8, 2)
    for time in range(4):
        torch.testing.assert_close(relaxed.locations[:, time], location, atol=1e-5, rtol=0)
        step = model(RETINA(images, location), location, state)
        torch.testing.assert_close(relaxed.logits[:, time], step.logits, atol=1e-4, rtol=0)
        state = step.state
        gumbel = -torch.empty(8, 9).exponential_(generator=generator).log()
        location = policy.centres[(step.policy + gumbel).argmax(1)]
    assert len(relaxed.locations[:, 1:].flatten(0, 1).detach().round(decimals=3).unique(dim=0)) > 3
    # A straight-through choice is as hard at any temperature.
    straight = look(model, "gumbel-st", images, num_glimpses=4, softness=5.0)
    torch.testing.assert_close(straight.logits, relaxed.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_a_batch_mate_never_changes_an_answer(relaxation, monkeypatch):
    # Noise that is the same in every row, so that a row alone draws what it drew among others.
    monkeypatch.setattr(torch, "randn", lambda shape, **options: torch.full(shape, 0.3, dtype=options["dtype"]))
    monkeypatch.setattr(Tensor, "exponential_", lambda self, generator: self.fill_(0.5))
    model, images = model_of(relaxation), images_of(4)
    together = look(model, relaxation, images).logits
    alone = torch.cat([look(model, relaxation, images[row : row + 1]).logits for row in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_one_glimpse_chooses_nothing(relaxation):
    trace = look(model_of(relaxation), relaxation, images_of(3), num_glimpses=1)
    assert trace.locations.shape == (3, 1, 2)
    assert not trace.log_prob.any()
    assert not trace.entropy.any()


@pytest.mark.parametrize("relaxation", ["gaussian", "bilinear"])
def test_the_entropy_is_that_of_the_noise(relaxation):
    trace = look(model_of(relaxation), relaxation, images_of(3))
    expected = 1 + math.log(2 * math.pi) + 2 * math.log(SPREAD)
    torch.testing.assert_close(trace.entropy[:, 1:], torch.full((3, 2), expected))


@pytest.mark.parametrize("relaxation", ["gaussian", "bilinear"])
def test_seeing_hard_is_the_hard_crop_with_the_smooth_ones_gradient(relaxation):
    images = torch.rand(5, 1, 20, 26, generator=torch.Generator().manual_seed(4))
    retina = Retina(6, 2, 2)
    places = torch.rand(5, 2, generator=torch.Generator().manual_seed(5)) * 1.6 - 0.8
    gradients = []
    for hard in (True, False):
        location = places.clone().requires_grad_()
        glimpse = sense_smoothly(images, retina, relaxation, 0.7, hard)(fixed(location))
        (glimpse * torch.arange(glimpse.numel()).view_as(glimpse)).sum().backward()
        gradients.append(location.grad)
        if hard:
            torch.testing.assert_close(glimpse, retina(images, places))
        else:
            assert not torch.allclose(glimpse, retina(images, places), atol=1e-2)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0] is not None
    assert gradients[0].abs().min() > 0
