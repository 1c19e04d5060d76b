"""A process that decodes images for the service, and that can be ended in the middle of one."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

import numpy as np

from glimpse.images.pixels import ImageError, TooCostlyError, TooManyPixelsError
from glimpse_serve.inference.decoder import DecodedImage, DecodeRequest

PROGRAM_BYTES = 2**30
"""Address space of the program itself: interpreter, numpy, Pillow and their threads' reserves."""
PIXEL_BYTES = 40
"""Address space a pixel: a progressive colour JPEG or transparency take the most, about 20 to 30."""


class DecoderProcess:
    """A decoder process, started when it is needed and replaced when it has ended. One image at a time.

    Args:
        max_pixels: Largest image, which sets the limit of its memory.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_bytes = PROGRAM_BYTES + PIXEL_BYTES * max_pixels
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = False
        self._closed = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Number of the running process; None while there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def decode(self, image: bytes, request: DecodeRequest, stop: threading.Event) -> DecodedImage:
        """Decode an image. Blocking: call it in a thread.

        Args:
            image: The bytes of an image file.
            request: How to decode it.
            stop: Set when the result is not needed any more, before :meth:`end`.

        Raises:
            TooCostlyError: When its estimate is greater than the request allows.
            ImageError: When it is no image, is damaged or too large, or the process ended while it was decoded.
        """
        with self._lock:
            if stop.is_set() or self._closed:
                raise ImageError("the result is not needed any more")
            process = self._process
            if process is not None and process.poll() is not None:  # somebody else has ended it
                _release(process)
                process = None
            if process is None:
                process = self._process = self._start()
            self._busy = True
        try:
            return _exchange(process, image, request)
        except (OSError, EOFError, ValueError) as error:
            if isinstance(error, ImageError):
                raise
            process.kill()
            raise ImageError(
                f"the image {request.name!r} ended its decoder (status {process.wait()}): it takes too much processor "
                "time or memory, or is damaged; scale it down, or write it in another format"
            ) from error
        finally:
            with self._lock:
                self._busy = False
                if process.poll() is not None:
                    _release(process)
                    self._process = None

    def end(self) -> None:
        """End the process if it decodes an image; the next image gets a new one."""
        with self._lock:
            if self._busy and self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process; no further image is decoded."""
        with self._lock:
            self._closed = True
            process = self._process
            if process is None:
                return
            process.kill()
            process.wait()
            if not self._busy:
                _release(process)
                self._process = None

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "glimpse_serve.inference.decoder", str(self._max_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )


def _exchange(process: "subprocess.Popen[bytes]", image: bytes, request: DecodeRequest) -> DecodedImage:
    requests, replies = _pipes(process)
    requests.write(request.to_line(len(image)))
    requests.write(image)
    requests.flush()
    line = replies.readline()
    if not line:
        raise EOFError
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        if reply["kind"] == "cost":
            raise TooCostlyError(reply["error"], reply["estimate"])
        raise (TooManyPixelsError if reply["kind"] == "size" else ImageError)(reply["error"])
    pixels = np.empty(reply["shape"], np.uint8)
    room = pixels.reshape(-1).data
    while room:
        read = replies.readinto(room)  # type: ignore[attr-defined]  # it is a BufferedReader
        if not read:
            raise EOFError
        room = room[read:]
    return DecodedImage(pixels, reply["height"], reply["width"])


def _release(process: "subprocess.Popen[bytes]") -> None:
    for pipe in _pipes(process):
        with suppress(OSError):  # a request that was not read to its end
            pipe.close()


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise OSError("the decoder process has no pipes")
    return process.stdin, process.stdout
