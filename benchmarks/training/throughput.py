"""Speed of training and of the crop, as ratios first.

``python -m benchmarks.training.throughput [--quick] [--output FILE]``.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, settle_threads
from benchmarks.harness.reports import hand_back, heading, table

CROPS = ((128, 28, 8, 1), (128, 60, 12, 3))
"""Images, their side, the glimpse's side, and its scales."""
SIDES = (64, 256, 1024, 4096)


@dataclass(frozen=True)
class Effort:
    """How long all this may take.

    Attributes:
        repetitions: Samples of each bare step.
        seconds: CPU time of a sample.
        epochs: Epochs of each training run.
        steps: Batches in an epoch, 0 for all there are.
        recipe_steps: The same for the recipes as they are shipped.
        timed_steps: Steps that are timed stage by stage.
    """

    repetitions: int
    seconds: float
    epochs: int
    steps: int
    recipe_steps: int
    timed_steps: int


def training(effort: Effort) -> dict[str, Any]:
    """Measure the bare steps, the trainer beside them, and the stages.

    Args:
        effort: How long it may take.
    """
    from benchmarks.training.stages import stages
    from benchmarks.training.steps import (
        PAPER_MODEL,
        available_dataset,
        bare_steps,
        paper_setup,
        recipe_setup,
        trainer_beside_bare,
    )

    dataset, cores = available_dataset(), os.cpu_count() or 1
    bare = [
        paper_setup(f"{precision}, batch {batch}", dataset, batch, precision)
        for batch in (128, 512)
        for precision in ("32-true", "bf16-mixed")
    ]
    recipes = [recipe_setup(name, dataset) for name in ("mnist-28", "cluttered-60-8")]
    jittered = paper_setup("bf16-mixed, batch 128, jittered images", dataset, 128, "bf16-mixed", jitter=2)
    trained = [
        *((setup, 1, effort.steps) for setup in (bare[0], bare[1], jittered)),
        (bare[0], cores, effort.steps),
        *((setup, 1, effort.recipe_steps) for setup in recipes),
    ]
    return {
        "data": dataset,
        "model": PAPER_MODEL,
        "effort": asdict(effort),
        "bare": [row for count in (1, cores) for row in bare_steps(bare, count, effort.repetitions, effort.seconds)],
        "trainer": [trainer_beside_bare(setup, count, effort.epochs, steps) for setup, count, steps in trained],
        "stages": [stages(setup, effort.timed_steps) for setup in recipes],
    }


def measure(quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    from benchmarks.training.crops import crops, one_glimpse

    before = describe()
    effort = (
        Effort(repetitions=2, seconds=0.01, epochs=1, steps=3, recipe_steps=2, timed_steps=2)
        if quick
        else Effort(repetitions=7, seconds=1.0, epochs=4, steps=0, recipe_steps=60, timed_steps=60)
    )
    samples = (2, 0.001) if quick else (15, 0.1)
    return {
        "quick": quick,
        "machine": before,
        "training": training(effort),
        "crop": [crops(*shape, *samples) for shape in CROPS],
        "glimpse": one_glimpse(SIDES, 12, 3, *samples),
        "load_average_after": describe()["load_average"],
    }


def report(result: dict[str, Any]) -> str:
    """The figures in tables, ratios first.

    Args:
        result: What :func:`measure` found.
    """
    training = result["training"]
    sections = [
        heading(result, f"data: {training['data']}"),
        table(
            "The whole trainer against the bare step of the same recipe (1.00: the trainer costs nothing)",
            ("recipe", "threads", "CPU", "wall", "images/CPU-s", "images/s", "bare/CPU-s", "bare/s"),
            (
                (
                    row["setup"],
                    row["threads"],
                    f"{row['of_bare']:.3f}",
                    f"{row['of_bare_wall']:.3f}",
                    *(f"{rate:,.0f}" for side in ("trainer", "bare") for rate in row[side].values()),
                )
                for row in training["trainer"]
            ),
        ),
        table(
            "The bare step against its float32 at batch 128 (images in the same time)",
            ("recipe", "threads", "CPU", "wall", "images/CPU-s", "images/s"),
            (
                (
                    row["setup"],
                    row["threads"],
                    f"{row['times_first']:.2f}",
                    f"{row['times_first_wall']:.2f}",
                    f"{row['images_per_cpu_second']:,.0f}",
                    f"{row['images_per_second']:,.0f}",
                )
                for row in training["bare"]
            ),
        ),
        table(
            "Where a training step's CPU time goes, one thread",
            ("recipe", *training["stages"][0]["shares"], "ms/step"),
            (
                (
                    row["setup"],
                    *(f"{share:.1%}" for share in row["shares"].values()),
                    f"{row['cpu_milliseconds_a_step']:.1f}",
                )
                for row in training["stages"]
            ),
        ),
        *(
            table(
                f"Cutting {crop['batch']} glimpses of {crop['size']}x{crop['size']} at {crop['scales']} scales out of "
                f"{crop['image']}x{crop['image']} images (time, times ours), one thread",
                ("way", "CPU", "wall", "CPU us", "wall us"),
                (
                    (
                        row["way"],
                        f"{row['times_ours']:.2f}",
                        f"{row['times_ours_wall']:.2f}",
                        f"{row['cpu_microseconds']:,.0f}",
                        f"{row['wall_microseconds']:,.0f}",
                    )
                    for row in crop["ways"]
                ),
            )
            for crop in result["crop"]
        ),
        table(
            "One glimpse of 12x12 at 3 scales out of one image (time, times that of the smallest), one thread",
            ("image", "CPU", "wall", "CPU us", "wall us"),
            (
                (
                    f"{row['image']}x{row['image']}",
                    f"{row['times_smallest']:.3f}",
                    f"{row['times_smallest_wall']:.3f}",
                    f"{row['cpu_microseconds']:.1f}",
                    f"{row['wall_microseconds']:.1f}",
                )
                for row in result["glimpse"]
            ),
        ),
    ]
    return "\n\n".join(sections)


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.training.throughput", __doc__)
    options = options_of(args, parser)
    settle_threads()
    result = measure(options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
