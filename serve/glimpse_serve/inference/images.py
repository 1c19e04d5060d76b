"""Decoding the images of requests that are too large for a batch.

What a file costs is estimated from its header. A light one is decoded in a thread. A heavy one is decoded in a process
of its own, which is ended when nobody waits for the image any more: a thread can't be. Both have a queue of their own,
so that light images never wait behind heavy ones; that of the heavy ones is bounded by their estimated time, so that
whoever is admitted is answered in time, and whoever is not knows it at once.

A file of many bytes is never looked into by the service itself, so that whatever its marks cost costs a process that
can be ended. It is admitted by its bytes, and once more by the estimate of the process where that is far greater.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from glimpse.images.pixels import ImageError, TooCostlyError, TooManyPixelsError
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.decoder import DecodedImage, DecodeRequest, decode_image
from glimpse_serve.inference.decoder_process import DecoderProcess
from glimpse_serve.inference.lanes import Lane
from glimpse_serve.settings import Settings

_Drawn = TypeVar("_Drawn")

MAX_LARGE_IMAGES = 32
"""Images of one lane that are processed or wait, at most."""
IN_THREAD_SECONDS = 0.25
"""Estimated processor time up to which an image is decoded in a thread; an ordinary JPEG of 8 million pixels."""
IN_THREAD_BYTES = 2**21
"""Bytes up to which a file is looked into in a thread: photographs with more are nearly all heavy."""
BYTE_SECONDS = 1e-7
"""Presumed processor time for each byte of a larger one: that of an ordinary photograph. Twice as much is let pass."""
MAX_PROCESSES = 4
"""Decoder processes, at most: not more than there are processors for this worker."""
ADMITTED = 0.6
"""Part of a request's deadline within which its image must be done by the estimates, or it is not admitted."""


class ImageWorkers:
    """Decodes and draws images within the limits of the settings, for all requests of a process.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.decode_seconds
        processes = max(1, min(MAX_PROCESSES, _processors() // settings.workers))
        self._decoders = [DecoderProcess(settings.max_pixels) for _ in range(processes)]
        self._light = Lane("images", 2, MAX_LARGE_IMAGES, self._seconds)
        self._heavy = Lane(
            "large images", processes, MAX_LARGE_IMAGES, self._seconds, ADMITTED * settings.deadline_seconds
        )
        self._drawing = Lane("explanations", 1, MAX_LARGE_IMAGES, self._seconds)
        self._pace = 1.0

    async def decode(self, image: bytes, request: DecodeRequest) -> DecodedImage:
        """Decode an image, and fit it onto a canvas if the request has one.

        Args:
            image: The bytes of an image file.
            request: How to decode it; its ``seconds`` and ``max_estimate`` are set here.

        Raises:
            HTTPError: 422 when it is no image, 413 when it has too many pixels or takes longer than the time limit by
                its estimate, 408 when it takes longer in fact, 503 when too many wait.
        """
        try:
            return await self._decode(image, request)
        except TimeoutError:
            raise self._late(request.name) from None
        except ImageError as error:
            raise image_error(error) from error

    async def draw(self, work: Callable[[], _Drawn], name: str) -> _Drawn:
        """Run a function that draws on an image in a thread, with the same time limit.

        Args:
            work: The function.
            name: The image's name in error messages.

        Raises:
            HTTPError: 408 when it takes too long, 503 when too many wait.
        """
        try:
            return await self._drawing.run(lambda _: work())
        except TimeoutError:
            raise self._late(name) from None

    def close(self) -> None:
        """Stop the threads and end the processes."""
        for lane in (self._light, self._heavy, self._drawing):
            lane.close()
        for decoder in self._decoders:
            decoder.close()

    async def _decode(self, image: bytes, request: DecodeRequest) -> DecodedImage:
        try:
            if len(image) > IN_THREAD_BYTES:
                presumed = min(self._seconds, BYTE_SECONDS * len(image))
                decoded, _ = await self._decode_in_process(image, request, presumed, min(self._seconds, 2 * presumed))
                return decoded
            light = replace(request, max_estimate=IN_THREAD_SECONDS)
            return await self._light.run(lambda _: decode_image(image, light))
        except TooCostlyError as error:
            estimate = error.seconds
        while True:
            try:
                decoded, taken = await self._decode_in_process(image, request, estimate, estimate)
            except TooCostlyError as error:  # which has looked deeper into the file
                estimate = error.seconds
            else:
                self._adapt(taken / estimate)
                return decoded

    async def _decode_in_process(
        self, image: bytes, request: DecodeRequest, seconds: float, most: float
    ) -> tuple[DecodedImage, float]:
        """Decode an image that is admitted with an estimate, if its process estimates at most so much."""
        if seconds > self._seconds:
            raise HTTPError(
                413,
                f"expected an image that is decoded within {self._seconds:g} s, {request.name} is estimated to take "
                f"{seconds:.2g} s; scale it down, or write it in another format",
                "size",
            )
        stop = threading.Event()
        timed = replace(request, seconds=self._seconds, max_estimate=most)

        def work(slot: int) -> tuple[DecodedImage, float]:
            started = time.perf_counter()
            decoded = self._decoders[slot].decode(image, timed, stop)
            return decoded, time.perf_counter() - started

        def end(slot: int) -> None:
            stop.set()
            self._decoders[slot].end()

        return await self._heavy.run(work, self._pace * seconds, end)

    def _adapt(self, pace: float) -> None:
        """Follow how long an estimated second takes here and now: up quickly, down slowly."""
        share = 0.5 if pace > self._pace else 0.2
        self._pace += share * (min(pace, 4 * self._pace) - self._pace)

    def _late(self, name: str) -> HTTPError:
        return HTTPError(
            408,
            f"expected to be done with {name} within {self._seconds:g} s; send it smaller, or in another format",
            "timeout",
        )


def image_error(error: ImageError) -> HTTPError:
    """Convert an error of reading an image to an HTTP error: 413 for too many pixels, else 422.

    Args:
        error: The error.
    """
    if isinstance(error, TooManyPixelsError):
        return HTTPError(413, str(error), "size")
    return HTTPError(422, str(error), "image")


def _processors() -> int:
    """Number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
