"""Faults below a request: bytes that belong to no body, protocols that are not spoken, handshakes that never begin."""

import asyncio
import contextlib
import re
import tempfile
import time
from typing import Any

from benchmarks.serving.clients import Crowd, serving
from benchmarks.serving.faults.beside import beside
from benchmarks.serving.faults.sizes import Sizes
from benchmarks.serving.labelled_images import labelled_images

KEY = f"benchmark sha256:{0:064}"
"""A key that nobody has: every request is one without a key."""
CHUNKED = (
    b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
)
ENDLESS = {
    "many trailers": (CHUNKED + b"1\r\nA\r\n0\r\n", b"a: b\r\n" * 10_000),
    "one long trailer": (CHUNKED + b"1\r\nA\r\n0\r\nx: ", b"a" * 60_000),
    "a long chunk extension": (CHUNKED + b"1;x=", b"a" * 60_000),
    "a long chunk size": (CHUNKED, b"0" * 60_000),
    "one byte a chunk": (CHUNKED, b"1\r\nA\r\n" * 10_000),
    "empty lines": (b"", b"\r\n" * 30_000),
    "a body that nobody asked for": (
        b"POST /v2/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n",
        b"a" * 60_000,
    ),
}
"""The beginning of a request without an API key, and what is sent behind it again and again."""
HIDDEN = b"GET /v2/health/live?hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADES = (b"h2c", b"websocket", b"TLS/1.0", b"HTTP/2.0, h2c", b"no-such-protocol")
QUIET_SECONDS = 0.3


async def endless(sizes: Sizes) -> dict[str, Any]:
    """Requests whose bytes never end, in every part of a request, without a key: memory and health checks stay."""
    found: dict[str, Any] = {}
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write(KEY)
        keys.flush()
        for name, (head, again) in ENDLESS.items():
            async with serving("--keys-file", keys.name, "--log-level", "error") as service:
                async with beside(service) as measured:
                    sent = await asyncio.gather(
                        *(_send(service.port, head, again, sizes.attack_seconds) for _ in range(sizes.attackers))
                    )
                found[name] = {
                    "connections": sizes.attackers,
                    "mebibytes_sent": sum(sent) / 2**20,
                    **measured.figures(service),
                }
    return found


async def _send(port: int, head: bytes, again: bytes, seconds: float) -> int:
    """Send bytes for some time, on a new connection whenever one is closed; returns how many were sent."""
    sent, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(QUIET_SECONDS)
            continue
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(head)
            while time.monotonic() < until and not writer.is_closing():
                writer.write(again)
                await asyncio.wait_for(writer.drain(), max(0.01, until - time.monotonic()))
                sent += len(again)
        writer.transport.abort()
    return sent


async def upgrade(sizes: Sizes) -> dict[str, Any]:
    """A body behind ``Upgrade``, in a segment of its own: it is read as the body, never as a request."""
    files, labels = labelled_images()
    answered = smuggled = 0
    async with serving("--log-level", "error") as service:
        for number in range(sizes.upgrades):
            protocol = UPGRADES[number % len(UPGRADES)]
            for body in (HIDDEN, files[0]):
                responses = await _upgraded(service.port, protocol, body)
                statuses = re.findall(rb"HTTP/1\.1 (\d{3})", responses)
                smuggled += max(0, len(statuses) - 1)
                answered += body != HIDDEN and statuses == [b"200"] and labels[0].encode() in responses
        tally = await Crowd(service.port, files, labels).gathered(sizes.steady, 5)
    return {
        "requests": 2 * sizes.upgrades,
        "images": sizes.upgrades,
        "images_answered": answered,
        "bodies_taken_for_requests": smuggled,
        "answered_then": tally.statuses[200],
        "failed_then": sizes.steady * 5 - tally.statuses[200],
    }


async def _upgraded(port: int, protocol: bytes, body: bytes) -> bytes:
    """Send a request with ``Upgrade`` and then its body; returns all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: %b\r\n"
            b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n" % (protocol, len(body))
        )
        await asyncio.sleep(QUIET_SECONDS)
        writer.write(body)
        with contextlib.suppress(OSError, TimeoutError):
            while part := await asyncio.wait_for(reader.read(2**16), QUIET_SECONDS):
                received += part
    finally:
        writer.transport.abort()
    return received
