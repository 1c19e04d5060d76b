import pickle

import numpy as np
import pytest

from glimpse_serve.inference.decoder import DecodedImage
from glimpse_serve.inference.jobs import ClassifyJob, ExplainJob, InferJob

CANVAS = DecodedImage(np.zeros((2, 3, 1), np.uint8), 5, 6)


def test_images_with_equal_limits_share_a_key():
    assert ClassifyJob(b"a", "a", 3, 0.5).key == ClassifyJob(CANVAS, "b", 3, 0.5).key
    assert ClassifyJob(b"a", "a", 3, 0.5).key != ClassifyJob(b"a", "a", 3, None).key
    assert ClassifyJob(b"a", "a", 3, None).key != ClassifyJob(b"a", "a", None, None).key
    assert ClassifyJob(b"a", "a", 3, 0.5, (0.5, 0.0)).key == ClassifyJob(CANVAS, "b", 3, 0.5, (0.5, 0.0)).key
    assert len({ClassifyJob(b"a", first_location=each).key for each in (None, (0.5, 0.0), (0.0, 0.5))}) == 3
    assert ExplainJob(CANVAS).key is None


@pytest.mark.parametrize(
    "job",
    [
        ClassifyJob(b"a", "a", 3, 0.5),
        ClassifyJob(CANVAS, first_location=(0.5, -1.0)),
        ExplainJob(CANVAS, 2),
        InferJob({"images": CANVAS.pixels}, ("logits",), ("k", 1), 2),
    ],
)
def test_jobs_can_be_sent_to_other_processes(job):
    again = pickle.loads(pickle.dumps(job))  # noqa: S301 - our own bytes
    assert (type(again), again.key, again.size) == (type(job), job.key, job.size)


def test_only_little_work_is_light():
    few, many = CANVAS.pixels, np.zeros((2, 1, 100, 100), np.uint8)
    assert ClassifyJob(b"x" * 1000).light
    assert ClassifyJob(CANVAS).light
    assert not ClassifyJob(b"x" * 20_000).light
    assert InferJob({"images": few}, (), "key", 1).light
    assert not InferJob({"images": few}, (), None, 1).light
    assert not InferJob({"images": many}, (), "key", 2).light
    assert not ExplainJob(CANVAS).light
