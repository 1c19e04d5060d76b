import os
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from glimpse.contract.card import ContractError
from glimpse.contract.seal import read_seal
from glimpse.export.targets.kserve import METRICS, write_kserve
from glimpse.export.targets.ownership import DeploymentError
from tests.glimpse.export.targets.test_triton import ADAPTIVE, EPISODE, write_sealed
from tests.glimpse.test_files import no_space, unchanged

URI = "s3://bucket/models?versioned=yes#1"
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([KMGTPE]i|[numkMGTPE])?")
"""A resource's quantity, as the schema of the manifest has it."""


@pytest.fixture
def model(tmp_path):
    return write_sealed(EPISODE, tmp_path / "model.onnx")


@pytest.fixture
def manifest(model, tmp_path):
    def write(**options: Any) -> Any:
        write_kserve(model, EPISODE, tmp_path / "service.yaml", "digits", URI, **options)
        return yaml.safe_load((tmp_path / "service.yaml").read_text(encoding="utf-8"))

    return write


def test_the_service_runs_the_repository_in_triton(manifest):
    written = manifest()
    assert (written["apiVersion"], written["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert written["metadata"]["name"] == "digits"
    predictor = written["spec"]["predictor"]
    assert set(predictor) == {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"}
    run = predictor["model"]
    assert set(run) == {"modelFormat", "protocolVersion", "runtime", "storageUri", "resources"}
    assert run["modelFormat"] == {"name": "onnx"}
    assert (run["protocolVersion"], run["runtime"], run["storageUri"]) == ("v2", "kserve-tritonserver", URI)


def test_every_value_is_of_the_type_that_kubernetes_wants(manifest):
    written = manifest()
    for entries in (written["metadata"]["labels"], written["metadata"]["annotations"]):
        assert all(isinstance(value, str) for value in entries.values())
    for value in written["metadata"]["labels"].values():
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", value)
    predictor = written["spec"]["predictor"]
    assert all(type(predictor[name]) is int for name in ("minReplicas", "maxReplicas", "scaleTarget"))
    for resources in predictor["model"]["resources"].values():
        assert all(QUANTITY.fullmatch(value) for value in resources.values())


def test_the_file_is_named_by_its_seal(manifest, model):
    digest = read_seal(model.read_bytes())
    metadata = manifest()["metadata"]
    assert metadata["annotations"]["glimpse-sha256"] == digest
    assert metadata["labels"]["glimpse-model"] == digest[:12]
    assert (metadata["annotations"]["glimpse-family"], metadata["annotations"]["glimpse-graph"]) == ("hard", "episode")


def test_a_digest_of_digits_alone_stays_a_text(monkeypatch, manifest):
    monkeypatch.setattr("glimpse.export.targets.kserve.seal_of", lambda model: "0" * 11 + "1" + "e" + "5" * 51)
    assert manifest()["metadata"]["labels"]["glimpse-model"] == "000000000001"


def test_a_replica_gets_a_gpu_when_one_is_asked_for_and_no_other(manifest):
    plain = manifest()["spec"]["predictor"]["model"]["resources"]
    given = manifest(gpu=True)["spec"]["predictor"]["model"]["resources"]
    assert plain == {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
    assert given == {part: {**resources, "nvidia.com/gpu": "1"} for part, resources in plain.items()}


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_brings_the_mode_that_knows_it(metric, manifest):
    written = manifest(metric=metric, max_replicas=7)
    mode = written["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
    assert mode == ("Standard" if metric == "cpu" else "Knative")
    predictor = written["spec"]["predictor"]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == (metric, METRICS[metric])
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 7)


def test_a_service_may_sleep_with_knative_alone(manifest):
    assert manifest(metric="rps", min_replicas=0)["spec"]["predictor"]["minReplicas"] == 0
    with pytest.raises(
        DeploymentError, match=r"expected at least 1 replica \(0 with concurrency or rps, which Knative"
    ):
        manifest(min_replicas=0)


@pytest.mark.parametrize("replicas", [(3, 2), (-1, 2), (0, 0)])
def test_replicas_that_are_none_are_refused(replicas, manifest):
    with pytest.raises(DeploymentError, match=f"got {replicas[0]} to {replicas[1]} by concurrency; change one of them"):
        manifest(metric="concurrency", min_replicas=replicas[0], max_replicas=replicas[1])


def test_a_metric_that_is_none_is_refused(manifest):
    with pytest.raises(DeploymentError, match="expected a metric out of cpu, concurrency, rps, got 'memory'; choose"):
        manifest(metric="memory")


@pytest.mark.parametrize("name", ["", "Digits", "1st", "-a", "a-", "a_b", "a.b", "x" * 64, "a\n", "ä"])
def test_a_name_that_is_no_dns_label_is_refused(name, model, tmp_path):
    with pytest.raises(DeploymentError, match="expected a service name of 1 to 63 small letters, digits and '-' that"):
        write_kserve(model, EPISODE, tmp_path / "service.yaml", name, URI)
    assert not (tmp_path / "service.yaml").exists()


@pytest.mark.parametrize("name", ["a", "x" * 63, "digits-2"])
def test_a_name_that_is_one_is_taken(name, model, tmp_path):
    write_kserve(model, EPISODE, tmp_path / "service.yaml", name, URI)
    assert yaml.safe_load((tmp_path / "service.yaml").read_text())["metadata"]["name"] == name


@pytest.mark.parametrize("uri", ["", "models", "/models", "s3://", "s3://a b", 's3://a"b', "s3://a\nkind: Pod"])
def test_an_address_that_is_none_is_refused(uri, model, tmp_path):
    with pytest.raises(DeploymentError, match=r"expected an address such as s3://bucket/models, got"):
        write_kserve(model, EPISODE, tmp_path / "service.yaml", "digits", uri)


def test_our_own_manifest_is_replaced_and_no_other(model, tmp_path):
    path = tmp_path / "service.yaml"
    write_kserve(model, EPISODE, path, "digits", URI)
    write_kserve(model, EPISODE, path, "others", URI)
    assert yaml.safe_load(path.read_text())["metadata"]["name"] == "others"
    path.write_text(edited := path.read_text().replace("maxReplicas: 4", "maxReplicas: 9"))
    with pytest.raises(DeploymentError, match=r"service\.yaml' was edited since Glimpse wrote it"):
        write_kserve(model, EPISODE, path, "digits", URI)
    assert path.read_text() == edited
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.onnx", "service.yaml"]


def test_a_folder_that_is_not_there_is_named(model, tmp_path):
    with pytest.raises(DeploymentError, match=r"got '.*service\.yaml', whose folder '.*nowhere' does not exist; make"):
        write_kserve(model, EPISODE, tmp_path / "nowhere" / "service.yaml", "digits", URI)


def test_a_file_that_was_changed_is_not_described(model, tmp_path):
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ContractError, match="expected a file with the SHA-256"):
        write_kserve(model, EPISODE, tmp_path / "service.yaml", "digits", URI)


def test_a_family_with_an_odd_name_stays_one_text(model, tmp_path):
    card = replace(ADAPTIVE, model='a: "b" # c')
    write_kserve(model, card, tmp_path / "service.yaml", "digits", URI)
    annotations = yaml.safe_load((tmp_path / "service.yaml").read_text())["metadata"]["annotations"]
    assert (annotations["glimpse-family"], annotations["glimpse-graph"]) == ('a: "b" # c', "adaptive")


def test_a_manifest_that_cannot_be_written_leaves_the_older_one(model, monkeypatch, tmp_path):
    write_kserve(model, EPISODE, tmp_path / "service.yaml", "digits", URI)
    monkeypatch.setattr(os, "fsync", no_space)
    with unchanged(tmp_path), pytest.raises(OSError, match=r"No space left on device: .*service\.yaml"):
        write_kserve(model, EPISODE, tmp_path / "service.yaml", "others", URI)
