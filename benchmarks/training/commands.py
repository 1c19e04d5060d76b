"""This checkout's ``glimpse train``, started as a user would."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.machine import REPOSITORY


def start_training(arguments: Sequence[str], workplace: Path) -> "subprocess.Popen[str]":
    """Start a training, whose output is read from its ``stdout``.

    Args:
        arguments: What follows ``glimpse train``.
        workplace: Where it runs.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "glimpse", "train", *arguments],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train_to_the_end(arguments: Sequence[str], workplace: Path) -> float:
    """Train, and measure the CPU time of all its processes, seconds.

    Args:
        arguments: What follows ``glimpse train``.
        workplace: Where it runs.

    Raises:
        RuntimeError: When it fails; the error holds what it printed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with start_training(arguments, workplace) as training:
        printed, _ = training.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if training.returncode:
        raise RuntimeError(f"glimpse train {' '.join(arguments)}: status {training.returncode}\n{printed}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
