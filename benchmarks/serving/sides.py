"""The servers that ``benchmarks.serving.cost`` compares: how each is started, sent requests and stopped."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.machine import REPOSITORY
from benchmarks.serving.processes import Memory, memory, send, tree
from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import INPUT, PROBABILITIES

OURS, BARE, LITSERVE = "ours", "bare session, FastAPI", "LitServe"
QUIET, THREADED, BATCHED = "ours, without its log", f"{BARE}, thread pool", f"{LITSERVE}, batches"
IMAGES, TENSORS = "PNG", "tensors"
MODEL = "model"
"""What ours calls the model."""
START_SECONDS, STOP_SECONDS, POLL_SECONDS = 60.0, 15.0, 0.004


@dataclass(frozen=True)
class Side:
    """A server that can be started.

    Attributes:
        name: What the tables call it.
        command: Its command line; ``FILE`` and ``PORT`` in it are replaced.
        ready: The path that answers 200 when it takes requests.
        paths: Where it takes images, and where tensors.
        forms: In which form of :class:`serve_load.Task` it answers them.
    """

    name: str
    command: tuple[str, ...]
    ready: str
    paths: Mapping[str, str]
    forms: Mapping[str, str]

    def request(self, kind: str, body: bytes, card: ModelCard) -> bytes:
        """A whole request.

        Args:
            kind: Of its body, ``PNG`` or ``tensors``.
            body: A PNG file, or uint8 (1, channels, height, width) row by row.
            card: The model's.
        """
        headers = {"Content-Type": "image/png" if kind == IMAGES else "application/octet-stream"}
        if kind == TENSORS and self.ready.startswith("/v2/"):
            names = [*(name for name in card.outputs if name != PROBABILITIES), PROBABILITIES]
            entry = {"name": INPUT, "datatype": "UINT8", "shape": [1, card.channels, card.height, card.width]}
            request = {
                "inputs": [{**entry, "parameters": {"binary_data_size": len(body)}}],
                "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in names],
            }
            head = json.dumps(request).encode()
            headers["Inference-Header-Content-Length"] = str(len(head))
            body = head + body
        lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(body))}.items()]
        return "\r\n".join([f"POST {self.paths[kind]} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode() + body


def sides_of(litserve_python: str | None) -> list[Side]:
    """The servers.

    Args:
        litserve_python: An interpreter that has LitServe; None where there is none, and it is left out.
    """
    ours = Side(
        OURS,
        (sys.executable, "-m", "glimpse", "serve", f"{MODEL}=FILE", "--port", "PORT"),
        "/v2/health/ready",
        {IMAGES: "/v1/classify", TENSORS: f"/v2/models/{MODEL}/infer"},
        {IMAGES: "json", TENSORS: "bytes"},
    )
    bare = Side(
        BARE,
        (sys.executable, "-m", "benchmarks.serving.fastapi_server", "FILE", "--port", "PORT"),
        "/ready",
        {IMAGES: "/classify", TENSORS: "/infer"},
        {IMAGES: "json", TENSORS: "bytes"},
    )
    found = [ours, _with(ours, QUIET, "--log-level", "warning"), bare, _with(bare, THREADED, "--threads")]
    if litserve_python:
        litserve = Side(
            LITSERVE,
            (litserve_python, "-m", "benchmarks.serving.litserve_server", "FILE", "--port", "PORT"),
            "/health",
            {IMAGES: "/predict", TENSORS: "/predict"},
            {IMAGES: "json", TENSORS: "json"},
        )
        found += [litserve, _with(litserve, BATCHED, "--batches")]
    return found


class Running:
    """A server that runs, and is ready.

    Attributes:
        side: Which.
        port: At which it listens.
        seconds_to_ready: From the start of its process.

    Args:
        side: Which.
        file: The model.
        folder: For what it says.

    Raises:
        RuntimeError: When it does not become ready.
    """

    def __init__(self, side: Side, file: Path, folder: Path) -> None:
        self.side, self.port = side, _free_port()
        self._log = folder / f"{side.name}.log"
        command = [part.replace("FILE", str(file)).replace("PORT", str(self.port)) for part in side.command]
        path = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "serve")))
        with self._log.open("wb") as log:
            started = time.perf_counter()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}
            )
        try:
            self._await(started + START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.perf_counter() - started

    @property
    def processes(self) -> list[int]:
        """All of its processes."""
        return tree(self._process.pid)

    @property
    def memory(self) -> Memory:
        """What they have of memory."""
        return memory(self.processes)

    @contextlib.contextmanager
    def alone(self, others: Sequence["Running"]) -> Iterator[None]:
        """Stop the other servers meanwhile by SIGSTOP, so that their idle work disturbs no measurement.

        Args:
            others: All that run, itself included.
        """
        frozen = [process for other in others if other is not self for process in other.processes]
        send(frozen, signal.SIGSTOP)
        try:
            yield
        finally:
            send(frozen, signal.SIGCONT)

    def stop(self) -> None:
        """Have it end, in time."""
        processes = self.processes
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        # Processes that are left; the number of a child stays taken until it has been waited for.
        left = set(processes) & set(tree(self._process.pid) if self._process.poll() is None else _orphans(processes))
        send(left, signal.SIGKILL)
        self._process.wait()

    def _await(self, until: float) -> None:
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"{self.side.name} ended with status {self._process.returncode}: {self._last_words()}"
                )
            if time.perf_counter() > until:
                raise RuntimeError(f"{self.side.name} was not ready after {START_SECONDS:.0f} s: {self._last_words()}")
            if _answers(self.port, self.side.ready):
                return
            time.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-600:].strip() or "without a word"


def _with(side: Side, name: str, *arguments: str) -> Side:
    return Side(name, (*side.command, *arguments), side.ready, side.paths, side.forms)


def _orphans(processes: Sequence[int]) -> list[int]:
    """Those that still live."""
    return [process for process in processes if Path(f"/proc/{process}").exists()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
