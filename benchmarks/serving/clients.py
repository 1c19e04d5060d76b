"""A service in a process of its own, and clients that see what becomes of each of their requests."""

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import tree

START_SECONDS = 120.0
ANSWER_SECONDS = 30.0
"""A request that has no answer after this time is lost."""


@dataclass
class Service:
    """``glimpse serve``, running.

    Attributes:
        process: It.
        port: At the loopback.
        log: Where its lines go.
        tls: How to speak to it; None for plain HTTP.
    """

    process: asyncio.subprocess.Process
    port: int
    log: Path
    tls: ssl.SSLContext | None = None

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def children(self) -> list[int]:
        """Its worker processes; none where it is one process."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and b"spawn_main" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return sorted(found)

    def resident(self) -> float:
        """MiB of memory that it and all processes that it started have resident."""
        pages = 0
        for each in tree(self.process.pid):
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def processor_seconds(self) -> float:
        """Processor time that it and all processes that it started have used, those that ended as well."""
        ticks = 0
        for each in tree(self.process.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(field) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    async def get(self, path: str) -> tuple[int, Any]:
        """Ask for something in JSON, on a connection of its own."""
        async with connection(self.port, self.tls) as ask:
            status, _, body = await ask(request("GET", path))
            return status, json.loads(body) if body[:1] in b"{[" else body.decode()


@contextlib.asynccontextmanager
async def serving(*args: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    """Start ``glimpse serve`` on a free port, wait until it is ready, and kill it in the end if it still runs."""
    descriptor, name = tempfile.mkstemp(suffix=".log")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "glimpse", "serve", "--port", "0", *args, stderr=descriptor
    )
    os.close(descriptor)
    log = Path(name)
    try:
        yield Service(process, await _ready(process, log, tls), log, tls)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        log.unlink()


async def _ready(process: asyncio.subprocess.Process, log: Path, tls: ssl.SSLContext | None) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.returncode is None:
        if address := re.search(r"serving at https?://[\d.]+:(\d+)", log.read_text()):
            port = int(address.group(1))
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with connection(port, tls) as ask:
                    if (await ask(request("GET", "/v2/health/ready")))[0] == 200:
                        return port
        await asyncio.sleep(0.02)
    raise RuntimeError(f"the service did not start:\n{log.read_text()}")


def request(method: str, path: str, body: bytes = b"", kind: str = "image/png") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


Ask = Callable[[bytes], Any]


@contextlib.asynccontextmanager
async def connection(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Ask]:
    """A connection, over which requests go one after another, with TLS where a context is given.

    The function that it gives raises an OSError, an IncompleteReadError or a TimeoutError where there is no answer.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)

    async def ask(message: bytes) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            if headers.get("transfer-encoding") == "chunked":
                body = await _chunks(reader)
            else:
                body = await reader.readexactly(int(headers.get("content-length", "0")))
            return int(head[0].split()[1]), headers, body

    try:
        yield ask
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


@dataclass
class Tally:
    """What became of requests.

    Attributes:
        statuses: How many answers there were of each.
        wrong: Answers that were not what this image is answered, and refusals without a sentence.
        lost: Requests that were sent and not answered.
        unconnected: Connections that were not taken.
        seconds: How long each answer took.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unconnected: int = 0
    seconds: list[float] = field(default_factory=list)

    def of(self, share: float) -> float:
        """A quantile of the seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Crowd:
    """Clients that send images for classification until they are stopped.

    Args:
        port: Of the service.
        images: Image files.
        labels: The class that each is to be answered.
        path: What to ask.
        patient: Whether a client waits as long as ``Retry-After`` states before it tries again.
    """

    def __init__(
        self,
        port: int,
        images: Sequence[bytes],
        labels: Sequence[str],
        path: str = "/v1/classify",
        patient: bool = False,
    ) -> None:
        self._port, self._labels, self._patient = port, labels, patient
        self._requests = [request("POST", path, image) for image in images]
        self.tally = Tally()
        self.stopped = False

    async def client(self, number: int, times: int | None = None, again: bool = True) -> None:
        """One client.

        Args:
            number: With which image it begins.
            times: How many requests it sends; until it is stopped if left out.
            again: Whether it connects again when its connection was closed.
        """
        left = times
        while not self.stopped and left != 0:
            try:
                async with connection(self._port) as ask:
                    while not self.stopped and left != 0:
                        left = None if left is None else left - 1
                        place = number % len(self._requests)
                        number += 1
                        if not await self._one(ask, place):
                            break
            except ConnectionError:
                self.tally.unconnected += 1
                if not again:
                    return
                await asyncio.sleep(0.01)

    async def _one(self, ask: Ask, place: int) -> bool:
        """Send one request; tells whether the connection is good for another."""
        started = time.perf_counter()
        try:
            status, headers, body = await ask(self._requests[place])
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.tally.lost.append(type(error).__name__)
            return False
        self.tally.seconds.append(time.perf_counter() - started)
        self.tally.statuses[status] += 1
        if status == 200:
            found = json.loads(body)["class"]
            if found != self._labels[place]:
                self.tally.wrong.append(f"{found} in place of {self._labels[place]}")
        elif not self.is_sentence(body):
            self.tally.wrong.append(f"{status} without a sentence")
        if status == 503 and "retry-after" not in headers:
            self.tally.wrong.append("503 without Retry-After")
        if status == 503 and self._patient:
            await asyncio.sleep(float(headers.get("retry-after", "0")))
        return bool(headers.get("connection") != "close")

    def is_sentence(self, body: bytes) -> bool:
        """Tell whether a refusal says why, in the service's form."""
        said: Any = json.loads(body)
        return bool(said.get("error"))

    async def gathered(self, clients: int, times: int | None = None, again: bool = True) -> Tally:
        """Let so many clients ask, until each is done."""
        await asyncio.gather(*(self.client(number, times, again) for number in range(clients)))
        return self.tally


async def ended(service: Service, number: int = signal.SIGTERM) -> tuple[int, float]:
    """Tell a service to stop, and wait for its exit status and how long it took."""
    started = time.perf_counter()
    service.send(number)
    status = await asyncio.wait_for(service.process.wait(), 60)
    return status, time.perf_counter() - started
