"""Messages of a streaming session.

All are JSON texts, except the pixels. The client starts with ``{"width", "height", "channels"}`` and, optionally,
``"confidence"``, ``"max_glimpses"`` and ``"first_location"``, ``[x, y]``. The service sends ``{"type": "ask", "time",
"box"}`` with the box in whole pixels inside the image, right and bottom exclusive. The client replies with one binary
message: if it has exactly width * height * channels bytes of the box, it is its pixels, row by row; otherwise it is an
image file of the box's size. After each glimpse the service sends ``{"type": "glimpse", ...}``, at the end ``{"type":
"answer", ...}`` with the fields of ``/v1/classify``, and closes with code 1000. An error is sent as ``{"type": "error",
"status", "error"}`` before the connection is closed with another code.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from glimpse.images import pixels
from glimpse.images.lazy import Corners
from glimpse.images.pixels import ImageError
from glimpse.runtime.limits import LimitError, check_limits
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.cancellation import disconnected

MAX_SIDE = 2**24
"""Longest side of an image, pixels: float32 locations can't distinguish pixels beyond."""
MAX_MESSAGE_BYTES = 2**22
"""Largest message; uvicorn has the same limit."""
MAX_START_CHARACTERS = 4096
"""Longest first message."""
CLOSE_CODES = {413: 1009, 500: 1011, 503: 1013, 504: 1013}
"""WebSocket close codes by HTTP status of the error (RFC 6455, 7.4.1, and IANA's registry); 1008 for all others."""
SILENT_KINDS = ("gone", "shutdown", "cut")
"""Kinds of errors after which the connection is closed already, so that no error is sent."""
NORMAL_CLOSURE = 1000


class StreamStart(NamedTuple):
    """The client's first message: size of the image, and limits.

    Attributes:
        width: Width of the image, pixels.
        height: Height of the image, pixels.
        channels: 1 (grey) or 3 (RGB).
        confidence: Probability at which to stop; None for never.
        max_glimpses: Glimpses at most; None for those of the card.
        first_location: Where to begin, (x, y) of the image; None for its centre. Two numbers, whose range is checked
            with the model.
    """

    width: int
    height: int
    channels: int
    confidence: float | None
    max_glimpses: int | None
    first_location: tuple[float, float] | None = None


def read_start(text: str | None, most: int) -> StreamStart:
    """Parse the client's first message.

    Args:
        text: The message; None for a binary message.
        most: Number of glimpses that the model was trained for.

    Raises:
        HTTPError: 400 when it is malformed or a value is out of range.
    """
    example = 'a JSON object such as {"width": 40000, "height": 30000, "channels": 3}'
    try:
        content = None if text is None or len(text) > MAX_START_CHARACTERS else orjson.loads(text)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise HTTPError(400, f"expected {example} as the first message, got something else; send it as a text", "body")
    unknown = content.keys() - set(StreamStart._fields)
    if unknown:
        raise HTTPError(
            400, f"expected {', '.join(StreamStart._fields)} at most, got {min(unknown)!r:.80}; leave it out", "limit"
        )
    for side in ("width", "height"):
        length = content.get(side)
        if type(length) is not int or not 1 <= length <= MAX_SIDE:
            raise HTTPError(
                400,
                f"expected the {side} in whole pixels, from 1 to {MAX_SIDE:,}, got {length!r:.40}; give what the image "
                "has",
                "limit",
            )
    if content.get("channels") not in (1, 3) or type(content["channels"]) is not int:
        raise HTTPError(
            400,
            f"expected 1 (grey) or 3 (RGB) channels, got {content.get('channels')!r:.40}; leave others out",
            "limit",
        )
    confidence, max_glimpses = content.get("confidence"), content.get("max_glimpses")
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
    return StreamStart(
        content["width"],
        content["height"],
        content["channels"],
        confidence,
        max_glimpses,
        _first_location(content.get("first_location")),
    )


def _first_location(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2 or not all(type(each) in (int, float) for each in given):
        raise HTTPError(
            400, f"expected first_location as [x, y], got {given!r:.40}; leave it out, or write two numbers", "limit"
        )
    return float(given[0]), float(given[1])


def pixels_of(content: bytes, box: Corners, channels: int) -> npt.NDArray[np.uint8]:
    """Read the pixels of a box out of a client's message.

    Args:
        content: Raw pixels if it has exactly their length, else an image file.
        box: The requested box (left, top, right, bottom), whole pixels.
        channels: Channels of the image.

    Returns:
        uint8 (height, width, channels).

    Raises:
        ImageError: When the size does not match, or the file can't be read.
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
        decoded = pixels.decode(content, "the message", height * width)
    except ImageError as error:
        raise ImageError(f"{expected}, got {len(content)} bytes ({error})") from error
    if decoded.shape[:2] != (height, width):
        raise ImageError(f"{expected}, got a file of {decoded.shape[1]} x {decoded.shape[0]}; cut it at the box")
    return pixels.fit(decoded, height, width, channels)


def closing_error(code: object) -> HTTPError:
    """The error of a connection that was closed before the result, by its close code."""
    if code == 1012:
        return HTTPError(503, "the service was stopped before the response", "shutdown")
    if code == 1009:
        return HTTPError(413, "the client sent a message that is too large", "cut")
    return disconnected()
