"""How good an agent is: every image of a split, once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Float, Int64

from glimpse_envs.classification.task import TaskError
from glimpse_envs.classification.vector import Arrays, GlimpseVectorEnv

Agent = Callable[[Arrays, np.ndarray], np.ndarray]
"""Chooses actions, one a row: from what is observed, arrays by name with a row for each environment, and from whether
each row is the first observation of an episode, booleans (batch,)."""

NOTHING = -1
"""The answer of an agent that said nothing."""


class Evaluation(NamedTuple):
    """What an agent made of every image of a split, in their order."""

    accuracy: float
    """Share of the targets that were told right, in [0, 1]."""
    mean_glimpses: float
    """Glimpses taken of an image, the first included."""
    mean_return: float
    """Sum of an episode's rewards."""
    labels: Int64[np.ndarray, "images *targets"]
    """The true classes."""
    answers: Int64[np.ndarray, " images"]
    """The class that was named last; ``NOTHING`` where none was, as in ``location`` mode."""
    right: Int64[np.ndarray, " images"]
    """Targets that were told right."""
    glimpses: Int64[np.ndarray, " images"]
    """Glimpses taken, the first included."""
    returns: Float[np.ndarray, " images"]
    """Sums of rewards."""


def evaluate(agent: Agent, envs: gymnasium.vector.VectorEnv[Any, Any, Any], seed: int = 0) -> Evaluation:
    """Let an agent look at every image of the environments' split once.

    On the splits ``validation`` and ``test`` the canvases are frozen, so a deterministic agent always gets the same
    figures, however many environments there are. Where the first glimpse is random they depend on number and seed.

    Args:
        agent: Chooses the actions. Where episodes end, new ones begin, which don't count; the agent still plays them.
        envs: A :class:`GlimpseVectorEnv`, or one in wrappers that neither hide nor add environments.
        seed: Fixes what is random in the environments.

    Raises:
        TaskError: When these are no such environments, or none that begin anew by themselves.
    """
    bare = batch_of(envs)
    count = len(bare.looking.scenes)
    blocks = [np.arange(start, min(start + bare.num_envs, count)) for start in range(0, count, bare.num_envs)]
    found = [_play(agent, envs, bare, images, seed if block == 0 else None) for block, images in enumerate(blocks)]
    labels, answers, right, glimpses, returns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Evaluation(
        float(right.mean() / bare.looking.scenes.num_targets),
        float(glimpses.mean()),
        float(returns.mean()),
        labels,
        answers,
        right,
        glimpses,
        returns,
    )


def batch_of(envs: gymnasium.vector.VectorEnv[Any, Any, Any]) -> GlimpseVectorEnv:
    """The environments without their wrappers; they must begin anew by themselves.

    Args:
        envs: A :class:`GlimpseVectorEnv`, or one in wrappers.

    Raises:
        TaskError: When they are others.
    """
    bare = envs.unwrapped
    if not isinstance(bare, GlimpseVectorEnv):
        raise TaskError(
            f"expected a GlimpseVectorEnv, got {type(bare).__name__}; make one with "
            "gymnasium.make_vec('glimpse_envs:Glimpse/Digits-v0', num_envs=64)"
        )
    if bare.metadata["autoreset_mode"] is AutoresetMode.DISABLED:
        raise TaskError(
            "expected environments that begin anew by themselves, got autoreset_mode 'Disabled'; leave it out"
        )
    return bare


def _play(
    agent: Agent,
    envs: gymnasium.vector.VectorEnv[Any, Any, Any],
    bare: GlimpseVectorEnv,
    images: Int64[np.ndarray, " images"],
    seed: int | None,
) -> tuple[np.ndarray, ...]:
    """One episode for each of these images; where they are fewer than the environments, the last one fills up."""
    shown = np.resize(images, bare.num_envs)
    shown[len(images) :] = images[-1]
    observation, infos = envs.reset(seed=seed, options={"image": shown})
    labels = infos["label"].copy()
    answers = np.full(bare.num_envs, NOTHING)
    right, glimpses = np.zeros_like(answers), np.zeros_like(answers)
    returns = np.zeros(bare.num_envs)
    playing = first = np.ones(bare.num_envs, np.bool_)
    ended = ~first
    at_once = bare.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    while playing.any():
        actions = agent(observation, first)
        said = _answers(actions, bare)
        answers = np.where(playing & (said != NOTHING), said, answers)
        before = ended
        observation, rewards, ended, _, infos = envs.step(actions)
        first = ended if at_once else before
        returns += rewards * playing
        over = playing & ended
        if over.any():
            told = infos.get("final_info", infos)
            right[over], glimpses[over] = told["right"][over], told["glimpses"][over]
        playing = playing & ~ended
    return tuple(part[: len(images)] for part in (labels, answers, right, glimpses, returns))


def _answers(actions: np.ndarray, bare: GlimpseVectorEnv) -> Int64[np.ndarray, " batch"]:
    """The classes that actions name."""
    given = bare.looking.actions.check(actions, bare.num_envs)
    said = bare.looking.actions.move(given, torch.zeros(bare.num_envs, 2)).answer
    if said is None:
        return np.full(bare.num_envs, NOTHING)
    answers: np.ndarray = torch.where(said < bare.looking.num_classes, said, NOTHING).numpy()
    return answers
