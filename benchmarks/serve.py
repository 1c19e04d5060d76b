"""What a request costs our service, beside others: ``python benchmarks/serve.py [--model FILE | --checkpoint FILE]``.

Options as well: ``--litserve-python PATH`` (an interpreter that has LitServe, if this one has none), ``--root DIR``,
``--rounds N``, ``--output FILE``, ``--quick``. The same file of a model is served by ``glimpse serve``, by the bare session
behind FastAPI and by LitServe; each is asked by 1, 16 and 64 clients that keep their connections, with PNG images and
with tensors. The sides take turns within a round, the others standing still; every answer's class is checked.
"""

import argparse
import importlib.util
import io
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from machine import describe, in_words, settle_threads, versions_of
from reports import hand_back, options_of, table

settle_threads()

import json  # noqa: E402

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from PIL import Image  # noqa: E402

from glimpse.runtime import GlimpseSession  # noqa: E402
from glimpse_serve.shipped import HARD  # noqa: E402
from runtime_models import real_images, trained_model  # noqa: E402
from serve_load import Task, pack, task_text  # noqa: E402
from serve_sides import BARE, BATCHED, IMAGES, LITSERVE, OURS, TENSORS, Running, Side, sides_of  # noqa: E402

PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson", "litserve")
CLIENTS = (1, 16, 64)
NUM_IMAGES = 256
TARGETS = {
    "over_bare_alone": 1.3,
    "over_bare_under_load": 1.0,
    "over_litserve": 1 / 3,
    "ready_seconds": 1.5,
    "resident_megabytes": 150.0,
}
MISSING = "left out: LitServe, which is not installed here; pip install '.[bench]', or name an interpreter that has it"


class Subject:
    """A model, images for it, and what it says of them.

    Attributes:
        file: The model.
        card: What it says of itself.
        expected: The number of the class of each image.
        bodies: What is sent, by kind.

    Args:
        file: The model.
        canvases: uint8 (images, height, width, channels) of the model's size.
    """

    def __init__(self, file: Path, canvases: npt.NDArray[np.uint8]) -> None:
        session = GlimpseSession(file)
        self.file, self.card = file, session.card
        answers = [session.run(canvas[None]).probabilities[0, -1] for canvas in canvases]
        self.expected = tuple(int(beliefs.argmax()) for beliefs in answers)
        self.bodies = {
            IMAGES: [png(canvas) for canvas in canvases],
            TENSORS: [np.ascontiguousarray(canvas.transpose(2, 0, 1)).tobytes() for canvas in canvases],
        }

    def task(self, running: Running, kind: str, clients: int, seconds: float, folder: Path) -> Task:
        """What clients are to ask of a server.

        Args:
            running: The server.
            kind: Of what is sent.
            clients: How many.
            seconds: How long.
            folder: For the requests.
        """
        requests = [running.side.request(kind, body, self.card) for body in self.bodies[kind]]
        path = folder / "requests"
        path.write_bytes(pack(requests))
        form, warm_up = running.side.forms[kind], max(2, 64 // clients)
        return Task(
            port=running.port,
            requests=str(path),
            expected=self.expected,
            classes=self.card.classes,
            form=form,
            clients=clients,
            seconds=seconds,
            warm_up=warm_up,
            processes=tuple(running.processes),
        )


def png(canvas: npt.NDArray[np.uint8]) -> bytes:
    """An image as a PNG file.

    Args:
        canvas: uint8 (height, width, channels).
    """
    buffer = io.BytesIO()
    Image.fromarray(canvas[..., 0] if canvas.shape[2] == 1 else canvas).save(buffer, "PNG")
    return buffer.getvalue()


def canvases_for(side: int, channels: int, root: str | None) -> tuple[npt.NDArray[np.uint8], str]:
    """Different images of a model's size, and the data set that they are from.

    Args:
        side: Of the canvases, pixels.
        channels: The model's.
        root: Where MNIST lies; without it the embedded digits stand in.
    """
    images, dataset = real_images(side, NUM_IMAGES, root, pieces=4 if side >= 60 else 0)
    canvases = images.permute(0, 2, 3, 1).contiguous().numpy()
    return np.repeat(canvases, channels // canvases.shape[-1], axis=-1), dataset


def loaded(task: Task) -> dict[str, Any]:
    """Have clients do a task, in a process of their own.

    Args:
        task: The task.

    Returns:
        What :func:`serve_load.load` found; of the latencies the figures that are kept, milliseconds.

    Raises:
        RuntimeError: When they come to no end.
    """
    program = Path(__file__).with_name("serve_load.py")
    run = subprocess.run([sys.executable, program], input=task_text(task), capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the clients ended with status {run.returncode}: {run.stderr[-600:].strip()}")
    found: dict[str, Any] = json.loads(run.stdout)
    latencies = 1e3 * np.array(found.pop("latencies"))
    found["cpu_ms"] = 1e3 * found["cpu_seconds"] / found["requests"]
    found["client_cpu_ms"] = 1e3 * found["client_cpu_seconds"] / found["requests"]
    found["p50_ms"], found["p99_ms"] = (float(value) for value in np.percentile(latencies, (50, 99)))
    found["requests_per_second"] = found["requests"] / found["seconds"]
    return found


def measure_starts(sides: Sequence[Side], subject: Subject, times: int, folder: Path) -> dict[str, dict[str, float]]:
    """How soon each server is ready, seconds, by turns; the first start of each fills caches and does not count.

    Args:
        sides: The servers.
        subject: What they serve.
        times: How often each is started.
        folder: For what they say.
    """
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(times + 1):
        for side in sides:
            running = Running(side, subject.file, folder)
            running.stop()
            found[side.name].append(running.seconds_to_ready)
    return {name: spread(seconds[1:]) for name, seconds in found.items()}


def measure_load(
    sides: Sequence[Side], subject: Subject, rounds: int, seconds: float, folder: Path
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]], list[float]]:
    """What each server takes for a request, and of memory when all is done.

    Args:
        sides: The servers.
        subject: What they serve.
        rounds: How often each cell is measured.
        seconds: How long, each time.
        folder: For what they say.

    Returns:
        The cells; memory in MB; the load average before each round.
    """
    runs: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    loads: list[float] = []
    with ExitStack() as stack:
        everyone = []
        for side in sides:
            running = Running(side, subject.file, folder)
            stack.callback(running.stop)
            everyone.append(running)
        for turn in range(rounds):
            loads.append(round(describe()["load_average"][0], 2))
            order = everyone[turn % len(everyone) :] + everyone[: turn % len(everyone)]
            for kind in (IMAGES, TENSORS):
                for clients in CLIENTS:
                    for running in order:
                        with running.alone(everyone):
                            found = loaded(subject.task(running, kind, clients, seconds, folder))
                        cell = runs.setdefault((kind, clients), {side.name: [] for side in sides})
                        cell[running.side.name].append(found)
        held = {running.side.name: running.memory._asdict() for running in everyone}
    return [cell_of(kind, clients, cell) for (kind, clients), cell in runs.items()], held, loads


def cell_of(kind: str, clients: int, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What was found in one cell: medians over the rounds, with the range; ratios are of runs in one round.

    Args:
        kind: Of what was sent.
        clients: How many there were.
        runs: By side, one for each round.
    """
    kept = ("cpu_ms", "p50_ms", "p99_ms", "requests_per_second", "client_cpu_ms", "bytes_of_an_answer")
    rows = []
    for name, taken in runs.items():
        ratios = [ours["cpu_ms"] / theirs["cpu_ms"] for ours, theirs in zip(runs[OURS], taken, strict=True)]
        failures = [run["first_failure"] for run in taken if run["first_failure"]]
        rows.append(
            {
                "side": name,
                "ours_over_it": spread(ratios),
                **{figure: spread([run[figure] for run in taken]) for figure in kept},
                "requests": sum(run["requests"] for run in taken),
                "failures": sum(run["failures"] for run in taken),
                "first_failure": failures[0] if failures else None,
            }
        )
    return {"kind": kind, "clients": clients, "sides": rows}


def spread(values: Iterable[float]) -> dict[str, float]:
    """The median of values, and their range."""
    values = list(values)
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def verdicts(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be shown, and what was: each claim with its target, the figure, and whether it is met.

    Args:
        result: Cells, starts and memory.
    """
    claims = []
    for cell in result["cells"]:
        ratios = {row["side"]: row["ours_over_it"]["median"] for row in cell["sides"]}
        where = f"{cell['kind']}, {cell['clients']} client{'s' * (cell['clients'] > 1)}"
        bare = TARGETS["over_bare_alone" if cell["clients"] == 1 else "over_bare_under_load"]
        claims.append((f"CPU, ours / bare session, {where}", ratios[BARE], bare))
        # The better form of LitServe is the one that ours is cheaper than by less.
        litserve = [ratios[name] for name in (LITSERVE, BATCHED) if name in ratios]
        if litserve:
            claims.append((f"CPU, ours / LitServe's better form, {where}", max(litserve), TARGETS["over_litserve"]))
    claims.append(("start to ready, s", result["starts"][OURS]["median"], TARGETS["ready_seconds"]))
    claims.append(("resident after the load, MB", result["memory"][OURS]["resident"], TARGETS["resident_megabytes"]))
    return [{"claim": claim, "found": found, "target": most, "met": found <= most} for claim, found, most in claims]


def measure(
    model: Path | None, checkpoint: Path | None, litserve_python: str | None, root: str | None, rounds: int, quick: bool
) -> dict[str, Any]:
    """Measure everything.

    Args:
        model: An exported model.
        checkpoint: A trained one, which is exported; the hard model in the package where both are left out.
        litserve_python: An interpreter that has LitServe.
        root: Where MNIST lies.
        rounds: How often each cell is measured.
        quick: Whether to take seconds instead of minutes, for figures that mean nothing.
    """
    before = describe()
    if litserve_python is None and importlib.util.find_spec("litserve"):
        litserve_python = sys.executable
    sides = sides_of(litserve_python)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = model or HARD.path
        if checkpoint:
            file = folder / f"{checkpoint.parent.name}.onnx"
            file.write_bytes(trained_model(checkpoint, root)[0].file())
        card = GlimpseSession(file, warm_up=False).card
        canvases, dataset = canvases_for(card.height, card.channels, root)
        subject = Subject(file, canvases)
        starts = measure_starts(sides, subject, 1 if quick else rounds, folder)
        cells, held, loads = measure_load(sides, subject, 1 if quick else rounds, 0.1 if quick else 2.0, folder)
    result = {
        "quick": quick,
        "machine": before,
        "versions": versions_of(PACKAGES) | _litserve_version(litserve_python),
        "load_average_before_each_round": loads,
        "load_average_after": describe()["load_average"],
        "model": {"file": file.name, "family": card.model, "graph": card.graph, "canvas": [card.height, card.width]},
        "data": dataset,
        "images": len(canvases),
        "left_out": [] if litserve_python else [MISSING],
        "rounds": len(loads),
        "cells": cells,
        "starts": starts,
        "memory": held,
        "targets": TARGETS,
    }
    return {**result, "verdicts": verdicts(result)}


def _litserve_version(python: str | None) -> dict[str, str]:
    if python is None:
        return {}
    ask = "from importlib.metadata import version; print(version('litserve'))"
    run = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    return {"litserve": run.stdout.strip()}


def report(result: dict[str, Any]) -> str:
    """The figures in tables, ratios first.

    Args:
        result: What :func:`measure` found.
    """
    model, loads = result["model"], result["load_average_before_each_round"]
    head = (
        f"{in_words(result['machine'])}\n{', '.join(f'{name} {said}' for name, said in result['versions'].items())}\n"
        f"load average before the rounds {min(loads)} to {max(loads)}, at the end {result['load_average_after'][0]}; "
        f"{model['file']} ({model['family']}, {model['graph']}), {result['images']} different images of "
        f"{model['canvas'][1]}x{model['canvas'][0]} out of {result['data']}; {result['rounds']} rounds, medians (range)"
        f"{'; a quick run: the figures mean nothing' * result['quick']}"
    )
    heads = ("", "CPU, ours / it", "CPU ms a request", "p50 ms", "p99 ms", "requests/s", "failures")
    return "\n\n".join(
        [
            "\n".join([head, *result["left_out"]]),
            *(
                table(f"{cell['kind']}, {cell['clients']} at once", heads, (_row(row) for row in cell["sides"]))
                for cell in result["cells"]
            ),
            table(
                "Starting, and what is held after the load (of all processes)",
                ("", "s to ready", "resident MB", "proportional MB"),
                (
                    (
                        name,
                        _shown(seconds),
                        f"{result['memory'][name]['resident']:.0f}",
                        f"{result['memory'][name]['proportional']:.0f}",
                    )
                    for name, seconds in result["starts"].items()
                ),
            ),
            table(
                "What was to be shown",
                ("", "found", "at most", ""),
                (
                    (one["claim"], f"{one['found']:.2f}", f"{one['target']:.2f}", "met" if one["met"] else "missed")
                    for one in result["verdicts"]
                ),
            ),
            *(
                f"failures of {row['side']}, {cell['kind']}, {cell['clients']} at once; the first: {row['first_failure']}"
                for cell in result["cells"]
                for row in cell["sides"]
                if row["failures"]
            ),
        ]
    )


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    rate = f"{row['requests_per_second']['median']:,.0f}"
    figures = (_shown(row[name]) for name in ("ours_over_it", "cpu_ms", "p50_ms", "p99_ms"))
    return (row["side"], *figures, rate, f"{row['failures']} of {row['requests']:,}")


def _shown(found: Mapping[str, float]) -> str:
    return f"{found['median']:.3g} ({found['least']:.3g}-{found['most']:.3g})"


def main(args: Sequence[str]) -> int:
    """Measure, print, and write the figures where they are wanted.

    Args:
        args: The command line.

    Returns:
        1 when an answer was wrong, else 0.
    """
    parser = argparse.ArgumentParser(prog="serve.py", description=__doc__, allow_abbrev=False)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", type=Path, metavar="FILE", help="an exported model; one in the package if left out")
    which.add_argument("--checkpoint", type=Path, metavar="FILE", help="a trained model, to be exported")
    parser.add_argument("--litserve-python", metavar="PATH", help="an interpreter that has LitServe; this one if it has")
    parser.add_argument("--root", metavar="DIR", help="the folder that holds MNIST/raw; GLIMPSE_DATA if left out")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="how often each figure is taken; 7 if left out")
    options = options_of(args, parser)
    result = measure(
        options.model, options.checkpoint, options.litserve_python, options.root, options.rounds, options.quick
    )
    hand_back(report(result), result, options.output)
    return int(any(row["failures"] for cell in result["cells"] for row in cell["sides"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
