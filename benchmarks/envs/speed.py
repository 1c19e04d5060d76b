"""How fast the environments step: ``python -m benchmarks.envs.speed [--quick] [--output FILE]``.

Both sides of every ratio are measured in turn within one run. Resets are included: every episode ends by its budget.
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, interleave, settle_threads, threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from gymnasium.vector import AutoresetMode  # noqa: E402

from glimpse.data.datasets import DataError  # noqa: E402
from glimpse_envs.classification.actions import ACTION_MODES  # noqa: E402
from glimpse_envs.classification.scenes import FixedScenes  # noqa: E402
from glimpse_envs.classification.task import Task  # noqa: E402
from glimpse_envs.classification.tensor import TensorEnv  # noqa: E402

ID = "Glimpse/ClutteredMNIST-v0"
COUNTS = (64, 1024)
ACTIONS = 24
"""Different actions that are gone round."""
TARGETS = {"sync-64": 30, "sync-1024": 45, "ap_gym-64": 35, "ap_gym_long-64": 35}
CANVAS: dict[str, Any] = {"canvas_height": 60, "canvas_width": 60, "num_pieces": 4}
BUDGET, LONG_BUDGET = 6, 16
"""Glimpses in an episode: those of the id, and those that ap_gym's environments have."""
MODE = "joint"
"""The mode of the comparisons: a location and a class at every glimpse of a fixed budget, as in ap_gym."""


def available_dataset() -> str:
    """``mnist`` where it is found, else the embedded ``digits``."""
    try:
        Task(dataset="mnist").scenes()
    except DataError:
        return "digits"
    return "mnist"


def gone_round(step: Callable[[Any], Any], actions: Sequence[Any]) -> Callable[[], Any]:
    """A step with the next action, again and again."""
    following = itertools.cycle(actions)
    return lambda: step(next(following))


def vector(count: int, dataset: str, **options: Any) -> Callable[[], Any]:
    """Our vector environment.

    Args:
        count: How many environments.
        dataset: Name of the data set.
        options: Further arguments of the environment.
    """
    envs = gymnasium.make_vec(ID, num_envs=count, dataset=dataset, **({"action_mode": MODE} | options))
    return ready(envs)


def synchronous(count: int, dataset: str) -> Callable[[], Any]:
    """Gymnasium's SyncVectorEnv over our single environment, with the same autoreset."""
    envs = gymnasium.make_vec(
        ID,
        num_envs=count,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        dataset=dataset,
        split="test",
        action_mode=MODE,
    )
    return ready(envs)


def ready(envs: Any) -> Callable[[], Any]:
    """A vector environment's step, after a reset."""
    envs.action_space.seed(0)
    envs.reset(seed=0)
    return gone_round(envs.step, [envs.action_space.sample() for _ in range(ACTIONS)])


def single(dataset: str) -> Callable[[], Any]:
    """Our single environment, as ``gymnasium.make`` gives it, with a reset after each episode."""
    env = gymnasium.make(ID, dataset=dataset, split="test", action_mode=MODE)
    env.action_space.seed(0)
    env.reset(seed=0)

    def step(action: Any) -> None:
        if env.step(action)[2]:
            env.reset()

    return gone_round(step, [env.action_space.sample() for _ in range(ACTIONS)])


def tensors(count: int, dataset: str) -> Callable[[], Any]:
    """The bare tensor form, tensors in and out."""
    task = Task(dataset=dataset, split="test", action_mode=MODE, num_glimpses=BUDGET, **CANVAS)
    core = task.core()
    envs = TensorEnv(core, count)
    space = gymnasium.vector.utils.batch_space(core.actions.space, count)
    space.seed(0)
    envs.reset()
    return gone_round(envs.step, [torch.from_numpy(space.sample()) for _ in range(ACTIONS)])


def ap_gym(count: int, dataset: str, budget: int) -> Callable[[], Any]:
    """ap_gym's image classification over the same arrays, as it is, with one window of 12x12.

    Args:
        count: How many environments.
        dataset: Name of the data set.
        budget: Glimpses in an episode; its own environments have 16.
    """
    from ap_gym.envs.image import ImageClassificationDataset, ImagePerceptionConfig
    from ap_gym.envs.image_classification import ImageClassificationVectorEnv

    scenes = Task(dataset=dataset, split="test", **CANVAS).scenes()
    assert isinstance(scenes, FixedScenes)
    places = torch.arange(len(scenes))
    images = scenes.images(places).permute(0, 2, 3, 1).numpy().astype(np.float32) / 255
    labels = scenes.fetch(places, torch.Generator()).labels[:, 0].tolist()

    class Arrays(ImageClassificationDataset):  # type: ignore[misc]
        """The same images, as ap_gym wants them."""

        def _get_num_classes(self) -> int:
            return len(scenes.classes)

        def _get_num_channels(self) -> int:
            return 1

        def _get_length(self) -> int:
            return len(labels)

        def _get_data_point(self, idx: int) -> tuple[np.ndarray, int]:
            return images[idx], labels[idx]

    config = ImagePerceptionConfig(dataset=Arrays(), sensor_size=(12, 12), step_limit=budget)
    envs = ImageClassificationVectorEnv(count, config)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = [
        {
            "action": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
            "prediction": rng.normal(size=(count, len(scenes.classes))).astype(np.float32),
        }
        for _ in range(ACTIONS)
    ]
    return gone_round(envs.step, actions)


def version_of(package: str) -> str | None:
    """The version of a package; None where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measure(quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    before, dataset = describe(), available_dataset()
    repetitions, seconds, counts = (2, 0.001, (4, 8)) if quick else (9, 0.5, COUNTS)
    few, many = counts
    sides: dict[str, tuple[int, Callable[[], Any]]] = {"single": (1, single(dataset))}
    for name, count in (("64", few), ("1024", many)):
        sides[f"vector-{name}"] = (count, vector(count, dataset, split="test"))
        sides[f"sync-{name}"] = (count, synchronous(count, dataset))
        sides[f"tensor-{name}"] = (count, tensors(count, dataset))
        sides[f"drawn-{name}"] = (count, vector(count, dataset, split="train"))
        for mode in ACTION_MODES:
            if mode != MODE:
                sides[f"{mode}-{name}"] = (count, vector(count, dataset, split="test", action_mode=mode))
    sides["long-64"] = (few, vector(few, dataset, split="test", num_glimpses=LONG_BUDGET))
    version = version_of("ap_gym")
    if version is not None:
        sides["ap_gym-64"] = (few, ap_gym(few, dataset, BUDGET))
        sides["ap_gym_long-64"] = (few, ap_gym(few, dataset, LONG_BUDGET))
    with threads(1):
        samples = interleave({name: run for name, (_, run) in sides.items()}, repetitions, seconds)
    rates = {
        name: {clock: sides[name][0] / taken.median(clock) for clock in ("cpu", "wall")}
        for name, taken in samples.items()
    }
    ratios = {}
    for name in samples:
        base = "long-64" if name == "ap_gym_long-64" else f"vector-{name.rpartition('-')[2]}"
        if base in samples and name != base:
            same = sides[name][0] == sides[base][0]
            ratios[name] = samples[name].over(samples[base]) if same else None
    return {
        "quick": quick,
        "machine": before,
        "load_average_after": describe()["load_average"],
        "data": dataset,
        "images": len(Task(dataset=dataset, split="test").scenes()),
        "budgets": [BUDGET, LONG_BUDGET],
        "versions": {"gymnasium": version_of("gymnasium"), "ap_gym": version},
        "steps_per_second": rates,
        "times_slower_than_ours": ratios,
        "targets": TARGETS,
    }


NAMES = {
    "single": "one environment, gymnasium.make",
    "vector": "GlimpseVectorEnv",
    "sync": "SyncVectorEnv over single ones",
    "tensor": "the bare tensor form",
    "drawn": "canvases drawn anew",
    "declare": "declare mode, random: over after 1.1 glimpses",
    "box": "box mode",
    "location": "location mode",
    "ap_gym": "ap_gym, one 12x12 window",
    "long": "GlimpseVectorEnv, 16 glimpses",
    "ap_gym_long": "ap_gym, one 12x12 window, 16 glimpses, as ours",
}


def report(result: dict[str, Any]) -> str:
    """The figures in tables, ratios first.

    Args:
        result: What :func:`measure` found.
    """
    rates, ratios = result["steps_per_second"], result["times_slower_than_ours"]
    head = heading(
        result,
        f"{result['data']}, {result['images']} fixed 60x60 images, three 12x12 scales, "
        f"{result['budgets'][0]} glimpses where nothing else is stated",
    )
    found = [(name, ratio) for name, ratio in ratios.items() if name in TARGETS and ratio is not None]
    return "\n\n".join(
        [
            head,
            table(
                "Steps in the same CPU time: GlimpseVectorEnv against",
                ("", "environments", "times", "target"),
                [
                    (NAMES[name.rpartition("-")[0]], name.rpartition("-")[2], f"{ratio:.1f}", f"{TARGETS[name]}")
                    for name, ratio in found
                ],
            ),
            table(
                "Environment steps a second, resets included",
                ("", "environments", "CPU", "wall"),
                [
                    (
                        NAMES[name.partition("-")[0]],
                        name.partition("-")[2] or "1",
                        f"{rate['cpu']:,.0f}",
                        f"{rate['wall']:,.0f}",
                    )
                    for name, rate in rates.items()
                ],
            ),
        ]
    )


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.envs.speed", __doc__)
    options = options_of(args, parser)
    result = measure(options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
