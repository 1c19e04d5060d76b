"""Faults of files: images that are small and long to decode, images that are large, and hostile models."""

import asyncio
import io
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.serving.clients import Crowd, Service, connection, ended, request, serving
from benchmarks.serving.faults.beside import beside
from benchmarks.serving.faults.hostile_models import hostile_models as hostile_files
from benchmarks.serving.faults.sizes import Sizes
from benchmarks.serving.labelled_images import labelled_images
from glimpse.images.pixels import decode
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.models import bundled

LARGE_SIDE = 3600
CLIENTS = (1, 8, 24)
LISTED_SECONDS = 60.0


def scan_bomb(side: int, scans: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated: few bytes, long decoding.

    Args:
        side: Its width and height, pixels.
        scans: How often the last scan is repeated.
    """
    stream = io.BytesIO()
    Image.new("L", (side, side), 128).save(stream, "JPEG", progressive=True, quality=90)
    content = stream.getvalue()
    start = content.rfind(b"\xff\xc4", 0, content.rfind(b"\xff\xda"))  # with the table of the scan
    return content[:-2] + content[start:-2] * scans + b"\xff\xd9"


async def scan_bombs(sizes: Sizes) -> dict[str, Any]:
    """Two clients that send progressive JPEGs with thousands of scans: images of others are classified beside them."""
    bombs = [scan_bomb(2000, 500), scan_bomb(4000, 1500)]
    files, labels = _photographs()
    async with serving("--log-level", "error") as service:
        async with beside(service) as measured:
            others = Crowd(service.port, files, labels)
            asking = asyncio.create_task(others.gathered(sizes.steady))
            before = service.processor_seconds()
            outcomes = await asyncio.gather(*(_bombard(service.port, bomb, sizes.bombs) for bomb in bombs))
            others.stopped = True
            tally = await asking
            spent = service.processor_seconds() - before
        figures = measured.figures(service)
    statuses = sum(outcomes, Counter[int]())
    return {
        "bombs": 2 * sizes.bombs,
        "bytes_each": [len(bomb) for bomb in bombs],
        "bombs_by_status": {str(status): number for status, number in sorted(statuses.items())},
        "processor_seconds": spent,
        "answered_beside": tally.statuses[200],
        "failed_beside": sum(tally.statuses.values()) - tally.statuses[200] + len(tally.lost) + tally.unconnected,
        "wrong_beside": len(tally.wrong),
        "longest_seconds_beside": tally.of(1.0),
        **figures,
    }


def _photographs() -> tuple[list[bytes], list[str]]:
    """JPEG files of 300 x 300 pixels, too large to be decoded with a batch, with the class that each must have."""
    session = GlimpseSession(bundled.HARD.path)
    chance = np.random.default_rng(0)
    files, labels = [], []
    for content in labelled_images()[0]:
        digit = Image.open(io.BytesIO(content)).resize((300, 300), Image.Resampling.BILINEAR)
        noise = chance.integers(0, 40, (300, 300))
        stream = io.BytesIO()
        Image.fromarray(np.minimum(np.asarray(digit) + noise, 255).astype(np.uint8)).save(stream, "JPEG", quality=95)
        found = session.predict_one(session.fit(decode(stream.getvalue()))).probabilities[-1]
        ordered = np.sort(found)
        if ordered[-1] - ordered[-2] > 0.05:
            files.append(stream.getvalue())
            labels.append(session.card.classes[int(found.argmax())])
    return files, labels


async def _bombard(port: int, content: bytes, times: int) -> Counter[int]:
    """Send an image again and again; 0 stands for no response."""
    statuses: Counter[int] = Counter()
    for _ in range(times):
        try:
            async with connection(port) as ask:
                statuses[(await ask(request("POST", "/v1/classify", content, "image/jpeg")))[0]] += 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            statuses[0] += 1
    return statuses


async def large_images(sizes: Sizes) -> dict[str, Any]:
    """Photographs of 3600 x 3600 pixels from one client and from more than can be served: the goodput stays."""
    coarse = np.random.default_rng(0).integers(0, 256, (LARGE_SIDE // 8, LARGE_SIDE // 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((LARGE_SIDE, LARGE_SIDE)).save(stream, "JPEG", quality=80)
    found: dict[str, Any] = {}
    async with serving("--log-level", "error") as service:
        await _bombard(service.port, stream.getvalue(), 1)
        for clients in CLIENTS:
            async with beside(service) as measured:
                started = time.perf_counter()
                outcomes = await asyncio.gather(
                    *(_bombard(service.port, stream.getvalue(), sizes.large) for _ in range(clients))
                )
                seconds = time.perf_counter() - started
            statuses = sum(outcomes, Counter[int]())
            found[f"{clients} clients" if clients > 1 else "one client"] = {
                "sent": clients * sizes.large,
                "by_status": {str(status): number for status, number in sorted(statuses.items())},
                "answers_a_second": statuses[200] / seconds,
                **measured.figures(service),
            }
    alone = found["one client"]["answers_a_second"]
    for figures in found.values():
        figures["goodput_of_one_client"] = figures["answers_a_second"] / alone if alone else 0.0
    return found


async def hostile_models(sizes: Sizes) -> dict[str, Any]:
    """Hostile models in the watched directory under load: each is refused, others are loaded, and SIGTERM ends it."""
    refusals: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(bundled.HARD.path, folder / "digits.onnx")
        hostile = hostile_files(bundled.HARD.path)
        args = ("--directory", name, "--watch-seconds", "0.1", "--log-level", "error")
        async with serving(*args) as service:
            async with beside(service) as measured:
                crowd = Crowd(service.port, *labelled_images(), path="/v1/classify?model=digits")
                asking = asyncio.create_task(crowd.gathered(sizes.steady))
                for kind, content in hostile.items():
                    (folder / ".draft").write_bytes(content)
                    (folder / ".draft").replace(folder / "hostile.onnx")
                    started = time.monotonic()
                    if await _listed(service, "refused", "file", "hostile.onnx"):
                        refusals[kind] = time.monotonic() - started
                    (folder / "hostile.onnx").unlink()
                    await asyncio.sleep(0.3)  # until its absence was seen
                shutil.copy(bundled.SOFT.path, folder / "second.onnx")
                loaded = await _listed(service, "models", "name", "second")
                ready = (await service.get("/v2/health/ready"))[0]
                crowd.stopped = True
                tally = await asking
            figures = measured.figures(service)
            (folder / "again.onnx").write_bytes(next(iter(hostile.values())))
            await asyncio.sleep(0.5)
            status, seconds = await ended(service)
    return {
        "hostile": len(hostile),
        "refused": len(refusals),
        "not_refused": sorted(set(hostile) - set(refusals)),
        "slowest_refusal_seconds": max(refusals.values(), default=0.0),
        "slowest_refused": max(refusals, key=lambda kind: refusals[kind], default=""),
        "good_model_loaded_then": loaded,
        "ready_status": ready,
        "answered": tally.statuses[200],
        "failed": sum(tally.statuses.values()) - tally.statuses[200] + len(tally.lost) + tally.unconnected,
        "wrong": len(tally.wrong),
        "longest_seconds_beside": tally.of(1.0),
        "exit_status_in_a_load": status,
        "exit_seconds_in_a_load": seconds,
        **figures,
    }


async def _listed(service: Service, part: str, key: str, value: str) -> bool:
    """Wait until the list of models has an entry; returns whether it did so in time."""
    until = time.monotonic() + LISTED_SECONDS
    while time.monotonic() < until:
        status, listed = await service.get("/v1/models")
        if status == 200 and any(entry[key] == value for entry in listed[part]):
            return True
        await asyncio.sleep(0.05)
    return False
