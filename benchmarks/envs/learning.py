"""How well Stable-Baselines3's PPO learns to look in ``Glimpse/Digits-v0``, as it is and with a narrow view.

``python -m benchmarks.envs.learning [--quick] [--output FILE]``; beside FILE it draws the curves, as a PNG.
"""

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, in_words, settle_threads, threads
from benchmarks.harness.reports import hand_back, quick_remark, table

settle_threads()

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import stable_baselines3  # noqa: E402
import torch  # noqa: E402
from jaxtyping import Float  # noqa: E402
from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402

from benchmarks.envs.agents import BUDGET, CELLS, CENTRE, answering_after, guessing, looking_at  # noqa: E402
from glimpse.drawing.charts import draw_learning_curves  # noqa: E402
from glimpse_envs.evaluation import evaluate  # noqa: E402
from glimpse_envs.sb3 import GlimpseVecEnv, agent_of  # noqa: E402

ID = "glimpse_envs:Glimpse/Digits-v0"
GOAL = 0.9
"""The accuracy on validation images that the clock waits for."""


@dataclass(frozen=True)
class Recipe:
    """A task, and how PPO learns it. All of it was settled on validation images.

    Attributes:
        name: Of the task.
        options: Of the environment.
        steps: Of training, all environments together.
        learning_rate: At the beginning; it falls linearly to 0.
        entropy: Weight of the entropy bonus at the beginning; it falls linearly to 0.
        num_envs: Environments side by side.
        n_steps: Steps in each of them between two updates.
        batch_size: Of a gradient step.
        n_epochs: Passes over what was collected.
        gae_lambda: Of the advantages; returns are not discounted, as episodes are short.
        weight_decay: AdamW's.
        hidden: Width of the two layers of policy and value each.
        every: Steps between two looks at the validation images.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 400_000
    learning_rate: float = 1e-3
    entropy: float = 0.03
    num_envs: int = 256
    n_steps: int = 8
    batch_size: int = 512
    n_epochs: int = 4
    gae_lambda: float = 0.95
    weight_decay: float = 0.01
    hidden: int = 256
    every: int = 20_480


AS_IT_IS = Recipe("as it is", {"glimpse_cost": 0.02})
NARROW = Recipe(
    "narrow view", {"glimpse_cost": 0.02, "num_scales": 1, "first_location": "random"}, steps=800_000, every=40_960
)
"""One window of 12x12 pixels, a fifth of the canvas, and a first glimpse that lies anywhere."""


@dataclass(frozen=True)
class Effort:
    """What is learnt, and how often.

    Attributes:
        recipes: The tasks.
        seeds: Each is a training.
    """

    recipes: tuple[Recipe, ...] = (AS_IT_IS, NARROW)
    seeds: tuple[int, ...] = (0, 1, 2)


_TINY: dict[str, Any] = {"steps": 256, "num_envs": 16, "n_steps": 4, "batch_size": 32, "hidden": 8, "every": 128}
QUICK = Effort(tuple(replace(recipe, **_TINY) for recipe in (AS_IT_IS, NARROW)), (0,))


def made(recipe: Recipe, split: str, num_envs: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """The environments of a task.

    Args:
        recipe: The task.
        split: ``train``, ``validation`` or ``test``.
        num_envs: How many.
    """
    return gymnasium.make_vec(ID, num_envs=num_envs, split=split, **recipe.options)


class Watch(BaseCallback):
    """Looks at the validation images every so often, and lets the entropy bonus fall.

    Args:
        recipe: Says how often, and from where.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.curve: list[dict[str, float]] = []
        self._recipe = recipe
        self._envs = made(recipe, "validation", 200)

    def _on_training_start(self) -> None:
        self._began = time.perf_counter()
        self._next = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        model: Any = self.model
        model.ent_coef = self._recipe.entropy * max(0.0, 1 - self.num_timesteps / self._recipe.steps)
        if self.num_timesteps >= self._next:
            self._next += self._recipe.every
            self.look()

    def look(self) -> None:
        """Look once, and note what came of it."""
        found = evaluate(agent_of(self.model), self._envs)
        self.curve.append(
            {
                "steps": self.num_timesteps,
                "seconds": round(time.perf_counter() - self._began, 1),
                "accuracy": found.accuracy,
                "glimpses": found.mean_glimpses,
                "return": found.mean_return,
            }
        )


def learn(recipe: Recipe, seed: int) -> tuple[PPO, dict[str, Any]]:
    """Train once, on one thread.

    Args:
        recipe: How.
        seed: Fixes the training.

    Returns:
        The last model, and how it came about.
    """
    model = PPO(
        "MultiInputPolicy",
        GlimpseVecEnv(made(recipe, "train", recipe.num_envs)),
        learning_rate=lambda left: recipe.learning_rate * left,
        n_steps=recipe.n_steps,
        batch_size=recipe.batch_size,
        n_epochs=recipe.n_epochs,
        gamma=1.0,
        gae_lambda=recipe.gae_lambda,
        ent_coef=recipe.entropy,
        policy_kwargs={
            "net_arch": [recipe.hidden, recipe.hidden],
            "activation_fn": torch.nn.ReLU,
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": recipe.weight_decay},
        },
        seed=seed,
        device="cpu",
    )
    watch = Watch(recipe)
    wall, cpu = time.perf_counter(), time.process_time()
    model.learn(recipe.steps, callback=watch)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    watch.look()
    crossed = next((row for row in watch.curve if row["accuracy"] >= GOAL), None)
    return model, {
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "steps": model.num_timesteps,
        "seconds_to_goal": crossed and crossed["seconds"],
        "steps_to_goal": crossed and crossed["steps"],
        "validation": watch.curve,
    }


def judge(model: PPO, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What a model makes of every test image, and what others make of them.

    Args:
        model: The model.
        recipe: The task.
        seed: Fixes what is random.
    """
    envs = made(recipe, "test", 250)
    generator = np.random.default_rng(seed)
    own = agent_of(model)
    agents = {
        "own": own,
        "looks at random cells": looking_at(own, lambda count: generator.integers(CELLS, size=count)),
        "looks at the centre": looking_at(own, lambda _: CENTRE),
    }
    found = {name: evaluate(agent, envs, seed) for name, agent in agents.items()}
    found["random agent"] = evaluate(guessing(seed), envs, seed)
    taken, right = found["own"].glimpses, found["own"].right
    forced = [evaluate(answering_after(model, glimpses), envs, seed).accuracy for glimpses in range(1, BUDGET + 1)]
    return {
        "images": len(taken),
        "accuracy": found["own"].accuracy,
        "glimpses": found["own"].mean_glimpses,
        "return": found["own"].mean_return,
        "share_by_glimpses": [float((taken == glimpses).mean()) for glimpses in range(1, BUDGET + 1)],
        "right_by_glimpses": [int(right[taken == glimpses].sum()) for glimpses in range(1, BUDGET + 1)],
        "accuracy_after_each_glimpse": forced,
        "agents": {
            name: {"accuracy": seen.accuracy, "glimpses": seen.mean_glimpses, "return": seen.mean_return}
            for name, seen in found.items()
        },
    }


def measure(effort: Effort, quick: bool) -> dict[str, Any]:
    """Learn every task once for each seed.

    Args:
        effort: The tasks and seeds.
        quick: Whether the figures mean nothing.
    """
    machine = describe()
    machine["versions"]["stable-baselines3"] = stable_baselines3.__version__
    machine["versions"]["gymnasium"] = gymnasium.__version__
    tasks = []
    for recipe in effort.recipes:
        runs = []
        for seed in effort.seeds:
            with threads(1):
                model, how = learn(recipe, seed)
                runs.append({"seed": seed, "test": judge(model, recipe, seed), **how})
            print(said_of(recipe.name, runs[-1]), flush=True)
        tasks.append({"recipe": asdict(recipe), "runs": runs})
    return {
        "command": "python -m benchmarks.envs.learning" + " --quick" * quick,
        "quick": quick,
        "environment": ID.partition(":")[2],
        "goal": GOAL,
        "machine": machine,
        "tasks": tasks,
        "load_average_after": describe()["load_average"],
    }


def said_of(name: str, run: Mapping[str, Any]) -> str:
    """A run in a line.

    Args:
        name: Of the task.
        run: Its figures.
    """
    test = run["test"]
    return (
        f"{name}, seed {run['seed']}: {run['steps']:,} steps in {run['wall_seconds']:.0f} s "
        f"({run['cpu_seconds']:.0f} CPU-seconds); "
        f"test accuracy {test['accuracy']:.1%} with {test['glimpses']:.2f} glimpses"
    )


def report(result: Mapping[str, Any]) -> str:
    """The figures in tables.

    Args:
        result: What :func:`measure` found.
    """
    parts = [in_words(result["machine"]) + quick_remark(result, "\n")]
    for task in result["tasks"]:
        runs, title = task["runs"], f"{result['environment']}, {task['recipe']['name']}"
        parts.append(
            table(
                f"{title}: the last model on every test image, deterministic",
                ("seed", "accuracy", "glimpses", f"s to {result['goal']:.0%}", "s in all", "CPU s", "steps"),
                (
                    (
                        run["seed"],
                        f"{run['test']['accuracy']:.1%}",
                        f"{run['test']['glimpses']:.2f}",
                        "never" if run["seconds_to_goal"] is None else f"{run['seconds_to_goal']:.0f}",
                        f"{run['wall_seconds']:.0f}",
                        f"{run['cpu_seconds']:.0f}",
                        f"{run['steps']:,}",
                    )
                    for run in runs
                ),
            )
        )
        tests = [run["test"] for run in runs]
        parts.append(
            table(
                f"{title}: other agents, mean over the seeds",
                ("agent", "accuracy", "glimpses", "return"),
                (
                    (
                        name,
                        f"{_mean(test['agents'][name]['accuracy'] for test in tests):.1%}",
                        f"{_mean(test['agents'][name]['glimpses'] for test in tests):.2f}",
                        f"{_mean(test['agents'][name]['return'] for test in tests):.3f}",
                    )
                    for name in tests[0]["agents"]
                ),
            )
        )
        parts.append(
            table(
                f"{title}: by number of glimpses, mean over the seeds",
                ("glimpses", "episodes that take as many", "right of those", "right when all are made to answer then"),
                (
                    (
                        place + 1,
                        f"{_mean(test['share_by_glimpses'][place] for test in tests):.1%}",
                        _right_of_those(tests, place),
                        f"{_mean(test['accuracy_after_each_glimpse'][place] for test in tests):.1%}",
                    )
                    for place in range(BUDGET)
                ),
            )
        )
    return "\n\n".join(parts)


def _right_of_those(tests: Sequence[Mapping[str, Any]], place: int) -> str:
    """Share of right answers among the episodes of all seeds that took so many glimpses."""
    episodes = sum(round(test["share_by_glimpses"][place] * test["images"]) for test in tests)
    return f"{sum(test['right_by_glimpses'][place] for test in tests) / episodes:.1%}" if episodes else "none"


def _mean(values: Any) -> float:
    return statistics.fmean(values)


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw how accuracy and glimpses went on validation images, a line for each seed.

    Args:
        result: What :func:`measure` found.
        file: The PNG to write.
    """
    curves = [run["validation"] for task in result["tasks"] for run in task["runs"]]
    steps = np.array(sorted({row["steps"] for curve in curves for row in curve}))
    panels = {
        f"{task['recipe']['name']}: {title}": {
            f"seed {run['seed']}": factor * _at(steps, run["validation"], name) for run in task["runs"]
        }
        for task in result["tasks"]
        for title, name, factor in (("accuracy (%)", "accuracy", 100), ("glimpses", "glimpses", 1))
    }
    draw_learning_curves(steps / 1000, panels, "thousand steps").save(file)


def _at(
    steps: Float[np.ndarray, " times"], curve: Sequence[Mapping[str, float]], name: str
) -> Float[np.ndarray, " times"]:
    """A curve at given steps; NaN where there is none."""
    known = {row["steps"]: row[name] for row in curve}
    return np.array([known.get(step, np.nan) for step in steps.tolist()])


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures and the curves to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.envs.learning", __doc__)
    options = options_of(args, parser)
    result = measure(QUICK if options.quick else Effort(), options.quick)
    hand_back(report(result), result, options.output)
    if options.output:
        draw(result, options.output.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
