"""Two processes that share each batch against one: images per second, and whether they learn the same.

``python -m benchmarks.training.processes [--quick] [--output FILE]`` trains the recipe ``digits-soft``
with ``--trainer.devices 1`` and ``2``, each once for an epoch and once for several. The CPU time of an image is the
difference of the two runs over their images, so that start-up doesn't count. With ``--output`` the learning curves are
drawn beside the file.

Both sides differ by rounding, which every step magnifies. Soft attention is continuous in it; a hard model's crop lies
on whole pixels, so that its curves part after some hundred steps.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import REPOSITORY, describe, settle_threads
from benchmarks.harness.reports import hand_back, heading, table

RECIPE = "digits-soft"
SIDES = {"one process": 1, "two processes": 2}
EPOCHS, PASSES = 5, 10
QUICK_EPOCHS, QUICK_PASSES = 2, 1
CURVES = {"train_loss": "training loss", "val_error": "validation error"}


def arguments_of(devices: int, epochs: int, passes: int, output: str) -> list[str]:
    """What follows ``glimpse train``.

    Args:
        devices: Processes.
        epochs: Of the training.
        passes: How often each image comes in an epoch.
        output: The run's folder.
    """
    options = {"config": RECIPE, "data.passes": passes, "trainer.max_epochs": epochs, "trainer.precision": "32-true"}
    options |= {"trainer.accelerator": "cpu", "trainer.devices": devices, "output": output}
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def train_to_the_end(arguments: Sequence[str], workplace: Path) -> float:
    """Train as a user would, and measure the CPU time of all processes, seconds.

    Args:
        arguments: What follows ``glimpse train``.
        workplace: Where it runs.

    Raises:
        RuntimeError: When it fails; the error holds what it printed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    training = subprocess.run(
        [sys.executable, "-m", "glimpse", "train", *arguments],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if training.returncode:
        raise RuntimeError(f"glimpse train {' '.join(arguments)}: status {training.returncode}\n{training.stdout}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(epochs: int, passes: int, workplace: Path) -> dict[str, Any]:
    """Train with one and with two processes.

    Args:
        epochs: Of the longer training.
        passes: How often each image comes in an epoch.
        workplace: An empty folder.
    """
    from glimpse.training.callbacks import LAST_FILE, METRICS_FILE, read_metrics
    from glimpse.training.checkpoint import read_checkpoint

    machine = describe()
    spent = {
        (side, length): train_to_the_end(arguments_of(devices, length, passes, f"{devices}-{length}"), workplace)
        for length in (1, epochs)
        for side, devices in SIDES.items()
    }
    rows: list[dict[str, Any]] = []
    last: dict[str, Any] = {}
    first = [read_checkpoint(workplace / f"{devices}-1" / LAST_FILE)["state_dict"] for devices in SIDES.values()]
    for side, devices in SIDES.items():
        folder = workplace / f"{devices}-{epochs}"
        log = read_metrics(folder / METRICS_FILE)
        last[side] = read_checkpoint(folder / LAST_FILE)
        steps = last[side]["global_step"] // epochs
        images = steps * last[side]["datamodule_hyper_parameters"]["batch_size"]
        rows.append(
            {
                "side": side,
                "images_an_epoch": images,
                "images_per_second": images / statistics.median(row["seconds"] for row in log[1:]),
                "images_per_cpu_second": images * (epochs - 1) / (spent[side, epochs] - spent[side, 1]),
                "curves": {name: [row[name] for row in log] for name in CURVES},
            }
        )
    weights = [checkpoint["state_dict"] for checkpoint in last.values()]
    return {
        "command": f"glimpse train {' '.join(arguments_of(2, epochs, passes, 'run'))}",
        "machine": machine,
        "load_average_after": describe()["load_average"],
        "sides": rows,
        "times_faster": rows[1]["images_per_second"] / rows[0]["images_per_second"],
        "times_faster_per_cpu_second": rows[1]["images_per_cpu_second"] / rows[0]["images_per_cpu_second"],
        "largest_difference_of_a_weight": {"first epoch": _largest(first), "last epoch": _largest(weights)},
    }


def _largest(pair: Sequence[Mapping[str, Any]]) -> float:
    """The largest difference between two models' numbers of one name."""
    return max(float((pair[0][name] - pair[1][name]).abs().max()) for name in pair[0])


def report(result: dict[str, Any]) -> str:
    """The figures in tables.

    Args:
        result: What :func:`measure` returned, and ``quick``.
    """
    speeds = [
        (row["side"], f"{row['images_per_second']:,.0f}", f"{row['images_per_cpu_second']:,.0f}")
        for row in result["sides"]
    ]
    speeds.append(("ratio", f"{result['times_faster']:.2f}", f"{result['times_faster_per_cpu_second']:.2f}"))
    curves = [
        (f"{title}, {row['side']}", *(f"{value:.4f}" for value in row["curves"][name]))
        for name, title in CURVES.items()
        for row in result["sides"]
    ]
    epochs = range(1, len(curves[0]))
    return "\n\n".join(
        [
            heading(result, f"{result['sides'][0]['images_an_epoch']:,} images an epoch"),
            table("speed", ("", "images/s", "images/CPU-s"), speeds),
            table("epoch by epoch", ("", *map(str, epochs)), curves),
            "largest difference of a weight after "
            + ", ".join(f"the {when}: {found:.2g}" for when, found in result["largest_difference_of_a_weight"].items()),
        ]
    )


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw both sides' curves over one another.

    Args:
        result: What :func:`measure` returned.
        file: The picture.
    """
    from glimpse.drawing.album import save_picture
    from glimpse.drawing.charts import draw_learning_curves

    panels = {title: {row["side"]: row["curves"][name] for row in result["sides"]} for name, title in CURVES.items()}
    epochs = range(1, len(result["sides"][0]["curves"]["train_loss"]) + 1)
    save_picture(draw_learning_curves(list(epochs), panels), file)


def main(args: Sequence[str]) -> int:
    """Train, print the tables, and write figures and curves to ``--output`` and beside it.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.training.processes", __doc__)
    options = options_of(args, parser)
    settle_threads()
    with tempfile.TemporaryDirectory() as folder:
        sizes = (QUICK_EPOCHS, QUICK_PASSES) if options.quick else (EPOCHS, PASSES)
        result = measure(*sizes, Path(folder))
    result["quick"] = options.quick
    hand_back(report(result), result, options.output)
    if options.output:
        draw(result, options.output.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
