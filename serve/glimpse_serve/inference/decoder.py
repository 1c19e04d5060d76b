"""The program of a decoder process: decodes one image after another, within limits of memory and processor time.

``python -m glimpse_serve.inference.decoder BYTES`` reads requests from standard input and writes replies to standard
output. A request is a line of JSON (a :class:`DecodeRequest` and ``size``) and the file of ``size`` bytes; a reply is a
line of JSON (``shape``, ``height`` and ``width``; or ``error``, ``kind`` and ``estimate``) and the pixels. It ends when
its input ends, so that it does not outlive the service, or when it is killed. Nothing that the service receives from it
is code.
"""

import json
import math
import resource
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from glimpse.contract.card import CanvasShape
from glimpse.images import pixels


class DecodedImage(NamedTuple):
    """An image that was decoded and fitted onto a model's canvas."""

    pixels: npt.NDArray[np.uint8]
    """(height, width, channels) of the canvas."""
    height: int
    """Height of the original image, pixels."""
    width: int
    """Width of the original image, pixels."""


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """How to decode an image.

    Attributes:
        name: The image's name in error messages.
        max_pixels: Largest number of pixels.
        canvas: The canvas that it is brought onto; None to return the image itself.
        seconds: Processor time after which the process is ended.
        max_estimate: Largest estimate of its processor time, seconds.
    """

    name: str
    max_pixels: int
    canvas: CanvasShape | None = None
    seconds: float = math.inf
    max_estimate: float = math.inf

    def to_line(self, size: int) -> bytes:
        """Write the line before a file.

        Args:
            size: Bytes of the file.
        """
        return json.dumps({**asdict(self), "size": size}).encode() + b"\n"


def decode_image(image: bytes, request: DecodeRequest) -> DecodedImage:
    """Decode an image and fit it onto its canvas.

    Args:
        image: The bytes of an image file.
        request: How to decode it.

    Raises:
        ImageError: When it is no image, is damaged, has too many pixels, or is estimated to take too long.
    """
    decoded = pixels.decode(image, request.name, request.max_pixels, request.max_estimate)
    height, width, _ = decoded.shape
    if request.canvas is None or decoded.shape == request.canvas[:3]:
        return DecodedImage(decoded, height, width)
    return DecodedImage(pixels.fit(decoded, *request.canvas), height, width)


def main(max_bytes: int) -> None:
    """Reply to requests until the input ends.

    Args:
        max_bytes: Limit of the address space.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the service ends its children
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    while line := requests.readline():
        fields: dict[str, Any] = json.loads(line)
        image = requests.read(fields.pop("size"))
        fields["canvas"] = fields["canvas"] and CanvasShape(*fields["canvas"])
        request = DecodeRequest(**fields)
        if math.isfinite(request.seconds):
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + request.seconds), hard))
        replies.writelines(_reply(image, request))
        replies.flush()


def _reply(image: bytes, request: DecodeRequest) -> tuple[bytes, bytes]:
    try:
        decoded = decode_image(image, request)
    except pixels.ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            return _failure(f"decoding the image {request.name!r} takes more memory than is allowed; scale it down")
        if isinstance(error, pixels.TooCostlyError):
            return _failure(str(error), "cost", error.seconds)
        return _failure(str(error), "size" if isinstance(error, pixels.TooManyPixelsError) else "image")
    except MemoryError:
        return _failure(f"decoding the image {request.name!r} takes more memory than is allowed; scale it down")
    shape = {"shape": decoded.pixels.shape, "height": decoded.height, "width": decoded.width}
    return json.dumps(shape).encode() + b"\n", decoded.pixels.tobytes()


def _failure(message: str, kind: str = "image", estimate: float = 0.0) -> tuple[bytes, bytes]:
    return json.dumps({"error": message, "kind": kind, "estimate": estimate}).encode() + b"\n", b""


if __name__ == "__main__":
    main(int(sys.argv[1]))
