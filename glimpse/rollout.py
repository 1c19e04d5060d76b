"""The only loop over glimpses. Training, evaluation and the exported episode all run it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from glimpse.heads import LocationPolicy
from glimpse.models.hard import HardAttention, Step
from glimpse.retina import Retina


class Choice(NamedTuple):
    """Where to look next, and how likely that was."""

    location: Float[Tensor, "batch 2"]
    """The fixation, (x, y) in [-1, 1]."""
    log_prob: Float[Tensor, " batch"]
    """Log-probability of the action that led there, nats; 0 where no policy chose."""
    entropy: Float[Tensor, " batch"]
    """Entropy of the distribution that it was drawn from, nats; 0 where no policy chose."""


class Trace(NamedTuple):
    """An episode, glimpse by glimpse."""

    logits: Float[Tensor, "batch time classes"]
    """Belief after each glimpse, before the softmax."""
    locations: Float[Tensor, "batch time 2"]
    """Where each glimpse was taken, (x, y) in [-1, 1]."""
    log_prob: Float[Tensor, "batch time"]
    """Log-probability of having looked there, nats; 0 for the first location, which no policy chose."""
    entropy: Float[Tensor, "batch time"]
    """Entropy of the distribution that each location was drawn from, nats."""
    value: Float[Tensor, "batch time"]
    """Learned baseline after each glimpse: the return expected of the glimpses that follow it."""


Chooser = Callable[[Any, Float[Tensor, "batch 2"]], Choice]
"""Chooses the next location from the last step and the present location."""


def fixed(location: Float[Tensor, "batch 2"]) -> Choice:
    """A choice that no policy made."""
    nothing = location.new_zeros(location.shape[0])
    return Choice(location, nothing, nothing)


def sample_from(policy: LocationPolicy, spread: float, generator: torch.Generator | None) -> Chooser:
    """Choose by sampling, as training does. The one place in which a log-probability is computed.

    Args:
        policy: The model's location policy.
        spread: Standard deviation of a Gaussian policy (in half images), temperature of a grid policy.
        generator: Where the randomness comes from.
    """

    def choose(step: Step, location: Tensor) -> Choice:
        action = policy.sample(step.policy, spread, generator)
        log_prob = policy.log_prob(step.policy, action, spread)
        return Choice(policy.location(action), log_prob, policy.entropy(step.policy, spread))

    return choose


def mode_of(policy: LocationPolicy) -> Chooser:
    """Choose the policy's mode, as evaluation and every export do."""

    def choose(step: Step, location: Tensor) -> Choice:
        return fixed(policy.location(policy.mode(step.policy)))

    return choose


def follow(locations: Float[Tensor, "batch time 2"]) -> Chooser:
    """Choose given locations, one after another, whatever the policy says.

    Args:
        locations: All fixations, (x, y) in [-1, 1]. The first is skipped: it is given to the roll-out itself.
    """
    remaining = iter(locations.unbind(1)[1:])

    def choose(step: Step, location: Tensor) -> Choice:
        return fixed(next(remaining))

    return choose


def rollout(
    step: Callable[[Any, Tensor, Any], Any],
    sense: Callable[[Float[Tensor, "batch 2"]], Any],
    choose: Chooser,
    first_location: Float[Tensor, "batch 2"],
    state: Any,
    num_glimpses: int,
) -> Trace:
    """Look ``num_glimpses`` times.

    Nothing is chosen after the last glimpse, so no location that nobody looks at is ever rewarded.

    Args:
        step: The model: input, location and state in, step out.
        sense: What the model gets to see at a location.
        choose: Chooses the next location.
        first_location: Where to look first, (x, y) in [-1, 1].
        state: The state before the first glimpse.
        num_glimpses: How many glimpses to take, at least 1.

    Raises:
        ValueError: When there is no glimpse to take.
    """
    if num_glimpses < 1:
        raise ValueError(f"expected at least 1 glimpse, got num_glimpses={num_glimpses}; raise it")
    choice = fixed(first_location)
    steps, choices = [], [choice]
    for time in range(num_glimpses):
        taken = step(sense(choice.location), choice.location, state)
        steps.append(taken)
        state = taken.state
        if time + 1 < num_glimpses:
            choice = choose(taken, choice.location)
            choices.append(choice)
    return Trace(
        logits=torch.stack([taken.logits for taken in steps], dim=1),
        locations=torch.stack([choice.location for choice in choices], dim=1),
        log_prob=torch.stack([choice.log_prob for choice in choices], dim=1),
        entropy=torch.stack([choice.entropy for choice in choices], dim=1),
        value=torch.stack([taken.value for taken in steps], dim=1),
    )


def look(
    model: HardAttention,
    retina: Retina,
    images: Shaped[Tensor, "batch channels height width"],
    num_glimpses: int,
    choose: Chooser | None = None,
    first_location: Float[Tensor, "batch 2"] | None = None,
) -> Trace:
    """Run the hard model over images: the roll-out with a crop for its sense.

    Args:
        model: The model.
        retina: Its retina.
        images: uint8 in [0, 255], or floating point in [0, 1].
        num_glimpses: How many glimpses to take.
        choose: Chooses the next location; the policy's mode when left out.
        first_location: Where to look first, (x, y) in [-1, 1]; the image's centre when left out.
    """
    batch = images.shape[0]
    if first_location is None:
        first_location = torch.zeros(batch, 2, device=images.device)
    return rollout(
        model,
        lambda location: retina(images, location),
        choose or mode_of(model.policy),
        first_location,
        model.initial_state(batch),
        num_glimpses,
    )
