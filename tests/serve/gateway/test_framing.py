"""Requests whose end is in doubt, or has none, on real connections: trailers, upgrades, chunks, pipelines."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from glimpse_serve.gateway.api_keys import make_key
from glimpse_serve.settings import Settings
from tests.support.service import Running, png, running, toy_files
from tests.support.toys import noise

IMAGE = png(noise(20, 30, 1))
CHUNKED = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%b\r\n"
SMUGGLED = b"GET /v1/models?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


def talk(service: Running, *parts: bytes) -> bytes:
    """Everything that the service sends until it closes."""
    found = b""
    with socket.create_connection((service.host, service.port), 10) as line, contextlib.suppress(OSError):
        with contextlib.suppress(ConnectionError):
            for part in parts:
                line.sendall(part)
                time.sleep(0.02)
        line.settimeout(20)
        while chunk := line.recv(2**16):
            found += chunk
    return found


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answer)]


def chunk(content: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(content), extension, content)


WHOLE = CHUNKED % b"" + chunk(IMAGE)


@pytest.mark.parametrize(
    "endless",
    [
        b"t: v\r\n" * 20_000,
        b"t: " + b"v" * 200_000,
        b"t" * 200_000,
        b"t: v\r\n x" * 20_000,
    ],
)
def test_endless_trailers_end_the_request(service, endless):
    assert statuses(talk(service, WHOLE + b"0\r\n", endless)) in ([431], [400])


@pytest.mark.parametrize(
    "endless", [chunk(b"A", b";x=" + b"y" * 10_000), chunk(b"A", b";x=" + b"y" * 4000) * 40, b"1;" + b"y" * 100_000]
)
def test_endless_extensions_of_chunks_end_the_request(service, endless):
    assert statuses(talk(service, CHUNKED % b"", endless)) == [431]


def test_empty_lines_without_end_before_a_request_are_not_read(service):
    assert statuses(talk(service, b"\r\n" * 100_000 + LIVE)) == [431]
    assert statuses(talk(service, b"\r\n\r\n" + LIVE)) == [200]


def test_short_trailers_are_dropped(service):
    answer = talk(service, WHOLE + b"0\r\nX-Request-ID: of-the-trailer\r\nConnection: close\r\n\r\n", LIVE)
    assert statuses(answer) == [200, 200]
    assert b"of-the-trailer" not in answer


@pytest.mark.parametrize("form", [b"X-API-Key: %b", b"Authorization: Bearer %b"])
def test_a_key_in_a_trailer_is_none(tmp_path, form):
    secret, entry = make_key("alice")
    with running(Settings(models=toy_files(tmp_path)[:1], keys=entry)) as guarded:
        key = form % secret.encode()
        assert statuses(talk(guarded, WHOLE + b"0\r\n" + key + b"\r\n\r\n" + LIVE)) == [401, 200]
        assert statuses(talk(guarded, CHUNKED % (key + b"\r\n") + chunk(IMAGE) + b"0\r\n\r\n" + LIVE)) == [200, 200]


@pytest.mark.parametrize("protocol", [b"h2c", b"TLS/1.0", b"websocket", b"h2c, websocket", b"x" * 300])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("separate", [True, False])
def test_a_body_behind_an_upgrade_is_a_body(service, protocol, version, separate):
    head = b"POST /v1/classify HTTP/%b\r\nHost: localhost\r\nUpgrade: %b\r\n" % (version, protocol)
    head += b"Connection: keep-alive, Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    for body, expected in ((SMUGGLED, 422), (IMAGE, 200)):
        request = [head + b"Content-Length: %d\r\n\r\n" % len(body), body + LIVE]
        answer = talk(service, *request) if separate else talk(service, b"".join(request))
        assert statuses(answer) == ([expected] if version == b"1.0" else [expected, 200])


def test_a_chunked_body_behind_an_upgrade_is_one_too_and_the_next_request_follows(service):
    upgrade = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
    answer = talk(service, CHUNKED % upgrade, chunk(SMUGGLED), b"0\r\n\r\n" + LIVE)
    assert statuses(answer) == [422, 200]


@pytest.mark.parametrize(
    "request_line",
    [b"CONNECT localhost:80 HTTP/1.1", b"PRI * HTTP/2.0", b"GET / HTTP/2.0", b"GET / HTTP/1.2", b"GET /"],
)
def test_other_protocols_end_the_connection(service, request_line):
    answer = talk(service, request_line + b"\r\nHost: localhost\r\n\r\n", b"SM\r\n\r\n" + SMUGGLED)
    (status,) = statuses(answer)
    assert status in (400, 405, 505)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"].startswith("expected")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 9",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 0\r\nSec-WebSocket-Key: a",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"X-Long: " + b"x" * 9000,
        b"\r\n".join(b"X-%d: y" % number for number in range(200)),
    ],
)
def test_a_wrong_handshake_ends_the_connection(service, headers):
    head = b"GET /v1/look?model=adaptive HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Request-ID: mine\r\n"
    answer = talk(service, head + headers + b"\r\n\r\n", SMUGGLED)
    assert statuses(answer) == [400]
    assert b"x-request-id: mine\r\n" in answer
    assert b"x-content-type-options: nosniff\r\n" in answer


@pytest.mark.parametrize("before", [b"", LIVE.replace(b"Connection: close\r\n", b"")])
@pytest.mark.parametrize("headers", [b"", b"Content-Length: 0\r\n"])
def test_a_handshake_is_accepted_as_the_first_request_and_as_a_later_one(service, before, headers):
    head = b"GET /v1/look?model=adaptive HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + headers + b"\r\n"
    close = b"\x88\x80\0\0\0\0"
    assert statuses(talk(service, before + head, close)) == [200] * bool(before) + [101]


def test_http_1_0_gets_no_interim_response(service):
    head = b"POST /v1/classify HTTP/1.%d\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(IMAGE)
    assert statuses(talk(service, head % 0, IMAGE)) == [200]
    assert statuses(talk(service, head % 1, IMAGE)) == [100, 200]


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_too_many_headers_are_rejected_however_short_they_are(service, end):
    head = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
    assert statuses(talk(service, head + b"a:\r\n" * 300 + end)) == [431]
    assert statuses(talk(service, head + b"a:\r\n" * 200 + b"Connection: close\r\n\r\n")) == [200]


def test_bytes_behind_a_handshake_end_the_connection(service):
    head = b"GET /v1/look?model=adaptive HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    assert statuses(talk(service, head + SMUGGLED)) == [400]


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Content-Length: 3\r\nContent-Length: 3",
        b"Content-Length: 3, 3",
        b"Content-Length: -3",
        b"Content-Length: 0x3",
        b"Content-Length: 3\r\n 4",
        b"Content-Length : 3",
        b"X: y\nContent-Length: 3",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding:\x0bchunked",
    ],
)
def test_a_request_whose_end_is_in_doubt_ends_the_connection(service, headers):
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
    (status,) = statuses(talk(service, head + headers + b"\r\n\r\n", b"0\r\n\r\n" + SMUGGLED))
    assert status in (400, 501)


def test_http_1_0_has_no_chunks(service):
    head = b"POST /v1/classify HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
    assert statuses(talk(service, head, chunk(IMAGE) + b"0\r\n\r\n" + SMUGGLED)) == [400]


@pytest.mark.parametrize(
    "damaged",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"0x10\r\n",
        b"\r\n",
        b" 1\r\nA\r\n",
        b"1 \r\nA\r\n",
        b"1\nA\r\n",
        b"1\r\nAB",
        b"f" * 17 + b"\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", chunk(IMAGE)])
def test_a_damaged_chunk_gets_400_at_once(service, damaged, before):
    answer = talk(service, CHUNKED % b"X-Request-ID: mine\r\n" + before, damaged)
    assert statuses(answer) == [400]
    assert b"x-request-id: mine\r\n" in answer


def test_a_pipeline_is_answered_request_by_request(service):
    requests = [SMUGGLED, WHOLE + b"0\r\n\r\n", LIVE.replace(b"Connection: close\r\n", b"")] * 40
    answer = talk(service, b"".join(requests) + LIVE + SMUGGLED)
    assert statuses(answer) == [400, 200, 200] * 40 + [200]


def test_no_request_is_parsed_while_a_response_is_due(service, monkeypatch):
    from glimpse_serve.gateway.connections import GuardedProtocol

    most = [0]
    parse = GuardedProtocol.on_headers_complete

    def counted(self: GuardedProtocol) -> None:
        parse(self)
        most[0] = max(most[0], len(self.pipeline))

    monkeypatch.setattr(GuardedProtocol, "on_headers_complete", counted)
    assert len(statuses(talk(service, SMUGGLED * 500 + LIVE))) == 501
    assert most == [0]


def test_the_body_of_an_answered_request_is_read_up_to_a_limit(service):
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    assert statuses(talk(service, head % 2**20, b"x" * 2**20 + LIVE)) == [404, 200]
    assert statuses(talk(service, head % (2**20 + 1), b"x" * (2**20 + 1) + LIVE)) == [404]
    chunked = CHUNKED.replace(b"/v1/classify", b"/nowhere") % b""
    assert statuses(talk(service, chunked, chunk(b"x" * 1000) * 900 + b"0\r\n\r\n" + LIVE)) == [404, 200]
    assert statuses(talk(service, chunked, chunk(b"x" * 1000) * 1100 + b"0\r\n\r\n" + LIVE)) == [404]


def test_the_host_of_an_absolute_target_counts(service):
    request = b"GET http://%b/v2/health/live HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
    assert statuses(talk(service, request % (b"localhost:80", b"rebound.example"))) == [200]
    assert statuses(talk(service, request % (b"rebound.example", b"localhost"))) == [421]
    assert statuses(talk(service, request % (b"me@localhost", b"localhost"))) == [400]
