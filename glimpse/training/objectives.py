"""The objective of training: the classifier's loss, the policy's surrogate loss and the baseline's loss.

Mnih et al. 2014, section 3.2, eq. 2: the gradient of the expected return is that of
``log pi(l_t) * (R_t - b_t)``, summed over the locations chosen, the baseline ``b_t`` being learned by regression to
``R_t``. Only locations that the policy chose and at which a glimpse was taken have a term: the first is not chosen, and
none follows the last glimpse. With several roll-outs an image, the mean return of the others is a baseline
(leave-one-out; Mnih and Rezende 2016, eq. 9).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from glimpse.contract.episode import EpisodeRule
from glimpse.data.share import mean_over_processes
from glimpse.rollout import Trace

BASELINES = ("learned", "leave-one-out", "none")


class Losses(NamedTuple):
    """The parts of the objective, each a mean over the batch."""

    classification: Float[Tensor, ""]
    """Cross-entropy, nats."""
    policy: Float[Tensor, ""]
    """Surrogate whose gradient is minus that of the expected return; its value means nothing."""
    baseline: Float[Tensor, ""]
    """Mean squared error of the learned baseline."""
    entropy: Float[Tensor, ""]
    """Mean entropy of the location policy, nats."""
    reward: Float[Tensor, ""]
    """Mean return of an episode, undiscounted."""


def classification_loss(
    logits: Float[Tensor, "batch time classes"],
    labels: Int64[Tensor, " batch"],
    every_glimpse: bool = True,
    smoothing: float = 0.0,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy, nats, averaged over the batch and over every glimpse, or at the last glimpse only.

    Args:
        logits: Belief after each glimpse.
        labels: True classes.
        every_glimpse: Whether each glimpse counts.
        smoothing: Share of the target spread evenly over all classes (Szegedy et al. 2016), in [0, 1).
        class_weights: What the loss of each class's images is multiplied by; nothing when left out. It is divided by
            the number of images, not by their weights, so that a class weighs the same in every batch.
    """
    counted = logits if every_glimpse else logits[:, -1:]
    targets = labels.unsqueeze(1).expand(-1, counted.shape[1])
    each = functional.cross_entropy(
        counted.flatten(0, 1), targets.flatten(), class_weights, reduction="none", label_smoothing=smoothing
    )
    return each.mean()


def balanced_weights(images: Int64[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """Weights under which every class has the same share of the loss (King and Zeng 2001).

    Args:
        images: Training images of each class.

    Returns:
        The number of images, divided by that of the classes and by that of the class's own images. The mean over the
        images is 1; a class without images does not count.
    """
    return images.sum() / ((images > 0).sum() * images.clamp_min(1))


def distillation_loss(
    logits: Float[Tensor, "batch time classes"],
    taught: Float[Tensor, "batch classes"],
    temperature: float,
    every_glimpse: bool = True,
) -> Float[Tensor, ""]:
    """Divergence of the student's softened belief from the teacher's, nats (Hinton et al. 2015, section 2).

    It is ``T^2 KL(softmax(z_teacher / T) || softmax(z / T))``, averaged over the batch and over every glimpse, or at
    the last glimpse only; the factor keeps its gradient as large as that of the cross-entropy at any temperature.

    Args:
        logits: The student's belief after each glimpse.
        taught: The teacher's, of the whole image. It gets no gradient.
        temperature: T, above 0.
        every_glimpse: Whether each glimpse counts.
    """
    counted = logits if every_glimpse else logits[:, -1:]
    target = (taught.detach() / temperature).log_softmax(1).unsqueeze(1).expand_as(counted)
    belief = (counted / temperature).log_softmax(2)
    divergence = functional.kl_div(belief.flatten(0, 1), target.flatten(0, 1), reduction="batchmean", log_target=True)
    return divergence * temperature**2


def rewards_of(
    logits: Float[Tensor, "batch time classes"],
    labels: Int64[Tensor, " batch"],
    rule: EpisodeRule,
) -> Float[Tensor, "batch time"]:
    """The reward of each glimpse by the rule, without gradient."""
    beliefs = logits.detach()
    places = labels[:, None, None].expand(-1, beliefs.shape[1], 1)
    true_log_probability = beliefs.log_softmax(2).gather(2, places).squeeze(2)
    correct = (beliefs.argmax(2) == labels.unsqueeze(1)).float()
    rewards: Tensor = rule.rewards(true_log_probability, correct, beliefs.shape[2])
    return rewards


def returns_of(rewards: Float[Tensor, "batch time"], discount: float = 1.0) -> Float[Tensor, "batch time"]:
    """The return from each glimpse on: its reward plus the discounted return of the next.

    Args:
        rewards: Reward of each glimpse.
        discount: Factor in [0, 1] for each glimpse further away.
    """
    returns = [rewards[:, -1]]
    for reward in rewards.unbind(1)[-2::-1]:
        returns.append(reward + discount * returns[-1])
    return torch.stack(returns[::-1], dim=1)


def leave_one_out(returns: Float[Tensor, "batch time"], num_rollouts: int) -> Float[Tensor, "batch time"]:
    """The mean return of the same image's other roll-outs.

    Args:
        returns: Returns with an image's roll-outs next to one another along the batch.
        num_rollouts: Roll-outs an image, at least 2.

    Raises:
        ValueError: When there are no others to average.
    """
    if num_rollouts < 2:
        raise ValueError(
            f"a leave-one-out baseline needs num_rollouts of at least 2, got {num_rollouts}; raise it, or learn one"
        )
    grouped = returns.unflatten(0, (-1, num_rollouts))
    others: Tensor = (grouped.sum(1, keepdim=True) - grouped) / (num_rollouts - 1)
    return others.flatten(0, 1)


def policy_loss(log_prob: Float[Tensor, "batch time"], advantages: Float[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """The surrogate of Mnih et al. 2014, eq. 2: minus the mean over the batch of the sum over the locations chosen.

    Args:
        log_prob: Log-probability of each location that was chosen and looked at.
        advantages: What it earned, from there on, beyond its baseline. They get no gradient.
    """
    return -(log_prob * advantages.detach()).sum(1).mean()


def losses(
    trace: Trace,
    labels: Int64[Tensor, " batch"],
    rule: EpisodeRule,
    *,
    discount: float = 1.0,
    baseline: str = "learned",
    num_rollouts: int = 1,
    normalise: bool = True,
    every_glimpse: bool = True,
    smoothing: float = 0.0,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Losses:
    """All parts of the objective of one roll-out.

    Args:
        trace: The roll-out; an image's roll-outs next to one another along the batch. Where it has rewards of its own,
            those count.
        labels: True classes, repeated alike.
        rule: Budget and reward.
        discount: Factor in [0, 1] for rewards further away.
        baseline: ``learned``, ``leave-one-out`` or ``none``.
        num_rollouts: Roll-outs an image.
        normalise: Whether the advantages are divided by their root mean square over the batch, over that of all
            processes that share it. Their mean is left alone: the baseline is there for that.
        every_glimpse: Whether the belief after every glimpse is trained, or that after the last.
        smoothing: Label smoothing, in [0, 1).
        class_weights: Of the classification, see :func:`classification_loss`; rewards have none.

    Raises:
        ValueError: When the baseline is unknown or needs more roll-outs, and when the trace has no learned baseline.
    """
    if baseline not in BASELINES:
        raise ValueError(f"expected a baseline out of {BASELINES}, got {baseline!r}; choose one of them")
    if trace.value is None:
        raise ValueError("expected the trace of a model with a location policy and its baseline, got one without")
    rewards = rewards_of(trace.logits, labels, rule) if trace.rewards is None else trace.rewards
    returns = returns_of(rewards, discount)
    chosen = returns[:, 1:]
    expected = trace.value[:, :-1]
    if baseline == "learned":
        advantages = chosen - expected.detach()
    elif baseline == "leave-one-out":
        advantages = chosen - leave_one_out(chosen, num_rollouts)
    else:
        advantages = chosen
    if normalise:
        advantages = advantages / mean_over_processes(advantages.square().mean()).sqrt().clamp_min(1e-8)
    return Losses(
        classification=classification_loss(trace.logits, labels, every_glimpse, smoothing, class_weights),
        policy=policy_loss(trace.log_prob[:, 1:], advantages),
        baseline=(expected - chosen).square().sum(1).mean(),
        entropy=trace.entropy[:, 1:].sum(1).mean(),
        reward=rewards.sum(1).mean(),
    )
