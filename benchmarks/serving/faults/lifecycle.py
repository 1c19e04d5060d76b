"""Faults of processes and model files: stops, kills, damaged files, reloads, and all of it for a long time."""

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.serving.clients import Crowd, Service, ended, request, serving
from benchmarks.serving.faults.sizes import Sizes
from benchmarks.serving.labelled_images import labelled_images
from glimpse_serve.models import bundled

ORPHAN_SECONDS = 60.0
"""Workers that still run after this time are left behind."""


async def stop(sizes: Sizes) -> dict[str, Any]:
    """SIGTERM under load, one process and two: requests in progress get their responses, and it exits with 0."""
    found: dict[str, Any] = {}
    for workers in (1, 2):
        args = ("--workers", str(workers), "--drain-seconds", "1", "--shutdown-seconds", "5", "--log-level", "warning")
        async with serving(*args) as service:
            crowd = Crowd(service.port, *labelled_images())
            asking = asyncio.create_task(crowd.gathered(sizes.steady, again=False))
            await asyncio.sleep(0.5)
            stopping = asyncio.create_task(ended(service))
            # A balancer: it sends nothing more when the service says that it is not ready.
            with contextlib.suppress(OSError):
                while (await service.get("/v2/health/ready"))[0] == 200:
                    await asyncio.sleep(0.02)
            crowd.stopped = True
            tally = await asking
            status, seconds = await stopping
        found[f"{workers} processes" if workers > 1 else "one process"] = {
            "exit_status": status,
            "seconds": seconds,
            "answered": tally.statuses[200],
            "others": sum(tally.statuses.values()) - tally.statuses[200],
            "lost": len(tally.lost) + tally.unconnected,
            "wrong": len(tally.wrong),
        }
    return found


async def kill(sizes: Sizes) -> dict[str, Any]:
    """Kill -9 of a worker: only its requests in progress are lost, another takes its place, and the counters stay."""
    async with serving("--workers", "2", "--log-level", "warning") as service:
        crowd = Crowd(service.port, *labelled_images())
        asking = asyncio.create_task(crowd.gathered(sizes.steady))
        replaced = []
        for _ in range(sizes.kills):
            await asyncio.sleep(0.5)
            before = service.children()
            os.kill(before[0], signal.SIGKILL)
            started = time.perf_counter()
            while len(set(service.children()) - {before[0]}) < 2:
                await asyncio.sleep(0.02)
            replaced.append(time.perf_counter() - started)
        await asyncio.sleep(0.5)
        crowd.stopped = True
        tally = await asking
        counted = (await service.get("/metrics"))[1]
        status, _ = await ended(service)
    total = float(re.findall(r'route="/v1/classify",status="200"} ([\d.]+)', counted)[0])
    return {
        "kills": sizes.kills,
        "answered": tally.statuses[200],
        "others": sum(tally.statuses.values()) - tally.statuses[200],
        "lost": len(tally.lost),
        "in_hand_at_most": sizes.kills * sizes.steady,
        "wrong": len(tally.wrong),
        "uncounted": tally.statuses[200] - total,
        "replaced_after_seconds": max(replaced),
        "exit_status": status,
    }


async def orphans(sizes: Sizes) -> dict[str, Any]:
    """Kill -9 of the supervisor under load: its workers end too, and another service may take the port."""
    async with serving("--workers", "2", "--shutdown-seconds", "2", "--log-level", "warning") as service:
        crowd = Crowd(service.port, *labelled_images())
        asking = asyncio.create_task(crowd.gathered(sizes.steady, again=False))
        await asyncio.sleep(0.5)
        workers = service.children()
        service.send(signal.SIGKILL)
        await service.process.wait()
        started = time.perf_counter()
        left = workers
        while left and time.perf_counter() - started < ORPHAN_SECONDS:
            await asyncio.sleep(0.05)
            left = [pid for pid in left if _runs(pid)]
        seconds = time.perf_counter() - started
        crowd.stopped = True
        tally = await asking
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", service.port))
    return {
        "workers": len(workers),
        "left": len(left),
        "ended_after_seconds": seconds,
        "answered": tally.statuses[200],
        "wrong": len(tally.wrong),
    }


def _runs(pid: int) -> bool:
    """Whether a process has not ended; one for whose status nobody has asked has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def corrupt(sizes: Sizes) -> dict[str, Any]:
    """A damaged file dropped into the watched directory under load: it is rejected, and the old one stays."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.onnx"
        shutil.copy(bundled.HARD.path, file)
        async with serving("--directory", folder, "--watch-seconds", "0.1", "--log-level", "warning") as service:
            crowd = Crowd(service.port, *labelled_images())
            asking = asyncio.create_task(crowd.gathered(sizes.steady))
            before = (await service.get("/v1/models"))[1]["models"][0]["sha256"]
            content = bytearray(bundled.HARD.path.read_bytes())
            content[len(content) // 2] ^= 1
            kinds = {
                "one bit": bytes(content),
                "half": bytes(content[: len(content) // 2]),
                "empty": b"",
                "a pickle": b"\x80\x04x",
            }
            refused = 0
            for damaged in kinds.values():
                file.write_bytes(damaged)
                refused += await _until(service, lambda listed: len(listed["refused"]) == 1)
                after = (await service.get("/v1/models"))[1]["models"][0]["sha256"]
                shutil.copy(bundled.HARD.path, file)
                await _until(service, lambda listed: not listed["refused"])
            crowd.stopped = True
            tally = await asking
    return {
        "dropped": len(kinds),
        "refused": refused,
        "same_model": before == after,
        "answered": tally.statuses[200],
        "failed": sum(tally.statuses.values()) - tally.statuses[200] + len(tally.lost) + tally.unconnected,
        "wrong": len(tally.wrong),
    }


async def _until(service: Service, so: Callable[[Any], bool]) -> bool:
    """Wait until the list of models fulfils a condition; returns whether it did so in time."""
    for _ in range(400):
        if so((await service.get("/v1/models"))[1]):
            return True
        await asyncio.sleep(0.05)
    return False


async def reload(sizes: Sizes) -> dict[str, Any]:
    """A model replaced again and again under load: no request fails, and memory does not grow."""
    with tempfile.TemporaryDirectory() as folder:
        file, files = Path(folder) / "digits.onnx", (bundled.HARD.path, bundled.SOFT.path)
        shutil.copy(files[0], file)
        async with serving("--directory", folder, "--watch-seconds", "0.05", "--log-level", "warning") as service:
            # Both models see a clear seven.
            crowd = Crowd(service.port, labelled_images()[0], [""] * 64)
            asking = asyncio.create_task(crowd.gathered(sizes.steady))
            seals = set()
            resident = []
            for number in range(sizes.reloads):
                before = (await service.get("/v1/models"))[1]["models"][0]["loaded_at"]
                draft = Path(folder) / ".draft"
                shutil.copy(files[(number + 1) % 2], draft)
                draft.replace(file)

                def later(listed: Any, before: float = before) -> bool:
                    return bool(listed["models"][0]["loaded_at"] > before)

                if not await _until(service, later):
                    raise RuntimeError(f"reload {number} did not happen")
                seals.add((await service.get("/v1/models"))[1]["models"][0]["sha256"])
                resident.append(service.resident())
            crowd.stopped = True
            tally = await asking
    return {
        "reloads": sizes.reloads,
        "models": len(seals),
        "answered": tally.statuses[200],
        "failed": sum(tally.statuses.values()) - tally.statuses[200] + len(tally.lost) + tally.unconnected,
        "resident_after_tenth_mebibytes": resident[min(9, len(resident) - 1)],
        "resident_after_last_mebibytes": resident[-1],
    }


async def soak(sizes: Sizes) -> dict[str, Any]:
    """For a long time: good and damaged images, clients that leave, reloads; nothing fails, nothing grows."""
    chance = random.Random(0)
    files, labels = labelled_images()
    spoilt = [content[: chance.randrange(len(content))] for content in files]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.onnx"
        shutil.copy(bundled.HARD.path, file)
        async with serving("--directory", folder, "--watch-seconds", "0.5", "--log-level", "warning") as service:
            good, bad = Crowd(service.port, files, labels), Crowd(service.port, spoilt, [""] * len(spoilt))
            asking = [asyncio.create_task(good.gathered(sizes.steady)), asyncio.create_task(bad.gathered(2))]
            resident, files_open = [], []
            started = time.monotonic()
            while time.monotonic() < started + sizes.minutes * 60:
                await asyncio.sleep(min(10.0, sizes.minutes * 6))
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
                    writer.write(request("POST", "/v1/classify", files[0]))
                    writer.transport.abort()
                shutil.copy(bundled.HARD.path, Path(folder) / ".draft")
                (Path(folder) / ".draft").replace(file)
                resident.append(service.resident())
                files_open.append(len(list(Path(f"/proc/{service.process.pid}/fd").iterdir())))
            good.stopped = bad.stopped = True
            await asyncio.gather(*asking)
            status, _ = await ended(service)
    tally = good.tally
    early = resident[len(resident) // 5 :][: max(1, len(resident) // 5)]
    late = resident[-max(1, len(resident) // 5) :]
    return {
        "minutes": sizes.minutes,
        "answered": tally.statuses[200],
        "failed": sum(tally.statuses.values()) - tally.statuses[200] + len(tally.lost) + tally.unconnected,
        "wrong": len(tally.wrong),
        "damaged_refused": bad.tally.statuses[422],
        "damaged_otherwise": sum(bad.tally.statuses.values()) - bad.tally.statuses[422] + len(bad.tally.lost),
        "reloads": len(resident),
        "resident_second_fifth_mebibytes": sum(early) / len(early),
        "resident_last_fifth_mebibytes": sum(late) / len(late),
        "files_open_at_first": files_open[0],
        "files_open_at_last": files_open[-1],
        "exit_status": status,
    }
