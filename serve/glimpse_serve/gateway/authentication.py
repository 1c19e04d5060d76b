"""Access control: API keys, rate limits, CORS."""

import ipaddress
import math
import re
from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway import rejections
from glimpse_serve.gateway.api_keys import KeyRing
from glimpse_serve.gateway.rate_limits import RateLimiter
from glimpse_serve.gateway.rejections import received_request_id, response_headers, security_headers
from glimpse_serve.gateway.tls import server_context
from glimpse_serve.http.request import Scope, client_address
from glimpse_serve.settings import Settings

OPEN_PATHS = re.compile(r"/v2/health/(live|ready)")
"""Paths without authentication: health checks of load balancers, which have no keys. The readiness of a single model is
not one of them, since it tells which models there are."""
WRONG_KEYS = (1.0, 10)
"""Rate (requests a second) and burst of wrong keys from one address."""


class AccessError(ValueError):
    """Access settings that are unsafe, or TLS files that can't be used."""


class Caller(NamedTuple):
    """The authenticated sender of a request."""

    name: str = ""
    """Name of the API key; empty without one."""


class Authenticator:
    """Checks the API key and the rate limit of requests.

    Args:
        keys: The known keys.
        limiter: The token buckets.
        settings: Rates, and whether ``/metrics`` is open.
    """

    def __init__(self, keys: KeyRing, limiter: RateLimiter, settings: Settings) -> None:
        self._keys, self._limiter, self._settings = keys, limiter, settings

    def authenticate(self, scope: Scope) -> Caller:
        """Authenticate a request or a WebSocket handshake, and count it against its rate limit.

        Args:
            scope: Its ASGI scope.

        Raises:
            HTTPError: 401 without a known key, 429 when the rate limit is exceeded.
        """
        path: str = scope["path"]
        if OPEN_PATHS.fullmatch(path) or (path == "/metrics" and self._settings.open_metrics):
            return Caller()
        if not self._keys.required:
            if self._settings.rate:
                self._take_token(f"address {client_address(scope)}", self._settings.rate, self._settings.burst)
            return Caller()
        secret = _secret(scope)
        key = self._keys.find(secret) if secret is not None else None
        if key is None:
            self._take_token(f"wrong {client_address(scope)}", *WRONG_KEYS)
            received = "one that is not known" if secret is not None else "none"
            raise HTTPError(
                401,
                f"expected an API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY', got {received}; get "
                "one from the operator of the service",
                "auth",
                {"WWW-Authenticate": 'Bearer realm="glimpse"'},
            )
        rate = self._settings.rate if key.rate is None else key.rate
        if rate:
            self._take_token(f"key {key.name}", rate, max(self._settings.burst, 1))
        return Caller(key.name)

    def _take_token(self, name: str, rate: float, burst: int) -> None:
        wait = self._limiter.take(name, rate, burst)
        if wait:
            seconds = max(1, math.ceil(wait))
            raise HTTPError(
                429,
                f"expected at most {rate:g} requests a second and {burst} at once, got more; try again in {seconds} s",
                "rate",
                {"Retry-After": str(seconds)},
            )


def cors_middleware(settings: Settings) -> list[Middleware]:
    """Return the middleware that lets pages of other origins call the service; none without such origins.

    Requests of these pages need an API key as all others do.

    Args:
        settings: The allowed origins.
    """
    if not settings.cors:
        return []
    cors = Middleware(
        _JsonCORSMiddleware,
        security=security_headers(settings),
        allow_origins=settings.cors,
        allow_methods=("GET", "POST"),
        allow_headers=(
            "Authorization",
            "X-API-Key",
            "Content-Type",
            "X-Request-ID",
            "Inference-Header-Content-Length",
            "Content-Encoding",
            "traceparent",
        ),
        expose_headers=("X-Request-ID", "Retry-After", "Inference-Header-Content-Length"),
    )
    return [cors]


class _JsonCORSMiddleware(CORSMiddleware):
    """Starlette's CORS middleware, with the headers of all responses, and errors in the JSON form of all errors."""

    def __init__(self, app: Any, /, security: rejections.Headers, **options: Any) -> None:
        super().__init__(app, **options)
        self._security = security

    def _more_headers(self, request_headers: Headers) -> dict[str, str]:
        found = response_headers(self._security, received_request_id(request_headers.raw))
        return {name.decode(): value.decode() for name, value in found}

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        response.headers.update(self._more_headers(request_headers))
        if response.status_code < 400:
            return response
        message = f"expected a call that is allowed to other origins (--cors), got {bytes(response.body).decode()}"
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return JSONResponse({"error": message}, response.status_code, headers)


def check_access(settings: Settings, keys: KeyRing) -> None:
    """Check that the service is not open to other machines by mistake, and that certificate and key fit together.

    Args:
        settings: The settings of the service.
        keys: The known keys.

    Raises:
        AccessError: When they don't.
    """
    if not keys.required and not settings.allow_anonymous and not is_loopback(settings.host):
        raise AccessError(
            f"expected API keys, since {settings.host} can be reached from other machines, got none; make one with "
            "'glimpse serve --make-key NAME' and give --keys-file, listen on 127.0.0.1, or give --allow-anonymous if "
            "a proxy in front authenticates"
        )
    if settings.tls_certificate:
        try:
            server_context(settings)
        except (OSError, ValueError) as error:
            raise AccessError(
                f"expected a certificate and its key, without a password, in {settings.tls_certificate!r} and "
                f"{settings.tls_key!r}, got something else ({error}); check the paths, and that they belong together"
            ) from error


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only.

    Args:
        host: An IP address, or ``localhost``.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secret(scope: Scope) -> str | None:
    """The secret that was sent with a request; None without one."""
    found = None
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value.decode("latin-1").strip())
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            found = value[7:].decode("latin-1").strip()
    return found
