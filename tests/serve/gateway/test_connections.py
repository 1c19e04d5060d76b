import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glimpse_serve.gateway import connections
from glimpse_serve.gateway.connections import GuardedProtocol
from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import noise

IMAGE = png(noise(20, 30, 1))
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(IMAGE)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return toy_files(tmp_path_factory.mktemp("models"))[:1]


@pytest.fixture
def service(files: tuple[str, ...]) -> Iterator[Running]:
    with running(Settings(models=files, header_seconds=0.3, body_seconds=0.3, max_connections=4)) as made:
        yield made


@pytest.fixture
def opened() -> Iterator[Callable[[Running], socket.socket]]:
    """Opens connections, which are closed when the test is over."""
    with contextlib.ExitStack() as lines:
        yield lambda service: lines.enter_context(socket.create_connection((service.host, service.port), 10))


def rest(line: socket.socket) -> bytes:
    """What still comes, until the service closes."""
    found = b""
    while chunk := line.recv(65536):
        found += chunk
    return found


def reported(answer: bytes) -> tuple[int, str]:
    """The status and the sentence of an error, which comes in the form of all errors."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head.lower()
    content = json.loads(body)
    assert list(content) == ["error"]
    return int(head.split()[1]), content["error"]


def error(service: Running, kind: str) -> bool:
    text = service.request("GET", "/metrics").body.decode()
    return f'glimpse_connections_refused_total{{kind="{kind}"}} 1.0' in text


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\nHost", HEAD[:-2]])
def test_headers_that_do_not_end_are_not_waited_for(service, opened, start):
    line = opened(service)
    line.sendall(start)
    status, message = reported(rest(line))
    assert (status, "headers within 0.3 s, got a part" in message) == (408, True)
    assert error(service, "slow")


def test_headers_that_come_byte_by_byte_are_not_waited_for_either(service, opened):
    line = opened(service)
    line.settimeout(0.05)
    answer = b""
    for byte in HEAD * 10:
        try:
            line.sendall(bytes([byte]))
            answer += line.recv(65536)
            break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_silent_connection_is_closed_without_a_response(service, opened):
    assert rest(opened(service)) == b""


def test_a_body_that_stops_half_way_is_not_waited_for(service, opened):
    line = opened(service)
    line.sendall(HEAD + IMAGE[:-5])
    status, message = reported(rest(line))
    assert (status, "the whole body within 0.3 s" in message) == (408, True)


def test_endless_headers_are_rejected(service, opened):
    line = opened(service)
    line.sendall(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 70_000)
    status, message = reported(rest(line))
    assert (status, "at most 65536 bytes" in message) == (431, True)
    assert error(service, "headers")


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HELO example.org\r\n", b"\0" * 50]
)
def test_bytes_that_are_no_http_are_rejected(service, opened, nonsense):
    line = opened(service)
    line.sendall(nonsense)
    status, message = reported(rest(line))
    assert (status, "a request in HTTP/1.1" in message) == (400, True)


def test_one_connection_too_many_is_rejected_until_another_is_closed(service, opened):
    lines = [opened(service) for _ in range(4)]
    for line in lines:
        line.sendall(HEAD + IMAGE)
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
    answer = rest(opened(service))
    assert reported(answer)[0] == 503
    assert b"retry-after: 1" in answer
    for line in lines:
        line.close()
    while len(service.server.server_state.connections) > 3:
        time.sleep(0.01)
    assert service.request("POST", "/v1/classify", IMAGE).status == 200


def test_a_kept_connection_may_rest_but_has_to_go_on_at_once_when_it_goes_on(service, opened):
    line = opened(service)
    for _ in range(3):
        line.sendall(HEAD + IMAGE)
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(0.5)
    line.sendall(b"POST /v1/cl")
    assert reported(rest(line))[0] == 408


def test_pipelined_requests_all_get_a_response(service, opened):
    line = opened(service)
    line.sendall((HEAD + IMAGE) * 3)
    answer = b""
    while answer.count(b"HTTP/1.1 200") < 3:
        answer += (part := line.recv(65536))
        assert part, answer


def test_a_client_that_does_not_read_its_response_is_disconnected(files, monkeypatch):
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
    counted = Counter[str]()
    with running(Settings(models=files)) as service:
        monkeypatch.setattr(GuardedProtocol, "count", staticmethod(lambda kind: counted.update([kind])))
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(10)
            line.connect((service.host, service.port))
            request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
            try:
                for _ in range(400):
                    line.sendall(request)
                    if counted:
                        break
            except OSError:
                pass
            while not counted:
                time.sleep(0.01)
            assert service.request("GET", "/v2").status == 200
    assert counted["unread"] == 1


def test_the_settings_of_a_worker_come_from_its_environment(monkeypatch, tmp_path: Path):
    import uvicorn
    from uvicorn.server import ServerState

    monkeypatch.setattr(GuardedProtocol, "settings", None)
    monkeypatch.setenv("GLIMPSE_SERVE_SETTINGS", Settings(header_seconds=7.5).to_json())

    async def application(scope: object, receive: object, send: object) -> None:
        return None

    async def main() -> float:
        config = uvicorn.Config(application, log_config=None)
        return GuardedProtocol(config, ServerState(), {})._limits.header_seconds

    assert asyncio.run(main()) == 7.5
    monkeypatch.setattr(GuardedProtocol, "settings", None)


def test_the_rest_of_a_body_after_an_early_response_is_not_awaited(service, opened):
    line = opened(service)
    line.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
    line.settimeout(10)
    assert b"404 Not Found" in line.recv(65536)
    line.sendall(b"a")
    assert rest(line) == b""


def test_a_body_that_arrives_after_its_response_leaves_the_connection_open(service, opened):
    line = opened(service)
    line.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
    line.settimeout(10)
    assert b"404 Not Found" in line.recv(65536)
    line.sendall(b"abcGET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in line.recv(65536)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        (b"GET", b""),
        (b"GET", b"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        (b"GET", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n"),
        (b"POST", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
    ],
)
def test_a_malformed_handshake_gets_an_error_in_json(service, opened, method, headers):
    line = opened(service)
    line.sendall(method + b" /v1/look HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n")
    line.sendall(headers + b"\r\n")
    status, message = reported(rest(line))
    assert (status, "expected a WebSocket's handshake" in message) == (400, True)
