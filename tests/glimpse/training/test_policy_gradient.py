"""The policy gradient against exact ones: by enumeration where the choices can be listed, by quadrature elsewhere."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from glimpse.contract.episode import EpisodeRule
from glimpse.models.hard import HardAttention, Step
from glimpse.nn.heads import GaussianPolicy
from glimpse.nn.retina import Retina
from glimpse.rollout import Choice, Trace, fixed, rollout, sample_from
from glimpse.training import objectives

LABELS = torch.tensor([0, 2])
GLIMPSES = 3
CELLS = 2
SEED = 45
NOT_THE_SAME = 8.0
"""Standard errors beyond which an estimator is certainly biased."""
SAME = 4.5
"""Standard errors within which the worst of some hundred entries stays, but for one seed in a thousand."""


class Estimate(NamedTuple):
    """Gradients of many independent batches, and the exact one."""

    gradients: Tensor
    exact: Tensor

    @property
    def error(self) -> Tensor:
        return self.gradients.std(0) / math.sqrt(len(self.gradients))

    @property
    def worst(self) -> float:
        """Distance of the mean from the exact gradient, in standard errors, at its largest."""
        moving = self.error > 1e-12
        assert float(self.exact[~moving].abs().sum()) < 1e-9
        distance = (self.gradients.mean(0) - self.exact).abs()
        return float((distance[moving] / self.error[moving]).max())

    @property
    def precise(self) -> bool:
        """Whether the test could tell a wrong gradient: the standard error is small beside the gradient."""
        return float(self.error.norm()) < 0.1 * float(self.exact.norm())


def flat(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)])


def policy_parameters(model: HardAttention) -> list[Tensor]:
    named = dict(model.named_parameters())
    return [named[name] for name in sorted(named) if name.startswith(("policy.", "gaze_"))]


@pytest.fixture(scope="module")
def model() -> HardAttention:
    """A model of some hundred numbers for the policy, in double precision, whose answer depends on where it looks."""
    generator = torch.Generator().manual_seed(SEED)
    options: dict[str, Any] = {"what": "mlp", "combine": "add", "core": "gru", "relative": True}
    made = HardAttention(3, 1, 2, 1, 6, policy="grid", grid_cells=CELLS, gaze="eyes", gaze_hidden=4, **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator) * 0.7)
        made.classifier.weight *= 3
    return made


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(2, 1, 6, 8, generator=generator, dtype=torch.float64)


def episode(model: HardAttention, images: Tensor, choose: Callable[..., Choice], num_glimpses: int = GLIMPSES) -> Trace:
    retina = Retina(2, 1, 2)
    first = torch.zeros(len(images), 2, dtype=images.dtype)
    state = type(model.initial_state(1))(*(part.to(images.dtype) for part in model.initial_state(len(images))))
    return rollout(
        lambda glimpse, choice, state: model(glimpse, choice.location, state),
        lambda choice: retina(images, choice.location),
        choose,
        fixed(first),
        state,
        num_glimpses,
    )


def take(model: HardAttention, actions: Tensor) -> Callable[..., Choice]:
    """Choose the cells listed, with their log-probabilities by an independent hand."""
    remaining: Iterator[Tensor] = iter(actions.unbind(1))

    def choose(step: Step, present: Choice) -> Choice:
        action = next(remaining)
        column, row = action % CELLS, action // CELLS
        place = torch.stack([(2 * column + 1) / CELLS - 1, (2 * row + 1) / CELLS - 1], dim=1).double()
        log_prob = torch.distributions.Categorical(logits=step.policy).log_prob(action)
        return Choice(place, log_prob, torch.zeros_like(log_prob))

    return choose


def naive_return(trace: Trace, label: int, reward: str, row: int) -> float:
    """The undiscounted return of the locations that were chosen, straight from the definition."""
    beliefs = trace.logits[row].detach().log_softmax(1)
    if reward == "terminal":
        return float(beliefs[-1].argmax() == label)
    return float(beliefs[-1, label] - beliefs[0, label])


def exact_gradient(model: HardAttention, images: Tensor, reward: str) -> Tensor:
    """Gradient of the mean over the images of the expected return, over every sequence of choices."""
    sequences = torch.tensor(list(itertools.product(range(CELLS**2), repeat=GLIMPSES - 1)))
    expected = torch.zeros((), dtype=torch.float64)
    for image, label in zip(images, LABELS.tolist(), strict=True):
        trace = episode(model, image.expand(len(sequences), -1, -1, -1), take(model, sequences))
        probability = trace.log_prob.sum(1).exp()
        assert float(probability.detach().sum()) == pytest.approx(1)
        returns = torch.tensor([naive_return(trace, label, reward, row) for row in range(len(sequences))])
        assert returns.std() > 0.1
        expected = expected + (probability * returns.double()).sum() / len(images)
    return flat(expected, policy_parameters(model))


def estimate(
    model: HardAttention,
    images: Tensor,
    reward: str,
    baseline: str,
    corrupt: Callable[[Trace], Trace] = lambda trace: trace,
    batches: int = 100,
    discount: float = 1.0,
) -> Estimate:
    """What training computes, on many batches, each with every image many times."""
    generator = torch.Generator().manual_seed(11)
    many, labels = images.repeat_interleave(200, 0), LABELS.repeat_interleave(200)
    rule = EpisodeRule(GLIMPSES, reward)
    num_rollouts = 4 if baseline == "leave-one-out" else 1
    gradients = []
    for _ in range(batches):
        trace = corrupt(episode(model, many, sample_from(model.policy, 1.0, generator)))
        parts = objectives.losses(
            trace, labels, rule, discount=discount, baseline=baseline, num_rollouts=num_rollouts, normalise=False
        )
        gradients.append(-flat(parts.policy, policy_parameters(model)))
    return Estimate(torch.stack(gradients), exact_gradient(model, images, reward))


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["improvement", "terminal"])
@pytest.mark.parametrize("baseline", ["none", "learned", "leave-one-out"])
def test_the_estimators_mean_is_the_exact_gradient(model, images, reward, baseline):
    estimated = estimate(model, images, reward, baseline)
    assert estimated.precise
    assert estimated.worst < SAME


def test_the_exact_gradient_is_that_of_finite_differences(model, images):
    exact = exact_gradient(model, images, "improvement")
    parameter = policy_parameters(model)[-1]

    def expected() -> float:
        total = 0.0
        sequences = torch.tensor(list(itertools.product(range(CELLS**2), repeat=GLIMPSES - 1)))
        for image, label in zip(images, LABELS.tolist(), strict=True):
            with torch.no_grad():
                trace = episode(model, image.expand(len(sequences), -1, -1, -1), take(model, sequences))
            for row, probability in enumerate(trace.log_prob.sum(1).exp().tolist()):
                total += probability * naive_return(trace, label, "improvement", row) / len(images)
        return total

    place, step = parameter.view(-1), 1e-5
    with torch.no_grad():
        before = float(place[3])
        place[3] = before + step
        above = expected()
        place[3] = before - step
        below = expected()
        place[3] = before
    assert (above - below) / (2 * step) == pytest.approx(float(exact[-parameter.numel() + 3]), rel=1e-4)


def test_the_comparison_tells_a_log_probability_one_glimpse_late(model, images):
    late = estimate(
        model,
        images,
        "improvement",
        "none",
        lambda trace: trace._replace(log_prob=trace.log_prob[:, [0, 0, 1]]),
        batches=40,
    )
    moving = late.error > 1e-12
    distance = (late.gradients.mean(0) - late.exact).abs()
    assert float((distance[moving] / late.error[moving]).max()) > NOT_THE_SAME


def test_the_comparison_tells_a_baseline_that_knows_the_glimpse(model, images):
    # A baseline after the choice is seen is none: here the value that belongs to the next glimpse.
    def peek(trace: Trace) -> Trace:
        beliefs = trace.logits.detach().log_softmax(2)
        return trace._replace(value=3 * beliefs[:, [1, 2, 2], 0])

    assert estimate(model, images, "improvement", "learned", peek, batches=60).worst > NOT_THE_SAME


@pytest.mark.slow
def test_the_comparison_tells_a_discount(model, images):
    # With a discount the second choice's reward counts less for the first: another expectation's gradient.
    assert estimate(model, images, "improvement", "leave-one-out", batches=100, discount=0.2).worst > NOT_THE_SAME


FIRST = torch.tensor([[0.5, -0.4]], dtype=torch.float64)
GAZE = torch.tensor([[0.3, -0.8, 0.5]], dtype=torch.float64)
SPREAD = 0.3


class Smooth(torch.nn.Module):
    """A stand-in model with two classes, whose belief is a smooth function of where it looks."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = GaussianPolicy(3, relative=True).double()
        with torch.no_grad():
            # The mean of the second location is (0.95, -0.85): nearly half of the samples lie beyond an edge.
            self.policy.mean.weight.copy_(torch.tensor([[0.2, -0.3, 0.4], [0.1, 0.2, -0.3]]))
            aim = FIRST.new_tensor([0.95, -0.85]) - FIRST[0]
            self.policy.mean.bias.copy_(aim - GAZE[0] @ self.policy.mean.weight.T)

    def forward(self, glimpse: Tensor, location: Tensor, state: Tensor) -> Step:
        policy = self.policy(GAZE.expand(len(location), -1), location)
        return Step(state, self.logits(location), policy, location.new_full((len(location),), 0.7))  # type: ignore[arg-type]

    @staticmethod
    def logits(location: Tensor) -> Tensor:
        x, y = location.unbind(1)
        return torch.stack([3 * torch.sin(2 * x - y) + x * y, 2 * torch.cos(x + 3 * y)], dim=1)


def gaussian_exact(model: Smooth) -> Tensor:
    """Gradient of the expected improvement at the second glimpse, by Gauss-Legendre between and beyond the edges."""
    parameters = model.policy(GAZE, FIRST)
    mean = parameters[0].detach()
    nodes, weights = np.polynomial.legendre.leggauss(40)
    places, shares = [], []
    for axis in range(2):
        ends = [float(mean[axis]) - 9 * SPREAD, -1.0, 1.0, float(mean[axis]) + 9 * SPREAD]
        ends = sorted({*ends, float(mean[axis])})
        pieces = [
            ((high - low) / 2 * nodes + (high + low) / 2, (high - low) / 2 * weights)
            for low, high in itertools.pairwise(ends)
        ]
        places.append(torch.from_numpy(np.concatenate([place for place, _ in pieces])))
        shares.append(torch.from_numpy(np.concatenate([share for _, share in pieces])))
    actions = torch.cartesian_prod(*places)
    weight = torch.cartesian_prod(*shares).prod(1)
    density = torch.distributions.Normal(parameters, SPREAD).log_prob(actions).sum(1).exp()
    assert float((weight * density).detach().sum()) == pytest.approx(1, abs=1e-9)
    beliefs = model.logits(actions.clamp(-1, 1)).log_softmax(1)[:, 0]
    earned = beliefs - model.logits(FIRST).log_softmax(1)[:, 0]
    return flat((weight * density * earned).sum(), list(model.parameters()))


def gaussian_estimate(baseline: str, sampler: Callable[..., Callable[..., Choice]] = sample_from) -> Estimate:
    torch.manual_seed(0)
    model = Smooth()
    generator = torch.Generator().manual_seed(23)
    size, gradients = 2000, []
    labels = torch.zeros(size, dtype=torch.long)
    for _ in range(200):
        choose = sampler(model.policy, SPREAD, generator)
        trace = rollout(
            lambda sensed, choice, state: model(sensed, choice.location, state),
            lambda choice: choice.location,
            choose,
            fixed(FIRST.expand(size, -1)),
            torch.zeros(size, 1),
            2,
        )
        assert (trace.locations[:, 1].abs() == 1).any(1).double().mean() > 0.4
        parts = objectives.losses(
            trace, labels, EpisodeRule(2, "improvement"), baseline=baseline, num_rollouts=4, normalise=False
        )
        gradients.append(-flat(parts.policy, list(model.parameters())))
    return Estimate(torch.stack(gradients), gaussian_exact(model))


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["none", "learned", "leave-one-out"])
def test_the_gaussian_estimators_mean_is_the_integral_clamped_samples_included(baseline):
    estimated = gaussian_estimate(baseline)
    assert estimated.precise
    assert estimated.worst < SAME


def test_a_log_probability_of_the_clamped_location_is_biased():
    def clamped(policy: GaussianPolicy, spread: float, generator: torch.Generator) -> Callable[..., Choice]:
        def choose(step: Step, present: Choice) -> Choice:
            place = policy.location(policy.sample(step.policy, spread, generator))
            return Choice(place, policy.log_prob(step.policy, place, spread), place.new_zeros(len(place)))

        return choose

    assert gaussian_estimate("learned", clamped).worst > NOT_THE_SAME
