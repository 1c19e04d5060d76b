"""Ask-me-for-pixels: a conversation in which the service asks for one window after another of an image.

The client says how large its image is; the service asks for the pixels under the widest window of each glimpse. The
client sends those and no others, so that an image of any size never crosses the wire. By WebSocket, at /v1/look:

- client: ``{"width": 40000, "height": 30000, "channels": 3, "confidence": 0.98, "max_glimpses": 6}``, the last two if
  it likes;
- service: ``{"type": "ask", "box": [left, top, right, bottom]}``, whole pixels inside the image;
- client: a binary message, uint8 pixels row after row, exactly (bottom - top) x (right - left) x channels bytes;
- service: ``{"type": "glimpse", ...}`` with what ``/v1/classify`` says of a glimpse; then it asks again, or
- service: ``{"type": "answer", ...}`` with what ``/v1/classify`` says of an image, and closes.

What goes wrong is told as ``{"type": "error", "status": 422, "error": "..."}`` before it closes.
"""

import asyncio
import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from glimpse import answers
from glimpse.answers import Glance, Prediction
from glimpse.lazy import Corners
from glimpse.pixels import ImageError
from glimpse_serve.asked import ASKED, Asked, Receive, Scope, Send
from glimpse_serve.house import House
from glimpse_serve.plain import called, say
from glimpse_serve.refusal import Refusal
from glimpse_serve.registry import Entry

PATH = "/v1/look"
MAX_SIDE = 2**30
"""Pixels of an image's side, at most: what lies beyond does not fit the numbers of a graph."""
POLICY, FAULT, LATER, STOPPING = 1008, 1011, 1013, 1012
"""Codes with which a WebSocket is closed: RFC 6455, 7.4.1, and IANA's registry."""


class RemoteImage:
    """An image that lies with the client; see :class:`glimpse.lazy.LazyImage`.

    Args:
        size: Width and height, pixels.
        channels: 1 or 3.
        talk: The conversation.
        loop: In which it is held.
    """

    def __init__(
        self, size: tuple[int, int], channels: int, talk: "Conversation", loop: asyncio.AbstractEventLoop
    ) -> None:
        self._size, self._channels, self._talk, self._loop = size, channels, talk, loop
        self._asking: Future[bytes] | None = None
        self.failure: Exception | None = None
        """What went wrong in the conversation; a session takes it for a fault of the image."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self._size

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self._channels

    def read(self, box: Corners) -> npt.NDArray[np.uint8]:
        """Ask the client for the pixels under a box. In another thread than the loop's.

        Args:
            box: Pixels, (left, top, right, bottom).
        """
        self._asking = asyncio.run_coroutine_threadsafe(self._talk.pixels(box, self._channels), self._loop)
        try:
            content = self._asking.result()
        except (Refusal, GoneError) as error:
            self.failure = error
            raise
        left, top, right, bottom = box
        return np.frombuffer(content, np.uint8).reshape(bottom - top, right - left, self._channels)

    def abandon(self) -> None:
        """Wait no more, so that the thread that does can end."""
        if self._asking is not None:
            self._asking.cancel()


class GoneError(Exception):
    """The client has left."""


class Conversation:
    """What is said over one WebSocket.

    Args:
        receive: From the client.
        send: To the client.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.bytes_in = 0

    async def tell(self, content: Any) -> None:
        """Say something in JSON."""
        text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        await self._send({"type": "websocket.send", "text": text})

    async def hear(self) -> Any:
        """Wait for what the client says: a text, or bytes.

        Raises:
            GoneError: When it has left.
        """
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise GoneError
        text = message.get("text")
        content = text if text is not None else message.get("bytes") or b""
        self.bytes_in += len(content)
        return content

    async def pixels(self, box: Corners, channels: int) -> bytes:
        """Ask for pixels.

        Args:
            box: Under which, (left, top, right, bottom).
            channels: Of the image.

        Raises:
            Refusal: When something else comes.
        """
        await self.tell({"type": "ask", "box": box})
        content = await self.hear()
        wanted = (box[2] - box[0]) * (box[3] - box[1]) * channels
        if not isinstance(content, bytes) or len(content) != wanted:
            came = f"{len(content)} bytes" if isinstance(content, bytes) else "a text"
            raise Refusal(
                422,
                f"expected {wanted} bytes, the pixels under {list(box)} row after row, {channels} a pixel, got {came}; "
                "send them as one binary message",
                "image",
            )
        return content

    async def close(self, code: int = 1000) -> None:
        """End it."""
        await self._send({"type": "websocket.close", "code": code})


class Looks:
    """The ASGI application of the conversations.

    Args:
        house: What it shares with the others.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._running = 0
        self._threads = ThreadPoolExecutor(max(1, house.settings.max_looks), thread_name_prefix="look")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold a conversation."""
        asked: Asked = scope[ASKED]
        asked.route = PATH
        query = asked.query("model", "version")
        entry = self._house.registry.find(query.get("model"), query.get("version"))
        asked.model = entry.model.name
        _check_model(entry)
        settings = self._house.settings
        if self._running >= settings.max_looks:
            raise Refusal(
                503,
                f"expected fewer than {settings.max_looks} conversations at once; try again in 1 s",
                "overload",
                {"Retry-After": "1"},
            )
        if self._house.condition.draining:
            raise Refusal(503, "the service is being stopped; ask another one", "shutdown", {"Retry-After": "1"})
        await receive()  # websocket.connect
        self._running += 1
        talk = Conversation(receive, send)
        try:
            await send({"type": "websocket.accept"})
            async with asyncio.timeout(settings.look_seconds):
                await self._look(asked, entry, talk)
            await talk.close()
        except GoneError:
            asked.status = 499
        except TimeoutError:
            sentence = f"expected to be done within {settings.look_seconds:g} s; send what is asked for sooner"
            await self._fail(asked, talk, Refusal(408, sentence, "timeout"), POLICY)
        except ImageError as error:
            await self._fail(asked, talk, Refusal(422, str(error), "image"), POLICY)
        except Refusal as refusal:
            await self._fail(asked, talk, refusal, LATER if refusal.status == 503 else POLICY)
        finally:
            self._running -= 1
            asked.bytes_in = talk.bytes_in

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _fail(self, asked: Asked, talk: Conversation, refusal: Refusal, code: int) -> None:
        self._house.metrics.refused(refusal.kind)
        asked.status = refusal.status
        with contextlib.suppress(Exception):  # the client may have left meanwhile
            await talk.tell({"type": "error", "status": refusal.status, "error": refusal.sentence})
            await talk.close(code)

    async def _look(self, asked: Asked, entry: Entry, talk: Conversation) -> None:
        width, height, channels, limits = _read(await talk.hear(), entry)
        loop = asyncio.get_running_loop()
        image = RemoteImage((width, height), channels, talk, loop)
        session = entry.model.session
        glances: list[Glance] = []
        scan = session.scan(image, max_glimpses=limits[0], confidence=limits[1])
        try:
            while (glance := await loop.run_in_executor(self._threads, next, scan, None)) is not None:
                glances.append(glance)
                glimpse = say(entry, _seen(glances[-1:]), height, width)["glimpses"][0]
                told = {**glimpse, "time": glance.time, "milliseconds": round(glance.seconds * 1e3, 3)}
                await talk.tell({"type": "glimpse", **told})
        except ImageError:
            if image.failure is not None:
                raise image.failure from None
            raise
        finally:
            image.abandon()
        found = _seen(glances)._replace(reasons=(str(glances[-1].reason),))
        answer = say(entry, found, height, width)
        for glimpse, glance in zip(answer["glimpses"], glances, strict=True):
            glimpse["milliseconds"] = round(glance.seconds * 1e3, 3)
        asked.glimpses = len(glances)
        self._house.metrics.looked(entry.model.name, len(glances), found.reasons[0], answer["class"])
        await talk.tell({"type": "answer", "model": called(entry), **answer})


def _check_model(entry: Entry) -> None:
    card = entry.model.card
    if not card.has_retina or not (card.any_size or card.graph == "step") or card.graph == "episode":
        raise Refusal(
            400,
            f"expected a model that looks at parts of an image, one after another, and {entry.model.name!r} takes it "
            "in as a whole; send the image to /v1/classify, or export a model with a retina with --graph adaptive",
            "model",
        )


def _read(content: Any, entry: Entry) -> tuple[int, int, int, tuple[int | None, float | None]]:
    """What the client says at first."""
    try:
        told = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _wrong(f"JSON with width, height and channels, got {error}") from error
    if not isinstance(told, dict) or not told.keys() <= {"width", "height", "channels", "confidence", "max_glimpses"}:
        raise _wrong(
            "an object with width, height, channels and perhaps confidence and max_glimpses, got something else"
        )
    sides = [told.get("width"), told.get("height")]
    if any(type(side) is not int or not 1 <= side <= MAX_SIDE for side in sides) or told.get("channels") not in (1, 3):
        raise _wrong(
            f"width and height from 1 to {MAX_SIDE} and 1 or 3 channels, got {orjson.dumps(told).decode():.120}"
        )
    glimpses, confidence = told.get("max_glimpses"), told.get("confidence")
    try:
        if glimpses is not None and type(glimpses) is not int:
            raise answers.LimitError(f"expected max_glimpses as a whole number, got {glimpses!r:.40}")
        if confidence is not None and type(confidence) not in (int, float):
            raise answers.LimitError(f"expected confidence as a number, got {confidence!r:.40}")
        confidence = None if confidence is None else float(confidence)
        answers.limits(entry.model.card.num_glimpses, glimpses, confidence, None)
    except answers.LimitError as error:
        raise Refusal(400, str(error), "limit") from error
    return int(told["width"]), int(told["height"]), int(told["channels"]), (glimpses, confidence)


def _wrong(expected: str) -> Refusal:
    return Refusal(400, f"expected at first {expected}; see /docs", "body")


def _seen(glances: list[Glance]) -> Prediction:
    """Glances as a prediction of one image."""
    boxes = [glance.boxes for glance in glances if glance.boxes is not None]
    return Prediction(
        np.stack([glance.probabilities for glance in glances])[None],
        np.stack([glance.location for glance in glances])[None],
        np.stack(boxes)[None] if boxes else None,
        reasons=("",),
    )
