"""Who may come in: API keys, rates, other pages' scripts, and what a browser is told about answers."""

import ipaddress
import math
import re
import ssl
from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.api_keys import KeyRing
from glimpse_serve.gateway.rate_limits import RateLimiter
from glimpse_serve.http.request import Scope
from glimpse_serve.settings import Settings

OPEN = re.compile(r"/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready")
"""Paths that balancers ask for, which have no keys."""
WRONG_KEYS = (1.0, 10)
"""Rate and burst of wrong keys from one address."""


class AccessError(ValueError):
    """Doors that stand open, or that can't be shut as was asked."""


class Caller(NamedTuple):
    """Who asks."""

    name: str = ""
    """Of the key; empty without one."""


class Authenticator:
    """Lets requests in, or refuses them.

    Args:
        keys: The keys that are known.
        limiter: Who counts requests.
        settings: Rates, and what is open.
    """

    def __init__(self, keys: KeyRing, limiter: RateLimiter, settings: Settings) -> None:
        self._keys, self._limiter, self._settings = keys, limiter, settings

    def admit(self, scope: Scope) -> Caller:
        """Let a request or a conversation in.

        Args:
            scope: ASGI's.

        Raises:
            Refusal: 401 without a key that is known, 429 when there are too many requests.
        """
        path: str = scope["path"]
        if OPEN.fullmatch(path) or (path == "/metrics" and self._settings.open_metrics):
            return Caller()
        if not self._keys.required:
            if self._settings.rate:
                self._count(f"address {_address(scope)}", self._settings.rate, self._settings.burst)
            return Caller()
        secret = _secret(scope)
        key = self._keys.find(secret) if secret is not None else None
        if key is None:
            self._count(f"wrong {_address(scope)}", *WRONG_KEYS)
            came = "one that is not known" if secret is not None else "none"
            raise HTTPError(
                401,
                f"expected an API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY', got {came}; ask whoever runs "
                "the service for one",
                "auth",
                {"WWW-Authenticate": 'Bearer realm="glimpse"'},
            )
        rate = self._settings.rate if key.rate is None else key.rate
        if rate:
            self._count(f"key {key.name}", rate, max(self._settings.burst, 1))
        return Caller(key.name)

    def _count(self, name: str, rate: float, burst: int) -> None:
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
    """Tell what every answer says to browsers: take it for what it says it is, show it nowhere, keep it nowhere.

    Args:
        settings: Whether there is TLS.
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


def with_cors(application: Any, settings: Settings) -> Any:
    """Let pages of other origins call an application, where that is wanted. They are asked for their keys all the same.

    Args:
        application: In ASGI.
        settings: The origins.
    """
    if not settings.cors:
        return application
    return _Cors(
        application,
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


class _Cors(CORSMiddleware):
    """Starlette's, that says no in the form of all errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        sentence = f"expected a call that is allowed to other origins (--cors), got {bytes(answer.body).decode()}"
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return JSONResponse({"error": sentence}, answer.status_code, headers)


def check_access(settings: Settings, keys: KeyRing) -> None:
    """See that the service is not open to the world by mistake, and that its certificate fits.

    Args:
        settings: How it is to run.
        keys: The keys that are known.

    Raises:
        DoorError: Saying what to do.
    """
    if not keys.required and not settings.allow_anonymous and not is_loopback(settings.host):
        raise AccessError(
            f"expected API keys, since {settings.host} can be reached from other machines, got none; make one with "
            "'glimpse serve --make-key NAME' and give --keys-file, listen at 127.0.0.1, or say --allow-anonymous if "
            "something in front keeps strangers out"
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
    """Say whether an address can be reached from this machine only.

    Args:
        host: As it was given: a number, or ``localhost``.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secret(scope: Scope) -> str | None:
    """The key that came with a request."""
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
    # Whoever has one address of IPv6 has a whole /64 of them.
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
