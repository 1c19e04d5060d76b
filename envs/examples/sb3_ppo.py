"""PPO of Stable-Baselines3 learns to classify a digit from one or two glimpses.

The example uses the adapter to Stable-Baselines3, a batch of 64 environments, and the evaluation on held-out images.
On one core, 200,000 steps take 40 seconds. The agent classifies 96.5 % of the held-out digits, after one glimpse each.

``python envs/examples/sb3_ppo.py [--steps N]``
"""

import argparse

import gymnasium
from stable_baselines3 import PPO

from glimpse_envs.evaluation import evaluate
from glimpse_envs.sb3 import GlimpseVecEnv, agent_of

ID = "glimpse_envs:Glimpse/Digits-v0"


def main() -> None:
    """Train, and print the accuracy on held-out images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000, help="steps of training, all environments together")
    steps = parser.parse_args().steps

    envs = GlimpseVecEnv(gymnasium.make_vec(ID, num_envs=64, glimpse_cost=0.02))
    model = PPO(
        "MultiInputPolicy",
        envs,
        learning_rate=lambda left: 1e-3 * left,
        n_steps=16,
        batch_size=256,
        n_epochs=4,
        gamma=1.0,  # an episode is a few steps long
        ent_coef=0.01,
        policy_kwargs={"net_arch": [256]},
        seed=0,
        device="cpu",
    )
    model.learn(steps)

    score = evaluate(agent_of(model), gymnasium.make_vec(ID, num_envs=100, split="validation"))
    print(
        f"{score.accuracy:.1%} of {len(score.answers)} held-out images right, {score.mean_glimpses:.2f} glimpses each"
    )


if __name__ == "__main__":
    main()
