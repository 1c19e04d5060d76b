"""CPU time of a request to our service and to others.

``python -m benchmarks.serving.cost [--model FILE] [--checkpoint FILE]``.

Options as well: ``--litserve-python PATH`` (an interpreter that has LitServe, if this one has none), ``--root DIR``,
``--rounds N``, ``--output FILE``, ``--quick``. The same file of a model is served by ``glimpse serve``, by the bare
session behind FastAPI and by LitServe; each gets requests of 1, 16 and 64 clients that keep their connections, with PNG
images and with tensors. The sides take turns within a round, the others standing still; the class in every answer is
checked. Without ``--model`` and ``--checkpoint``, that of Mnih et al. (2014) for 28x28 images is served, with weights
nobody trained, and then the hard model in the package.
"""

import importlib.util
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.machine import REPOSITORY, clocked, describe, settle_threads, versions_of
from benchmarks.harness.reports import hand_back

settle_threads()

import json  # noqa: E402

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.runtime.models import paper_model, real_images, trained_model  # noqa: E402
from benchmarks.serving.load import Task, pack, task_text  # noqa: E402
from benchmarks.serving.report import TARGETS, cell_of, report, spread, verdicts  # noqa: E402
from benchmarks.serving.sides import IMAGES, TENSORS, Running, Side, sides_of  # noqa: E402
from glimpse.runtime.session import GlimpseSession  # noqa: E402
from glimpse_serve.models.bundled import HARD  # noqa: E402

PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson", "litserve")
CLIENTS = (1, 16, 64)
NUM_IMAGES = 256
FLOORS = (1, 32)
"""Batches in which the session alone is measured."""
ROUNDS, SECONDS = 5, 1.5
"""How often each figure is taken, and for how long each time."""
MISSING = "left out: LitServe, which is not installed here; pip install '.[bench]', or name an interpreter that has it"


class Subject:
    """A model, images for it, and what it says of them.

    Attributes:
        file: The model.
        card: What it says of itself.
        floor_ms: CPU time of the session alone for an image, milliseconds, by the size of the batch.
        expected: The number of the class of each image.
        bodies: What is sent, by kind.

    Args:
        session: The model.
        canvases: uint8 (images, height, width, channels) of the model's size.
    """

    def __init__(self, session: GlimpseSession, canvases: npt.NDArray[np.uint8]) -> None:
        self.file, self.card = session.path, session.card
        self.floor_ms = {str(batch): floor_ms(session, canvases, batch) for batch in FLOORS}
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


def floor_ms(session: GlimpseSession, canvases: npt.NDArray[np.uint8], batch: int) -> float:
    """CPU time of a session for one image, which no server goes below, milliseconds; the median of five passes.

    Args:
        session: It.
        canvases: uint8 (images, height, width, channels).
        batch: How many it is given at once.
    """
    batches = [canvases[first : first + batch] for first in range(0, len(canvases), batch)]
    passes = [clocked(lambda: [session.run(one) for one in batches], 1).cpu for _ in range(6)]
    return 1e3 * statistics.median(passes[1:]) / len(canvases)


def canvases_for(session: GlimpseSession, root: str | None) -> tuple[npt.NDArray[np.uint8], str]:
    """Different images on a model's canvas, and the data set that they are from.

    Args:
        session: The model.
        root: Where MNIST lies; without it the embedded digits stand in.
    """
    side = min(session.card.height, session.card.width)
    images, dataset = real_images(side, NUM_IMAGES, root, pieces=4 if side >= 60 else 0)
    return np.stack([session.fit(image.permute(1, 2, 0).numpy()) for image in images]), dataset


def loaded(task: Task) -> dict[str, Any]:
    """Have clients do a task, in a process of their own.

    Args:
        task: The task.

    Returns:
        What :func:`benchmarks.serving.load.load` found; of the latencies the figures that are kept, milliseconds.

    Raises:
        RuntimeError: When they come to no end.
    """
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.load"],
        input=task_text(task),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
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


def measure_model(subject: Subject, sides: Sequence[Side], rounds: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Measure everything with one model.

    Args:
        subject: The model.
        sides: The servers.
        rounds: How often each figure is taken.
        seconds: For how long, each time.
        folder: For what the servers say.
    """
    starts = measure_starts(sides, subject, rounds, folder)
    cells, held, loads = measure_load(sides, subject, rounds, seconds, folder)
    card = subject.card
    found = {
        "model": {
            "file": subject.file.name,
            "family": card.model,
            "graph": card.graph,
            "canvas": [card.width, card.height],
        },
        "images": len(subject.expected),
        "session_alone_ms": subject.floor_ms,
        "load_average_before_each_round": loads,
        "cells": cells,
        "starts": starts,
        "memory": held,
    }
    return {**found, "verdicts": verdicts(found)}


def measure(
    models: Sequence[Path],
    checkpoint: Path | None,
    litserve_python: str | None,
    root: str | None,
    rounds: int,
    quick: bool,
) -> dict[str, Any]:
    """Measure everything.

    Args:
        models: Exported ones.
        checkpoint: A trained one, which is exported.
        litserve_python: An interpreter that has LitServe.
        root: Where MNIST lies.
        rounds: How often each figure is taken.
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    before = describe()
    if litserve_python is None and importlib.util.find_spec("litserve"):
        litserve_python = sys.executable
    sides = sides_of(litserve_python)
    effort = (1, 0.1) if quick else (rounds, SECONDS)
    found, dataset = [], ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = list(models)
        if checkpoint:
            files.append(folder / f"{checkpoint.parent.name}.onnx")
            files[-1].write_bytes(trained_model(checkpoint, root)[0].file())
        if not files:
            files = [folder / "paper-28.onnx", HARD.path]
            files[0].write_bytes(paper_model().file())
        for file in files:
            session = GlimpseSession(file)
            canvases, dataset = canvases_for(session, root)
            found.append(measure_model(Subject(session, canvases), sides, *effort, folder))
    return {
        "quick": quick,
        "machine": before,
        "versions": versions_of(PACKAGES) | _litserve_version(litserve_python),
        "load_average_after": describe()["load_average"],
        "data": dataset,
        "left_out": [] if litserve_python else [MISSING],
        "rounds": effort[0],
        "seconds": effort[1],
        "targets": TARGETS,
        "models": found,
    }


def _litserve_version(python: str | None) -> dict[str, str]:
    if python is None:
        return {}
    ask = "from importlib.metadata import version; print(version('litserve'))"
    run = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    return {"litserve": run.stdout.strip()}


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.

    Returns:
        1 when an answer was wrong, else 0.
    """
    parser = command_parser("benchmarks.serving.cost", __doc__)
    parser.add_argument(
        "--model", type=Path, action="append", default=[], metavar="FILE", help="an exported model; may come again"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="a trained model, to be exported")
    parser.add_argument(
        "--litserve-python", metavar="PATH", help="an interpreter that has LitServe; this one if it has"
    )
    add_root(parser)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help=f"how often each figure is taken; {ROUNDS}"
    )
    options = options_of(args, parser)
    # Stopped servers would outlive this process if it ended without ending them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    result = measure(
        options.model, options.checkpoint, options.litserve_python, options.root, options.rounds, options.quick
    )
    hand_back(report(result), result, options.output)
    return int(any(row["failures"] for found in result["models"] for cell in found["cells"] for row in cell["sides"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
