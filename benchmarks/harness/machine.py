"""The machine that a benchmark runs on: its description, its load, and clocks for a busy one."""

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import glimpse
from glimpse.cli.threads import THREAD_VARIABLES
from glimpse.runtime.providers import processor

PACKAGES = ("torch", "pytorch-lightning", "numpy", "onnxruntime", "onnxruntime-gpu")
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Samples:
    """How long one call took, seconds, one number for each repetition.

    Attributes:
        cpu: Of all threads of this process.
        wall: On the wall clock.
    """

    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    def median(self, clock: str = "cpu") -> float:
        """The median over the repetitions.

        Args:
            clock: ``cpu`` or ``wall``.
        """
        taken: tuple[float, ...] = getattr(self, clock)
        return statistics.median(taken)

    def over(self, other: "Samples", clock: str = "cpu") -> float:
        """How many times longer this took: the median of the ratios of samples that were taken side by side.

        Args:
            other: What it is compared with, sampled in the same repetitions.
            clock: ``cpu`` or ``wall``.
        """
        pairs = zip(getattr(self, clock), getattr(other, clock), strict=True)
        ratios: list[float] = [mine / theirs for mine, theirs in pairs]
        return statistics.median(ratios)


class Clock:
    """Sums up CPU and wall time between its starts and its stops, seconds."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def start(self) -> None:
        """Start measuring."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        """Stop, and add the time since the start."""
        self.cpu += time.process_time() - self._cpu
        self.wall += time.perf_counter() - self._wall


def clocked(run: Callable[[], Any], calls: int) -> Clock:
    """Call a function repeatedly and return the clock that measured it."""
    clock = Clock()
    clock.start()
    for _ in range(calls):
        run()
    clock.stop()
    return clock


def interleave(runs: Mapping[str, Callable[[], Any]], repetitions: int, seconds: float) -> dict[str, Samples]:
    """Time several calls alternately, so that the machine's other load affects all of them equally.

    Args:
        runs: What is timed, by name. Each is warmed up first.
        repetitions: How many samples of each.
        seconds: CPU time that a sample takes, roughly: a quick thing is called often.
    """
    calls = {}
    for name, run in runs.items():
        clocked(run, 2)
        calls[name] = max(1, math.ceil(seconds / max(1e-7, clocked(run, 3).cpu / 3)))
    clocks: dict[str, list[Clock]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            clocks[name].append(clocked(run, calls[name]))
    return {
        name: Samples(
            tuple(clock.cpu / calls[name] for clock in taken),
            tuple(clock.wall / calls[name] for clock in taken),
        )
        for name, taken in clocks.items()
    }


def settle_threads() -> None:
    """Let threads that wait sleep, as the ``glimpse`` command does; torch must not have been imported yet."""
    for name, value in THREAD_VARIABLES.items():
        os.environ.setdefault(name, value)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads inside the context."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def default_threads() -> int:
    """How many threads torch computes with by default."""
    import torch

    return torch.get_num_threads()


def describe() -> dict[str, Any]:
    """The machine, its load average at this moment, and the versions of what runs on it."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "threads": {"torch": default_threads()}
        | {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", *THREAD_VARIABLES)},
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"glimpse": glimpse.__version__, "python": platform.python_version()} | versions_of(PACKAGES),
        "commit": commit(),
    }


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of packages, without those that are missing."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def commit() -> str | None:
    """The checkout's commit, marked when files that git knows differ from it; None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def in_words(machine: Mapping[str, Any]) -> str:
    """What :func:`describe` found, in two lines."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    setting = ", ".join(f"{name}={value}" for name, value in machine["threads"].items() if value is not None)
    return (
        f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average'][0]}; {setting}\n"
        f"{versions}, commit {machine['commit']}"
    )
