"""Looking at images that stay where they are: the service asks for the pixels of one glimpse after another.

A conversation over a WebSocket, of JSON texts but for the pixels. The client begins with ``{"width", "height",
"channels"}`` and, if it likes, ``"confidence"`` and ``"max_glimpses"``. The service says ``{"type": "ask", "time",
"box"}``, the box in whole pixels inside the image, right and bottom exclusive, and the client answers with one binary
message: if that has exactly width * height * channels bytes of the box, they are its pixels, row by row, whatever they
spell; else it is an image file of the box's size. After each the service says ``{"type": "glimpse", ...}``, at last
``{"type": "answer", ...}``, with the fields that ``/v1/classify`` has, and closes with 1000. What goes wrong it says as
``{"type": "error", "status", "error"}`` before it closes with another code.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import orjson

from glimpse.images import geometry, pixels
from glimpse.images.lazy import Corners
from glimpse.images.pixels import ImageError
from glimpse.runtime.limits import LimitError, check_limits
from glimpse.runtime.payload import glimpse_payloads, image_payload
from glimpse.runtime.prediction import Glance, from_glances
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.request import REQUEST_KEY, Handler, Receive, Request, Response, Scope, Send
from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.routes.context import AppContext
from glimpse_serve.routes.v1 import model_of
from glimpse_serve.settings import Settings

LOOK_QUERY = ("model", "version")
MAX_SIDE = 2**24
"""Locations are float32, which can't tell pixels apart beyond."""
MAX_MESSAGE_BYTES = 2**22
"""Of one message; uvicorn is told the same."""
MAX_BEGINNING = 4096
"""Characters of the first message."""
FAREWELL_SECONDS = 5.0
"""How long a client may take to take in why it is refused."""
CLOSED = 1000
CODES = {413: 1009, 500: 1011, 503: 1013, 504: 1013}
"""WebSocket's codes for the statuses of refusals (RFC 6455, 7.4.1, and IANA's registry); 1008 for all others."""
PARTED = ("gone", "shutdown", "cut")
"""Kinds of refusals that nobody is there to be told."""

_log = logging.getLogger(__name__)


class StreamingRoutes:
    """The conversations of a process, as an ASGI application.

    Args:
        house: What the routes share.
    """

    path = "/v1/look"

    def __init__(self, house: AppContext) -> None:
        self._house = house
        self._running = 0
        # A look waits for pixels in a thread of its own, which costs nothing but its stack.
        self._pool = ThreadPoolExecutor(max(1, house.settings.max_looks), thread_name_prefix="look")

    def routes(self) -> dict[str, Mapping[str, Handler]]:
        """What those get who come without a WebSocket."""
        return {self.path: {"GET": self.upgrade}}

    async def upgrade(self, asked: Request) -> Response:
        """Tell that this is a place for conversations."""
        raise HTTPError(
            426,
            f"expected a WebSocket here, got a plain request; connect to ws://...{self.path}, or send the image to "
            "/v1/classify",
            "method",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold a conversation, or refuse the handshake.

        Raises:
            Refusal: Before the handshake is answered.
        """
        asked: Request = scope[REQUEST_KEY]
        asked.route = self.path
        entry = self._admit(asked)
        self._running += 1
        try:
            await receive()
            await send({"type": "websocket.accept", "headers": [(b"x-request-id", asked.id.encode())]})
            await _StreamingSession(self._house, self._pool, asked, entry, send).hold()
        finally:
            self._running -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _admit(self, asked: Request) -> LoadedModel:
        house, settings = self._house, self._house.settings
        check_origin(asked.headers, settings)
        query = asked.query(*LOOK_QUERY)
        if house.condition.draining:
            raise HTTPError(
                503,
                "expected a server that takes looks, it is being stopped; ask another one",
                "shutdown",
                {"Retry-After": "1"},
            )
        entry = house.registry.find(query.get("model"), query.get("version"))
        asked.model = entry.model.name
        check_model(entry)
        if self._running >= settings.max_looks:
            raise HTTPError(
                503,
                f"expected fewer than {settings.max_looks} looks at once, so many are going on; try again in 1 s",
                "overload",
                {"Retry-After": "1"},
            )
        return entry


class Beginning(NamedTuple):
    """What a client says of its image, and of how long to look at it."""

    width: int
    height: int
    channels: int
    confidence: float | None
    max_glimpses: int | None


class _NoPixelsError(ImageError):
    """Pixels that did not come, or are none; it makes its way through the runtime."""

    def __init__(self, refusal: HTTPError) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


class _StreamingSession:
    """One look. It is the lazy image that the model reads, too."""

    def __init__(
        self, house: AppContext, pool: ThreadPoolExecutor, asked: Request, entry: LoadedModel, send: Send
    ) -> None:
        self._house, self._pool, self._asked, self._entry, self._send = house, pool, asked, entry, send
        self._loop = asyncio.get_running_loop()
        self._beginning = Beginning(1, 1, 1, None, None)
        self._asks = 0
        self._waited = 0.0
        self._ended = False
        self._fetching: asyncio.Task[Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self._beginning.width, self._beginning.height

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self._beginning.channels

    def read(self, box: Corners) -> npt.NDArray[np.uint8]:
        """Ask the client for the pixels under a box; for the look's own thread."""
        started = time.perf_counter()
        try:
            fetching = asyncio.run_coroutine_threadsafe(self._fetch(box), self._loop)
            content = fetching.result(self._house.settings.look_seconds)
        except HTTPError as refusal:
            raise _NoPixelsError(refusal) from refusal
        finally:
            self._waited += time.perf_counter() - started
        return pixels_of(content, box, self.channels)

    async def hold(self) -> None:
        """Look, and tell why if that does not end well."""
        asked, seconds = self._asked, self._house.settings.look_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._look()
                await self._send({"type": "websocket.close", "code": CLOSED})
            return
        except TimeoutError:
            refusal = HTTPError(
                408,
                f"expected the look to be over within {seconds:g} s; send the pixels faster, or ask for fewer glimpses",
                "timeout",
            )
        except HTTPError as error:
            refusal = error
        except OSError:
            refusal = _gone()
        except Exception:  # noqa: BLE001 - whatever it is, it goes into the log and not to the client
            _log.exception("a look failed", extra={"request_id": asked.id})
            refusal = HTTPError(
                500,
                f"the service failed at this look, which is its fault; its log says more under {asked.id}",
                "internal",
            )
        finally:
            self._end()
        asked.status = refusal.status
        self._house.metrics.refused(refusal.kind)
        if refusal.kind not in PARTED:
            await self._part(refusal)

    async def _look(self) -> None:
        message = await self._hear()
        card, session = self._entry.model.card, self._entry.model.session
        self._beginning = beginning_of(message.get("text"), card.num_glimpses)
        glances = session.scan(
            self, confidence=self._beginning.confidence, max_glimpses=self._beginning.max_glimpses, size="native"
        )
        taken: list[Glance] = []
        said: list[dict[str, Any]] = []
        while not taken or taken[-1].reason is None:
            try:
                glance = await self._loop.run_in_executor(self._pool, next, glances)
            except _NoPixelsError as error:
                raise error.refusal from error
            except ImageError as error:
                raise HTTPError(422, str(error), "image") from error
            taken.append(glance)
            glimpse = glimpse_payloads(from_glances(taken), card.classes)[-1]
            glimpse["milliseconds"] = round((glance.seconds - self._waited) * 1e3, 3)
            said.append(glimpse)
            await self._say("glimpse", glimpse)
        width, height = self.size
        answer = image_payload(from_glances(taken), card.classes, height, width)
        answer |= {"glimpses": said, "milliseconds": said[-1]["milliseconds"]}
        await self._say("answer", {"model": model_of(self._entry), **answer})
        self._count(taken, answer)

    def _count(self, taken: list[Glance], answer: Mapping[str, Any]) -> None:
        name, metrics = self._entry.model.name, self._house.metrics
        metrics.looked(name, len(taken), answer["reason"], answer["class"])
        metrics.stage(name, "model", taken[-1].seconds - self._waited)
        metrics.stage(name, "read", self._waited)
        self._asked.glimpses = len(taken)

    async def _fetch(self, box: Corners) -> bytes:
        """Ask, and wait for the answer."""
        if self._ended:
            raise _gone()
        self._fetching = asyncio.current_task()
        await self._say("ask", {"time": self._asks, "box": box})
        self._asks += 1
        content = (await self._hear()).get("bytes")
        if content is None:
            raise HTTPError(
                400, f"expected the pixels under {list(box)} as a binary message, got a text; send bytes", "body"
            )
        return bytes(content)

    async def _hear(self) -> Any:
        message = await self._asked.receive()
        if message["type"] == "websocket.disconnect":
            raise _parting(message.get("code"))
        content = message.get("text") or message.get("bytes") or b""
        self._asked.bytes_in += len(content)
        if len(content) > MAX_MESSAGE_BYTES:
            raise HTTPError(
                413, f"expected messages of at most {MAX_MESSAGE_BYTES:,} bytes, got {len(content):,}", "size"
            )
        return message

    async def _say(self, kind: str, content: Mapping[str, Any]) -> None:
        text = orjson.dumps({"type": kind, **content}, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        self._asked.bytes_out += len(text)
        try:
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError) as error:  # uvicorn's, for a client that left and for one that it put out
            raise _gone() from error

    def _end(self) -> None:
        """Let the thread go that waits for pixels."""
        self._ended = True
        if self._fetching is not None:
            self._fetching.cancel()

    async def _part(self, refusal: HTTPError) -> None:
        with contextlib.suppress(HTTPError, OSError, RuntimeError):  # a TimeoutError is an OSError
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._say("error", {"status": refusal.status, "error": refusal.sentence})
                await self._send({"type": "websocket.close", "code": CODES.get(refusal.status, 1008)})


def check_origin(headers: Mapping[str, str], settings: Settings) -> None:
    """Refuse pages of strange origins: the same-origin policy of browsers leaves WebSockets out.

    Args:
        headers: Of the handshake, names in small letters.
        settings: The origins that are allowed.

    Raises:
        Refusal: 403.
    """
    origin = headers.get("origin")
    if origin is None or "*" in settings.cors or origin in settings.cors:
        return
    try:
        own = urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        own = False
    if not own:
        raise HTTPError(
            403, f"expected a page of an origin that is allowed (--cors), got one of {origin!r:.200}", "auth"
        )


def check_model(entry: LoadedModel) -> None:
    """Refuse a model that does not look at parts of images, or at too large ones.

    Args:
        entry: The model.

    Raises:
        Refusal: 400.
    """
    card = entry.model.card
    if card.glimpse_size is None or card.num_scales is None or card.zoom is None or card.graph == "episode":
        came = "takes an image in as a whole"
    elif not card.any_size and card.graph != "step":
        came = f"takes images of {card.width} x {card.height} pixels alone"
    else:
        side = geometry.windows(card.glimpse_size, card.num_scales, card.zoom)[-1].width
        if side * side * 3 <= MAX_MESSAGE_BYTES:
            return
        came = f"looks through windows of {side} x {side} pixels, which are too large for a message"
    raise HTTPError(
        400,
        f"expected a model with a retina that looks at images of any size, glimpse by glimpse (exported with --graph "
        f"adaptive or step), and {entry.model.name!r} {came}; choose another, or send the image to /v1/classify",
        "model",
    )


def beginning_of(text: str | None, most: int) -> Beginning:
    """Read a client's first message.

    Args:
        text: The message; None where it was binary.
        most: Glimpses that the model was trained to take.

    Raises:
        Refusal: 400.
    """
    form = 'a JSON object such as {"width": 40000, "height": 30000, "channels": 3}'
    try:
        said = None if text is None or len(text) > MAX_BEGINNING else orjson.loads(text)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise HTTPError(400, f"expected {form} as the first message, got something else; send it as a text", "body")
    strange = said.keys() - set(Beginning._fields)
    if strange:
        raise HTTPError(
            400, f"expected {', '.join(Beginning._fields)} at most, got {min(strange)!r:.80}; leave it out", "limit"
        )
    for side in ("width", "height"):
        length = said.get(side)
        if type(length) is not int or not 1 <= length <= MAX_SIDE:
            raise HTTPError(
                400,
                f"expected the {side} in whole pixels, from 1 to {MAX_SIDE:,}, got {length!r:.40}; give what the image "
                "has",
                "limit",
            )
    if said.get("channels") not in (1, 3) or type(said["channels"]) is not int:
        raise HTTPError(
            400, f"expected 1 (grey) or 3 (RGB) channels, got {said.get('channels')!r:.40}; leave others out", "limit"
        )
    confidence, max_glimpses = said.get("confidence"), said.get("max_glimpses")
    if type(confidence) not in (int, float, type(None)) or type(max_glimpses) not in (int, type(None)):
        raise HTTPError(
            400,
            "expected confidence as a number and max_glimpses as a whole number, got "
            f"{confidence!r:.40} and {max_glimpses!r:.40}; leave them out, or write numbers",
            "limit",
        )
    confidence = None if confidence is None else float(confidence)
    try:
        check_limits(most, max_glimpses, confidence, None)
    except LimitError as error:
        raise HTTPError(400, str(error), "limit") from error
    return Beginning(said["width"], said["height"], said["channels"], confidence, max_glimpses)


def pixels_of(content: bytes, box: Corners, channels: int) -> npt.NDArray[np.uint8]:
    """Read the pixels that a client answered.

    Args:
        content: Raw pixels where it is of their length, else an image file.
        box: Which were asked for.
        channels: That the image has.

    Returns:
        uint8 (height, width, channels).

    Raises:
        ImageError: When they are others.
    """
    left, top, right, bottom = box
    height, width = bottom - top, right - left
    if len(content) == height * width * channels:
        return np.frombuffer(content, np.uint8).reshape(height, width, channels)
    expected = (
        f"expected {height * width * channels} bytes of raw pixels under {list(box)}, {channels} for each, or an image "
        f"file of {width} x {height} pixels"
    )
    try:
        decoded = pixels.decode(content, "the answer", height * width)
    except ImageError as error:
        raise ImageError(f"{expected}, got {len(content)} bytes ({error})") from error
    if decoded.shape[:2] != (height, width):
        raise ImageError(f"{expected}, got a file of {decoded.shape[1]} x {decoded.shape[0]}; cut it at the box")
    return pixels.fit(decoded, height, width, channels)


def _gone() -> HTTPError:
    return HTTPError(499, "the client left before its answer", "gone")


def _parting(code: object) -> HTTPError:
    """Why a conversation is over before its answer, by the code with which it was closed."""
    if code == 1012:
        return HTTPError(503, "the service was stopped before the answer", "shutdown")
    if code == 1009:
        return HTTPError(413, "the client sent a message that is too large", "cut")
    return _gone()
