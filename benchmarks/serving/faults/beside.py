"""What others notice of a fault: the health check beside it, and the memory of the service."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.serving.clients import Service, connection, request

PAUSE_SECONDS = 0.05


@dataclass
class Beside:
    """Measurements that are taken while a fault is played.

    Attributes:
        seconds: How long each ``/v2/health/live`` took, on a connection of its own.
        failed: Health checks that had no response, or another than 200.
        resident: MiB of memory of the service: before the fault, and at each health check.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    resident: list[float] = field(default_factory=list)

    def figures(self, service: Service) -> dict[str, Any]:
        """Return the figures: slowest and failed health checks, and memory before, at most, and now."""
        return {
            "health_checks": len(self.seconds) + self.failed,
            "health_checks_failed": self.failed,
            "health_check_slowest_seconds": max(self.seconds, default=0.0),
            "resident_before_mebibytes": self.resident[0],
            "resident_most_mebibytes": max(self.resident),
            "resident_after_mebibytes": service.resident(),
        }


@contextlib.asynccontextmanager
async def beside(service: Service) -> AsyncIterator[Beside]:
    """Check the health of a service again and again until the context ends."""
    measured = Beside(resident=[service.resident()])

    async def check() -> None:
        started = time.perf_counter()
        try:
            async with connection(service.port) as ask:
                status, _, _ = await ask(request("GET", "/v2/health/live"))
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            status = 0
        if status == 200:
            measured.seconds.append(time.perf_counter() - started)
        else:
            measured.failed += 1

    async def watch() -> None:
        while not over.is_set():
            await check()
            measured.resident.append(service.resident())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), PAUSE_SECONDS)

    over = asyncio.Event()
    watching = asyncio.create_task(watch())
    try:
        yield measured
    finally:
        over.set()
        await watching
