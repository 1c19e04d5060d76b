"""Where every request comes in and every answer goes out: who may, how long it took, and one form of error."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.authentication import Authenticator, security_headers
from glimpse_serve.http.request import REQUEST_KEY, Receive, Request, Scope, Send, error_response, send_response
from glimpse_serve.settings import Settings
from glimpse_serve.telemetry import logs
from glimpse_serve.telemetry.metrics import Metrics
from glimpse_serve.telemetry.tracing import Tracing

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

GONE = 499
"""What the logs call a request whose client left before its answer, as nginx does."""
_log = logging.getLogger(__name__)


class RequestMiddleware:
    """An ASGI application round another one.

    Args:
        application: What is behind it.
        lifespan: What is told of the beginning and the end.
        doorkeeper: Who may enter.
        metrics: Who counts.
        tracing: Who traces.
        settings: For the headers.
    """

    def __init__(
        self,
        application: Application,
        lifespan: Application,
        doorkeeper: Authenticator,
        metrics: Metrics,
        tracing: Tracing,
        settings: Settings,
    ) -> None:
        self._application, self._lifespan, self._doorkeeper = application, lifespan, doorkeeper
        self._metrics, self._tracing = metrics, tracing
        self._headers = security_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request in, or pass the beginning and the end of the service on."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._conversation(scope, receive, send)
        else:
            await self._lifespan(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._asked(scope, receive)
        begun = False

        async def sending(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *self._headers, (b"x-request-id", asked.id.encode())]
            await send(message)

        self._metrics.began()
        try:
            try:
                with self._tracing.request(scope) as asked.span:
                    asked.caller = self._doorkeeper.admit(scope).name
                    await self._application(scope, receive, sending)
                    asked.span.note("http.route", asked.route)
                    asked.span.note("http.response.status_code", asked.status)
            except HTTPError as refusal:
                await self._refuse(asked, refusal, sending, begun)
            except asyncio.CancelledError:
                if not begun:
                    stopped = HTTPError(503, "the service was stopped before the answer; ask another one", "shutdown")
                    await self._refuse(asked, stopped, sending, begun)
                raise
            except Exception:  # noqa: BLE001 - whatever it is, it goes into the log and not to the client
                _log.exception("a request failed", extra={"request_id": asked.id, "path": scope["path"][:200]})
                await self._refuse(asked, _fault(asked), sending, begun)
        finally:
            self._metrics.ended()
            self._told(asked)

    async def _refuse(self, asked: Request, refusal: HTTPError, send: Send, begun: bool) -> None:
        self._metrics.refused(refusal.kind)
        if begun:
            raise refusal  # The server closes the connection, so that nobody takes the answer for a whole one.
        asked.status = refusal.status
        if refusal.status != GONE:
            await send_response(asked, error_response(refusal), send)

    async def _conversation(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._asked(scope, receive)
        try:
            with self._tracing.request(scope) as asked.span:
                asked.caller = self._doorkeeper.admit(scope).name
                asked.status = 101
                await self._application(scope, receive, send)
        except HTTPError as refusal:
            self._metrics.refused(refusal.kind)
            asked.status = refusal.status
            # Before it was accepted; what is refused later, the conversation itself tells.
            await send_response(asked, error_response(refusal), _denying(send))
        except Exception:  # noqa: BLE001 - likewise
            _log.exception("a handshake failed", extra={"request_id": asked.id, "path": scope["path"][:200]})
            self._metrics.refused("internal")
            await send_response(asked, error_response(_fault(asked)), _denying(send))
        finally:
            self._told(asked)

    def _asked(self, scope: Scope, receive: Receive) -> Request:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = Request(scope, receive, headers, logs.request_id_of(headers), time.monotonic())
        scope[REQUEST_KEY] = asked
        return asked

    def _told(self, asked: Request) -> None:
        seconds = time.monotonic() - asked.arrived
        self._metrics.request(asked.route or "none", asked.scope.get("method", "WEBSOCKET"), asked.status, seconds)
        logs.access(asked, seconds)


def _fault(asked: Request) -> HTTPError:
    return HTTPError(
        500,
        f"the service failed at this request, which is its fault; its log says more under {asked.id}",
        "internal",
    )


def _denying(send: Send) -> Send:
    """Answer a WebSocket's handshake as if it were a request."""

    async def sending(message: Any) -> None:
        await send({**message, "type": message["type"].replace("http.response", "websocket.http.response")})

    return sending
