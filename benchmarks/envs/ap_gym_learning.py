"""Policy gradient on tasks of ap_gym, where a published study reports it far behind: our learner, their environments.

``python -m benchmarks.envs.ap_gym_learning [--quick] [--output FILE]``. Needs ap_gym, which the extra ``bench`` brings;
the MNIST task looks for its images where ``GLIMPSE_DATA`` says. The curves are drawn beside FILE.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import Clock, describe, in_words, settle_threads, threads
from benchmarks.harness.reports import quick_remark, table

settle_threads()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.envs.ap_gym_agents import Played, anywhere, learner, measure, nowhere, play  # noqa: E402
from benchmarks.envs.ap_gym_tasks import PUBLISHED, SOURCE, TASKS, Task, environment  # noqa: E402
from glimpse.data.held_out import generator_for  # noqa: E402
from glimpse.drawing.charts import draw_learning_curves  # noqa: E402
from glimpse.models.hard import HardAttention  # noqa: E402
from glimpse.rollout import mode_of, sample_from  # noqa: E402
from glimpse.training.objectives import classification_loss, policy_loss, returns_of  # noqa: E402

EXPLORATION, OTHER_ACTIONS = 1, 2
"""Places of the random streams among those of one seed."""
VALIDATION, HELD_OUT = 1000, 2000
"""What is added to a seed for episodes other than those of the training."""

TEMPERATURE = 1.0
"""Of the policy while it learns; measured is its mode."""


@dataclass(frozen=True)
class Recipe:
    """How one task is learned, and how its result is measured.

    Attributes:
        updates: Steps of the optimiser, each on one episode of every sub-environment.
        batch: Sub-environments.
        hidden: Length of the encodings and of the outputs of the two cores.
        discount: Factor for rewards further away.
        policy_weight: Weight of the policy's loss.
        entropy_weight: Weight of the policy's entropy, which is rewarded.
        learning_rate: Peak of the one-cycle schedule.
        warm_up: Share of the training in which the rate rises.
        weight_decay: Of AdamW.
        clip: Norm to which the gradient is clipped.
        points: Places of the curve.
        episodes: At each of them, and under random actions and without moving.
        final_episodes: For the figures of the last model.
    """

    updates: int
    batch: int = 128
    hidden: int = 64
    discount: float = 0.95
    policy_weight: float = 1.0
    entropy_weight: float = 0.02
    learning_rate: float = 3e-3
    warm_up: float = 0.15
    weight_decay: float = 0.01
    clip: float = 5.0
    points: int = 10
    episodes: int = 1024
    final_episodes: int = 10240


@dataclass(frozen=True)
class Study:
    """What is learned, and how.

    Attributes:
        task: One of ``TASKS``.
        recipe: How.
        seeds: One run each.
    """

    task: str
    recipe: Recipe
    seeds: tuple[int, ...] = (0, 1, 2)


STUDIES: tuple[Study, ...] = (
    Study("CircleSquare", Recipe(updates=500)),
    Study("MNIST", Recipe(updates=600, hidden=128)),
)
QUICK: dict[str, Any] = {
    "updates": 2,
    "batch": 8,
    "hidden": 8,
    "points": 2,
    "episodes": 8,
    "final_episodes": 16,
}
OWN, RANDOM, STILL = "policy gradient", "its weights, random moves", "its weights, no move"


def objective(played: Played, recipe: Recipe) -> Tensor:
    """Cross-entropy after every glimpse, policy gradient with a learned baseline, its error, and an entropy bonus.

    Args:
        played: An episode with sampled actions.
        recipe: Weights and discount.

    Raises:
        ValueError: When the trace has no learned baseline.
    """
    trace = played.trace
    if trace.value is None:
        raise ValueError("expected the trace of a model with a location policy and its baseline, got one without")
    chosen = returns_of(played.earned, recipe.discount)[:, 1:]
    expected = trace.value[:, :-1]
    advantages = chosen - expected.detach()
    advantages = advantages / advantages.square().mean().sqrt().clamp_min(1e-8)
    return (
        classification_loss(trace.logits, played.labels)
        + recipe.policy_weight * policy_loss(trace.log_prob[:, 1:], advantages)
        + (expected - chosen).square().sum(1).mean()
        - recipe.entropy_weight * trace.entropy[:, 1:].sum(1).mean()
    )


def train(task: Task, recipe: Recipe, seed: int) -> tuple[HardAttention, list[dict[str, float]], Clock]:
    """Learn a task.

    Args:
        task: The task.
        recipe: How.
        seed: Fixes the weights, the episodes and the exploration.

    Returns:
        The last model, its curve on the validation images, and the time spent learning, without that of the curve.
    """
    env = environment(task, task.fitting, recipe.batch, seed)
    model = learner(task, recipe.hidden, seed)
    optimiser = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.updates, pct_start=recipe.warm_up
    )
    generator = generator_for("cpu", seed, EXPLORATION)
    curve, clock = [], Clock()
    for update in range(1, recipe.updates + 1):
        clock.start()
        played = play(model, env, sample_from(model.policy, TEMPERATURE, generator))
        optimiser.zero_grad()
        objective(played, recipe).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        schedule.step()
        clock.stop()
        if update * recipe.points // recipe.updates > (update - 1) * recipe.points // recipe.updates:
            fresh = environment(task, task.validation, recipe.batch, seed + VALIDATION)
            point = measure(model, fresh, recipe.episodes, mode_of(model.policy))
            steps = update * recipe.batch * env.config.step_limit
            curve.append({"env_steps": steps, "cpu_seconds": round(clock.cpu, 1)} | point)
            print(
                f"{task.name}, seed {seed}: {steps:,} steps, {clock.cpu:.0f} s of CPU, validation {point['final']:.2%} "
                f"at the end, {point['mean']:.2%} over all steps, return {point['return']:.3f}",
                flush=True,
            )
    return model, curve, clock


def run(task: Task, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Learn a task, and measure the last model on what was held out: once its own way, and twice led astray.

    Args:
        task: The task.
        recipe: How.
        seed: Fixes everything.
    """
    model, curve, clock = train(task, recipe, seed)
    astray = generator_for("cpu", seed, OTHER_ACTIONS)
    ways = {
        OWN: (mode_of(model.policy), "place", recipe.final_episodes),
        RANDOM: (anywhere(recipe.batch, astray), "move", recipe.episodes),
        STILL: (nowhere, "move", recipe.episodes),
    }
    found = {
        way: measure(model, environment(task, task.held_out, recipe.batch, seed + HELD_OUT), episodes, choose, aim)
        for way, (choose, aim, episodes) in ways.items()
    }
    print(f"{task.name}, seed {seed}: held out {found[OWN]['final']:.2%} at the end", flush=True)
    return {
        "seed": seed,
        "env_steps": curve[-1]["env_steps"],
        "cpu_seconds": clock.cpu,
        "wall_seconds": clock.wall,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "held_out": found,
        "curve": curve,
    }


def carry_out(studies: Sequence[Study], quick: bool) -> Iterator[dict[str, Any]]:
    """Carry out studies, one after another, on one thread, and say after each of them what was found so far.

    Args:
        studies: What to learn.
        quick: Whether the figures mean nothing.
    """
    result: dict[str, Any] = {
        "command": "python -m benchmarks.envs.ap_gym_learning" + " --quick" * quick,
        "quick": quick,
        "machine": describe() | {"ap_gym": metadata.version("ap_gym")},
        "studies": [],
        "published": {name: [figure._asdict() for figure in figures] for name, figures in PUBLISHED.items()},
        "source": SOURCE,
    }
    for study in studies:
        task = TASKS[study.task]()
        print(f"{study.task}: {json.dumps(asdict(study.recipe))}", flush=True)
        with threads(1):
            runs = [run(task, study.recipe, seed) for seed in study.seeds]
        result["studies"].append(asdict(study) | {"held_out_means": task.note, "runs": runs})
        yield result | {"load_average_after": describe()["load_average"]}


def spread_of(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Mean and range, in words."""
    mean = form(sum(values) / len(values))
    return f"{mean} ({form(min(values))} to {form(max(values))})" if len(values) > 1 else mean


def report(result: Mapping[str, Any]) -> str:
    """A table for each study, with what is published of its task.

    Args:
        result: What :func:`carry_out` found.
    """
    tables = [in_words(result["machine"]) + quick_remark(result, "\n")]
    for study in result["studies"]:
        rows = []
        for way in (OWN, RANDOM, STILL):
            found = [each["held_out"][way] for each in study["runs"]]
            effort = [
                spread_of([each[key] for each in study["runs"]], "{:,.0f}".format) if way == OWN else ""
                for key in ("cpu_seconds", "wall_seconds")
            ]
            rows.append(
                (
                    way,
                    *(spread_of([each[key] for each in found], "{:.1%}".format) for key in ("final", "mean")),
                    spread_of([each["return"] for each in found], "{:.2f}".format),
                    f"{study['runs'][0]['env_steps']:,}",
                    *effort,
                )
            )
        rows += [
            (
                figure["method"] + " *",
                f"{figure['final']:.1%} +- {figure['final_std']:.1%}",
                f"{figure['mean']:.1%} +- {figure['mean_std']:.1%}",
                "",
                f"{figure['env_steps']:,}",
                "",
                "",
            )
            for figure in result["published"].get(study["task"], ())
        ]
        heads = ("", "right at the end", "right, mean of steps", "return", "env steps", "CPU s", "wall s")
        tables.append(table(f"{study['task']}, seeds {study['seeds']}: {study['held_out_means']}", heads, rows))
    return "\n\n".join([*tables, f"* {result['source']}"])


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the curves of all studies, a panel each, a line for each seed.

    Args:
        result: What :func:`carry_out` found.
        path: The picture to write.
    """
    curves = [each["curve"] for study in result["studies"] for each in study["runs"]]
    steps = sorted({point["env_steps"] for curve in curves for point in curve})
    panels = {}
    for study in result["studies"]:
        lines = {}
        for each in study["runs"]:
            known = {point["env_steps"]: 100 * point["final"] for point in each["curve"]}
            lines[f"seed {each['seed']}"] = [known.get(step, math.nan) for step in steps]
        panels[f"{study['task']}: right at the end (%)"] = lines
    draw_learning_curves([step / 1000 for step in steps], panels, "thousands of environment steps").save(path)


def main(args: Sequence[str]) -> int:
    """Train, print the tables, and write the figures and their chart to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.envs.ap_gym_learning", __doc__)
    options = options_of(args, parser)
    studies = STUDIES
    if options.quick:
        studies = tuple(replace(study, recipe=replace(study.recipe, **QUICK)) for study in studies)
    for result in carry_out(studies, options.quick):
        if options.output:
            options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            draw(result, options.output.with_suffix(".png"))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
