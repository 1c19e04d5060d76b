"""Requests, responses, endpoints, and the JSON form of results and errors."""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from glimpse_serve.errors import HTTPError

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Scope = dict[str, Any]

REQUEST_KEY = "glimpse.request"
"""The key of the ASGI scope under which the :class:`Request` is kept."""
JSON = "application/json"


@dataclass(slots=True)
class Request:
    """One request, with what is recorded for its log line while it is processed.

    Attributes:
        scope: Its ASGI scope.
        receive: ASGI's receive channel, which delivers the body.
        headers: By lower-case name; the last value of a header that was sent twice.
        id: Identifies the request in the logs.
        arrived: Time of arrival, by :func:`time.monotonic`.
        caller: Name of the API key that was sent; empty without one.
        span: Its span in the trace.
        route: The template of its path; empty while no route matches.
        model: Name of the model that it uses; empty for none.
        glimpses: Number of glimpses taken; None where no image was classified.
        bytes_in: Size of its body.
        bytes_out: Size of the response's body.
        status: HTTP status of the response; 0 while there is none.
    """

    scope: Scope
    receive: Receive
    headers: dict[str, str]
    id: str
    arrived: float
    caller: str = ""
    span: Any = None
    route: str = ""
    model: str = ""
    glimpses: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    status: int = 0
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> dict[str, str]:
        """Values of the path parameters, by name."""
        found: dict[str, str] = self.scope.get("path_params", {})
        return found

    def query(self, *known: str) -> dict[str, str]:
        """Parse the query parameters.

        Args:
            known: Names of the parameters that this path accepts.

        Raises:
            HTTPError: 400 for an unknown, repeated or malformed parameter.
        """
        text = self.scope["query_string"]
        if not text:
            return {}
        try:
            pairs = parse_qsl(
                text.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=32
            )
        except ValueError as error:
            raise HTTPError(
                400, f"expected parameters as ?name=value&name=value, in UTF-8, got others ({error})", "limit"
            ) from error
        found: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                what = f"parameters out of {', '.join(known)}" if known else "no parameters here"
                raise HTTPError(400, f"expected {what}, got {name!r:.80}; leave it out", "limit")
            if name in found:
                raise HTTPError(
                    400, f"expected the parameter {name!r} once, got it twice; leave one of them out", "limit"
                )
            found[name] = value
        return found


def client_address(scope: Scope) -> str:
    """Return the address of a client, for limits; of IPv6 its network of 64 bits, which one client usually has.

    Args:
        scope: The ASGI scope of its request.
    """
    client = scope.get("client")
    if not client:
        return "unknown"
    text = str(client[0])
    if ":" not in text:
        return text
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))


class Response(NamedTuple):
    """A response: body, status, media type, headers."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = {}


RequestHandler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """An ASGI application for one path, which dispatches to a handler by method.

    Args:
        route: The template of the path.
        handlers: Handlers by HTTP method; GET serves HEAD as well.
    """

    def __init__(self, route: str, handlers: Mapping[str, RequestHandler]) -> None:
        self._route = route
        self._handlers = dict(handlers)
        if "GET" in self._handlers:
            self._handlers.setdefault("HEAD", self._handlers["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the handler of the request's method and send its response."""
        request: Request = scope[REQUEST_KEY]
        request.route = self._route
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(self._handlers)
            raise HTTPError(
                405,
                f"expected one of the methods {allowed} here, got {scope['method']!r:.40}",
                "method",
                {"Allow": allowed},
            )
        await send_response(request, await handler(request), send)


async def send_response(request: Request, response: Response, send: Send) -> None:
    """Send a response, and record its status and size in the request.

    Args:
        request: The request.
        response: The response.
        send: ASGI's send channel.
    """
    request.status, request.bytes_out = response.status, len(response.body)
    headers = [(b"content-type", response.media_type.encode()), (b"content-length", b"%d" % len(response.body))]
    headers += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in response.headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make a JSON response.

    Args:
        content: Any value that orjson serialises, numpy arrays included.
        status: HTTP status.
        headers: Additional headers.
    """
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, JSON, headers or {})


def error_response(error: HTTPError) -> Response:
    """Make the response to a request that failed: ``{"error": message}``.

    Args:
        error: The error.
    """
    return json_response({"error": error.message}, error.status, error.headers)
