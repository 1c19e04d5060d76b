"""Evaluation of an agent on every image of a split."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Float, Int64

from glimpse_envs.classification.spaces import DictObservation
from glimpse_envs.classification.task import TaskError
from glimpse_envs.classification.vector import GlimpseVectorEnv

Agent = Callable[[DictObservation, np.ndarray], np.ndarray]
"""A function from observations to actions, one in each row.

Its arguments are the observations, arrays by name with a row for each environment, and booleans (batch,) that mark the
first observation of an episode.
"""

NO_ANSWER = -1
"""Stands in ``AgentEvaluation.answers`` for an episode without an answer."""


class AgentEvaluation(NamedTuple):
    """The results of an agent on every image of a split, in the order of the images."""

    accuracy: float
    """Fraction of the targets that were classified correctly, in [0, 1]."""
    mean_glimpses: float
    """Mean number of glimpses for an image, the first one included."""
    mean_return: float
    """Mean undiscounted return of an episode."""
    labels: Int64[np.ndarray, "images *targets"]
    """The true classes."""
    answers: Int64[np.ndarray, " images"]
    """The class that was named last; ``NO_ANSWER`` if there was none, as in ``location`` mode."""
    right: Int64[np.ndarray, " images"]
    """Number of targets that were classified correctly."""
    glimpses: Int64[np.ndarray, " images"]
    """Number of glimpses, the first one included."""
    returns: Float[np.ndarray, " images"]
    """Undiscounted returns."""


def evaluate(agent: Agent, envs: gymnasium.vector.VectorEnv[Any, Any, Any], seed: int = 0) -> AgentEvaluation:
    """Run one episode of an agent on every image of the environments' split.

    The canvases of the splits ``validation`` and ``test`` are fixed, so that the results of a deterministic agent do
    not depend on the number of environments. With a random first location they depend on that number and on the seed.

    Args:
        agent: Chooses the actions. After the end of an episode, the environment begins another one. The agent acts in
            it too, but it is not counted.
        envs: A :class:`GlimpseVectorEnv`, or one in wrappers that do not change the number of environments.
        seed: Seeds the environments.

    Raises:
        TaskError: When ``envs`` is another environment, or its autoreset mode is ``Disabled``.
    """
    bare = unwrap_vector_env(envs)
    count = len(bare.core.scenes)
    blocks = [np.arange(start, min(start + bare.num_envs, count)) for start in range(0, count, bare.num_envs)]
    results = [
        _run_episodes(agent, envs, bare, images, seed if block == 0 else None) for block, images in enumerate(blocks)
    ]
    labels, answers, right, glimpses, returns = (np.concatenate(parts) for parts in zip(*results, strict=True))
    return AgentEvaluation(
        float(right.mean() / bare.core.scenes.num_targets),
        float(glimpses.mean()),
        float(returns.mean()),
        labels,
        answers,
        right,
        glimpses,
        returns,
    )


def unwrap_vector_env(envs: gymnasium.vector.VectorEnv[Any, Any, Any]) -> GlimpseVectorEnv:
    """The environments without their wrappers, after a check that they reset themselves.

    Args:
        envs: A :class:`GlimpseVectorEnv`, or one in wrappers.

    Raises:
        TaskError: When ``envs`` is another environment, or its autoreset mode is ``Disabled``.
    """
    bare = envs.unwrapped
    if not isinstance(bare, GlimpseVectorEnv):
        raise TaskError(
            f"expected a GlimpseVectorEnv, got {type(bare).__name__}; make one with "
            "gymnasium.make_vec('glimpse_envs:Glimpse/Digits-v0', num_envs=64)"
        )
    if bare.metadata["autoreset_mode"] is AutoresetMode.DISABLED:
        raise TaskError("expected environments that reset themselves, got autoreset_mode 'Disabled'; leave it out")
    return bare


def _run_episodes(
    agent: Agent,
    envs: gymnasium.vector.VectorEnv[Any, Any, Any],
    bare: GlimpseVectorEnv,
    images: Int64[np.ndarray, " images"],
    seed: int | None,
) -> tuple[np.ndarray, ...]:
    """Run one episode for each image. Environments without an image of their own repeat the last image."""
    padded = np.resize(images, bare.num_envs)
    padded[len(images) :] = images[-1]
    observation, infos = envs.reset(seed=seed, options={"image": padded})
    labels = infos["label"].copy()
    answers = np.full(bare.num_envs, NO_ANSWER)
    right, glimpses = np.zeros_like(answers), np.zeros_like(answers)
    returns = np.zeros(bare.num_envs)
    running = first = np.ones(bare.num_envs, np.bool_)
    ended = ~first
    at_once = bare.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    while running.any():
        actions = agent(observation, first)
        named = _named_classes(actions, bare)
        answers = np.where(running & (named != NO_ANSWER), named, answers)
        before = ended
        observation, rewards, ended, _, infos = envs.step(actions)
        first = ended if at_once else before
        returns += rewards * running
        over = running & ended
        if over.any():
            final = infos.get("final_info", infos)
            right[over], glimpses[over] = final["right"][over], final["glimpses"][over]
        running = running & ~ended
    return tuple(part[: len(images)] for part in (labels, answers, right, glimpses, returns))


def _named_classes(actions: np.ndarray, bare: GlimpseVectorEnv) -> Int64[np.ndarray, " batch"]:
    """The class that each action names; ``NO_ANSWER`` if it names none."""
    given = bare.core.actions.check(actions, bare.num_envs)
    named = bare.core.actions.decode(given, torch.zeros(bare.num_envs, 2)).answer
    if named is None:
        return np.full(bare.num_envs, NO_ANSWER)
    answers: np.ndarray = torch.where(named < bare.core.num_classes, named, NO_ANSWER).numpy()
    return answers
