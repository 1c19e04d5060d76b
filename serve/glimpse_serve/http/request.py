"""A request as the routes see it, and what they answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from glimpse_serve.errors import HTTPError

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Scope = dict[str, Any]

REQUEST_KEY = "glimpse.asked"
"""Under which a request's :class:`Request` lies in its ASGI scope."""
JSON = "application/json"


@dataclass(slots=True)
class Request:
    """One request, and what becomes known of it on its way.

    Attributes:
        scope: Its ASGI scope.
        receive: From which its body comes.
        headers: Names in small letters; of those that came twice the last.
        id: By which it is told from others in the logs.
        arrived: On :func:`time.monotonic`.
        caller: The name of the key with which it came; empty without one.
        span: Its trace.
        route: The template of its path; empty while none fits.
        model: Name of the model that it reached; empty for none.
        glimpses: That were taken for it; None for none.
        bytes_in: Of its body.
        bytes_out: Of the answer's body.
        status: Of the answer; 0 while there is none.
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
        """What stands in the path in place of the template's names."""
        found: dict[str, str] = self.scope.get("path_params", {})
        return found

    def query(self, *known: str) -> dict[str, str]:
        """Read the parameters behind the path's question mark.

        Args:
            known: Those that this path has.

        Raises:
            Refusal: 400 when there is another, or one comes twice.
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


class Response(NamedTuple):
    """What a route answers."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = {}


Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """An ASGI application for one path: its methods and who handles them.

    Args:
        route: The template of the path.
        handlers: By method.
    """

    def __init__(self, route: str, handlers: Mapping[str, Handler]) -> None:
        self._route = route
        self._handlers = dict(handlers)
        if "GET" in self._handlers:
            self._handlers.setdefault("HEAD", self._handlers["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        asked: Request = scope[REQUEST_KEY]
        asked.route = self._route
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(self._handlers)
            raise HTTPError(
                405,
                f"expected one of the methods {allowed} here, got {scope['method']!r:.40}",
                "method",
                {"Allow": allowed},
            )
        await send_response(asked, await handler(asked), send)


async def send_response(asked: Request, answer: Response, send: Send) -> None:
    """Send an answer.

    Args:
        asked: What it answers.
        answer: The answer.
        send: Where it goes.
    """
    asked.status, asked.bytes_out = answer.status, len(answer.body)
    headers = [(b"content-type", answer.media_type.encode()), (b"content-length", b"%d" % len(answer.body))]
    headers += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make an answer in JSON.

    Args:
        content: What orjson can write, numpy arrays included.
        status: HTTP's.
        headers: Further ones.
    """
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, JSON, headers or {})


def error_response(refusal: HTTPError) -> Response:
    """Make the answer to a request that is refused.

    Args:
        refusal: Why it is.
    """
    return json_response({"error": refusal.sentence}, refusal.status, refusal.headers)
