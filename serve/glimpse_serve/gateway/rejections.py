"""The headers that every response carries, and the responses that are made without the application."""

from collections.abc import Iterable

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from glimpse_serve.settings import Settings
from glimpse_serve.telemetry import logs

Headers = list[tuple[bytes, bytes]]


def security_headers(settings: Settings) -> Headers:
    """Return the headers of every response that tell browsers not to guess types, embed or cache it.

    Args:
        settings: TLS and CORS settings.
    """
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (
            b"content-security-policy",
            b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
        ),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"cross-origin" if settings.cors else b"same-origin"),
        (b"cache-control", b"no-store"),
    ]
    if settings.tls_certificate:
        headers.append((b"strict-transport-security", b"max-age=31536000"))
    return headers


def response_headers(security: Headers, request_id: str) -> Headers:
    """Return the headers of every response to a request.

    Args:
        security: The result of :func:`security_headers`.
        request_id: The id of the request.
    """
    return [*security, (b"x-request-id", request_id.encode())]


def received_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id of a request: its X-Request-ID header if that is valid, else a new one.

    Args:
        headers: Headers of the request, by lower-case name.
    """
    return logs.request_id_of({name.decode("latin-1"): value.decode("latin-1") for name, value in headers})


def rejection(
    status: int,
    message: str,
    settings: Settings,
    received: Iterable[tuple[bytes, bytes]] = (),
    more: Headers | None = None,
) -> bytes:
    """Return the response to bytes that never reach the application, whole, as it is written; the connection ends.

    Args:
        status: HTTP status.
        message: What was expected, what came, and what to do.
        settings: TLS and CORS settings.
        received: Headers of the request as far as they came, by lower-case name.
        more: Additional headers.
    """
    body = orjson.dumps({"error": message})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *(more or []),
        *response_headers(security_headers(settings), received_request_id(received)),
    ]
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + body
