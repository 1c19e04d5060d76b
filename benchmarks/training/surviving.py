"""Trainings that are killed at random moments and go on: do they end as one that nobody disturbed?

``python -m benchmarks.training.surviving [--seed N] [--quick] [--output FILE]`` trains once without a disturbance. Then
it trains again and again, kills the training with SIGKILL at moments that are uniform over the CPU time that a training
takes after its start-up, and goes on with ``glimpse train --resume``, until there have been 20 kills and the last run
is finished. After each kill every file of the run is read; at the end, weights, the optimiser's state and the log are
compared.
"""

import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, settle_threads
from benchmarks.harness.reports import hand_back, heading, table

TRAINING = (
    *("--config", "digits", "--data.passes", "1", "--data.batch_size", "100", "--model.hidden", "64"),
    *("--model.num_glimpses", "3", "--trainer.max_epochs", "8"),
)
PRELOADED = ("glimpse.cli.train.training_cli", "sklearn.datasets", "matplotlib.figure")
"""Modules that are imported once, in the process from which the trainings are forked."""
STARTED, FINISHED = "training on ", "is finished: "
KILLS, QUICK_KILLS = 20, 2
POLL = 0.02


class Life(NamedTuple):
    """A training from its start to its end, or to its death."""

    status: int
    cpu_seconds: float
    """From the end of its start-up on."""
    printed: str


def live(arguments: Sequence[str], workplace: Path, moment: float | None = None) -> Life:
    """Train, and kill the training at a moment.

    Args:
        arguments: What follows ``glimpse train``.
        workplace: Where it runs.
        moment: CPU seconds after its start-up; None to let it live.
    """
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(list(PRELOADED))
    log = workplace / "printed.log"
    log.write_text("", encoding="utf-8")
    training = forks.Process(target=train, args=(list(arguments), str(workplace), str(log)))
    training.start()
    assert training.pid is not None
    begin, now = None, 0.0
    while training.is_alive():
        now = cpu_seconds(training.pid) or now
        if begin is None and STARTED in log.read_text(encoding="utf-8"):
            begin = now
        if begin is not None and moment is not None and now - begin >= moment:
            training.kill()
        training.join(POLL)
    return Life(training.exitcode or 0, now - (begin or 0.0), log.read_text(encoding="utf-8"))


def train(arguments: Sequence[str], workplace: str, log: str) -> None:
    """Train, in a process forked for it: a new interpreter would take longer to start than this training takes.

    Args:
        arguments: What follows ``glimpse train``.
        workplace: Where it runs.
        log: Gets what it prints.
    """
    from glimpse.cli import app

    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(workplace)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(app.main(["train", *arguments]))


def cpu_seconds(process: int) -> float | None:
    """CPU time that a process has taken; None when it has ended."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if state == "Z" else (int(fields[10]) + int(fields[11])) / os.sysconf("SC_CLK_TCK")


def state_after_a_kill(run: Path) -> dict[str, Any]:
    """What a killed training has left behind; every file must be readable.

    Args:
        run: Its folder.
    """
    from PIL import Image

    from glimpse.cli.train.recipes import CONFIG_FILE, read_recipe
    from glimpse.training.callbacks import METRICS_FILE, read_metrics
    from glimpse.training.checkpoint import read_checkpoint

    for checkpoint in run.glob("*.ckpt"):
        read_checkpoint(checkpoint)
    for picture in run.glob("*.png"):
        with Image.open(picture) as opened:
            opened.load()
    if (run / CONFIG_FILE).exists():
        read_recipe(run / CONFIG_FILE)
    return {
        "epochs_in_the_log": len(read_metrics(run / METRICS_FILE)),
        "files": sorted(path.name for path in run.iterdir() if path.is_file()),
        "drafts": len(list(run.glob(".glimpse-*"))),
    }


def differences(run: Path, undisturbed: Path) -> dict[str, Any]:
    """Compare the ends of two runs.

    Args:
        run: Folder of one that was killed and went on.
        undisturbed: Folder of one that was not.

    Returns:
        Whether all weights, the optimiser's state, and the log's figures but for the time are the same.
    """
    import torch

    from glimpse.training.callbacks import LAST_FILE, METRICS_FILE, read_metrics
    from glimpse.training.checkpoint import read_checkpoint

    one, other = (read_checkpoint(folder / LAST_FILE) for folder in (run, undisturbed))
    weights = [(one["state_dict"][name], weight) for name, weight in other["state_dict"].items()]
    logs = [
        [{name: value for name, value in row.items() if name != "seconds" and value == value} for row in rows]
        for rows in (read_metrics(folder / METRICS_FILE) for folder in (run, undisturbed))
    ]
    return {
        "same_weights": all(torch.equal(mine, theirs) for mine, theirs in weights),
        "same_optimiser": same(one["optimizer_states"], other["optimizer_states"]),
        "same_log": logs[0] == logs[1],
    }


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal, tensors bit by bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def measure(kills: int, seed: int, workplace: Path) -> dict[str, Any]:
    """Train undisturbed, and then with kills.

    Args:
        kills: How many.
        seed: Of the moments.
        workplace: An empty folder.

    Raises:
        RuntimeError: When a training fails by itself.
    """
    machine = describe()
    undisturbed = live([*TRAINING, "--output", "undisturbed"], workplace)
    if undisturbed.status:
        raise RuntimeError(undisturbed.printed)
    moments = random.Random(seed)
    deaths: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    while len(deaths) < kills:
        run = workplace / f"run-{len(runs) + 1}"
        begin = [*TRAINING, "--output", str(run)]
        arguments, before = begin, len(deaths)
        while True:
            moment = moments.uniform(0, undisturbed.cpu_seconds) if len(deaths) < kills else None
            life = live(arguments, workplace, moment)
            if life.status != -signal.SIGKILL:
                break
            deaths.append({"run": len(runs) + 1, "cpu_seconds": round(life.cpu_seconds, 2), **state_after_a_kill(run)})
            print(f"kill {len(deaths)}: {deaths[-1]}", flush=True)
            arguments = ["--resume", str(run)] if "config.yaml" in deaths[-1]["files"] else begin
        if life.status and FINISHED not in life.printed:
            raise RuntimeError(life.printed)
        runs.append({"kills": len(deaths) - before, **differences(run, workplace / "undisturbed")})
        print(f"run {len(runs)}: {runs[-1]}", flush=True)
    return {
        "command": "glimpse train " + " ".join(TRAINING),
        "seed": seed,
        "machine": machine,
        "load_average_after": describe()["load_average"],
        "cpu_seconds_undisturbed": round(undisturbed.cpu_seconds, 2),
        "kills": deaths,
        "runs": runs,
    }


def report(result: dict[str, Any]) -> str:
    """The figures in tables.

    Args:
        result: What :func:`measure` returned, and ``quick``.
    """
    kills = [
        (
            number,
            death["run"],
            death["cpu_seconds"],
            death["epochs_in_the_log"],
            death["drafts"],
            ", ".join(name for name in death["files"] if name.endswith(".ckpt")),
        )
        for number, death in enumerate(result["kills"], 1)
    ]
    ends = [
        (number, run["kills"], run["same_weights"], run["same_optimiser"], run["same_log"])
        for number, run in enumerate(result["runs"], 1)
    ]
    return "\n\n".join(
        [
            heading(result, f"{result['command']}, {result['cpu_seconds_undisturbed']} CPU-seconds after the start-up"),
            table("kills", ("kill", "run", "after CPU-s", "epochs", "drafts", "checkpoints"), kills),
            table("against the undisturbed run", ("run", "kills", "weights", "optimiser", "log"), ends),
        ]
    )


def main(args: Sequence[str]) -> int:
    """Kill trainings, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.

    Returns:
        0 when every run ended as the undisturbed one, else 1.
    """
    parser = command_parser("benchmarks.training.surviving", __doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills; 0 if left out")
    options = options_of(args, parser)
    settle_threads()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(QUICK_KILLS if options.quick else KILLS, options.seed, Path(folder))
    result["quick"] = options.quick
    hand_back(report(result), result, options.output)
    return int(not all(run["same_weights"] and run["same_optimiser"] and run["same_log"] for run in result["runs"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
