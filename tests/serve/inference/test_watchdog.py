import gc
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.runtime.graph import InterruptedRunError
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference import watchdog
from glimpse_serve.inference.decoder import DecodedImage
from glimpse_serve.inference.jobs import ClassifyJob, ExplainJob, InferJob
from glimpse_serve.inference.model import ServedModel
from glimpse_serve.inference.watchdog import Watchdog
from tests.support import hostile


@pytest.fixture
def session(tmp_path: Path) -> GlimpseSession:
    return GlimpseSession(hostile.write(tmp_path / "model.onnx", hostile.loop_over_pixels))


def image(value: int) -> Any:
    return np.full((20, 30, 1), value, np.uint8)


def test_a_run_that_goes_on_too_long_is_ended_and_the_next_one_is_not(session, monkeypatch):
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    guard = Watchdog(0.05)
    guard.watch(session)
    for _ in range(2):
        with pytest.raises(InterruptedRunError, match="its graph went on and was ended"):
            session.run(image(hostile.TRIGGER)[None])
        assert session.run(image(3)[None]).probabilities.shape == (1, 5, 3)
    guard.close()


def test_closing_ends_what_runs(session, monkeypatch):
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    guard = Watchdog(3600.0)
    guard.watch(session)
    timer = threading.Timer(0.1, guard.close)
    timer.start()
    with pytest.raises(InterruptedRunError):
        session.run(image(hostile.TRIGGER)[None])
    timer.join()


def test_a_session_is_not_kept_alive(session, monkeypatch):
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    guard = Watchdog(1.0)
    other = GlimpseSession(session.path)
    guard.watch(other)
    seen = weakref.ref(other)
    del other
    while seen() is not None:
        gc.collect()
        time.sleep(0.01)
    guard.close()


def test_every_kind_of_job_gets_504(session, monkeypatch):
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.01)
    guard = Watchdog(0.05)
    guard.watch(session)
    model = ServedModel("owl", 1, session)
    canvas = DecodedImage(image(hostile.TRIGGER), 20, 30)
    tensors = {"images": canvas.pixels.transpose(2, 0, 1)[None]}
    infer = InferJob(tensors, ("probabilities",), "key", 1)
    for jobs in ([ClassifyJob(canvas)], [ExplainJob(canvas)], [infer], [infer, infer]):
        with pytest.raises(HTTPError, match="expected the model to answer in time") as failed:
            model.run_batch(jobs)
        assert (failed.value.status, failed.value.kind) == (504, "deadline")
    guard.close()
