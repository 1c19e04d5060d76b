"""One run of a recipe that was fixed beforehand, and the test error of its last model.

``python -m benchmarks.learning.learning RECIPE [--seed N]`` runs ``glimpse train`` as a user would and writes
``RECIPE-seedN.json``, ``.log`` and ``.yaml`` (the resolved recipe) into ``benchmarks/results``.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.command_line import command_parser
from benchmarks.harness.glimpse_process import run_glimpse
from benchmarks.harness.machine import REPOSITORY, describe, in_words, settle_threads

RESULTS = REPOSITORY / "benchmarks" / "results"
DATA_VARIABLE = "GLIMPSE_DATA"


class Run(NamedTuple):
    """A training run that has ended."""

    status: int
    """Exit status of the command."""
    folder: Path
    """Where the run's files lie."""
    log: str
    """What the command printed, without any path of this machine."""
    wall_seconds: float
    """From the command's start to its end, on the wall clock."""
    cpu_seconds: float
    """Of the command and whatever it started, user and system."""


def train(recipe: str, seed: int, workplace: Path) -> Run:
    """Run this checkout's ``glimpse train`` in a folder of its own, showing what it prints.

    Args:
        recipe: A recipe's name, or the path of a YAML file.
        seed: Fixes the run.
        workplace: An empty folder.
    """
    file = Path(recipe)
    named = str(file.resolve()) if file.is_file() else recipe
    data = Path(os.environ.get(DATA_VARIABLE) or "data").expanduser().resolve()
    arguments = ("train", "--config", named, "--seed", str(seed))
    environment = {**os.environ, DATA_VARIABLE: str(data)}
    ended = run_glimpse(arguments, workplace, environment, {str(data): f"${DATA_VARIABLE}"})
    return Run(ended.status, workplace / "runs" / file.stem, ended.log, ended.wall_seconds, ended.cpu_seconds)


def figures(run: Run) -> dict[str, Any]:
    """Evaluate the last model of a run on the test images, and count the images that it was trained on.

    Args:
        run: A run that went well.
    """
    from glimpse.cli.evaluate import evaluate_checkpoint
    from glimpse.training.callbacks import LAST_FILE, METRICS_FILE, read_metrics
    from glimpse.training.checkpoint import load_training, read_checkpoint

    last = run.folder / LAST_FILE
    evaluation = asdict(evaluate_checkpoint(last, "test"))
    _, data = load_training(last)
    images = int(read_checkpoint(last)["global_step"]) * min(data.batch_size, len(data.source.train) * data.passes)
    epochs = [
        {"epoch": int(row["epoch"]), "seconds": row["seconds"], "validation_error": row["val_error"]}
        for row in read_metrics(run.folder / METRICS_FILE)
    ]
    return {
        "test_error": evaluation.pop("error"),
        "test_errors_after_each_glimpse": evaluation.pop("errors"),
        "wall_seconds": round(run.wall_seconds, 1),
        "cpu_seconds": round(run.cpu_seconds, 1),
        "images_seen": images,
        "data": data.describe(),
        **evaluation,
        "epochs": epochs,
    }


def report(result: dict[str, Any]) -> str:
    """The figures of a run in a few lines.

    Args:
        result: What :func:`main` writes.
    """
    errors = result["test_errors_after_each_glimpse"]
    others = ", ".join(f"{kind} {errors[kind][-1]:.2%}" for kind in errors if kind != "own")
    return "\n".join(
        [
            in_words(result["machine"]),
            f"{result['command']}: {result['wall_seconds'] / 60:.1f} minutes, {result['cpu_seconds']:,.0f} "
            f"CPU-seconds, {result['images_seen']:,} images seen",
            f"test error of the last model {result['test_error']:.2%} on {result['images']:,} images"
            + (f"; the same weights {others}" if others else ""),
            f"after each glimpse {', '.join(f'{error:.2%}' for error in errors['own'])}",
            f"{result['pixels_sensed']:,} pixels sensed of {result['pixels_of_image']:,}, "
            f"{result['multiply_accumulates']:,} multiply-accumulates, {result['parameters']:,} parameters",
        ]
    )


def main(args: Sequence[str]) -> int:
    """Train, evaluate, and write what came of it.

    Args:
        args: The command line.

    Returns:
        The exit status: that of the training when it failed; nothing is written then.
    """
    parser = command_parser("benchmarks.learning.learning", __doc__)
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name, or a YAML file")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="fixes the run (default: 0)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="where to write (default: benchmarks/results)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="where the run's folder goes; it is dropped if left out"
    )
    options = parser.parse_args(args)
    settle_threads()
    name = Path(options.recipe).stem
    command = f"glimpse train --config {name} --seed {options.seed}"
    print(f"$ {command}", flush=True)
    machine = describe()
    with tempfile.TemporaryDirectory() as workplace:
        run = train(options.recipe, options.seed, Path(workplace))
        if run.status:
            print(f"{command}: it failed with status {run.status}; nothing is written", file=sys.stderr)
            return run.status
        result = {
            "command": command,
            "recipe": name,
            "seed": options.seed,
            "machine": machine,
            "load_average_after": describe()["load_average"],
            **figures(run),
        }
        resolved = (run.folder / "config.yaml").read_text(encoding="utf-8")
        if options.keep:
            shutil.copytree(run.folder, options.keep / f"{name}-seed{options.seed}", dirs_exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)
    for suffix, text in (
        (".json", json.dumps(result, indent=2) + "\n"),
        (".log", f"$ {command}\n{run.log}"),
        (".yaml", resolved),
    ):
        (options.results / f"{name}-seed{options.seed}{suffix}").write_text(text, encoding="utf-8")
    print(f"\n{report(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
