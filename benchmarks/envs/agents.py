"""Agents that a trained model is compared with in ``Glimpse/Digits-v0``, whose budget and actions they know."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO

from glimpse_envs.classification.spaces import DictObservation
from glimpse_envs.evaluation import Agent

BUDGET, CELLS, CLASSES = 4, 25, 10
"""Of the environment: glimpses, cells of the grid of locations, classes."""
CENTRE = CELLS // 2


def guessing(seed: int) -> Agent:
    """An agent that does anything.

    Args:
        seed: Fixes what it does.
    """
    generator = np.random.default_rng(seed)
    return lambda observation, first: generator.integers((CELLS, CLASSES + 1), size=(len(first), 2))


def looking_at(agent: Agent, choose: Callable[[int], np.ndarray | int]) -> Agent:
    """An agent whose places are replaced by others.

    Args:
        agent: Says what it sees, and when it has seen enough.
        choose: From how many agents there are to the cells that they look at.
    """

    def act(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        actions = agent(observation, first).copy()
        actions[:, 0] = choose(len(actions))
        return actions

    return act


def answering_after(model: PPO, glimpses: int) -> Agent:
    """A trained model that looks this many times, no less and no more, and then names the likeliest class.

    Args:
        model: The model.
        glimpses: How many times, from 1 to the budget.
    """
    policy: Any = model.policy

    def act(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            seen, _ = policy.obs_to_tensor(observation)
            place, answer = policy.get_distribution(seen).distribution
        taken = np.rint(observation["time"][:, -1] * BUDGET)
        said = answer.logits[:, :CLASSES].argmax(1).numpy()
        return np.stack([place.logits.argmax(1).numpy(), np.where(taken < glimpses, CLASSES, said)], 1)

    return act
