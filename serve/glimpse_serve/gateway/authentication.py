"""Access control: API keys, rate limits, CORS, security headers."""

import ipaddress
import math
import re
import ssl
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.api_keys import KeyRing
from glimpse_serve.gateway.rate_limits import RateLimiter
from glimpse_serve.http.request import Scope
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
                self._take_token(f"address {_address(scope)}", self._settings.rate, self._settings.burst)
            return Caller()
        secret = _secret(scope)
        key = self._keys.find(secret) if secret is not None else None
        if key is None:
            self._take_token(f"wrong {_address(scope)}", *WRONG_KEYS)
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


def security_headers(settings: Settings) -> list[tuple[bytes, bytes]]:
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
    """Starlette's CORS middleware, with errors in the JSON form of all errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
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
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                settings.tls_certificate, settings.tls_key, password=""
            )
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


def _address(scope: Scope) -> str:
    client = scope.get("client")
    if not client:
        return "unknown"
    text = str(client[0])
    if ":" not in text:
        return text
    # A client with one IPv6 address usually has the whole /64 network.
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
