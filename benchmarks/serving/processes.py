"""A server's processes: what they have taken of CPU time and of memory, from outside, as Linux tells it."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
MEGABYTE = 10**6


class Memory(NamedTuple):
    """What processes have of memory, MB (10**6 bytes)."""

    resident: float
    """What each of them has in memory, added up: what they share counts for each."""
    proportional: float
    """The same, but a page that several processes have, of the whole machine, counts in parts."""


def tree(root: int) -> list[int]:
    """A process and all that came from it, by their numbers.

    Args:
        root: The process.
    """
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                after_name = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def cpu_seconds(processes: Iterable[int]) -> float:
    """CPU time that processes have taken so far, user's and system's, of all their threads, seconds.

    It is read from each process's own clock, in nanoseconds; the user and system time in ``/proc/PID/stat`` is the
    same, in steps of 10 ms.

    Args:
        processes: Their numbers; all of them must live.
    """
    # The kernel's name for the clock of a process, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime((~process << 3) | 2) for process in processes)


def memory(processes: Iterable[int]) -> Memory:
    """What processes have of memory.

    Args:
        processes: Their numbers.
    """
    resident = proportional = 0
    for process in processes:
        for line in (PROC / str(process) / "smaps_rollup").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "Rss":
                resident += int(value.split()[0]) * 1024
            elif name == "Pss":
                proportional += int(value.split()[0]) * 1024
    return Memory(resident / MEGABYTE, proportional / MEGABYTE)


def send(processes: Iterable[int], signal: int) -> None:
    """Send a signal to processes, those that ended already left out.

    Args:
        processes: Their numbers.
        signal: Its number.
    """
    for process in processes:
        try:
            os.kill(process, signal)
        except ProcessLookupError:
            continue
