"""Clients of a server, in a process of their own.

``python -m benchmarks.serving.load`` with a task in JSON on its standard input.

So many connections are kept alive; each sends a request, waits for the answer, and sends the next. Requests are ready
beforehand, answers are put aside and looked at when the clock has stopped: none may be wrong. See :class:`Task`.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop

from benchmarks.serving.processes import cpu_seconds

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE_SECONDS = 30.0
"""After the end of the time, for answers that are still awaited."""


@dataclass(frozen=True)
class Task:
    """What to ask of whom.

    Attributes:
        port: Of the server, at the loopback.
        requests: A file of them, one after another, whole, each behind its length, see :func:`pack`.
        expected: The class that the answer to each request must name, by its number.
        classes: What the classes are called.
        form: ``json`` where the answer's ``class`` tells, ``bytes`` where the probabilities, float32, are its end.
        clients: Connections at once.
        seconds: How long requests are begun.
        warm_up: Requests of each connection before.
        processes: The server's, whose CPU time is read.
    """

    port: int
    requests: str
    expected: tuple[int, ...]
    classes: tuple[str, ...]
    form: str
    clients: int
    seconds: float
    warm_up: int
    processes: tuple[int, ...]


@dataclass
class Answers:
    """What came back, in the order in which it came."""

    requests: list[int] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection.

    Args:
        requests: All requests.
        first: The number of the one that it begins with.
    """

    def __init__(self, requests: list[bytes], first: int) -> None:
        self._requests, self._next = requests, first
        self._received = bytearray()
        self._needed = 0
        self._body = 0
        self._until = 0.0
        self._left = 0
        self._answers: Answers | None = None
        self._done: asyncio.Future[None] | None = None
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio; a request that is not answered has failed."""
        self.lost = True
        self._finish()

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    async def ask(self, answers: Answers, times: int = 0, until: float = 0.0) -> None:
        """Send requests, one when the last is answered.

        Args:
            answers: Where to put the answers.
            times: How many; any number when 0.
            until: When to begin the last, on :func:`time.perf_counter`, where ``times`` is 0.
        """
        self._answers, self._left, self._until = answers, times, until
        self._done = asyncio.get_running_loop().create_future()
        if self.lost:
            return
        self._send()
        await self._done

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        received = self._received
        received += data
        if not self._needed:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(received, 0, end)
            self._body = end + 4
            self._needed = self._body + (int(length[1]) if length else 0)
        if len(received) < self._needed:
            return
        now = time.perf_counter()
        answers = self._answers
        if answers is None:
            raise RuntimeError("a response came without a request")
        answers.seconds.append(now - self._sent)
        answers.requests.append(self._asked)
        answers.heads.append(bytes(received[: self._body]))
        answers.bodies.append(bytes(received[self._body : self._needed]))
        del received[: self._needed]
        self._needed = 0
        self._left -= 1
        if self._left > 0 or (self._left < 0 and now < self._until):
            self._send()
        else:
            self._finish()

    def _send(self) -> None:
        self._asked = self._next
        self._next = (self._next + 1) % len(self._requests)
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._asked])

    def _finish(self) -> None:
        if self._done and not self._done.done():
            self._done.set_result(None)


def pack(requests: list[bytes]) -> bytes:
    """Requests as a file holds them.

    Args:
        requests: Each whole, head and body.
    """
    return b"".join(len(request).to_bytes(4, "little") + request for request in requests)


def unpack(packed: bytes) -> list[bytes]:
    """What :func:`pack` packed."""
    found, place = [], 0
    while place < len(packed):
        end = place + 4 + int.from_bytes(packed[place : place + 4], "little")
        found.append(packed[place + 4 : end])
        place = end
    return found


async def load(task: Task) -> dict[str, Any]:
    """Do what a task says.

    Args:
        task: The task.

    Returns:
        ``requests`` that were answered, of those ``failures`` and the ``first_failure`` in words; ``seconds`` that it
        took, ``cpu_seconds`` of the server meanwhile, ``client_cpu_seconds`` of this process; ``latencies``, seconds.
    """
    requests = unpack(Path(task.requests).read_bytes())
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for number in range(task.clients):
        first = number * len(requests) // task.clients
        _, client = await loop.create_connection(partial(Client, requests, first), "127.0.0.1", task.port)
        clients.append(client)
    if task.warm_up:
        await asyncio.gather(*(client.ask(Answers(), times=task.warm_up) for client in clients))
    answers = Answers()
    own, server, begun = time.process_time(), cpu_seconds(task.processes), time.perf_counter()
    asking = [client.ask(answers, until=begun + task.seconds) for client in clients]
    await asyncio.wait_for(asyncio.gather(*asking), task.seconds + PATIENCE_SECONDS)
    ended = time.perf_counter()
    server, own = cpu_seconds(task.processes) - server, time.process_time() - own
    wrong = [sentence for place in range(len(answers.bodies)) if (sentence := fault(task, answers, place))]
    wrong += [f"the server closed connection {number}" for number, client in enumerate(clients) if client.lost]
    for client in clients:
        client.close()
    return {
        "requests": len(answers.bodies),
        "failures": len(wrong),
        "first_failure": wrong[0] if wrong else None,
        "seconds": ended - begun,
        "cpu_seconds": server,
        "client_cpu_seconds": own,
        "bytes_of_an_answer": float(np.mean([len(body) for body in answers.bodies])) if answers.bodies else 0.0,
        "latencies": answers.seconds,
    }


def fault(task: Task, answers: Answers, place: int) -> str | None:
    """What is wrong with an answer, in words; None if nothing is.

    Args:
        task: The requests to send.
        answers: The answers.
        place: Which of them.
    """
    status = answers.heads[place].split(b"\r\n", 1)[0].split(b" ")[1].decode()
    body = answers.bodies[place]
    if status != "200":
        return f"status {status}: {body[:200].decode('utf-8', 'replace')}"
    if task.form == "json":
        found = str(orjson.loads(body)["class"])
    else:
        found = task.classes[int(np.frombuffer(body[-4 * len(task.classes) :], np.float32).argmax())]
    expected = task.classes[task.expected[answers.requests[place]]]
    return None if found == expected else f"request {answers.requests[place]}: expected {expected}, got {found}"


def main() -> int:
    """Read the task, do it, and print what was found as JSON."""
    values = json.loads(sys.stdin.read())
    listed = {name: tuple(values[name]) for name in ("expected", "classes", "processes")}
    print(json.dumps(uvloop.run(load(Task(**(values | listed))))))
    return 0


def task_text(task: Task) -> str:
    """A task as the process reads it."""
    return json.dumps(asdict(task))


if __name__ == "__main__":
    sys.exit(main())
