"""Does an agent learn to look where looking pays? PPO in ``Glimpse/Maze-v0``, against the optimum, known exactly.

``python -m benchmarks.envs.maze [--quick] [--output FILE]``; beside FILE stands the picture of the curves, a PNG.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import Clock, describe, in_words, settle_threads, threads
from benchmarks.harness.reports import hand_back, quick_remark, table

settle_threads()

from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from torch import nn  # noqa: E402

from glimpse.drawing.charts import draw_learning_curves  # noqa: E402
from glimpse_envs.maze.env import MazeEnv, MazeObservation  # noqa: E402
from glimpse_envs.maze.generator import DIRECTIONS, Maze, all_junctions, draw_maze  # noqa: E402

SEEDS = (20, 21, 22)
"""Of the training runs; the recipe was chosen on seeds below them."""
HELD_OUT, ALONG_THE_WAY = 1_000_000, 2_000_000
"""Seeds of the mazes of the last evaluation, and of those for the curves."""
RANDOM = "acts at random"
LEFT, AHEAD, RIGHT, NOWHERE = range(4)

Policy = Callable[[MazeObservation], Int[np.ndarray, " batch"]]
"""What to do at each of a batch of observations."""


@dataclass(frozen=True)
class Recipe:
    """How PPO learns, and on how much it is evaluated.

    Attributes:
        rollouts: How often it gathers experience and learns from it.
        environments: Mazes that it walks through side by side.
        steps: In each of them, for one roll-out.
        batch: Steps that an update learns from.
        epochs: How often it learns from each step.
        learning_rate: At the start, falling in a straight line to 0.
        entropy: Weight of the entropy bonus at the start and at the end, falling by the same factor each time. With
            0.01 or 0.02 throughout, most runs end up guessing: until an agent knows what to do with a look, a look only
            costs. From 0.05 on, at half this learning rate, one run in three kept looking needlessly along a third way.
        hidden: Width of the two layers of each of the two networks, policy and value.
        point: Roll-outs between two points of a curve.
        curve_mazes: Held-out mazes for each point.
        mazes: Held-out mazes for the last evaluation.
    """

    rollouts: int = 196
    environments: int = 32
    steps: int = 32
    batch: int = 256
    epochs: int = 10
    learning_rate: float = 2e-3
    entropy: tuple[float, float] = (0.15, 0.005)
    hidden: int = 128
    point: int = 7
    curve_mazes: int = 200
    mazes: int = 2000


QUICK = Recipe(rollouts=4, environments=8, point=2, curve_mazes=20, mazes=50)


class Episode(NamedTuple):
    """How an episode went.

    Attributes:
        earned: Its return.
        looks: How many were used.
        success: Whether the agent came out.
        looks_by_junction: For each junction that was passed, how many looks had been used by then.
    """

    earned: float
    looks: int
    success: bool
    looks_by_junction: tuple[int, ...]


def play(policy: Policy, mazes: Iterable[Maze]) -> list[Episode]:
    """Have a policy walk through mazes, all of them side by side.

    Args:
        policy: Decides.
        mazes: Of the environment's default size.
    """
    walking = {index: (MazeEnv(), maze) for index, maze in enumerate(mazes)}
    seen = {index: environment.reset(options={"maze": maze})[0] for index, (environment, maze) in walking.items()}
    earned, passed = dict.fromkeys(walking, 0.0), {index: list[int]() for index in walking}
    episodes: dict[int, Episode] = {}
    while seen:
        stacked = {name: np.stack([observation[name] for observation in seen.values()]) for name in seen[min(seen)]}
        for index, action in zip(list(seen), policy(stacked), strict=True):
            seen[index], reward, terminated, _, info = walking[index][0].step(action)
            earned[index] += reward
            if info["passed"] > len(passed[index]):
                passed[index].append(info["looks"])
            if terminated:
                episodes[index] = Episode(earned[index], info["looks"], info["is_success"], tuple(passed[index]))
                del seen[index]
    return [episodes[index] for index in sorted(episodes)]


def fresh_mazes(count: int, seed: int) -> list[Maze]:
    """Mazes of the default size, drawn as the environment draws them.

    Args:
        count: How many.
        seed: Draws them.
    """
    environment, generator = MazeEnv(), np.random.default_rng(seed)
    return [draw_maze(environment.num_junctions, environment.sight, generator) for _ in range(count)]


def sampled(policy: Policy, count: int, seed: int = HELD_OUT) -> dict[str, float]:
    """What a policy earns in fresh mazes, on average.

    Args:
        policy: Decides.
        count: How many mazes.
        seed: Draws them.
    """
    episodes = play(policy, fresh_mazes(count, seed))
    returns = np.array([episode.earned for episode in episodes])
    return {
        "return": float(returns.mean()),
        "standard_error": float(returns.std(ddof=1) / np.sqrt(count)),
        "success": float(np.mean([episode.success for episode in episodes])),
        "looks": float(np.mean([episode.looks for episode in episodes])),
    }


def exact(policy: Policy) -> dict[str, float]:
    """What a policy earns on average over all mazes that there are, each as likely.

    From a new junction on, all that counts is how many were passed and how many looks were used. So each junction is
    met in all its forms once for every number of looks that it can be met with, and not once for every maze.

    Args:
        policy: Decides, always in the same way for the same observation.
    """
    environment = MazeEnv()
    junctions = list(all_junctions(environment.sight))
    met: dict[int, tuple[float, Maze]] = {0: (1.0, ())}
    success = looks = 0.0
    for place in range(environment.num_junctions):
        following: dict[int, tuple[float, Maze]] = {}
        for probability, before in met.values():
            rest = (junctions[0],) * (environment.num_junctions - place - 1)
            share = probability / len(junctions)
            for junction, episode in zip(
                junctions, play(policy, [(*before, j, *rest) for j in junctions]), strict=True
            ):
                if len(episode.looks_by_junction) <= place:
                    looks += share * episode.looks
                    continue
                used = episode.looks_by_junction[place]
                so_far, example = following.get(used, (0.0, (*before, junction)))
                following[used] = (so_far + share, example)
        met = following
    for used, (probability, _) in met.items():
        success += probability
        looks += probability * used
    return {"return": success - environment.look_cost * looks, "success": success, "looks": looks}


def at_random(seed: int) -> Policy:
    """A policy that knows nothing and tries everything.

    Args:
        seed: Draws what it does.
    """
    generator = np.random.default_rng(seed)
    return lambda seen: generator.integers(2 * len(DIRECTIONS), size=len(seen["time"]))


def looking(most: int) -> Policy:
    """A policy that looks along so many ways at most, the left one first, and takes the next one if all were blind.

    Args:
        most: Looks at each junction, 0 to 2; the best of agents looks twice.
    """

    def choose(seen: MazeObservation) -> Int[np.ndarray, " batch"]:
        direction = seen["direction"].argmax(axis=1)
        open_way = (direction != NOWHERE) & (seen["view"][:, :, 1] == 1).all(axis=1)
        following = np.where(direction == NOWHERE, LEFT, direction + 1)
        return np.where(
            open_way, len(DIRECTIONS) + direction, np.where(following < most, following, len(DIRECTIONS) + following)
        )

    return choose


SIMPLE_AGENTS = {"never looks": looking(0), "looks once": looking(1), "the best of agents": looking(2)}


class Course(BaseCallback):
    """Lets the entropy bonus fade, and draws the curve, the clock standing still meanwhile.

    Args:
        recipe: How it learns.
        clock: Runs while it does.
    """

    def __init__(self, recipe: Recipe, clock: Clock) -> None:
        super().__init__()
        self.recipe, self.clock = recipe, clock
        self.rollouts = 0
        self.steps: list[int] = []
        self.returns: list[float] = []

    def measure(self) -> None:
        """Add a point to the curve."""
        self.clock.stop()
        self.steps.append(self.model.num_timesteps)
        self.returns.append(sampled(greedy(self.model), self.recipe.curve_mazes, ALONG_THE_WAY)["return"])
        self.clock.start()

    def _on_rollout_start(self) -> None:
        first, last = self.recipe.entropy
        model: Any = self.model
        model.ent_coef = first * (last / first) ** (self.rollouts / self.recipe.rollouts)
        if self.rollouts % self.recipe.point == 0:
            self.measure()
        self.rollouts += 1

    def _on_step(self) -> bool:
        return True


def greedy(model: Any) -> Policy:
    """What a trained model holds for best.

    Args:
        model: Of Stable-Baselines3.
    """
    return lambda seen: model.predict(seen, deterministic=True)[0]


def train(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a model, and measure what it has learned.

    Args:
        recipe: How it learns.
        seed: Draws its mazes, its weights and what it tries.
    """
    clock = Clock()
    clock.start()
    mazes = make_vec_env(MazeEnv, recipe.environments, seed=seed)
    model = PPO(
        "MultiInputPolicy",
        mazes,
        learning_rate=lambda left: recipe.learning_rate * left,
        n_steps=recipe.steps,
        batch_size=recipe.batch,
        n_epochs=recipe.epochs,
        gamma=1.0,
        policy_kwargs={"net_arch": [recipe.hidden] * 2, "activation_fn": nn.ReLU},
        seed=seed,
        device="cpu",
    )
    course = Course(recipe, clock)
    model.learn(recipe.rollouts * recipe.environments * recipe.steps, callback=course)
    course.measure()
    clock.stop()
    return {
        "seed": seed,
        "sampled": sampled(greedy(model), recipe.mazes),
        "exact": exact(greedy(model)),
        "cpu_seconds": clock.cpu,
        "wall_seconds": clock.wall,
        "curve": {"steps": course.steps, "return": course.returns},
    }


def measure(recipe: Recipe, seeds: Sequence[int], quick: bool) -> dict[str, Any]:
    """Train and measure everything.

    Args:
        recipe: How PPO learns.
        seeds: A run for each.
        quick: Whether the figures mean nothing.
    """
    machine = describe()
    optimum = MazeEnv().optimal_return()
    with threads(1):
        runs = [train(recipe, seed) for seed in seeds]
    for run in runs:
        run["of_optimum"] = run["exact"]["return"] / optimum
        run["short_of_optimum"] = optimum - run["exact"]["return"]
    agents = [{"agent": RANDOM, "sampled": sampled(at_random(HELD_OUT), recipe.mazes), "exact": None}]
    agents += [
        {"agent": name, "sampled": sampled(policy, recipe.mazes), "exact": exact(policy)}
        for name, policy in SIMPLE_AGENTS.items()
    ]
    return {
        "command": "python -m benchmarks.envs.maze"
        + (" --quick" if quick else " --output benchmarks/results/maze-learning.json"),
        "quick": quick,
        "machine": machine,
        "packages": {name: metadata.version(name) for name in ("gymnasium", "stable-baselines3")},
        "recipe": asdict(recipe),
        "optimum": optimum,
        "runs": runs,
        "others": agents,
        "load_average_after": describe()["load_average"],
    }


def report(result: Mapping[str, Any]) -> str:
    """The figures in a table: what each agent reaches of the optimum.

    Args:
        result: What :func:`measure` found.
    """
    optimum, recipe = result["optimum"], result["recipe"]
    rows = [{"agent": f"PPO, seed {run['seed']}", **run} for run in result["runs"]] + list(result["others"])
    steps = recipe["rollouts"] * recipe["environments"] * recipe["steps"]
    found = table(
        f"Return in a maze, the optimum being {optimum:.6f}; deterministic, after {steps:,} steps; "
        f"sampled: {recipe['mazes']:,} held-out mazes, exact: all mazes",
        ("agent", "exact", "of optimum", "short of it", "sampled", "+-", "out", "looks", "CPU s", "wall s"),
        ((row["agent"], *_cells(row, optimum)) for row in rows),
    )
    head = in_words(result["machine"]) + quick_remark(result, "\n")
    return "\n\n".join([head, found])


def _cells(row: Mapping[str, Any], optimum: float) -> tuple[str, ...]:
    known, drawn = row["exact"], row["sampled"]
    mean = known or drawn
    return (
        f"{known['return']:.6f}" if known else "-",
        f"{mean['return'] / optimum:.4f}",
        f"{max(0.0, optimum - mean['return']):.6f}",
        f"{drawn['return']:.4f}",
        f"{drawn['standard_error']:.4f}",
        f"{mean['success']:.1%}",
        f"{mean['looks']:.2f}",
        *(f"{row[name]:.0f}" if name in row else "-" for name in ("cpu_seconds", "wall_seconds")),
    )


def draw(result: Mapping[str, Any]) -> Image.Image:
    """Draw the curves, and the optimum above them.

    Args:
        result: What :func:`measure` found.
    """
    steps = result["runs"][0]["curve"]["steps"]
    curves = {f"PPO, seed {run['seed']}": run["curve"]["return"] for run in result["runs"]}
    curves["the best of agents"] = [result["optimum"]] * len(steps)
    return draw_learning_curves(
        [step / 1000 for step in steps], {"return in held-out mazes": curves}, measured_in="thousand steps"
    )


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures and the chart to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.envs.maze", __doc__)
    options = options_of(args, parser)
    result = measure(QUICK if options.quick else Recipe(), SEEDS[:1] if options.quick else SEEDS, options.quick)
    hand_back(report(result), result, options.output)
    if options.output:
        draw(result).save(options.output.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
