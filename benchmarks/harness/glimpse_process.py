"""One call of this checkout's ``glimpse`` in a process of its own, as a user would make it, with the time it takes."""

import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.machine import REPOSITORY


class Ended(NamedTuple):
    """A process that has ended."""

    status: int
    """Its exit status."""
    log: str
    """What it printed, without any path of this machine."""
    wall_seconds: float
    """From its start to its end, on the wall clock."""
    cpu_seconds: float
    """Of it and whatever it started, user and system."""


def run_glimpse(
    arguments: Sequence[str], workplace: Path, environment: Mapping[str, str], hidden: Mapping[str, str]
) -> Ended:
    """Run ``glimpse`` and show what it prints.

    Args:
        arguments: What follows the command's name.
        workplace: The folder in which it runs.
        environment: Its variables, to which the path of this checkout is added.
        hidden: What is shown in place of paths of this machine, beside those of every run.
    """
    names = {
        f"{Path(sys.executable).parent}/": "",
        str(workplace): ".",
        **hidden,
        str(REPOSITORY): ".",
        str(Path.home()): "~",
    }
    lines = []
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "glimpse", *arguments],
        cwd=workplace,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            for path, name in names.items():
                line = line.replace(path, name)
            print(line, end="", flush=True)
            lines.append(line)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended(process.returncode, "".join(lines), wall, cpu)
