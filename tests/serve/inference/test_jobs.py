import pickle

import numpy as np
import pytest

from glimpse_serve.inference.jobs import Canvas, Look, Tensors, Watch

CANVAS = Canvas(np.zeros((2, 3, 1), np.uint8), 5, 6)


def test_images_that_are_looked_at_for_equally_long_go_together():
    assert Look(b"a", "a", 3, 0.5).key == Look(CANVAS, "b", 3, 0.5).key
    assert Look(b"a", "a", 3, 0.5).key != Look(b"a", "a", 3, None).key
    assert Look(b"a", "a", 3, None).key != Look(b"a", "a", None, None).key
    assert Watch(CANVAS).key is None


@pytest.mark.parametrize(
    "job",
    [
        Look(b"a", "a", 3, 0.5),
        Look(CANVAS),
        Watch(CANVAS, 2),
        Tensors({"images": CANVAS.pixels}, ("logits",), ("k", 1), 2),
    ],
)
def test_jobs_can_be_sent_to_other_processes(job):
    again = pickle.loads(pickle.dumps(job))  # noqa: S301 - our own bytes
    assert (type(again), again.key, again.size) == (type(job), job.key, job.size)


def test_only_little_work_is_light():
    few, many = CANVAS.pixels, np.zeros((2, 1, 100, 100), np.uint8)
    assert Look(b"x" * 1000).light
    assert Look(CANVAS).light
    assert not Look(b"x" * 20_000).light
    assert Tensors({"images": few}, (), "key", 1).light
    assert not Tensors({"images": few}, (), None, 1).light
    assert not Tensors({"images": many}, (), "key", 2).light
    assert not Watch(CANVAS).light
