"""A served model, which runs batches of jobs. Blocking: call it in a thread."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import GLIMPSES, INPUT, LOCATIONS
from glimpse.images import pixels
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.decoder import DecodedImage, DecodeRequest, decode_image
from glimpse_serve.inference.explanation import explain_image
from glimpse_serve.inference.jobs import (
    MOST_BYTES,
    ClassifyJob,
    ClassifyResult,
    ExplainJob,
    InferJob,
    InferResult,
    TooLargeInBatch,
)

SMALL_PIXELS = MOST_BYTES // 4
"""Images of at most so many pixels are decoded with their batch, within a few tenths of a millisecond. A larger one
would delay the other requests of the batch; it is decoded before, apart."""


class ServedModel:
    """A model under a name and a version.

    Attributes:
        name: The model's name in requests.
        version: At least 1; greater for later versions.
        session: The open session.
        card: The model card.

    Args:
        name: The model's name in requests.
        version: At least 1.
        session: The open session.
    """

    def __init__(self, name: str, version: int, session: GlimpseSession) -> None:
        self.name, self.version, self.session = name, version, session
        self.card: ModelCard = session.card

    def run_batch(self, jobs: Sequence[Any]) -> list[Any]:
        """Run a batch of jobs of one type and one key.

        Args:
            jobs: Jobs of :mod:`glimpse_serve.inference.jobs`.

        Returns:
            For each job its result, or the exception that this job alone raises.
        """
        if isinstance(jobs[0], ExplainJob):
            return [explain_image(self.session, job) for job in jobs]
        return self._infer(jobs) if isinstance(jobs[0], InferJob) else self._classify(jobs)

    @property
    def canvas(self) -> tuple[int, int, int]:
        """(height, width, channels) of the canvas onto which images are fitted."""
        return self.card.height, self.card.width, self.card.channels

    def _classify(self, jobs: Sequence[ClassifyJob]) -> list[Any]:
        started = time.perf_counter()
        results: list[Any] = [None] * len(jobs)
        canvases: list[DecodedImage] = []
        ready: list[int] = []
        for place, job in enumerate(jobs):
            image = job.image
            if isinstance(image, bytes) and len(image) > MOST_BYTES:
                results[place] = TooLargeInBatch()
                continue
            try:
                canvas = (
                    decode_image(image, DecodeRequest(job.name, SMALL_PIXELS, self.canvas))
                    if isinstance(image, bytes)
                    else image
                )
            except pixels.TooManyPixelsError:
                results[place] = TooLargeInBatch()
            except pixels.ImageError as error:
                results[place] = HTTPError(422, str(error), "image")
            else:
                canvases.append(canvas)
                ready.append(place)
        if not ready:
            return results
        decoded = time.perf_counter()
        batch = np.stack([canvas.pixels for canvas in canvases])
        found = self.session.run(batch, max_glimpses=jobs[0].max_glimpses, confidence=jobs[0].confidence)
        found = self.session.onto_images(found, [(canvas.height, canvas.width) for canvas in canvases])
        ended = time.perf_counter()
        for row, (place, canvas) in enumerate(zip(ready, canvases, strict=True)):
            results[place] = ClassifyResult(
                found.select(row), canvas.height, canvas.width, decoded - started, ended - decoded
            )
        return results

    def _infer(self, jobs: Sequence[InferJob]) -> list[Any]:
        started = time.perf_counter()
        if len(jobs) == 1:
            try:
                found = self.session.infer(jobs[0].inputs, jobs[0].outputs)
            except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base class
                return [error]
            return [InferResult(found, time.perf_counter() - started)]
        inputs = {**jobs[0].inputs, INPUT: np.concatenate([job.inputs[INPUT] for job in jobs])}
        wanted = jobs[0].outputs
        counted = GLIMPSES in self.card.outputs and GLIMPSES not in wanted
        try:
            found = self.session.infer(inputs, (*wanted, GLIMPSES) if counted else wanted)
        except Exception:  # noqa: BLE001 - one job may have caused it, so each runs alone
            return [run_batch for job in jobs for run_batch in self._infer([job])]
        seconds = time.perf_counter() - started
        results: list[Any] = []
        first = 0
        for job in jobs:
            rows = slice(first, first + job.size)
            first += job.size
            own = {name: found[name][rows] for name in wanted}
            if GLIMPSES in found:
                # Alone it would have stopped after its own longest sequence of glimpses.
                taken = int(found[GLIMPSES][rows].max())
                own = {name: field[:, :taken] if name in _IN_TIME else field for name, field in own.items()}
            results.append(InferResult(own, seconds))
        return results


_IN_TIME = frozenset(("logits", "probabilities", LOCATIONS, "boxes", "maps"))
"""Outputs whose second axis is time."""
