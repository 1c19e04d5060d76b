"""The components that all routes share: settings, models, body reader, metrics, readiness."""

import time
from dataclasses import replace
from typing import Any, NamedTuple

from glimpse_serve.http.bodies import BodyReader
from glimpse_serve.http.cancellation import cancel_on_disconnect
from glimpse_serve.http.request import Request
from glimpse_serve.inference.decoder import DecodeRequest
from glimpse_serve.inference.images import ImageWorkers
from glimpse_serve.inference.jobs import (
    MOST_BYTES,
    ClassifyJob,
    ClassifyResult,
    InferResult,
    TooLargeInBatch,
)
from glimpse_serve.models.registry import LoadedModel, Registry
from glimpse_serve.settings import Settings
from glimpse_serve.telemetry.metrics import Metrics


class Readiness:
    """Whether the service takes requests.

    Attributes:
        started: All models of the settings are loaded.
        draining: The service is shutting down.
    """

    def __init__(self) -> None:
        self.started = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests."""
        return self.started and not self.draining


class AppContext(NamedTuple):
    """The components that all routes share.

    Attributes:
        settings: The settings of the service.
        registry: The served models.
        bodies: Reads bodies.
        images: Decodes large images.
        metrics: Counts and times.
        readiness: Whether the service takes requests.
    """

    settings: Settings
    registry: Registry
    bodies: BodyReader
    images: ImageWorkers
    metrics: Metrics
    readiness: Readiness

    async def submit(self, request: Request, loaded: LoadedModel, job: Any, seconds: float | None = None) -> Any:
        """Run a job of a request on a model, within the deadline and until the client disconnects.

        An image that is too large for a batch is decoded apart, and submitted again.

        Args:
            request: The request, whose body has been read.
            loaded: The model.
            job: The job.
            seconds: The client's time limit; it shortens that of the service.

        Raises:
            HTTPError: 499 when the client has disconnected, 503 when too many jobs wait, 504 when the deadline has
                passed, or the error of the job.
        """
        limit = self.settings.deadline_seconds
        limit = limit if seconds is None else min(seconds, limit)
        image = job.image if isinstance(job, ClassifyJob) and isinstance(job.image, bytes) else None
        if image is not None and len(image) > MOST_BYTES:
            return await self._decode_and_submit(request, loaded, job, image, seconds)
        submitted = time.monotonic()
        result = await cancel_on_disconnect(request.receive, loaded.executor.submit(job, submitted + limit), limit)
        if image is not None and isinstance(result, TooLargeInBatch):
            return await self._decode_and_submit(request, loaded, job, image, seconds)
        self._count(request, loaded, result, time.monotonic() - submitted)
        return result

    async def _decode_and_submit(
        self, request: Request, loaded: LoadedModel, job: ClassifyJob, image: bytes, seconds: float | None
    ) -> Any:
        limit = self.settings.deadline_seconds
        limit = limit if seconds is None else min(seconds, limit)
        started = time.monotonic()
        work = self.images.decode(image, DecodeRequest(job.name, self.settings.max_pixels, loaded.model.canvas))
        canvas = await cancel_on_disconnect(request.receive, work, limit)
        left = max(0.0, limit - (time.monotonic() - started))
        return await self.submit(request, loaded, replace(job, image=canvas), left)

    def _count(self, request: Request, loaded: LoadedModel, result: Any, seconds: float) -> None:
        name, metrics = loaded.model.name, self.metrics
        if isinstance(result, ClassifyResult | InferResult):
            decoding = result.decode_seconds if isinstance(result, ClassifyResult) else 0.0
            waiting = max(0.0, seconds - result.model_seconds - decoding)
            stages = {"queue": waiting, "decode": decoding, "model": result.model_seconds}
            ended_ago = seconds
            for stage, spent in stages.items():
                if spent:
                    metrics.observe_stage(name, stage, spent)
                    ended_ago -= spent
                    if request.span is not None:
                        request.span.add_stage(stage, max(0.0, ended_ago), spent)
        if isinstance(result, ClassifyResult):
            prediction = result.prediction
            num_glimpses, label = prediction.probabilities.shape[1], int(prediction.probabilities[0, -1].argmax())
            metrics.count_classification(name, num_glimpses, prediction.reasons[0], loaded.model.card.classes[label])
            request.glimpses = (request.glimpses or 0) + num_glimpses
