import asyncio
import http.client
from typing import Any

import pytest

from glimpse_serve.http.response_writer import ResponseWriter
from glimpse_serve.settings import Settings
from tests.support.service import running, toy_files

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Transport(asyncio.Transport):
    """Records each write, and whether it was closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.writes.append(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def transport():
    return Transport()


def test_head_and_body_are_one_write(transport):
    writer = ResponseWriter(transport)
    writer.write(HEAD)
    assert transport.writes == []
    writer.write(b"body")
    writer.flush()
    assert transport.writes == [HEAD + b"body"]


def test_further_parts_of_a_stream_are_written_as_they_come(transport):
    writer = ResponseWriter(transport)
    for part in (HEAD, b"bo", b"d", b"y"):
        writer.write(part)
    assert transport.writes == [HEAD + b"bo", b"d", b"y"]


def test_an_interim_response_waits_for_nothing(transport):
    writer = ResponseWriter(transport)
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert transport.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    writer.write(HEAD)
    writer.write(b"body")
    assert transport.writes[1:] == [HEAD + b"body"]


def test_a_head_without_a_body_is_written_at_the_end(transport):
    writer = ResponseWriter(transport)
    writer.write(HEAD)
    writer.flush()
    assert transport.writes == [HEAD]
    writer.flush()
    assert transport.writes == [HEAD]


def test_closing_writes_what_waits(transport):
    writer = ResponseWriter(transport)
    writer.write(HEAD)
    assert not writer.is_closing()
    writer.close()
    assert transport.writes == [HEAD]
    assert writer.is_closing()


def test_the_service_answers_with_and_without_a_body(tmp_path):
    with running(Settings(models=toy_files(tmp_path))) as service:
        connection = http.client.HTTPConnection(service.host, service.port, timeout=10)
        try:
            for method in ("HEAD", "GET", "GET", "HEAD", "GET"):
                connection.request(method, "/v2/health/live")
                response = connection.getresponse()
                body = response.read()
                assert response.status in (200, 405)
                assert bool(body) == (method == "GET")
        finally:
            connection.close()
