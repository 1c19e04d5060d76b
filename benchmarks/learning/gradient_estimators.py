"""Estimators of the gradient of the expected log-probability after the last glimpse, for a Gaussian policy."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glimpse.data.held_out import generator_for
from glimpse.models.hard import HardAttention
from glimpse.models.relaxed import sense_smoothly
from glimpse.nn.heads import LocationPolicy
from glimpse.nn.retina import Retina
from glimpse.rollout import Choice, Chooser, Trace, fixed, rollout
from glimpse.training.objectives import leave_one_out, policy_loss

PLAIN, LEARNED, LEFT_OUT = "score function", "score function, learned baseline", "score function, leave-one-out"
BELIEF = "score function, belief as baseline"
PATHWISE, HELD = "pathwise", "pathwise, later choices held"

Estimator = Callable[["Problem", int], Tensor]
"""Makes of a problem and a seed something whose gradient is the estimate."""


@dataclass
class Problem:
    """A model before some images, an image's roll-outs next to one another.

    Attributes:
        model: The model.
        retina: Its retina.
        images: Images, repeated.
        labels: Their true classes, repeated alike.
        num_rollouts: Roll-outs an image.
        num_glimpses: Glimpses in an episode.
        spread: Standard deviation of the policy, half images.
    """

    model: HardAttention
    retina: Retina
    images: Tensor
    labels: Tensor
    num_rollouts: int
    num_glimpses: int
    spread: float

    def parameters(self) -> list[Tensor]:
        """What the gradient is with respect to: the policy's head and its own layers."""
        named = dict(self.model.named_parameters())
        return [named[name] for name in sorted(named) if name.startswith(("policy.", "gaze_"))]


class Attached(TorchFunctionMode):
    """Within it nothing is detached.

    The model detaches what the policy reads: belief, pixels and the present location. To the score function that makes
    no difference. The full pathwise gradient takes these ways as well: from a location to those that follow it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, unless it detaches."""
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def unbounded(policy: LocationPolicy, spread: float, generator: torch.Generator, linked: bool) -> Chooser:
    """Choose a Gaussian policy's sample, without a clamp.

    Args:
        policy: The policy.
        spread: Its standard deviation, half images.
        generator: Where the randomness comes from.
        linked: Whether the location is the mean plus noise, with its gradient.
    """

    def choose(step: Any, present: Choice) -> Choice:
        drawn = policy.sample(step.policy, spread, generator)
        log_prob = policy.log_prob(step.policy, drawn, spread)
        place = step.policy + (drawn - step.policy).detach() if linked else drawn
        return Choice(place, log_prob, policy.entropy(step.policy, spread))

    return choose


def explore(problem: Problem, seed: int, linked: bool = False, attached: bool = False) -> Trace:
    """Roll the problem out. The same seed gives the same locations, whatever has a gradient.

    Args:
        problem: The problem.
        seed: Fixes the noise.
        linked: Whether locations have a gradient.
        attached: Whether it goes on to later locations.
    """
    model, images = problem.model, problem.images

    def step(glimpse: Tensor, choice: Choice, state: Any) -> Any:
        with Attached() if attached else nullcontext():
            return model(glimpse, choice.location, state)

    return rollout(
        step,
        sense_smoothly(images, problem.retina, "bilinear", 1.0),
        unbounded(model.policy, problem.spread, generator_for("cpu", seed), linked),
        fixed(torch.zeros(len(images), 2)),
        model.initial_state(len(images)),
        problem.num_glimpses,
    )


def true_log_probability(trace: Trace, labels: Tensor) -> Tensor:
    """Log-probability of the true class after each glimpse, nats, (batch, time)."""
    places = labels[:, None, None].expand(-1, trace.logits.shape[1], 1)
    return trace.logits.log_softmax(2).gather(2, places).squeeze(2)


def earned(trace: Trace, labels: Tensor) -> Tensor:
    """Log-probability of the true class after the last glimpse, nats, (batch,)."""
    return true_log_probability(trace, labels)[:, -1]


def pathwise(problem: Problem, seed: int, attached: bool = True) -> Tensor:
    """Something whose gradient is the pathwise estimate; with later choices held, when not attached."""
    return earned(explore(problem, seed, linked=True, attached=attached), problem.labels).mean()


def surrogate(problem: Problem, trace: Trace, baseline: str) -> Tensor:
    """Something whose gradient is the score function's estimate from a roll-out (Mnih et al. 2014, eq. 2).

    Args:
        problem: The problem.
        trace: The roll-out.
        baseline: ``none``; ``learned``, which does not know the true class; ``leave-one-out``; or ``belief``: the true
            class's log-probability before the choice, which makes the return an improvement.
    """
    beliefs = true_log_probability(trace, problem.labels).detach()
    returns = beliefs[:, -1:].expand_as(beliefs)[:, 1:]
    advantages = returns
    if baseline == "learned" and trace.value is not None:
        advantages = returns - trace.value[:, :-1]
    elif baseline == "leave-one-out":
        advantages = returns - leave_one_out(returns, problem.num_rollouts)
    elif baseline == "belief":
        advantages = returns - beliefs[:, :-1]
    return -policy_loss(trace.log_prob[:, 1:], advantages)


def score_function(problem: Problem, seed: int, baseline: str) -> Tensor:
    """The surrogate of a roll-out without a gradient to its locations."""
    return surrogate(problem, explore(problem, seed), baseline)


def mixed(problem: Problem, seed: int, weight: float) -> Tensor:
    """Of one roll-out, the pathwise estimate with later choices held and the score function's with learned baseline.

    Args:
        problem: The problem.
        seed: Fixes the noise.
        weight: Of the pathwise part; the other's is what it lacks to 1.
    """
    trace = explore(problem, seed, linked=True)
    return weight * earned(trace, problem.labels).mean() + (1 - weight) * surrogate(problem, trace, "learned")


def estimators() -> dict[str, Estimator]:
    """What is compared, each by what is differentiated; mixtures apart.

    All are unbiased but the last. It is the one that :class:`glimpse.training.RelaxedAttentionTraining` trains by: each
    choice with the later ones held, so that what a location does to those is left out.
    """
    return {
        PLAIN: lambda problem, seed: score_function(problem, seed, "none"),
        LEARNED: lambda problem, seed: score_function(problem, seed, "learned"),
        LEFT_OUT: lambda problem, seed: score_function(problem, seed, "leave-one-out"),
        BELIEF: lambda problem, seed: score_function(problem, seed, "belief"),
        PATHWISE: pathwise,
        HELD: lambda problem, seed: pathwise(problem, seed, attached=False),
    }


def gradient(problem: Problem, objective: Tensor) -> Tensor:
    """The gradient with respect to the policy's parameters, flat."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(objective, problem.parameters())])


def fit_baseline(problem: Problem, seeds: Sequence[int]) -> float:
    """Set the learned baseline to what its training converges to on this policy: the least squares fit.

    Args:
        problem: The problem.
        seeds: Noise of the roll-outs that it is fitted to.

    Returns:
        Share of the returns' variance that it explains, on these roll-outs.
    """
    read: list[Tensor] = []
    watcher = problem.model.baseline.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    features, returns = [], []
    with torch.no_grad():
        for seed in seeds:
            read.clear()
            trace = explore(problem, seed)
            # One row for each choice; what is read after the last glimpse chooses nothing.
            features.append(torch.cat(read[:-1]))
            returns.append(earned(trace, problem.labels).repeat(len(read) - 1))
        watcher.remove()
        inputs, targets = torch.cat(features).double(), torch.cat(returns).double()
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], dim=1)
        squares = inputs.T @ inputs / len(inputs)
        solved = torch.linalg.solve(
            squares + 1e-6 * torch.eye(len(squares), dtype=squares.dtype), inputs.T @ targets / len(inputs)
        )
        problem.model.baseline.weight.copy_(solved[:-1].unsqueeze(0))
        problem.model.baseline.bias.copy_(solved[-1:])
        left = (targets - inputs @ solved).square().mean()
    return float(1 - left / targets.var())
