"""The only loop over glimpses. Every family of models runs it, in training, in evaluation and in the exported graph.

A family hands in three functions: one takes a step, one senses the input for a choice, one makes the next choice. The
choice of a hard model is a location, and its input is a crop. The choice of a soft model is a distribution over the
places of a feature map, and its input is the expectation of the features under the distribution.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from glimpse.data.share import drawn_for
from glimpse.nn.heads import LocationPolicy


class Choice(NamedTuple):
    """A choice of where to look next, and its log-probability."""

    location: Float[Tensor, "batch 2"]
    """The fixation, (x, y) in [-1, 1]; the mean location under the weights where attention is spread out."""
    log_prob: Float[Tensor, " batch"]
    """Log-probability of the action, nats; 0 if no policy chose."""
    entropy: Float[Tensor, " batch"]
    """Entropy of the distribution from which the action was drawn, or of the weights, nats; 0 if there is none."""
    weights: Float[Tensor, "batch map_height map_width"] | None = None
    """Attention weights over the cells of a map, which sum to one; None if a single place was chosen."""


class Trace(NamedTuple):
    """An episode, glimpse by glimpse."""

    logits: Float[Tensor, "batch time classes"]
    """Belief after each glimpse, before the softmax."""
    locations: Float[Tensor, "batch time 2"]
    """Location of each glimpse, (x, y) in [-1, 1]; the mean location where attention is spread out."""
    log_prob: Float[Tensor, "batch time"]
    """Log-probability of each location's action, nats; 0 for the first location, which no policy chose."""
    entropy: Float[Tensor, "batch time"]
    """Entropy of the distribution that each location was drawn from, or of the attention weights, nats."""
    value: Float[Tensor, "batch time"] | None = None
    """Learned baseline after each glimpse: the expected return of the following glimpses; None without a policy."""
    maps: Float[Tensor, "batch time map_height map_width"] | None = None
    """Attention weights of each glimpse over the cells of a map, row by row, which sum to one; None for hard models."""
    rewards: Float[Tensor, "batch time"] | None = None
    """Reward of each glimpse, if an environment computed it; None if the episode's rule is applied later."""


Chooser = Callable[[Any, Choice], Choice]
"""Chooses where to look next from the last step and the present choice."""


def fixed(location: Float[Tensor, "batch 2"]) -> Choice:
    """A choice that no policy made."""
    nothing = location.new_zeros(location.shape[0])
    return Choice(location, nothing, nothing)


def sample_from(policy: LocationPolicy, spread: float, generator: torch.Generator | None) -> Chooser:
    """Choose by sampling, as training does. The one place in which a log-probability is computed.

    Args:
        policy: The model's location policy; a step has its ``policy`` parameters.
        spread: Standard deviation of a Gaussian policy (in half images), temperature of a grid policy.
        generator: Source of the randomness.
    """

    def choose(step: Any, present: Choice) -> Choice:
        action = drawn_for(generator, step.policy, lambda rows: policy.sample(rows, spread, generator))
        log_prob = policy.log_prob(step.policy, action, spread)
        return Choice(policy.location(action), log_prob, policy.entropy(step.policy, spread))

    return choose


def mode_of(policy: LocationPolicy) -> Chooser:
    """Choose the policy's mode, as evaluation and every export do."""

    def choose(step: Any, present: Choice) -> Choice:
        return fixed(policy.location(policy.mode(step.policy)))

    return choose


def follow(locations: Float[Tensor, "batch time 2"]) -> Chooser:
    """Choose given locations, one after another, without regard to the policy.

    Args:
        locations: All fixations, (x, y) in [-1, 1]. The first is skipped: it is given to the roll-out itself.
    """
    remaining = iter(locations.unbind(1)[1:])

    def choose(step: Any, present: Choice) -> Choice:
        return fixed(next(remaining))

    return choose


def rollout(
    step: Callable[[Any, Any, Any], Any],
    sense: Callable[[Any], Any],
    choose: Callable[[Any, Any], Any],
    first: Any,
    state: Any,
    num_glimpses: int,
) -> Trace:
    """Take ``num_glimpses`` glimpses.

    Nothing is chosen after the last glimpse, so no location without a glimpse is ever rewarded. A choice has at
    least the fields of :class:`Choice`; a step has a ``state``, ``logits`` and a ``value``, None without a policy.

    Args:
        step: The model: computes a step from the sensed input, the choice and the state.
        sense: Returns the model's input for a choice.
        choose: Chooses where to look next, from the last step and the present choice.
        first: The first choice.
        state: The state before the first glimpse.
        num_glimpses: Number of glimpses, at least 1.

    Raises:
        ValueError: When the number of glimpses is below 1.
    """
    if num_glimpses < 1:
        raise ValueError(f"expected at least 1 glimpse, got num_glimpses={num_glimpses}; raise it")
    choice = first
    steps, choices = [], [choice]
    for time in range(num_glimpses):
        taken = step(sense(choice), choice, state)
        steps.append(taken)
        state = taken.state
        if time + 1 < num_glimpses:
            choice = choose(taken, choice)
            choices.append(choice)
    return Trace(
        logits=torch.stack([taken.logits for taken in steps], dim=1),
        locations=torch.stack([choice.location for choice in choices], dim=1),
        log_prob=torch.stack([choice.log_prob for choice in choices], dim=1),
        entropy=torch.stack([choice.entropy for choice in choices], dim=1),
        value=None if steps[0].value is None else torch.stack([taken.value for taken in steps], dim=1),
        maps=None if first.weights is None else torch.stack([choice.weights for choice in choices], dim=1),
    )
