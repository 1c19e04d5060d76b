"""Streaming sessions over a WebSocket: the service requests the pixels of one glimpse after another.

The image stays with the client. :mod:`glimpse_serve.routes.streaming_messages` describes the messages.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import orjson

from glimpse.errors import ArgumentError
from glimpse.images import geometry
from glimpse.images.lazy import Corners
from glimpse.images.pixels import ImageError
from glimpse.runtime.graph import InterruptedRunError, OutputError
from glimpse.runtime.payload import glimpse_payloads, image_payload
from glimpse.runtime.prediction import Glance, from_glances
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.cancellation import disconnected
from glimpse_serve.http.request import (
    REQUEST_KEY,
    Receive,
    Request,
    RequestHandler,
    Response,
    Scope,
    Send,
    client_address,
)
from glimpse_serve.inference.model import interrupted_error
from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.routes.context import AppContext
from glimpse_serve.routes.streaming_messages import (
    CLOSE_CODES,
    MAX_MESSAGE_BYTES,
    NORMAL_CLOSURE,
    SILENT_KINDS,
    StreamStart,
    closing_error,
    pixels_of,
    read_start,
)
from glimpse_serve.routes.streaming_places import SessionPlace, StreamingPlaces
from glimpse_serve.routes.v1 import model_reference
from glimpse_serve.settings import STREAMING_PATH, Settings

STREAMING_QUERY = ("model", "version")
CLOSE_SECONDS = 5.0
"""Time for sending the error and closing the connection."""

_log = logging.getLogger(__name__)


class StreamingRoutes:
    """The streaming sessions of a process, as an ASGI application.

    Args:
        context: The shared components.
    """

    path = STREAMING_PATH

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._places = StreamingPlaces(context.settings.max_looks)
        # Each session waits for pixels in a thread of its own, which costs only its stack.
        self._pool = ThreadPoolExecutor(max(1, context.settings.max_looks), thread_name_prefix="streaming")

    def routes(self) -> dict[str, Mapping[str, RequestHandler]]:
        """Handlers of plain HTTP requests, by path template."""
        return {self.path: {"GET": self.upgrade}}

    async def upgrade(self, request: Request) -> Response:
        """Reject a plain HTTP request: 426."""
        raise HTTPError(
            426,
            f"expected a WebSocket here, got a plain request; connect to ws://...{self.path}, or send the image to "
            "/v1/classify",
            "method",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a streaming session, or reject the handshake.

        Raises:
            HTTPError: Before the handshake is accepted.
        """
        request: Request = scope[REQUEST_KEY]
        request.route = self.path
        session = _StreamingSession(self._context, self._pool, request, self._accept(request), send)
        session.place = self._places.take(client_address(scope), session.make_room)
        try:
            await receive()
            await send({"type": "websocket.accept"})
            await session.run()
        finally:
            self._places.release(session.place)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _accept(self, request: Request) -> LoadedModel:
        context, settings = self._context, self._context.settings
        check_origin(request.headers, settings)
        query = request.query(*STREAMING_QUERY)
        if context.readiness.draining:
            raise HTTPError(
                503,
                "expected a server that is ready, it is being stopped; use another one",
                "shutdown",
                {"Retry-After": "1"},
            )
        loaded = context.registry.find(query.get("model"), query.get("version"))
        request.model = loaded.model.name
        check_model(loaded)
        return loaded


class _PixelRequestError(ImageError):
    """Carries an HTTPError of reading pixels through the runtime, which passes ImageErrors on."""

    def __init__(self, error: HTTPError) -> None:
        super().__init__(error.message)
        self.error = error


class _StreamingSession:
    """One streaming session. It is the lazy image that the runtime reads, too.

    Attributes:
        place: Its place among the sessions.
    """

    place: SessionPlace

    def __init__(
        self, context: AppContext, pool: ThreadPoolExecutor, request: Request, loaded: LoadedModel, send: Send
    ) -> None:
        self._context, self._pool, self._request, self._loaded, self._send = context, pool, request, loaded, send
        self._loop = asyncio.get_running_loop()
        self._start = StreamStart(1, 1, 1, None, None)
        self._boxes_requested = 0
        self._waited = 0.0
        self._ended = False
        self._displaced = False
        self._timeout: asyncio.Timeout | None = None
        self._pixel_task: asyncio.Task[Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self._start.width, self._start.height

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self._start.channels

    def read(self, box: Corners) -> npt.NDArray[np.uint8]:
        """Request the pixels of a box from the client; called in the session's thread."""
        started = time.perf_counter()
        try:
            future = asyncio.run_coroutine_threadsafe(self._request_pixels(box), self._loop)
            content = future.result(self._context.settings.look_seconds)
        except HTTPError as error:
            raise _PixelRequestError(error) from error
        finally:
            self._waited += time.perf_counter() - started
        return pixels_of(content, box, self.channels)

    async def run(self) -> None:
        """Classify the image, and close the connection; on failure with an error message."""
        request, seconds = self._request, self._context.settings.look_seconds
        try:
            async with asyncio.timeout(0.0 if self._displaced else seconds) as self._timeout:
                await self._classify()
                await self._send({"type": "websocket.close", "code": NORMAL_CLOSURE})
            return
        except TimeoutError:
            failure = self._displacement() or HTTPError(
                408,
                f"expected the streaming session to end within {seconds:g} s; send the pixels faster, or request fewer "
                "glimpses",
                "timeout",
            )
        except HTTPError as error:
            failure = error
        except OSError:
            failure = disconnected()
        except Exception:  # noqa: BLE001 - any exception is logged and not shown to the client
            _log.exception("a streaming session failed", extra={"request_id": request.id})
            failure = HTTPError(
                500,
                f"the service failed during this session, which is its fault; see its log for {request.id}",
                "internal",
            )
        finally:
            self._end()
        request.status = failure.status
        self._context.metrics.count_error(failure.kind)
        if failure.kind not in SILENT_KINDS:
            await self._close_with_error(failure)

    def make_room(self) -> None:
        """End the session in favour of another one."""
        self._displaced = True
        if self._timeout is not None and not self._ended:
            self._timeout.reschedule(self._loop.time())

    def _displacement(self) -> HTTPError | None:
        if not self._displaced:
            return None
        return HTTPError(
            503,
            "expected the client's messages sooner, while other sessions wait for a place; send them faster, or try "
            "again in 1 s",
            "overload",
        )

    async def _first_message(self) -> Any:
        seconds = self._context.settings.header_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._receive()
        except TimeoutError:
            raise HTTPError(
                408, f"expected the first message within {seconds:g} s, got none; send it at once", "timeout"
            ) from None

    async def _classify(self) -> None:
        message = await self._first_message()
        card, session = self._loaded.model.card, self._loaded.model.session
        self._start = read_start(message.get("text"), card.num_glimpses)
        try:
            steps = session.scan(
                self,
                confidence=self._start.confidence,
                max_glimpses=self._start.max_glimpses,
                size="native",
                first_location=self._start.first_location,
            )
        except ArgumentError as error:
            raise HTTPError(400, str(error), "limit") from error
        glances: list[Glance] = []
        payloads: list[dict[str, Any]] = []
        while not glances or glances[-1].reason is None:
            try:
                glance = await self._loop.run_in_executor(self._pool, next, steps)
            except _PixelRequestError as error:
                raise error.error from error
            except ImageError as error:
                raise HTTPError(422, str(error), "image") from error
            except InterruptedRunError as error:
                raise interrupted_error(error) from error
            except OutputError as error:
                raise self._loaded.model.output_error(error) from error
            glances.append(glance)
            glimpse = glimpse_payloads(from_glances(glances), card.classes)[-1]
            glimpse["milliseconds"] = round((glance.seconds - self._waited) * 1e3, 3)
            payloads.append(glimpse)
            await self._send_json("glimpse", glimpse)
        width, height = self.size
        result = image_payload(from_glances(glances), card.classes, height, width)
        result |= {"glimpses": payloads, "milliseconds": payloads[-1]["milliseconds"]}
        await self._send_json("answer", {"model": model_reference(self._loaded), **result})
        self._count(glances, result)

    def _count(self, glances: list[Glance], result: Mapping[str, Any]) -> None:
        name, metrics = self._loaded.model.name, self._context.metrics
        metrics.count_classification(name, len(glances), result["reason"], result["class"])
        metrics.observe_stage(name, "model", glances[-1].seconds - self._waited)
        metrics.observe_stage(name, "read", self._waited)
        self._request.glimpses = len(glances)

    async def _request_pixels(self, box: Corners) -> bytes:
        """Send a request for pixels, and wait for the client's message."""
        if self._ended:
            raise disconnected()
        self._pixel_task = asyncio.current_task()
        await self._send_json("ask", {"time": self._boxes_requested, "box": box})
        self._boxes_requested += 1
        content = (await self._receive()).get("bytes")
        if content is None:
            raise HTTPError(
                400, f"expected the pixels under {list(box)} as a binary message, got a text; send bytes", "body"
            )
        return bytes(content)

    async def _receive(self) -> Any:
        self.place.waiting_since = time.monotonic()
        message = await self._request.receive()
        self.place.waiting_since = None
        if message["type"] == "websocket.disconnect":
            raise closing_error(message.get("code"))
        content = message.get("text") or message.get("bytes") or b""
        self._request.bytes_in += len(content)
        if len(content) > MAX_MESSAGE_BYTES:
            raise HTTPError(
                413, f"expected messages of at most {MAX_MESSAGE_BYTES:,} bytes, got {len(content):,}", "size"
            )
        return message

    async def _send_json(self, kind: str, content: Mapping[str, Any]) -> None:
        text = orjson.dumps({"type": kind, **content}, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        self._request.bytes_out += len(text)
        self.place.waiting_since = time.monotonic()
        try:
            await self._send({"type": "websocket.send", "text": text})
            self.place.waiting_since = None
        except (OSError, RuntimeError) as error:  # uvicorn raises these after a disconnect
            raise disconnected() from error

    def _end(self) -> None:
        """Cancel the wait for pixels, so that the session's thread ends."""
        self._ended = True
        if self._pixel_task is not None:
            self._pixel_task.cancel()

    async def _close_with_error(self, error: HTTPError) -> None:
        with contextlib.suppress(HTTPError, OSError, RuntimeError):  # a TimeoutError is an OSError
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send_json("error", {"status": error.status, "error": error.message})
                await self._send({"type": "websocket.close", "code": CLOSE_CODES.get(error.status, 1008)})


def check_origin(headers: Mapping[str, str], settings: Settings) -> None:
    """Reject pages of other origins: the same-origin policy of browsers does not cover WebSockets.

    Args:
        headers: Headers of the handshake, by lower-case name.
        settings: The allowed origins.

    Raises:
        HTTPError: 403 for a page of an origin that is not allowed.
    """
    origin = headers.get("origin")
    if origin is None or "*" in settings.cors or origin in settings.cors:
        return
    try:
        same_origin = urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        same_origin = False
    if not same_origin:
        raise HTTPError(
            403, f"expected a page of an origin that is allowed (--cors), got one of {origin!r:.200}", "auth"
        )


def check_model(loaded: LoadedModel) -> None:
    """Reject a model without a retina, of fixed image size, or whose windows don't fit into a message.

    Args:
        loaded: The model.

    Raises:
        HTTPError: 400.
    """
    card = loaded.model.card
    if card.glimpse_size is None or card.num_scales is None or card.zoom is None or card.graph == "episode":
        reason = "processes the whole image at once"
    elif not card.any_size and card.graph != "step":
        reason = f"takes images of {card.width} x {card.height} pixels alone"
    else:
        side = geometry.windows(card.glimpse_size, card.num_scales, card.zoom)[-1].width
        if side * side * 3 <= MAX_MESSAGE_BYTES:
            return
        reason = f"has windows of {side} x {side} pixels, which are too large for a message"
    raise HTTPError(
        400,
        f"expected a model with a retina for images of any size, glimpse by glimpse (exported with --graph "
        f"adaptive or step), and {loaded.model.name!r} {reason}; choose another, or send the image to /v1/classify",
        "model",
    )
