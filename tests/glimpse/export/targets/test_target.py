"""The export targets: found by name, checked beforehand, delivered to."""

from dataclasses import fields

import pytest

from glimpse.export.targets import EXPORT_TARGETS, DeploymentError, KServeTarget, TritonTarget, find_target
from glimpse.runtime.model_file import load


@pytest.mark.parametrize(("kind", "target"), [("triton", TritonTarget), ("kserve", KServeTarget)])
def test_a_target_is_found_by_its_name(kind, target):
    assert find_target(kind) is target
    assert target.kind == kind


def test_an_unknown_target_is_an_error_with_a_suggestion():
    with pytest.raises(DeploymentError, match=r"out of triton, kserve, got 'tritn'; did you mean triton\?$"):
        find_target("tritn")
    with pytest.raises(DeploymentError, match=r"out of triton, kserve, got ''; choose one of them$"):
        find_target("")


@pytest.mark.parametrize("target", EXPORT_TARGETS.values())
def test_every_option_of_a_target_is_one_of_its_fields(target):
    own = [field.name for field in fields(target)][3:]
    assert [option.name for option in target.options] == own


def test_an_exported_file_is_handed_on_to_a_server(exported, tmp_path):
    file, card = exported.path, load(exported.path).card
    version = TritonTarget(tmp_path / "models", "it", gpu=True).deliver(file, card)
    assert version == tmp_path / "models" / "it" / "1"
    assert (version / "model.onnx").read_bytes() == exported.path.read_bytes()
    assert "KIND_GPU" in (version.parent / "config.pbtxt").read_text()
    manifest = tmp_path / "it.yaml"
    assert KServeTarget(manifest, "it", storage_uri="s3://b/m").deliver(file, card) == manifest
    assert 'storageUri: "s3://b/m"' in manifest.read_text()
    assert "nvidia.com/gpu" not in manifest.read_text()
    KServeTarget(manifest, "it", gpu=True, storage_uri="s3://b/m").deliver(file, card)
    assert "nvidia.com/gpu" in manifest.read_text()


def test_what_somebody_else_wrote_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / "models" / "it").mkdir(parents=True)
    (tmp_path / "models" / "it" / "config.pbtxt").write_text('name: "it"\n')
    (tmp_path / "it.yaml").write_text("kind: Pod\n")
    for target in (
        TritonTarget(tmp_path / "models", "it"),
        KServeTarget(tmp_path / "it.yaml", "it", storage_uri="s3://b/m"),
    ):
        with pytest.raises(DeploymentError, match="was not written by Glimpse, and is left alone"):
            target.check()
    TritonTarget(tmp_path / "models", "other").check()
    KServeTarget(tmp_path / "other.yaml", "it", storage_uri="s3://b/m").check()
