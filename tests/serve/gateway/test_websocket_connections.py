import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from glimpse_serve.gateway.websocket_connections import MAX_FRAMES, handshake_error
from glimpse_serve.settings import Settings
from tests.support.service import Running, running, toy_files

HEADERS = [
    (b"host", b"localhost"),
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]
HEAD = b"GET /v1/look?model=adaptive HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % header for header in HEADERS) + b"\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models"))[:1])) as made:
        yield made


def frame(opcode: int, content: bytes = b"", final: bool = True) -> bytes:
    return bytes([final << 7 | opcode, 0x80 | len(content)]) + b"\0\0\0\0" + content


def test_a_handshake_is_right_or_described():
    assert handshake_error(HEAD, HEADERS, last=True) is None
    assert "got bytes behind it" in (handshake_error(HEAD, HEADERS, last=False) or "")
    assert "got bytes behind it" in (handshake_error(HEAD, [*HEADERS, (b"content-length", b"10")], last=True) or "")
    assert "got another" in (handshake_error(HEAD.replace(b"13", b"8"), HEADERS, last=True) or "")


@pytest.mark.parametrize(
    "endless",
    [frame(9) * 20_000, frame(10, b"x" * 100) * 20_000, frame(1, b"{", final=False) + frame(0, final=False) * 20_000],
)
def test_frames_that_are_no_message_end_the_session(service, endless):
    with socket.create_connection((service.host, service.port), 10) as line:
        line.sendall(HEAD)
        answer = line.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"x-content-type-options: nosniff" in answer.lower()
        assert answer.lower().count(b"x-request-id: ") == 1
        with contextlib.suppress(ConnectionError):
            line.sendall(endless)
            while chunk := line.recv(2**16):
                answer += chunk
    assert answer.count(b"\x8a\x00") <= MAX_FRAMES + 1024


def test_a_client_that_reads_no_replies_to_its_pings_is_not_read(service):
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect((service.host, service.port))
        line.sendall(HEAD)
        line.settimeout(1)
        with contextlib.suppress(OSError):
            line.sendall(frame(9, os.urandom(125)) * 200_000)
        time.sleep(0.1)
        assert service.request("GET", "/v2/health/live").status == 200
        buffered = [each.transport.get_write_buffer_size() for each in service.server.server_state.connections]
        assert max(buffered, default=0) < 2**20
