import contextlib
import http.client
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glimpse_serve.gateway.tls import server_context
from glimpse_serve.settings import Settings
from tests.support.service import Running, running, toy_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -days 1 -subj /CN=localhost"
    command += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return str(folder / "certificate"), str(folder / "key")


@pytest.fixture
def service(files: tuple[str, str], tmp_path: Path) -> Iterator[Running]:
    certificate, key = files
    models = toy_files(tmp_path)[:1]
    settings = Settings(models=models, max_connections=4, header_seconds=2.0, tls_certificate=certificate, tls_key=key)
    with running(settings) as made:
        yield made


def probe(service: Running, certificate: str) -> int:
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection(service.host, service.port, timeout=10, context=context)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_https_is_served_and_newer_than_tls_1_1(service, files):
    assert probe(service, files[0]) == 200
    context = ssl.create_default_context(cafile=files[0])
    with (
        socket.create_connection((service.host, service.port), 10) as line,
        context.wrap_socket(line, server_hostname="127.0.0.1") as encrypted,
    ):
        encrypted.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = encrypted.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"strict-transport-security" in answer
        assert encrypted.version() in ("TLSv1.2", "TLSv1.3")


def test_connections_that_begin_no_handshake_count_and_make_room(service, files):
    held = [socket.create_connection((service.host, service.port), 10) for _ in range(100)]
    try:
        assert len(service.server.server_state.connections) <= 4 + 32 + 64
        end = time.monotonic() + 20
        while probe(service, files[0]) != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert len(service.server.server_state.connections) <= 4 + 32
        for line in held:  # closed for lack of room, or after the time for a handshake
            line.settimeout(20)
            with contextlib.suppress(ConnectionError):
                assert line.recv(1) == b""
    finally:
        for line in held:
            line.close()
    assert probe(service, files[0]) == 200


@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 9])
def test_what_is_no_handshake_ends_the_connection(service, files, nonsense):
    with socket.create_connection((service.host, service.port), 10) as line:
        line.sendall(nonsense)
        while line.recv(4096):
            pass
    assert probe(service, files[0]) == 200


def test_the_context_is_made_once(files):
    settings = Settings(tls_certificate=files[0], tls_key=files[1])
    assert server_context(settings) is server_context(settings)
    with pytest.raises(OSError, match="No such file"):
        server_context(Settings(tls_certificate="none", tls_key="none"))
