"""The benchmark of the service: what it compares must be comparable, and no wrong answer may pass."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving import cost, report
from benchmarks.serving.load import Answers, Task, fault, load, pack, unpack
from benchmarks.serving.processes import cpu_seconds, memory, send, tree
from benchmarks.serving.sides import BARE, BATCHED, IMAGES, LITSERVE, OURS, QUIET, TENSORS, Running, Side, sides_of
from glimpse.images.pixels import decode
from glimpse_serve.routes import v2_tensors
from tests.support import toys

REPOSITORY = Path(__file__).resolve().parents[3]
SQUARE = replace(toys.ADAPTIVE, height=28, width=28)
CLASSES = ("cat", "dog", "owl")
TASK = Task(0, "", (1, 2), CLASSES, "json", 1, 0.05, 1, ())


def answers(status: str, *bodies: bytes) -> Answers:
    head = f"HTTP/1.1 {status}\r\n\r\n".encode()
    return Answers(list(range(len(bodies))), [head] * len(bodies), list(bodies), [0.1] * len(bodies))


def test_requests_come_out_of_their_file_as_they_went_in():
    requests = [b"", b"POST", bytes(70_000)]
    assert unpack(pack(requests)) == requests


def test_a_right_answer_has_no_fault_in_either_form():
    found = answers("200 OK", b'{"class":"dog"}', b'{"model":{"class":"dog"},"class":"owl"}')
    assert [fault(TASK, found, place) for place in (0, 1)] == [None, None]
    end = np.array([0.2, 0.7, 0.1], np.float32).tobytes()
    assert fault(replace(TASK, form="bytes"), answers("200 OK", b"head" + end), 0) is None


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        ("200 OK", b'{"class":"cat"}', "request 0: expected dog, got cat"),
        ("503 Service Unavailable", b'{"error":"later"}', 'status 503: {"error":"later"}'),
    ],
)
def test_a_wrong_answer_is_told(status, body, sentence):
    assert fault(TASK, answers(status, body), 0) == sentence


@asynccontextmanager
async def answering(*parts: bytes, times: int | None = None) -> AsyncIterator[int]:
    """A server that answers every request with these bytes, in so many pieces, and leaves after so many requests."""

    talks: list[Any] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        done = 0
        while times is None or done < times:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            assert head.startswith(b"POST /")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            done += 1
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*talks)


def loading(tmp_path: Path, *parts: bytes, times: int | None = None, **changes: Any) -> dict[str, Any]:
    (tmp_path / "requests").write_bytes(pack([b"POST / HTTP/1.1\r\n\r\n"] * 2))

    async def run() -> dict[str, Any]:
        async with answering(*parts, times=times) as port:
            processes = (os.getpid(),)
            task = replace(TASK, port=port, requests=str(tmp_path / "requests"), processes=processes, **changes)
            return await load(task)

    return asyncio.run(run())


def test_clients_ask_again_and_again_and_count_wrong_answers(tmp_path):
    body = b'{"class":"dog"}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body)
    found = loading(tmp_path, head, b"\r\n" + body[:4], body[4:], clients=3)
    assert found["requests"] > 10
    assert len(found["latencies"]) == found["requests"]
    assert found["bytes_of_an_answer"] == len(body)
    assert found["cpu_seconds"] > 0
    # Every second request is one to which the answer would be owl.
    assert 0 < found["failures"] < found["requests"]
    assert found["first_failure"] == "request 1: expected owl, got dog"


def test_a_server_that_leaves_is_a_failure(tmp_path):
    body = b'{"class":"dog"}'
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    found = loading(tmp_path, head + body, times=3, clients=2, expected=(1, 1))
    assert found["requests"] == 4  # of each connection one went to warm up
    assert found["failures"] == 2
    assert found["first_failure"] == "the server closed connection 0"


def test_our_request_is_one_that_our_service_reads():
    ours = sides_of(None)[0]
    canvas = toys.noise(1, 28, 28)
    head, body = ours.request(TENSORS, canvas.tobytes(), SQUARE).split(b"\r\n\r\n", 1)
    lines = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    assert head.startswith(b"POST /v2/models/model/infer HTTP/1.1\r\n")
    assert int(lines["Content-Length"]) == len(body)
    request = v2_tensors.read(body, lines["Inference-Header-Content-Length"], SQUARE, 1, 2**20)
    assert request.job.outputs[-1] == "probabilities"
    assert request.binary == frozenset(SQUARE.outputs)
    np.testing.assert_array_equal(request.job.given["images"], canvas[None])


def test_an_image_is_sent_as_it_is():
    canvas = toys.noise(28, 28, 1)
    sent = cost.png(canvas)
    for side in sides_of(sys.executable):
        head, body = side.request(IMAGES, sent, SQUARE).split(b"\r\n\r\n", 1)
        assert body == sent
        assert b"Content-Type: image/png\r\n" in head
    np.testing.assert_array_equal(decode(sent), canvas)


def test_every_side_serves_the_same_file():
    sides = {side.name: side.command for side in sides_of("python-of-litserve")}
    assert all(any("FILE" in part for part in command) for command in sides.values())
    assert sides[LITSERVE][0] == sides[BATCHED][0] == "python-of-litserve"
    assert {LITSERVE, BATCHED}.isdisjoint(side.name for side in sides_of(None))


@pytest.mark.child
def test_a_server_that_ends_at_its_start_says_how(tmp_path):
    side = Side("broken", (sys.executable, "-c", "raise SystemExit('no FILE')"), "/", {}, {})
    with pytest.raises(RuntimeError, match="broken ended with status 1: no here"):
        Running(side, Path("here"), tmp_path)


@pytest.mark.child
def test_processes_are_found_and_measured_with_their_children():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout
        process.stdout.readline()
        both = tree(process.pid)
        assert len(both) == 2
        whole, first = cpu_seconds(both), cpu_seconds(both[:1])
        assert 0 < first < whole
        ticks = [
            int(value) for value in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        ]
        assert sum(ticks) / os.sysconf("SC_CLK_TCK") == pytest.approx(first, abs=0.03)
        held = memory(both)
        assert 0 < held.proportional <= held.resident < 1000
        send([*both, 2**22 + 1], signal.SIGKILL)  # one more than Linux has


def run_of(milliseconds: float, failure: str | None = None) -> dict[str, Any]:
    figures = ("p50_ms", "p99_ms", "requests_per_second", "client_cpu_ms", "bytes_of_an_answer")
    return {
        "cpu_ms": milliseconds,
        "requests": 10,
        "failures": int(failure is not None),
        "first_failure": failure,
        **dict.fromkeys(figures, 1.0),
    }


def test_ratios_are_of_runs_within_a_round_and_litserve_has_its_better_form():
    cell = report.cell_of(
        IMAGES,
        16,
        {
            OURS: [run_of(1.0), run_of(2.0), run_of(3.0)],
            BARE: [run_of(1.0), run_of(4.0), run_of(3.0, "wrong")],
            LITSERVE: [run_of(2.0), run_of(4.0), run_of(6.0)],
            BATCHED: [run_of(4.0), run_of(8.0), run_of(12.0)],
        },
    )
    rows = {row["side"]: row for row in cell["sides"]}
    assert rows[BARE]["ours_over_it"] == {"median": 1.0, "least": 0.5, "most": 1.0}
    assert (rows[BARE]["failures"], rows[BARE]["first_failure"]) == (1, "wrong")
    found = {
        "cells": [cell, {**cell, "clients": 1}],
        "starts": {OURS: {"median": 1.6}},
        "memory": {OURS: {"resident": 120.0, "proportional": 100.0}},
    }
    verdicts = [(one["found"], one["target"], one["met"]) for one in report.verdicts(found)]
    third = pytest.approx(1 / 3)
    assert verdicts == [
        (1.0, 1.0, True),
        (0.5, third, False),
        (1.0, 1.3, True),
        (0.5, third, False),
        (1.6, 1.5, False),
        (120.0, 150.0, True),
    ]


@pytest.mark.child
@pytest.mark.slow
def test_a_quick_run_measures_every_side(tmp_path):
    pytest.importorskip("fastapi")
    model = toys.write_toy(tmp_path / "toy.onnx", SQUARE)
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in ("serve", "."))
    output = tmp_path / "serve.json"
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.cost", "--quick", "--model", str(model), "--output", str(output)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "GLIMPSE_DATA": str(tmp_path)},
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(output.read_text())
    assert result["data"] == "digits"
    (found,) = result["models"]
    assert found["model"]["file"] == "toy.onnx"
    assert [(cell["kind"], cell["clients"]) for cell in found["cells"]] == [
        (kind, clients) for kind in (IMAGES, TENSORS) for clients in (1, 16, 64)
    ]
    for cell in found["cells"]:
        names = [row["side"] for row in cell["sides"]]
        assert names[:3] == [OURS, QUIET, BARE]
        assert (LITSERVE in names) == (not result["left_out"])
        for row in cell["sides"]:
            assert row["failures"] == 0
            assert row["requests"] >= cell["clients"]
            assert row["cpu_ms"]["median"] > 0
    assert set(found["starts"]) == set(found["memory"]) == set(names)
    assert all(held["proportional"] > 10 for held in found["memory"].values())
    assert "What was to be shown" in run.stdout
