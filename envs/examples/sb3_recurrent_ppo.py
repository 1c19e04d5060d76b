"""sb3-contrib's recurrent PPO looks through a keyhole, and has to remember what it saw.

A glimpse is a single window of 6x6 pixels on a canvas of 28x28. An agent without memory would have to tell a digit from
the last window alone; this one has an LSTM.

``python envs/examples/sb3_recurrent_ppo.py [--steps N]``
"""

import argparse
from typing import Any

import gymnasium
from sb3_contrib import RecurrentPPO

from glimpse_envs.evaluation import evaluate
from glimpse_envs.sb3 import GlimpseVecEnv, agent_of

ID = "glimpse_envs:Glimpse/Digits-v0"
KEYHOLE: dict[str, Any] = {"glimpse_size": 6, "num_scales": 1}


def main() -> None:
    """Train, and say how good it got."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300_000, help="steps of training, all environments together")
    steps = parser.parse_args().steps

    envs = GlimpseVecEnv(gymnasium.make_vec(ID, num_envs=64, glimpse_cost=0.01, **KEYHOLE))
    model = RecurrentPPO(
        "MultiInputLstmPolicy",
        envs,
        learning_rate=lambda left: 2e-3 * left,
        n_steps=16,
        batch_size=256,
        n_epochs=4,
        gamma=1.0,  # an episode is a few steps long
        ent_coef=0.01,
        policy_kwargs={"net_arch": [128], "lstm_hidden_size": 128},
        seed=0,
        device="cpu",
    )
    model.learn(steps, progress_bar=False)

    envs_held_out = gymnasium.make_vec(ID, num_envs=100, split="validation", **KEYHOLE)
    found = evaluate(agent_of(model), envs_held_out)
    print(
        f"{found.accuracy:.1%} of {len(found.answers)} held-out images right, {found.mean_glimpses:.2f} glimpses each"
    )


if __name__ == "__main__":
    main()
