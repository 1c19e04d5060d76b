"""PPO in one file and plain torch, in the style of CleanRL; it uses only Gymnasium's interface.

On one core, 200,000 steps take 33 seconds. The agent classifies 97 % of the held-out digits, after one glimpse each.

``python envs/examples/cleanrl_ppo.py [--steps N]``
"""

import argparse
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from glimpse_envs.classification import DictObservation
from glimpse_envs.evaluation import evaluate

ID = "glimpse_envs:Glimpse/Digits-v0"
NUM_ENVS, HORIZON = 64, 16
EPOCHS, MINIBATCH, CLIP = 4, 256, 0.2
LEARNING_RATE, ENTROPY, VALUE, LAMBDA = 1e-3, 0.01, 0.5, 0.95  # returns are not discounted: episodes are short


class Rollout(NamedTuple):
    """The collected steps, each tensor (time, batch, ...)."""

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    rewards: Tensor
    values: Tensor
    ended: Tensor


class Policy(nn.Module):
    """The policy and the value function.

    Args:
        inputs: Size of a flat observation.
        choices: Number of choices of each part of an action.
        hidden: Width of the hidden layers.
    """

    def __init__(self, inputs: int, choices: list[int], hidden: int = 256) -> None:
        super().__init__()
        self.choices = choices
        self.trunk = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.logits = nn.Linear(hidden, sum(choices))
        self.value = nn.Linear(hidden, 1)
        nn.init.orthogonal_(self.logits.weight, 0.01)

    def forward(self, observations: Tensor) -> tuple[list[Categorical], Tensor]:
        """A distribution for each part of an action, and the value."""
        features = self.trunk(observations)
        parts = [Categorical(logits=part) for part in self.logits(features).split(self.choices, dim=-1)]
        return parts, self.value(features).squeeze(-1)


def flat(observation: DictObservation) -> Tensor:
    """An observation as one row of numbers for each environment."""
    return torch.cat([torch.from_numpy(value).flatten(1) for value in observation.values()], 1)


def log_prob(parts: list[Categorical], actions: Tensor) -> Tensor:
    """Log-probability of actions whose parts are independent."""
    each = [part.log_prob(selected) for part, selected in zip(parts, actions.unbind(-1), strict=True)]
    return torch.stack(each).sum(0)


def advantages(rollout: Rollout, last_value: Tensor) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016); they do not extend over the end of an episode."""
    result = torch.zeros_like(rollout.rewards)
    running, after = torch.zeros_like(last_value), last_value
    for step in reversed(range(HORIZON)):
        not_ended = 1 - rollout.ended[step]
        error = rollout.rewards[step] + not_ended * after - rollout.values[step]
        running = result[step] = error + LAMBDA * not_ended * running
        after = rollout.values[step]
    return result


def update(policy: Policy, optimizer: torch.optim.Optimizer, rollout: Rollout, advantage: Tensor) -> None:
    """Several epochs of PPO over a rollout."""
    flattened = Rollout(*(part.flatten(0, 1) for part in rollout))
    advantage = advantage.flatten()
    returns = advantage + flattened.values
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(advantage)).split(MINIBATCH):
            parts, values = policy(flattened.observations[rows])
            ratio = (log_prob(parts, flattened.actions[rows]) - flattened.log_probs[rows]).exp()
            normalised = (advantage[rows] - advantage[rows].mean()) / (advantage[rows].std() + 1e-8)
            policy_gain = torch.min(ratio * normalised, ratio.clamp(1 - CLIP, 1 + CLIP) * normalised).mean()
            entropy = torch.stack([part.entropy() for part in parts]).sum(0).mean()
            loss = VALUE * (values - returns[rows]).square().mean() - policy_gain - ENTROPY * entropy
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()


def train(steps: int) -> Policy:
    """Train a policy.

    Args:
        steps: Total number of steps of all environments.
    """
    torch.manual_seed(0)
    envs = gymnasium.make_vec(ID, num_envs=NUM_ENVS, glimpse_cost=0.02)  # autoreset in the same step
    space: Any = envs.single_action_space
    observations = flat(envs.reset(seed=0)[0])
    policy = Policy(observations.shape[1], space.nvec.tolist())
    optimizer = torch.optim.Adam(policy.parameters(), eps=1e-5)
    updates = max(1, steps // (NUM_ENVS * HORIZON))
    for number in range(updates):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - number / updates)
        steps_taken = []
        for _ in range(HORIZON):
            with torch.no_grad():
                parts, values = policy(observations)
            actions = torch.stack([part.sample() for part in parts], -1)
            observation, rewards, ended, _, _ = envs.step(actions.numpy())
            reward, ended_now = (torch.from_numpy(part).float() for part in (rewards, ended))
            steps_taken.append((observations, actions, log_prob(parts, actions), reward, values, ended_now))
            observations = flat(observation)
        rollout = Rollout(*(torch.stack(part) for part in zip(*steps_taken, strict=True)))
        with torch.no_grad():
            last_value = policy(observations)[1]
        update(policy, optimizer, rollout, advantages(rollout, last_value))
    return policy


def main() -> None:
    """Train, and print the accuracy on held-out images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000, help="steps of training, all environments together")
    policy = train(parser.parse_args().steps)

    def act_greedily(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            parts, _ = policy(flat(observation))
        selected: np.ndarray = torch.stack([part.logits.argmax(-1) for part in parts], -1).numpy()
        return selected

    score = evaluate(act_greedily, gymnasium.make_vec(ID, num_envs=100, split="validation"))
    print(
        f"{score.accuracy:.1%} of {len(score.answers)} held-out images right, {score.mean_glimpses:.2f} glimpses each"
    )


if __name__ == "__main__":
    main()
