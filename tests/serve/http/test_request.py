import asyncio
import json
from typing import Any

import numpy as np
import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.http.request import (
    REQUEST_KEY,
    Endpoint,
    Request,
    Response,
    error_response,
    json_response,
    send_response,
)


def make_request(method: str = "GET", query: bytes = b"") -> Request:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope: dict[str, Any] = {"type": "http", "method": method, "path": "/x", "query_string": query}
    made = Request(scope, receive, {}, "1", 0.0)
    scope[REQUEST_KEY] = made
    return made


def call(application: Any, request: Request) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(application(request.scope, request.receive, send))
    return sent


async def hello(request: Request) -> Response:
    return json_response({"hello": np.float32(0.5)}, 201, {"X-Kind": "ünicode"})


def test_an_endpoint_dispatches_by_method_and_serves_head_as_get():
    endpoint = Endpoint("/x/{y}", {"GET": hello})
    for method in ("GET", "HEAD"):
        request = make_request(method)
        start, body = call(endpoint, request)
        assert start["status"] == 201
        assert (b"x-kind", "ünicode".encode("latin-1")) in start["headers"]
        assert (b"content-length", b"13") in start["headers"]
        assert json.loads(body["body"]) == {"hello": 0.5}
        assert (request.route, request.status, request.bytes_out) == ("/x/{y}", 201, 13)


def test_an_error_of_the_method_lists_the_allowed_ones():
    with pytest.raises(HTTPError, match="GET, HEAD here, got 'BREW'") as error:
        call(Endpoint("/x", {"GET": hello}), make_request("BREW"))
    assert (error.value.status, error.value.headers) == (405, {"Allow": "GET, HEAD"})


def test_parameters_are_read_and_only_those_that_are_known():
    assert make_request(query=b"").query("a") == {}
    assert make_request(query=b"a=1&b=x%20y+z&c=").query("a", "b", "c") == {"a": "1", "b": "x y z", "c": ""}
    for query in (b"a=1&a=2", b"d=1", b"a", b"a=%ff", b"\xff=1", b"&&", b"=" * 100, b"a=1&" * 50):
        with pytest.raises(HTTPError) as error:
            make_request(query=query).query("a", "b")
        assert error.value.status == 400
    with pytest.raises(HTTPError, match="no parameters here"):
        make_request(query=b"a=1").query()


def test_an_error_has_one_form():
    response = error_response(HTTPError(413, "too much", "size", {"Connection": "close"}))
    assert (response.status, json.loads(response.body), dict(response.headers)) == (
        413,
        {"error": "too much"},
        {"Connection": "close"},
    )


def test_what_is_sent_is_counted():
    request = make_request()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(send_response(request, Response(b"four", 200, "text/plain"), send))
    assert (request.status, request.bytes_out) == (200, 4)
    assert sent[0]["headers"][0] == (b"content-type", b"text/plain")
