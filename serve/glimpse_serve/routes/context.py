"""What all routes share: the settings, the models, the intake, and who counts."""

import time
from typing import Any, NamedTuple

from glimpse_serve.http.bodies import BodyReader
from glimpse_serve.http.cancellation import unless_gone
from glimpse_serve.http.request import Request
from glimpse_serve.inference.jobs import ClassifyJob, ClassifyResult, InferResult, TooLargeInBatch
from glimpse_serve.models.registry import LoadedModel, Registry
from glimpse_serve.settings import Settings
from glimpse_serve.telemetry.metrics import Metrics


class Readiness:
    """Whether the service takes requests.

    Attributes:
        started: All models that were asked for are loaded.
        draining: It was told to stop.
    """

    def __init__(self) -> None:
        self.started = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether it should be sent requests."""
        return self.started and not self.draining


class AppContext(NamedTuple):
    """See the module."""

    settings: Settings
    registry: Registry
    intake: BodyReader
    metrics: Metrics
    condition: Readiness

    async def ask(self, asked: Request, entry: LoadedModel, job: Any, seconds: float | None = None) -> Any:
        """Have a model answer a job of a request, in time, unless its client leaves.

        Args:
            asked: The request, whose body has been read.
            entry: The model.
            job: The job; of an image that turns out to be large, another one follows when it is decoded.
            seconds: How long to wait, if that is less than the service would.

        Raises:
            Refusal: When it is not answered.
        """
        limit = self.settings.deadline_seconds
        limit = limit if seconds is None else min(seconds, limit)
        submitted = time.monotonic()
        answer = await unless_gone(asked.receive, entry.engine.submit(job, submitted + limit), limit)
        if isinstance(answer, TooLargeInBatch) and isinstance(job, ClassifyJob) and isinstance(job.image, bytes):
            work = self.intake.canvas(entry.model, job.image, job.name)
            canvas = await unless_gone(asked.receive, work, limit)
            return await self.ask(
                asked, entry, ClassifyJob(canvas, job.name, job.max_glimpses, job.confidence), seconds
            )
        self._count(asked, entry, answer, time.monotonic() - submitted)
        return answer

    def _count(self, asked: Request, entry: LoadedModel, answer: Any, seconds: float) -> None:
        name, metrics = entry.model.name, self.metrics
        if isinstance(answer, ClassifyResult | InferResult):
            decoding = answer.decode_seconds if isinstance(answer, ClassifyResult) else 0.0
            waiting = max(0.0, seconds - answer.model_seconds - decoding)
            stages = {"queue": waiting, "decode": decoding, "model": answer.model_seconds}
            left = seconds
            for stage, spent in stages.items():
                if spent:
                    metrics.stage(name, stage, spent)
                    left -= spent
                    if asked.span is not None:
                        asked.span.child(stage, max(0.0, left), spent)
        if isinstance(answer, ClassifyResult):
            found = answer.found
            taken, label = found.probabilities.shape[1], int(found.probabilities[0, -1].argmax())
            metrics.looked(name, taken, found.reasons[0], entry.model.card.classes[label])
            asked.glimpses = (asked.glimpses or 0) + taken
