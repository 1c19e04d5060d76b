"""Two replicas on a local Ray: overload, and repeated kills of a replica under load.

``python -m benchmarks.serving.on_ray [--output FILE]``; real clients ask ``glimpse serve --ray`` over HTTP, and count
the responses. ``--quick`` is a short form.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, in_words, settle_threads
from benchmarks.harness.reports import figures_table, hand_back

settle_threads()

from benchmarks.serving.clients import Crowd, Service, Tally, ended, serving  # noqa: E402
from benchmarks.serving.labelled_images import labelled_images  # noqa: E402

REPLICA = b"ray::ServeReplica:glimpse:models"
"""How Ray names the process of a replica."""
REPLICAS = 2
BACK_SECONDS = 120.0
"""A replica that was killed is back after this time, or the benchmark fails."""
OPTIONS = ("--ray", "--workers", str(REPLICAS), "--max-batch", "8", "--max-queue", "32", "--log-level", "warning")


@dataclass(frozen=True)
class Sizes:
    """Duration and size.

    Attributes:
        clients: That overload the service.
        requests: That each of them sends.
        steady: Clients while replicas are killed.
        kills: Of replicas.
    """

    clients: int
    requests: int
    steady: int
    kills: int


LONG = Sizes(clients=300, requests=10, steady=16, kills=5)
SHORT = Sizes(clients=150, requests=2, steady=8, kills=1)


class Visitors(Crowd):
    """Clients that accept the error text of Ray's proxy as well as ours, and count it."""

    rejected_by_ray = 0

    def is_sentence(self, body: bytes) -> bool:
        """Whether a body states an error: ours, or that of Ray's proxy, which is counted."""
        if body.startswith(b"Request dropped due to backpressure"):
            self.rejected_by_ray += 1
            return True
        return super().is_sentence(body)


def replicas(service: Service) -> list[int]:
    """The processes of the models' replicas."""
    parents: dict[int, int] = {}
    named = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(REPLICA):
                named.append(int(folder.name))

    def is_ours(process: int) -> bool:
        while process in parents and process != service.process.pid:
            process = parents[process]
        return process == service.process.pid

    return sorted(filter(is_ours, named))


async def play(sizes: Sizes) -> dict[str, Any]:
    """Overload the service, then kill replicas under load, then stop it.

    Args:
        sizes: Duration and size.
    """
    files, labels = labelled_images()
    begun = time.monotonic()
    async with serving(*OPTIONS) as service:
        start_seconds = time.monotonic() - begun
        visitors = Visitors(service.port, files, labels, patient=True)
        overloaded = await visitors.gathered(sizes.clients, sizes.requests)
        crowd = Visitors(service.port, files, labels)
        asking = asyncio.create_task(crowd.gathered(sizes.steady))
        back = [await _kill_one(service, crowd) for _ in range(sizes.kills)]
        crowd.stopped = True
        killed = await asking
        exit_status, stop_seconds = await ended(service)
    return {
        "start_seconds": start_seconds,
        "overload": {
            "sent": sizes.clients * sizes.requests,
            **_figures_of(overloaded),
            "refused_by_rays_proxy": visitors.rejected_by_ray,
        },
        "kill": {"kills": sizes.kills, **_figures_of(killed), "longest_seconds_until_back": max(back)},
        "exit_status": exit_status,
        "stop_seconds": stop_seconds,
    }


async def _kill_one(service: Service, crowd: Crowd) -> float:
    """Kill a replica and wait until there are as many as before; returns the seconds until then."""
    answered = crowd.tally.statuses[200]
    while crowd.tally.statuses[200] < answered + 100:
        await asyncio.sleep(0.05)
    before = replicas(service)
    if len(before) != REPLICAS:
        raise RuntimeError(f"expected {REPLICAS} replicas, found {len(before)}")
    os.kill(before[0], signal.SIGKILL)
    killed = time.monotonic()
    while len(replicas(service)) < REPLICAS or before[0] in replicas(service):
        if time.monotonic() > killed + BACK_SECONDS:
            raise RuntimeError(f"the replica was not back after {BACK_SECONDS:g} s")
        await asyncio.sleep(0.1)
    return time.monotonic() - killed


def _figures_of(tally: Tally) -> dict[str, Any]:
    statuses = tally.statuses
    return {
        "answered": statuses[200],
        "refused": statuses[503],
        "others": sum(statuses.values()) - statuses[200] - statuses[503],
        "lost": len(tally.lost) + tally.unconnected,
        "wrong": len(tally.wrong),
        "median_seconds": tally.of(0.5),
        "p99_seconds": tally.of(0.99),
        "longest_seconds": tally.of(1.0),
    }


def main(args: Sequence[str]) -> int:
    """Run it and report the figures.

    Args:
        args: The command line.
    """
    options = options_of(args, command_parser("benchmarks.serving.on_ray", __doc__))
    sizes = SHORT if options.quick else LONG
    before = describe()
    found = asyncio.run(play(sizes))
    titles = {
        "overload": f"{sizes.clients} clients against a queue of 32",
        "kill": f"kill -9 of one of {REPLICAS} replicas, {sizes.steady} clients meanwhile",
    }
    texts = [in_words(before)]
    texts += [figures_table(title, found[name]) for name, title in titles.items()]
    rest = {key: value for key, value in found.items() if key not in titles}
    texts.append(figures_table("the service", rest))
    result = {"quick": options.quick, "machine": before, "sizes": asdict(sizes), **found}
    hand_back("\n\n".join(texts), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
