"""A served model, which runs batches of jobs. Blocking: call it in a thread."""

import logging
import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from glimpse.contract.card import CanvasShape, ModelCard
from glimpse.contract.tensors import FIRST_LOCATION, FRAME, GLIMPSE, GLIMPSES, INPUT, LOCATION, LOCATIONS, STATE
from glimpse.images import pixels
from glimpse.runtime.graph import InterruptedRunError, OutputError
from glimpse.runtime.prediction import Prediction
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
SMALL_SECONDS = 0.005
"""Estimate up to which they are: few pixels may be slow to decode, or stand among much metadata."""
_UNBOUNDED = (GLIMPSE, LOCATION, STATE, FIRST_LOCATION, FRAME)
"""Inputs whose finite values may be so large that the outputs are not finite; the images are checked to be pixels."""

_log = logging.getLogger(__name__)


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

        Raises:
            HTTPError: 504 when the graph went on for so long that it was ended.
        """
        try:
            if isinstance(jobs[0], ExplainJob):
                return [self._explain(job) for job in jobs]
            return self._infer(jobs) if isinstance(jobs[0], InferJob) else self._classify(jobs)
        except InterruptedRunError as error:
            raise interrupted_error(error) from error

    @property
    def canvas(self) -> CanvasShape:
        """The canvas onto which images are brought."""
        return self.card.canvas

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
                    decode_image(image, DecodeRequest(job.name, SMALL_PIXELS, self.canvas, max_estimate=SMALL_SECONDS))
                    if isinstance(image, bytes)
                    else image
                )
            except (pixels.TooManyPixelsError, pixels.TooCostlyError):
                results[place] = TooLargeInBatch()
            except pixels.ImageError as error:
                results[place] = HTTPError(422, str(error), "image")
            else:
                canvases.append(canvas)
                ready.append(place)
        if not ready:
            return results
        decoded = time.perf_counter()
        try:
            found = self._look_at(canvases, jobs[0])
        except OutputError as error:
            if len(jobs) == 1:
                return [self.output_error(error)]
            # One image may have caused it, so each is classified alone.
            return [result for job in jobs for result in self._classify([job])]
        ended = time.perf_counter()
        for row, (place, canvas) in enumerate(zip(ready, canvases, strict=True)):
            results[place] = ClassifyResult(
                found.select(row), canvas.height, canvas.width, decoded - started, ended - decoded
            )
        return results

    def _look_at(self, canvases: Sequence[DecodedImage], job: ClassifyJob) -> Prediction:
        batch = np.stack([canvas.pixels for canvas in canvases])
        sizes = [(canvas.height, canvas.width) for canvas in canvases]
        first = self.session.onto_canvas(job.first_location, sizes)
        found = self.session.run(batch, max_glimpses=job.max_glimpses, confidence=job.confidence, first_location=first)
        return self.session.onto_images(found, sizes)

    def _explain(self, job: ExplainJob) -> Any:
        try:
            return explain_image(self.session, job)
        except OutputError as error:
            return self.output_error(error)

    def output_error(self, error: OutputError, given: Collection[str] = ()) -> HTTPError:
        """Convert the error of a model whose outputs are not finite: 422 if the client's tensors led to it, else 500.

        The second is the operator's to mend, and is logged.

        Args:
            error: The error.
            given: Names of the tensors that the client sent.
        """
        unbounded = [repr(name) for name in _UNBOUNDED if name in given]
        if unbounded:
            return HTTPError(
                422,
                f"expected values of {', '.join(unbounded)} for which the model's outputs are finite, got some that "
                "lead to NaN or infinity; send smaller ones",
                "tensor",
            )
        _log.error("%s version %d: %s", self.name, self.version, error, extra={"model": self.name})
        return HTTPError(
            500,
            f"expected a finite result of the model {self.name!r}, got NaN or infinity, which is the model's fault; "
            "tell the operator of the service",
            "output",
        )

    def _infer(self, jobs: Sequence[InferJob]) -> list[Any]:
        started = time.perf_counter()
        if len(jobs) == 1:
            try:
                found = self.session.infer(jobs[0].inputs, jobs[0].outputs)
            except InterruptedRunError:
                raise
            except OutputError as error:
                return [self.output_error(error, jobs[0].inputs)]
            except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base class
                return [error]
            return [InferResult(found, time.perf_counter() - started)]
        inputs = {**jobs[0].inputs, INPUT: np.concatenate([job.inputs[INPUT] for job in jobs])}
        wanted = jobs[0].outputs
        counted = GLIMPSES in self.card.outputs and GLIMPSES not in wanted
        try:
            found = self.session.infer(inputs, (*wanted, GLIMPSES) if counted else wanted)
        except InterruptedRunError:
            raise
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


def interrupted_error(error: InterruptedRunError) -> HTTPError:
    """The error of a request whose model went on for too long.

    Args:
        error: The error of its graph.
    """
    return HTTPError(504, str(error), "deadline")


_IN_TIME = frozenset(("logits", "probabilities", LOCATIONS, "boxes", "maps"))
"""Outputs whose second axis is time."""
