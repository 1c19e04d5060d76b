import asyncio
import time
from typing import Any

import numpy as np
import pytest

from glimpse.runtime.session import GlimpseSession
from glimpse_serve.app import Service
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.request import Request
from glimpse_serve.inference.jobs import ClassifyJob, ClassifyResult
from glimpse_serve.routes.context import Readiness
from glimpse_serve.settings import Settings
from tests.support.service import png, toy_files
from tests.support.toys import noise


def make_request() -> Request:
    async def stay() -> Any:
        await asyncio.sleep(30)

    return Request({"type": "http"}, stay, {}, "1", time.monotonic())


def run_job(
    tmp_path: Any, job: ClassifyJob, seconds: float | None = None, **changes: Any
) -> tuple[ClassifyResult, Request, str]:
    """Run a job on a service, and return its metrics as well."""

    async def main() -> tuple[ClassifyResult, Request, str]:
        service = Service(Settings(models=toy_files(tmp_path), load_seconds=0.0, **changes))
        try:
            await service._load()
            request = make_request()
            context = service.context
            result = await context.submit(request, context.registry.find("adaptive"), job, seconds)
            return result, request, context.metrics.render("")[0].decode()
        finally:
            service._close()

    return asyncio.run(main())


def test_an_image_is_classified_and_counted(tmp_path):
    result, request, counted = run_job(tmp_path, ClassifyJob(png(noise(20, 30, 1)), max_glimpses=3))
    assert result.prediction.probabilities.shape == (1, 3, 3)
    assert request.glimpses == 3
    label = ("cat", "dog", "owl")[int(result.prediction.probabilities[0, -1].argmax())]
    assert f'glimpse_answers_total{{class="{label}",model="adaptive"}} 1.0' in counted
    assert 'glimpse_stops_total{model="adaptive",reason="budget"} 1.0' in counted
    for stage in ("decode", "queue", "model"):
        assert f'glimpse_stage_seconds_count{{model="adaptive",stage="{stage}"}} 1.0' in counted


def test_a_large_image_is_decoded_in_a_thread_and_classified_alike(tmp_path):
    large = noise(20, 30, 1).repeat(30, 0).repeat(30, 1)
    result, *_ = run_job(tmp_path, ClassifyJob(png(large)))
    expected = GlimpseSession(tmp_path / "adaptive.onnx").predict_one(large)
    assert (result.height, result.width) == (600, 900)
    np.testing.assert_allclose(result.prediction.probabilities[0], expected.probabilities, atol=1e-5)


def test_an_image_above_the_limit_is_rejected(tmp_path):
    with pytest.raises(HTTPError, match="900 x 600 pixels") as error:
        run_job(tmp_path, ClassifyJob(png(noise(600, 900, 1)), "a.png"), max_pixels=400_000)
    assert error.value.status == 413


def test_a_timeout_of_zero_is_an_error(tmp_path):
    with pytest.raises(HTTPError, match="deadline") as error:
        run_job(tmp_path, ClassifyJob(png(noise(20, 30, 1))), seconds=0.0)
    assert error.value.status == 504


def test_it_is_ready_between_its_start_and_its_end():
    readiness = Readiness()
    assert not readiness.ready
    readiness.started = True
    assert readiness.ready
    readiness.draining = True
    assert not readiness.ready
