"""PPO of TorchRL on a batch of 64 environments, with TorchRL's wrapper, collector, GAE and clipped loss.

On one core, 200,000 steps take a little over a minute. The agent classifies 97.5 % of the held-out digits, after one
glimpse each.

``python envs/examples/torchrl_ppo.py [--steps N]``
"""

import argparse
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.distributions import Categorical, Independent
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from glimpse_envs.classification import DictObservation
from glimpse_envs.evaluation import evaluate

ID = "glimpse_envs:Glimpse/Digits-v0"
OBSERVATION_KEYS = ["glimpse", "location", "time"]
NUM_ENVS, HORIZON, EPOCHS, MINIBATCH = 64, 16, 4, 256
LEARNING_RATE = 1e-3


class Parts(Independent[Categorical]):
    """An action of independent parts, each with its own number of choices.

    Args:
        logits: (..., parts, choices).
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(Categorical(logits=logits), 1)


class Net(nn.Module):
    """A perceptron of the flat observation.

    Args:
        inputs: Size of a flat observation.
        choices: Number of choices of each part of an action; empty for a value function.
        hidden: Width of the hidden layers.
    """

    def __init__(self, inputs: int, choices: list[int], hidden: int = 256) -> None:
        super().__init__()
        self.choices = choices
        inner, outer = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        last = nn.Linear(hidden, sum(choices) or 1)
        for layer, gain in ((inner, 2**0.5), (outer, 2**0.5), (last, 0.01 if choices else 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
        self.layers = nn.Sequential(inner, nn.ReLU(), outer, nn.ReLU(), last)

    def forward(self, glimpse: Tensor, location: Tensor, time: Tensor) -> Tensor:
        """Logits (..., parts, choices), padded with very low values for parts with fewer choices; or the value."""
        out: Tensor = self.layers(torch.cat([glimpse.flatten(-4), location, time], -1))
        if not self.choices:
            return out
        most = max(self.choices)
        parts = out.split(self.choices, -1)
        return torch.stack([nn.functional.pad(part, (0, most - part.shape[-1]), value=-1e9) for part in parts], -2)


def train(steps: int) -> ProbabilisticActor:
    """Train an actor.

    Args:
        steps: Total number of steps of all environments.
    """
    torch.manual_seed(0)
    batch: Any = gymnasium.make_vec(ID, num_envs=NUM_ENVS, glimpse_cost=0.02)
    envs = GymWrapper(batch, device="cpu")
    envs.set_seed(0)
    inputs = gymnasium.spaces.flatdim(batch.single_observation_space)
    choices = batch.single_action_space.nvec.tolist()
    actor = ProbabilisticActor(
        TensorDictModule(Net(inputs, choices), in_keys=OBSERVATION_KEYS, out_keys=["logits"]),
        in_keys=["logits"],
        distribution_class=Parts,
        return_log_prob=True,
    )
    critic = ValueOperator(Net(inputs, []), in_keys=OBSERVATION_KEYS)
    gae = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
    loss = ClipPPOLoss(
        actor, critic, entropy_coeff=0.01, critic_coeff=0.5, loss_critic_type="l2", normalize_advantage=True
    )
    optimizer = torch.optim.Adam(loss.parameters(), LEARNING_RATE, eps=1e-5)
    frames = NUM_ENVS * HORIZON
    updates = max(1, steps // frames)
    collector = Collector(
        envs, actor, frames_per_batch=frames, total_frames=updates * frames, auto_register_policy_transforms=False
    )
    for number, rollout in enumerate(collector):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - number / updates)
        with torch.no_grad():
            gae(rollout)
        flat: TensorDict = rollout.reshape(-1)
        for _ in range(EPOCHS):
            for rows in torch.randperm(frames).split(MINIBATCH):
                terms = loss(flat[rows])
                optimizer.zero_grad()
                (terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]).backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()
    collector.shutdown()
    return actor


def main() -> None:
    """Train, and print the accuracy on held-out images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000, help="steps of training, all environments together")
    actor = train(parser.parse_args().steps)

    def act_greedily(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        observations = TensorDict(
            {name: torch.from_numpy(observation[name]) for name in OBSERVATION_KEYS}, batch_size=[len(first)]
        )
        with torch.no_grad():
            selected: np.ndarray = actor.get_dist(observations).mode.numpy()
        return selected

    score = evaluate(act_greedily, gymnasium.make_vec(ID, num_envs=100, split="validation"))
    print(
        f"{score.accuracy:.1%} of {len(score.answers)} held-out images right, {score.mean_glimpses:.2f} glimpses each"
    )


if __name__ == "__main__":
    main()
