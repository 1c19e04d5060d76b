"""The only loop over glimpses. Every family of models runs it, in training, in evaluation and in the exported graph.

A family defines three things: how a step is taken, what is sensed where, and how the next place is chosen. A hard
model's choice is a location, and it senses a crop; a soft model's choice is a distribution over the places of a feature
map, and it senses the expectation of the features under it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from glimpse.nn.heads import LocationPolicy


class Choice(NamedTuple):
    """Where to look next, and how likely that was."""

    location: Float[Tensor, "batch 2"]
    """The fixation, (x, y) in [-1, 1]; the mean location under the weights where attention is spread out."""
    log_prob: Float[Tensor, " batch"]
    """Log-probability of the action that led there, nats; 0 where no policy chose."""
    entropy: Float[Tensor, " batch"]
    """Entropy of the distribution that it was drawn from, or of the weights, nats; 0 where there is none."""
    weights: Float[Tensor, "batch map_height map_width"] | None = None
    """Attention weights over the cells of a map, which sum to one; None where a place was chosen outright."""


class Trace(NamedTuple):
    """An episode, glimpse by glimpse."""

    logits: Float[Tensor, "batch time classes"]
    """Belief after each glimpse, before the softmax."""
    locations: Float[Tensor, "batch time 2"]
    """Where each glimpse was taken, (x, y) in [-1, 1]; the mean location where attention is spread out."""
    log_prob: Float[Tensor, "batch time"]
    """Log-probability of having looked there, nats; 0 for the first location, which no policy chose."""
    entropy: Float[Tensor, "batch time"]
    """Entropy of the distribution that each location was drawn from, or of the attention weights, nats."""
    value: Float[Tensor, "batch time"] | None = None
    """Learned baseline after each glimpse: the return expected of those that follow it; None without a policy."""
    maps: Float[Tensor, "batch time map_height map_width"] | None = None
    """Attention weights of each glimpse over the cells of a map, row by row, which sum to one; None for hard models."""
    rewards: Float[Tensor, "batch time"] | None = None
    """What each glimpse earned, where an environment computed it; None where the episode's rule is applied later."""


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
        generator: Where the randomness comes from.
    """

    def choose(step: Any, present: Choice) -> Choice:
        action = policy.sample(step.policy, spread, generator)
        log_prob = policy.log_prob(step.policy, action, spread)
        return Choice(policy.location(action), log_prob, policy.entropy(step.policy, spread))

    return choose


def mode_of(policy: LocationPolicy) -> Chooser:
    """Choose the policy's mode, as evaluation and every export do."""

    def choose(step: Any, present: Choice) -> Choice:
        return fixed(policy.location(policy.mode(step.policy)))

    return choose


def follow(locations: Float[Tensor, "batch time 2"]) -> Chooser:
    """Choose given locations, one after another, whatever the policy computes.

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
    """Look ``num_glimpses`` times.

    Nothing is chosen after the last glimpse, so no location without a glimpse is ever rewarded. A choice has at
    least the fields of :class:`Choice`; a step has a ``state``, ``logits`` and a ``value``, None without a policy.

    Args:
        step: The model: what was sensed, the choice and the state in, step out.
        sense: What the model gets to see for a choice.
        choose: Chooses where to look next, from the last step and the present choice.
        first: Where to look first.
        state: The state before the first glimpse.
        num_glimpses: How many glimpses to take, at least 1.

    Raises:
        ValueError: When there is no glimpse to take.
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
