"""Ray: deployments and batches without a cluster; and a local Ray whose replica is killed."""

import asyncio
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("ray", reason="needs pip install 'glimpse-attention[ray]'")

from ray.exceptions import ActorDiedError, RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.schema import ServeDeploySchema

from benchmarks.serving import on_ray
from glimpse.cli.usage import UsageError
from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.authentication import AccessError
from glimpse_serve.inference.batcher import JobExecutor
from glimpse_serve.inference.decoder import DecodedImage
from glimpse_serve.inference.jobs import ClassifyJob, InferJob
from glimpse_serve.models import bundled
from glimpse_serve.on_ray import (
    FRONT,
    MODELS,
    ModelKey,
    ModelReplica,
    ReplicaExecutor,
    application,
    build_deployments,
    group_jobs,
)
from glimpse_serve.settings import Settings
from tests.support import toys

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "deploy" / "ray-serve.yaml"
ONE, OTHER = ModelKey("/one.onnx", "1" * 64), ModelKey("/other.onnx", "2" * 64)
CANVAS = DecodedImage(toys.noise(20, 30, 1), 20, 30)


def tensors(key: Any, size: int) -> InferJob:
    return InferJob({}, (), key, size)


def test_a_call_has_jobs_of_one_model_one_type_and_one_key():
    look, quick, alone = ClassifyJob(CANVAS), ClassifyJob(CANVAS, max_glimpses=2), tensors(None, 1)
    requests: list[tuple[ModelKey, Any]] = [
        (ONE, look),
        (OTHER, look),
        (ONE, quick),
        (ONE, look),
        (ONE, alone),
        (ONE, alone),
    ]
    assert group_jobs(requests, 8) == [[0, 3], [1], [2], [4], [5]]
    assert group_jobs([(ONE, look), (ONE, tensors(look.key, 1))], 8) == [[0], [1]]


def test_no_call_is_larger_than_a_batch_unless_one_job_is():
    requests = [(ONE, tensors("a", size)) for size in (2, 3, 9, 1, 3)]
    assert group_jobs(requests, 4) == [[0], [1], [2], [3, 4]]


class Handle:
    """What Ray's handle does: each call has the next of these outcomes."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[Any] = []
        self.cancelled = 0

    def remote(self, key: ModelKey, job: Any) -> "Handle":
        self.requests.append((key, job))
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def __await__(self) -> Any:
        outcome = self.outcomes.pop(0)
        if outcome is None:
            yield from asyncio.sleep(60).__await__()
        if isinstance(outcome, Exception) and not isinstance(outcome, ValueError):
            raise outcome
        return outcome


def submitted(handle: Handle, seconds: float = 5.0) -> Any:
    return asyncio.run(ReplicaExecutor(handle, ONE, 32).submit(ClassifyJob(CANVAS), time.monotonic() + seconds))


def test_a_job_runs_on_a_replica_and_its_result_is_returned():
    handle = Handle("an answer")
    assert submitted(handle) == "an answer"
    assert handle.requests == [(ONE, ClassifyJob(CANVAS))]
    assert isinstance(ReplicaExecutor(handle, ONE, 32), JobExecutor)


def test_a_replica_that_dies_costs_no_request():
    assert submitted(Handle(ActorDiedError(), RayActorError(), "an answer")) == "an answer"


def test_what_a_job_itself_meets_is_raised():
    with pytest.raises(ValueError, match="its own"):
        submitted(Handle(ValueError("its own")))


def test_back_pressure_is_an_error_503():
    with pytest.raises(HTTPError, match="expected fewer than 32 waiting requests for the models") as caught:
        submitted(Handle(BackPressureError(32, 32)))
    assert (caught.value.status, caught.value.kind) == (503, "overload")
    assert caught.value.headers == {"Retry-After": "1"}


def test_what_is_overdue_is_taken_back():
    handle = Handle(None)
    with pytest.raises(HTTPError, match="deadline") as caught:
        submitted(handle, 0.05)
    assert caught.value.status == 504
    assert handle.cancelled == 1
    with pytest.raises(HTTPError, match="deadline"):
        submitted(Handle("too late"), -1.0)


def test_cancelling_withdraws_the_job():
    handle = Handle(None)

    async def leave() -> None:
        asking = asyncio.ensure_future(
            ReplicaExecutor(handle, ONE, 32).submit(ClassifyJob(CANVAS), time.monotonic() + 5)
        )
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert handle.cancelled == 1


def test_a_replica_returns_each_job_its_own_result(tmp_path):
    path = toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)
    replica = ModelReplica(Settings(models=(str(path),), log_level="error", load_seconds=0.0).to_json())
    (sha256,) = replica._models
    here, gone = ModelKey(str(path), sha256), ModelKey(str(path), "0" * 64)
    jobs: list[tuple[ModelKey, Any]] = [
        (here, ClassifyJob(CANVAS)),
        (here, ClassifyJob(b"no image")),
        (gone, ClassifyJob(CANVAS)),
        (here, ClassifyJob(CANVAS, max_glimpses=1)),
    ]
    sent = pickle.dumps(asyncio.run(replica._run_batch(jobs)))
    good, bad, changed, short = pickle.loads(sent)  # noqa: S301 - our own
    expected = replica._models[sha256].session.predict_one(CANVAS.pixels)
    np.testing.assert_allclose(good.prediction.probabilities[0], expected.probabilities, atol=1e-6)
    assert short.prediction.probabilities.shape[1] == 1
    assert (bad.status, bad.kind) == (422, "image")
    assert (changed.status, changed.headers) == (503, {"Retry-After": "1"})
    assert "being replaced" in changed.message


def test_a_replica_opens_a_model_that_came_later(tmp_path):
    replica = ModelReplica(Settings(directory=str(tmp_path), log_level="error", load_seconds=0.0).to_json())
    assert not replica._models
    path = toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)
    sha256 = toys.sessions(tmp_path)["adaptive"].sha256
    (answer,) = asyncio.run(replica._run_batch([(ModelKey(str(path), sha256), ClassifyJob(CANVAS))]))
    assert answer.prediction.probabilities.shape[0] == 1


def deployments(target: Any) -> dict[str, Any]:
    front = target._bound_deployment
    (models,) = front.init_args
    return {each.name: each for each in (front, models._bound_deployment)}


def test_replicas_the_queue_and_the_cpus_are_those_of_the_settings():
    found = deployments(build_deployments(Settings(workers=3, threads=2, max_batch=4, max_queue=9)))
    assert set(found) == {FRONT, MODELS}
    models = found[MODELS]
    assert models.num_replicas == 3
    assert models.max_ongoing_requests == 8
    assert models.max_queued_requests == 9
    assert models.ray_actor_options == {"num_cpus": 2}
    assert found[FRONT].max_queued_requests == 9
    assert found[FRONT].max_ongoing_requests > 3 * 8 + 9


def test_with_more_workers_allowed_ray_adds_some():
    models = deployments(build_deployments(Settings(workers=2, max_workers=5, max_batch=8)))[MODELS]
    scaling = models._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 5, 4)


def test_the_example_is_a_config_file_of_ray_serve_for_this_application(tmp_path, monkeypatch):
    config = ServeDeploySchema.model_validate(yaml.safe_load(EXAMPLE.read_text()))
    (given,) = config.applications
    assert given.import_path == f"{application.__module__}:{application.__name__}"
    found = deployments(application({**given.args, "directory": str(tmp_path), "keys_file": "", "keys": KEY}))
    named = {each.name for each in given.deployments}
    assert named == set(found)
    assert found[MODELS].max_queued_requests == given.args["max_queue"]


KEY = f"alice sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({}, AccessError, "expected API keys, since 0.0.0.0 can be reached from other machines"),
        ({"max_queu": 3}, UsageError, "expected settings of glimpse serve in the args, got 'max_queu'.*max_queue"),
        ({"port": 80}, UsageError, "expected no 'port' in the args.*http_options"),
        ({"max_batch": "many"}, UsageError, "--max-batch: expected a whole number, got 'many'"),
        ({"keys": KEY, "models": ["nowhere.onnx"]}, ValueError, "a model's file at 'nowhere.onnx', found none"),
    ],
)
def test_an_invalid_config_file_is_an_error(args, error, message):
    with pytest.raises(error, match=message):
        application(args)


def test_the_environment_holds_for_a_config_file_as_well(monkeypatch):
    monkeypatch.setenv("GLIMPSE_SERVE_ALLOW_ANONYMOUS", "true")
    monkeypatch.setenv("GLIMPSE_SERVE_MAX_QUEUE", "7")
    found = deployments(application({"models": [str(bundled.HARD.path)]}))
    assert found[MODELS].max_queued_requests == 7


@pytest.mark.slow
@pytest.mark.child
def test_a_replica_that_is_killed_under_load_costs_no_request_and_comes_back(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(REPOSITORY / folder) for folder in ("", "envs", "serve")))
    sizes = on_ray.SHORT
    found = asyncio.run(on_ray.play(sizes))
    overload, kill = found["overload"], found["kill"]
    assert overload["answered"] + overload["refused"] == overload["sent"] == sizes.clients * sizes.requests
    assert overload["refused"] > 0
    assert kill["kills"] == 1
    assert kill["answered"] > 100
    for part in (overload, kill):
        assert (part["others"], part["lost"], part["wrong"]) == (0, 0, 0)
    assert found["exit_status"] == 0
