import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import uvicorn

from glimpse_serve import server
from tests.support import toys
from tests.support.service import png

REPOSITORY = Path(__file__).resolve().parents[2]


class Process:
    """``glimpse serve`` as its users start it; it is killed on leaving the context where it still runs."""

    def __init__(self, *args: str, preexec: Any = None, **environment: str) -> None:
        paths = os.pathsep.join(str(REPOSITORY / folder) for folder in ("", "envs", "serve"))
        known = {name: value for name, value in os.environ.items() if not name.startswith("GLIMPSE_SERVE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "glimpse", "serve", "--port", "0", *args],
            env={**known, "PYTHONPATH": paths, **environment},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=preexec,
        )
        self.lines: list[str] = []
        self._found = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end(sent=None)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if address := re.search(r"serving at https?://[\d.]+:(\d+)", line):
                self.port = int(address.group(1))
                self._found.set()
        self._found.set()

    def ready(self) -> "Process":
        """Wait until it takes requests."""
        assert self._found.wait(60), self.lines
        for _ in range(600):
            assert self.process.poll() is None, self.lines
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/v2/health/ready")[0] == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(self.lines)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        is_json = response.getheader("content-type") == "application/json"
        return response.status, json.loads(content) if is_json else content.decode()

    def end(self, sent: int | None = signal.SIGTERM) -> int:
        """Send a signal to stop, and wait for the exit status."""
        if sent is not None:
            self.process.send_signal(sent)
        status = self.process.wait(60)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def workers(self) -> list[int]:
        """The processes of the workers."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                about = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
                if int(about[1]) == self.process.pid and b"spawn_main" in command:
                    found.append(int(folder.name))
        return sorted(found)


def ignores(pid: int, number: int) -> bool:
    """Whether a process ignores a signal; False when it has ended."""
    with contextlib.suppress(OSError):
        mask = re.search(r"^SigIgn:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return bool(mask and int(mask[1], 16) >> (number - 1) & 1)
    return False


@contextlib.contextmanager
def serving(*args: str, **environment: str) -> Iterator[Process]:
    with Process(*args, **environment) as process:
        yield process.ready()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toys.write_toy(tmp_path_factory.mktemp("models") / "toy.onnx", toys.ADAPTIVE))


IMAGE = png(toys.noise(20, 30, 1))


@pytest.mark.child
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_exits_with_0_after_a_signal(toy, sent):
    with serving(toy) as process:
        status, answer = process.request("POST", "/v1/classify", IMAGE)
        assert (status, answer["model"]["name"]) == (200, "toy")
        assert process.end(sent) == 0
    reported = process.lines[0]
    assert reported.startswith("glimpse serve: models=")
    assert "max_queue=256" in reported
    words = [line for line in process.lines if not line.startswith("{")]
    assert [line.partition(" at ")[0].partition("=")[0] for line in words] == [
        "glimpse serve: models",
        "glimpse serve: serving",
    ]
    records = [json.loads(line) for line in process.lines if line not in words]
    request = [
        record for record in records if record["logger"] == "glimpse_serve.access" and record["path"] == "/v1/classify"
    ]
    assert request[0]["status"] == 200
    assert request[0]["model"] == "toy"


@pytest.mark.child
def test_running_requests_are_finished_while_it_reports_not_ready(toy):
    with serving(toy, "--drain-seconds", "1") as process:
        statuses: list[int] = []
        over = threading.Event()

        def look() -> None:
            while not over.is_set():
                statuses.append(process.request("POST", "/v1/classify", IMAGE)[0])

        clients = [threading.Thread(target=look) for _ in range(4)]
        for client in clients:
            client.start()
        process.process.send_signal(signal.SIGTERM)
        while True:
            status, answer = process.request("GET", "/v2/health/ready")
            if status != 200:
                break
        assert status == 503
        assert "being stopped" in answer["error"]
        assert process.request("GET", "/v2/health/live")[0] == 200
        over.set()
        for client in clients:
            client.join()
        assert process.end(sent=None) == 0
    assert set(statuses) == {200}


@pytest.mark.child
def test_a_worker_that_is_killed_is_replaced_and_the_counts_stay(toy):
    with serving(toy, "--workers", "2") as process:
        for _ in range(20):
            assert process.request("POST", "/v1/classify", IMAGE)[0] == 200
        before = process.workers()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        answered = 0
        while len(set(process.workers()) - {before[0]}) < 2 or answered < 40:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                status, _ = process.request("POST", "/v1/classify", IMAGE)
                assert status == 200
                answered += 1
        counted = process.request("GET", "/metrics")[1]
        assert process.end() == 0
    total = re.search(r'glimpse_requests_total\{method="POST",route="/v1/classify",status="200"\} ([\d.]+)', counted)
    assert total
    assert float(total.group(1)) == 20 + answered
    assert counted.count("glimpse_model_loaded{") >= 1


@pytest.mark.child
def test_a_rate_is_one_for_all_workers(toy):
    with serving(toy, "--workers", "2", "--rate", "0.001", "--burst", "10") as process:
        statuses = [process.request("GET", "/v1/models")[0] for _ in range(30)]
        process.end()
    assert statuses.count(200) == 10
    assert statuses.count(429) == 20


def spoilt(folder: Path, kind: str) -> Path:
    """A file that can't be served."""
    file = folder / f"{kind}.onnx"
    if kind == "no-card":
        toys.write_sealed(file, toys.episode(toys.EPISODE), None)
    elif kind == "cut":
        file.write_bytes(toys.write_toy(file, toys.ADAPTIVE).read_bytes()[:-40])
    else:
        file.write_bytes(b"nonsense" if kind == "nonsense" else b"")
    return file


@pytest.mark.child
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["nonsense", "no-card", "cut"])
def test_a_file_that_is_no_model_keeps_it_from_starting_with_one_error(tmp_path, toy, kind, workers):
    bad = spoilt(tmp_path, kind)
    with Process(toy, str(bad), "--workers", workers) as process:
        assert process.end(sent=None) == 1
    errors = [json.loads(line) for line in process.lines if '"level":"error"' in line]
    assert [error["logger"] for error in errors] == ["glimpse_serve.models.registry"]
    assert errors[0]["message"].startswith(f"rejected the model {kind}: ")
    reported = "".join(process.lines)
    assert "serving at" not in reported
    assert "Traceback" not in reported


@pytest.mark.child
@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_once_where_it_serves_and_only_when_it_does(tmp_path, toy, workers):
    (tmp_path / "toy.onnx").write_bytes(Path(toy).read_bytes())
    spoilt(tmp_path, "empty")  # a file in a directory is refused, and the others are served
    with Process("--directory", str(tmp_path), "--workers", workers, "--log-level", "error") as process:
        assert process._found.wait(60)
        assert process.port
        assert process.request("GET", "/v2/health/ready")[0] == 200
        assert process.request("POST", "/v1/classify", IMAGE)[1]["model"]["name"] == "toy"
        assert process.end() == 0
    assert sum("serving at" in line for line in process.lines) == 1


@pytest.mark.child
@pytest.mark.parametrize("host", ["127.0.0.1", "nosuch.invalid"])
def test_an_address_in_use_is_an_error(toy, host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Process(toy, "--host", host, "--port", port, "--allow-anonymous") as process:
            assert process.end(sent=None) == 2
    reported = "".join(process.lines)
    assert f"expected to listen at {host!r}, port" in reported
    assert "choose another with --host and --port" in reported
    assert "Traceback" not in reported


@pytest.mark.child
def test_tls_is_spoken(toy, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )
    with Process(toy, "--tls-certificate", str(certificate), "--tls-key", str(key)) as process:
        assert process._found.wait(60)
        context = ssl.create_default_context(cafile=str(certificate))
        for _ in range(200):
            connection = http.client.HTTPSConnection("127.0.0.1", process.port, timeout=10, context=context)
            try:
                connection.request("GET", "/v2/health/ready")
                response = connection.getresponse()
                if response.status == 200:
                    break
            except ConnectionError:
                time.sleep(0.05)
            finally:
                connection.close()
        assert response.getheader("strict-transport-security")
        assert process.end() == 0


@pytest.mark.child
def test_a_second_signal_ends_the_draining(toy):
    with serving(toy, "--drain-seconds", "600") as process:
        process.process.send_signal(signal.SIGTERM)
        while process.request("GET", "/v2/health/ready")[0] == 200:
            pass
        assert process.end() == 0


@pytest.mark.child
def test_a_signal_during_the_start_does_not_kill_it(toy):
    with Process(toy, "--drain-seconds", "0.1") as process:
        while not ignores(process.process.pid, signal.SIGUSR1):
            time.sleep(0.001)
        process.process.send_signal(signal.SIGUSR1)
        assert process.end() in (0, -signal.SIGTERM)


@pytest.mark.child
def test_an_image_that_is_still_decoded_does_not_delay_the_exit_and_gets_an_error(toy):
    slow = b"P2 3000 3000 255\n" + b"7 " * 9_000_000
    answers: list[tuple[int, Any]] = []
    with serving(toy, "--shutdown-seconds", "1", "--max-bytes", "30000000", "--decode-seconds", "100") as process:
        client = threading.Thread(target=lambda: answers.append(process.request("POST", "/v1/classify", slow)))
        client.start()
        while "glimpse_requests_running 2.0" not in process.request("GET", "/metrics")[1]:
            pass
        time.sleep(0.3)
        assert process.end() == 0
        client.join()
    ((status, answer),) = answers
    assert status == 503
    assert "the service was stopped before the response" in answer["error"]


@pytest.mark.child
def test_stopped_workers_leave_no_connection_waiting(toy):
    with serving(toy, "--workers", "2") as process:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(IMAGE)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", process.port), 20) as begun:
            begun.sendall(head + IMAGE[:10])
            time.sleep(0.2)
            process.process.send_signal(signal.SIGTERM)
            closed = False
            while not closed:
                with socket.socket() as late:
                    closed = late.connect_ex(("127.0.0.1", process.port)) == errno.ECONNREFUSED
            assert process.process.poll() is None
            begun.sendall(IMAGE[10:])
            assert begun.recv(65536).startswith(b"HTTP/1.1 200")
        assert process.end(sent=None) == 0


class Worker:
    """What a supervisor sees of a worker."""

    started = 0

    def __init__(self, *args: object) -> None:
        self.exitcode: int | None = None
        self.pid = id(self)

    def start(self) -> None:
        Worker.started += 1

    def is_alive(self, timeout: float) -> bool:
        return self.exitcode is None

    def kill(self) -> None: ...

    def join(self) -> None: ...


@pytest.mark.parametrize(("steady", "goes_on"), [(0.0, True), (1000.0, False)])
def test_a_worker_that_can_not_start_ends_those_that_serve_no_more(monkeypatch, steady, goes_on):
    monkeypatch.setattr(server, "STEADY_SECONDS", steady)
    monkeypatch.setattr(server, "Process", Worker)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    supervisor = server.Supervisor(uvicorn.Config("nothing", workers=2), [], 0.0)
    serving, spoilt = Worker(), Worker()
    supervisor.processes = [serving, spoilt]  # type: ignore[list-item]
    supervisor.keep_subprocess_alive()
    spoilt.exitcode = 3
    before = Worker.started
    supervisor.keep_subprocess_alive()
    assert (supervisor.should_exit.is_set(), supervisor.failed) == (not goes_on, not goes_on)
    assert Worker.started - before == goes_on
    assert (supervisor.processes[1].pid != spoilt.pid) == goes_on
