"""Relaxed hard attention: the hard model, trained with a differentiable choice of locations.

The model, its step, its loop, its evaluation and its export are those of :mod:`glimpse.models.hard`. Only in training
the choice is differentiable, so that the classifier's loss gives the policy a gradient by back-propagation alone:

- ``gumbel``: the choice is spread over the cells of a grid by a Gumbel-softmax, and the input is the mean of the
  glimpses at the cells under these weights (Jang et al. 2017; Maddison et al. 2017). ``gumbel-st``: one cell is chosen
  and sensed, the gradient is that of the weights (straight-through).
- ``gaussian``: the glimpse is read through a bank of Gaussian filters (Gregor et al. 2015), which are wide at first.
- ``bilinear``: the glimpse is cut at a sub-pixel place, by bilinear interpolation (Jaderberg et al. 2015). As the
  location is the policy's mean plus noise, the gradient of the expected log-probability is a pathwise one.

In all of them the gradient is that of each choice with the later choices held fixed: the effect of a location on later
choices is left out. This is a bias; ``benchmarks/learning/estimator_variance.py`` measures the reduction of variance.

The softness is annealed during training. The input may also be as hard as that of the hard model, one cell or a crop in
whole pixels, with a smooth gradient (straight-through).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from glimpse.data.share import drawn_for
from glimpse.models.hard import HardAttention
from glimpse.nn.encoders import mean_location
from glimpse.nn.heads import GridPolicy, LocationPolicy
from glimpse.nn.relaxation import bilinear_glimpse, gaussian_glimpse, grid_glimpses, gumbel_softmax
from glimpse.nn.retina import Retina
from glimpse.rollout import Trace, fixed, rollout

RELAXATIONS = ("gumbel", "gumbel-st", "gaussian", "bilinear")
POLICY_OF = {"gumbel": "grid", "gumbel-st": "grid", "gaussian": "gaussian", "bilinear": "gaussian"}
"""The kind of policy that each relaxation needs."""

_Images = Shaped[Tensor, "batch channels height width"]
_Glimpse = Float[Tensor, "batch scales channels size size"]


class Spread(NamedTuple):
    """A :class:`glimpse.rollout.Choice` that is spread over the cells of a grid."""

    location: Float[Tensor, "batch 2"]
    """The mean of the cells' middles under their shares."""
    log_prob: Float[Tensor, " batch"]
    entropy: Float[Tensor, " batch"]
    shares: Float[Tensor, "batch cells"]
    """Each cell's share of the choice; they sum to one."""
    weights: None = None
    """The shares belong to the policy; they are no attention map."""


def spread_over(
    policy: GridPolicy, temperature: float, straight_through: bool, generator: torch.Generator | None
) -> Callable[[Any, Any], Spread]:
    """Choose all cells of a grid with weights, by Gumbel-softmax.

    Args:
        policy: The model's location policy.
        temperature: Temperature of the Gumbel-softmax, above 0; towards 0 one cell gets all the weight.
        straight_through: Whether one cell gets all the weight at any temperature, and only the gradient is spread.
        generator: Source of the randomness.
    """

    def choose(step: Any, present: Any) -> Spread:
        shares = drawn_for(
            generator, step.policy, lambda rows: gumbel_softmax(rows, temperature, generator, straight_through)
        )
        return Spread(
            mean_location(shares, policy.centres),
            shares.new_zeros(len(shares)),
            policy.entropy(step.policy, 1.0),
            shares,
        )

    return choose


def reparametrised(
    policy: LocationPolicy, spread: float, generator: torch.Generator | None, weight: float = 1.0
) -> Callable[[Any, Any], Any]:
    """Choose a Gaussian policy's mean plus noise: the sample that REINFORCE would draw, but with its gradient.

    The location is kept within the image; its gradient is that of the unbounded sample, so that a mean beyond the
    border is pulled back. The log-probability is that of the unbounded sample, for a mixture of both estimators.

    Args:
        policy: The model's location policy.
        spread: Standard deviation of the noise, half images.
        generator: Source of the randomness.
        weight: Factor of the gradient, for a mixture of both estimators.
    """

    def choose(step: Any, present: Any) -> Any:
        drawn = drawn_for(generator, step.policy, lambda rows: policy.sample(rows, spread, generator))
        moved = weight * step.policy
        chosen = fixed(moved + (policy.location(drawn) - moved).detach())
        return chosen._replace(
            log_prob=policy.log_prob(step.policy, drawn, spread), entropy=policy.entropy(step.policy, spread)
        )

    return choose


def sense_mixture(images: _Images, retina: Retina, policy: GridPolicy) -> Callable[[Any], _Glimpse]:
    """Sense the mean of the glimpses at a grid's cells or, for a choice that is not spread, one glimpse."""
    every = grid_glimpses(images, policy.centres, retina.size, retina.num_scales, retina.zoom)

    def sense(choice: Any) -> Tensor:
        if not isinstance(choice, Spread):
            return retina(images, choice.location)  # type: ignore[no-any-return]
        return torch.einsum("bk,bk...->b...", choice.shares, every)

    return sense


def sense_smoothly(
    images: _Images, retina: Retina, relaxation: str, sigma: float, hard: bool = False
) -> Callable[[Any], _Glimpse]:
    """Sense a crop that is differentiable with respect to its location.

    Args:
        images: uint8 in [0, 255], or floating point in [0, 1].
        retina: The retina.
        relaxation: ``bilinear`` or ``gaussian``.
        sigma: Width of the Gaussian filters, in pixels of each scale's grid.
        hard: Whether the input is the hard crop, and only the gradient that of the smooth one (straight-through).
    """
    shape = (retina.size, retina.num_scales, retina.zoom)

    def sense(choice: Any) -> Tensor:
        if relaxation == "gaussian":
            smooth = gaussian_glimpse(images, choice.location, *shape, sigma=sigma)
        else:
            smooth = bilinear_glimpse(images, choice.location, *shape)
        return smooth + (retina(images, choice.location) - smooth).detach() if hard else smooth

    return sense


def rollout_relaxed(
    model: HardAttention,
    retina: Retina,
    images: _Images,
    num_glimpses: int,
    relaxation: str,
    softness: float,
    spread: float,
    generator: torch.Generator | None,
    pathwise_weight: float = 1.0,
    hard: bool = False,
) -> Trace:
    """Roll the hard model out over images with differentiable choices, from the centre.

    Args:
        model: The model.
        retina: Its retina.
        images: uint8 in [0, 255], or floating point in [0, 1].
        num_glimpses: Number of glimpses.
        relaxation: One of ``RELAXATIONS``; it goes with the model's kind of policy.
        softness: Temperature of the Gumbel-softmax, or width of the Gaussian filters; above 0. Without a meaning for
            ``bilinear``.
        spread: Standard deviation of a Gaussian policy's noise, half images.
        generator: Source of the randomness.
        pathwise_weight: Factor of a Gaussian policy's pathwise gradient.
        hard: Whether the input is as hard as in evaluation, and only the gradient is smooth (straight-through).
    """
    policy = model.policy
    if isinstance(policy, GridPolicy):
        choose = spread_over(policy, softness, hard or relaxation == "gumbel-st", generator)
        sense = sense_mixture(images, retina, policy)
    else:
        choose = reparametrised(policy, spread, generator, pathwise_weight)
        sense = sense_smoothly(images, retina, relaxation, softness, hard)
    return rollout(
        lambda glimpse, choice, state: model(glimpse, choice.location, state),
        sense,
        choose,
        fixed(torch.zeros(len(images), 2, device=images.device)),
        model.initial_state(len(images)),
        num_glimpses,
    )
