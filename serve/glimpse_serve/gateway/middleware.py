"""The middleware of every request: authentication, errors as responses, headers, metrics, traces and the access log."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.authentication import Authenticator
from glimpse_serve.gateway.hosts import HostCheck
from glimpse_serve.gateway.rejections import response_headers, security_headers
from glimpse_serve.http.request import REQUEST_KEY, Receive, Request, Scope, Send, error_response, send_response
from glimpse_serve.settings import Settings
from glimpse_serve.telemetry import logs
from glimpse_serve.telemetry.metrics import Metrics
from glimpse_serve.telemetry.tracing import Tracing

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT_CLOSED_REQUEST = 499
"""The status in the logs of a request whose client disconnected before the response, as in nginx."""
STARTS = frozenset(("http.response.start", "websocket.http.response.start", "websocket.accept"))
"""ASGI messages that carry the headers of a response."""
_log = logging.getLogger(__name__)


class RequestMiddleware:
    """ASGI middleware around every request: host, authentication, metrics, traces, logs, and errors as responses.

    Args:
        app: The wrapped application.
        authenticator: Checks API keys and rate limits.
        metrics: Counts requests and errors.
        tracing: Starts the spans.
        settings: Allowed hosts; TLS and CORS settings, for the security headers.
    """

    def __init__(
        self,
        app: Application,
        authenticator: Authenticator,
        metrics: Metrics,
        tracing: Tracing,
        settings: Settings,
    ) -> None:
        self._app, self._authenticator = app, authenticator
        self._metrics, self._tracing = metrics, tracing
        self._hosts = HostCheck(settings)
        self._headers = security_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a WebSocket; pass the lifespan messages on."""
        if scope["type"] == "http":
            await self._handle_http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._handle_websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _handle_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._make_request(scope, receive)
        started = False

        async def send_with_headers(message: Any) -> None:
            nonlocal started
            started = started or message["type"] in STARTS
            await send(self._with_headers(message, request))

        self._metrics.request_started()
        try:
            try:
                with self._tracing.start_span(scope) as request.span:
                    self._hosts.check(scope)
                    request.caller = self._authenticator.authenticate(scope).name
                    await self._app(scope, receive, send_with_headers)
                    request.span.set_attribute("http.route", request.route)
                    request.span.set_attribute("http.response.status_code", request.status)
            except HTTPError as error:
                await self._send_error(request, error, send_with_headers, started)
            except asyncio.CancelledError:
                if not started:
                    stopped = HTTPError(503, "the service was stopped before the response; use another one", "shutdown")
                    await self._send_error(request, stopped, send_with_headers, started)
                raise
            except Exception:  # noqa: BLE001 - any exception is logged and not shown to the client
                _log.exception("a request failed", extra={"request_id": request.id, "path": scope["path"][:200]})
                await self._send_error(request, _internal_error(request), send_with_headers, started)
        finally:
            self._metrics.request_ended()
            self._finish(request)

    async def _send_error(self, request: Request, error: HTTPError, send: Send, started: bool) -> None:
        self._metrics.count_error(error.kind)
        if started:
            raise error  # uvicorn closes the connection, so that the client sees that the response is incomplete.
        request.status = error.status
        if error.status != CLIENT_CLOSED_REQUEST:
            await send_response(request, error_response(error), send)

    async def _handle_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._make_request(scope, receive)

        async def send_with_headers(message: Any) -> None:
            await send(self._with_headers(message, request))

        try:
            with self._tracing.start_span(scope) as request.span:
                self._hosts.check(scope)
                request.caller = self._authenticator.authenticate(scope).name
                request.status = 101
                await self._app(scope, receive, send_with_headers)
        except HTTPError as error:
            self._metrics.count_error(error.kind)
            request.status = error.status
            # Errors before the handshake is accepted; later ones are sent by the streaming session.
            await send_response(request, error_response(error), _websocket_rejection(send_with_headers))
        except Exception:  # noqa: BLE001 - any exception is logged and not shown to the client
            _log.exception("a handshake failed", extra={"request_id": request.id, "path": scope["path"][:200]})
            self._metrics.count_error("internal")
            await send_response(
                request, error_response(_internal_error(request)), _websocket_rejection(send_with_headers)
            )
        finally:
            self._finish(request)

    def _with_headers(self, message: Any, request: Request) -> Any:
        """A message with the headers of every response, if it carries headers."""
        if message["type"] not in STARTS:
            return message
        return {**message, "headers": [*message.get("headers", ()), *response_headers(self._headers, request.id)]}

    def _make_request(self, scope: Scope, receive: Receive) -> Request:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request = Request(scope, receive, headers, logs.request_id_of(headers), time.monotonic())
        scope[REQUEST_KEY] = request
        return request

    def _finish(self, request: Request) -> None:
        seconds = time.monotonic() - request.arrived
        self._metrics.count_request(
            request.route or "none", request.scope.get("method", "WEBSOCKET"), request.status, seconds
        )
        logs.log_access(request, seconds)


def _internal_error(request: Request) -> HTTPError:
    return HTTPError(
        500,
        f"the service failed at this request, which is its fault; see its log for {request.id}",
        "internal",
    )


def _websocket_rejection(send: Send) -> Send:
    """Send an HTTP response in place of accepting a WebSocket handshake."""

    async def send_rejection(message: Any) -> None:
        await send({**message, "type": message["type"].replace("http.response", "websocket.http.response")})

    return send_rejection
