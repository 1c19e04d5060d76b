"""A model that is served: what it can be asked, and how a batch of such jobs is answered. Blocking; for threads."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import GLIMPSES, INPUT, LOCATIONS
from glimpse.images import pixels
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.explanation import explain_image
from glimpse_serve.inference.jobs import (
    ClassifyJob,
    ClassifyResult,
    DecodedImage,
    ExplainJob,
    InferJob,
    InferResult,
    TooLargeInBatch,
)

SMALL_PIXELS = 2**14
"""Images up to this size are decoded along with the batch that they are answered in, which takes a few tenths of a
millisecond; a larger one would keep others waiting, and is decoded apart."""


class ServedModel:
    """A model under a name and a version.

    Attributes:
        name: By which clients call it.
        version: From 1; a later one is of a greater number.
        session: It, ready.
        card: What it says of itself.

    Args:
        name: See the attributes.
        version: Likewise.
        session: Likewise.
    """

    def __init__(self, name: str, version: int, session: GlimpseSession) -> None:
        self.name, self.version, self.session = name, version, session
        self.card: ModelCard = session.card

    def answer(self, jobs: Sequence[Any]) -> list[Any]:
        """Answer a batch of jobs of one kind and one key.

        Args:
            jobs: those of :mod:`glimpse_serve.inference.jobs`.

        Returns:
            For each its answer, or the exception that it meets, which is its own: the
            others are answered all the same.
        """
        if isinstance(jobs[0], ExplainJob):
            return [explain_image(self.session, job) for job in jobs]
        return self._infer(jobs) if isinstance(jobs[0], InferJob) else self._look(jobs)

    def canvas(self, image: bytes, name: str, max_pixels: int) -> DecodedImage:
        """Decode an image and put it onto the model's canvas.

        Args:
            image: The bytes of an image file.
            name: What errors call it.
            max_pixels: Refuse a larger one.

        Raises:
            ImageError: When it is no image, is damaged, or too large.
        """
        decoded = pixels.decode(image, name, max_pixels)
        height, width, _ = decoded.shape
        fitting = decoded.shape == (self.card.height, self.card.width, self.card.channels)
        return DecodedImage(decoded if fitting else self.session.fit(decoded), height, width)

    def _look(self, jobs: Sequence[ClassifyJob]) -> list[Any]:
        started = time.perf_counter()
        answers: list[Any] = [None] * len(jobs)
        canvases: list[DecodedImage] = []
        ready: list[int] = []
        for place, job in enumerate(jobs):
            try:
                image = job.image
                canvas = self.canvas(image, job.name, SMALL_PIXELS) if isinstance(image, bytes) else image
            except pixels.TooManyPixelsError:
                answers[place] = TooLargeInBatch()
            except pixels.ImageError as error:
                answers[place] = HTTPError(422, str(error), "image")
            else:
                canvases.append(canvas)
                ready.append(place)
        if not ready:
            return answers
        decoded = time.perf_counter()
        batch = np.stack([canvas.pixels for canvas in canvases])
        found = self.session.run(batch, max_glimpses=jobs[0].max_glimpses, confidence=jobs[0].confidence)
        found = self.session.onto_images(found, [(canvas.height, canvas.width) for canvas in canvases])
        ended = time.perf_counter()
        for row, (place, canvas) in enumerate(zip(ready, canvases, strict=True)):
            answers[place] = ClassifyResult(
                found.select(row), canvas.height, canvas.width, decoded - started, ended - decoded
            )
        return answers

    def _infer(self, jobs: Sequence[InferJob]) -> list[Any]:
        started = time.perf_counter()
        if len(jobs) == 1:
            try:
                found = self.session.infer(jobs[0].given, jobs[0].outputs)
            except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no parent of their own
                return [error]
            return [InferResult(found, time.perf_counter() - started)]
        given = {**jobs[0].given, INPUT: np.concatenate([job.given[INPUT] for job in jobs])}
        wanted = jobs[0].outputs
        counted = GLIMPSES in self.card.outputs and GLIMPSES not in wanted
        try:
            found = self.session.infer(given, (*wanted, GLIMPSES) if counted else wanted)
        except Exception:  # noqa: BLE001 - it may be the fault of one of them, so each is tried by itself
            return [answer for job in jobs for answer in self._infer([job])]
        seconds = time.perf_counter() - started
        answers: list[Any] = []
        first = 0
        for job in jobs:
            rows = slice(first, first + job.size)
            first += job.size
            own = {name: found[name][rows] for name in wanted}
            if GLIMPSES in found:
                # Alone it would have ended with its own longest look.
                taken = int(found[GLIMPSES][rows].max())
                own = {name: field[:, :taken] if name in _IN_TIME else field for name, field in own.items()}
            answers.append(InferResult(own, seconds))
        return answers


_IN_TIME = frozenset(("logits", "probabilities", LOCATIONS, "boxes", "maps"))
"""Outputs with an axis of time, which is the second."""
