"""Faults of clients: too many, too slow, or gone before the response."""

import asyncio
import contextlib
import re
from typing import Any

from benchmarks.serving.clients import Crowd, request, serving
from benchmarks.serving.faults.sizes import Sizes
from benchmarks.serving.labelled_images import labelled_images


async def overload(sizes: Sizes) -> dict[str, Any]:
    """Many clients against a queue of 32: each request gets a prediction or 503 at once, and none is lost."""
    async with serving("--max-queue", "32", "--log-level", "warning") as service:
        tally = await Crowd(service.port, *labelled_images()).gathered(sizes.clients, sizes.requests)
        counted = (await service.get("/metrics"))[1]
    total = sum(tally.statuses.values())
    return {
        "sent": sizes.clients * sizes.requests,
        "answered": tally.statuses[200],
        "refused": tally.statuses[503],
        "lost": len(tally.lost) + tally.unconnected + sizes.clients * sizes.requests - total,
        "wrong": len(tally.wrong),
        "counted": int(
            sum(
                float(found)
                for found in re.findall(r'requests_total\{.*route="/v1/classify",status="\d+"} ([\d.]+)', counted)
            )
        ),
        "median_seconds": tally.of(0.5),
        "p99_seconds": tally.of(0.99),
        "longest_seconds": tally.of(1.0),
    }


async def slow(sizes: Sizes) -> dict[str, Any]:
    """Headers sent byte by byte, and bodies that stop half-way: they are closed, and other clients are served."""
    args = ("--header-seconds", "1", "--body-seconds", "1", "--log-level", "warning")
    files, labels = labelled_images()
    whole = request("POST", "/v1/classify", files[0])

    async def dribble() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        with contextlib.suppress(OSError):
            for byte in whole[:60]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.1)
                if reader.at_eof() or reader._buffer:  # type: ignore[attr-defined]
                    break
        return await _rest(reader, writer)

    async def half() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(whole[: len(whole) - 20])
        return await _rest(reader, writer)

    async with serving(*args) as service:
        crowd = Crowd(service.port, files, labels)
        asking = asyncio.create_task(crowd.gathered(2))
        responses = await asyncio.gather(*(which() for _ in range(sizes.slow) for which in (dribble, half)))
        crowd.stopped = True
        tally = await asking
    return {
        "slow": len(responses),
        "closed_with_408": sum(answer.startswith(b"HTTP/1.1 408") for answer in responses),
        "answered_beside": tally.statuses[200],
        "failed_beside": sum(tally.statuses.values()) - tally.statuses[200] + len(tally.lost) + tally.unconnected,
        "longest_seconds_beside": tally.of(1.0),
    }


async def _rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except (OSError, TimeoutError) as error:
        return type(error).__name__.encode()
    finally:
        writer.close()


async def leave(sizes: Sizes) -> dict[str, Any]:
    """Clients that disconnect without waiting for the response: their places become free, and nothing is left over."""
    files, labels = labelled_images()
    async with serving("--log-level", "warning") as service:
        before = service.resident()
        for _ in range(0, sizes.leaving, 20):
            for _ in range(20):
                _, writer = await asyncio.open_connection("127.0.0.1", service.port)
                writer.write(request("POST", "/v1/classify", files[0]))
                writer.transport.abort()
        tally = await Crowd(service.port, files, labels).gathered(sizes.steady, 20)
        counted = (await service.get("/metrics"))[1]
        after = service.resident()
    return {
        "left": sizes.leaving,
        "answered_then": tally.statuses[200],
        "failed_then": sizes.steady * 20 - tally.statuses[200],
        "wrong": len(tally.wrong),
        "still_running": sum(float(found) for found in re.findall(r"^glimpse_requests_running (\S+)", counted, re.M))
        - 1,
        "still_waiting": sum(float(found) for found in re.findall(r"^glimpse_queue_waiting\S* (\S+)", counted, re.M)),
        "resident_before_mebibytes": before,
        "resident_after_mebibytes": after,
    }
