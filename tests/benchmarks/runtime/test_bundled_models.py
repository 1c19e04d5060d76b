"""The benchmark of the shipped models, at a size at which its figures mean nothing."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from benchmarks.runtime import bundled_models
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.models.bundled import HARD, models


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a quick run over the embedded digits printed, and what it wrote."""
    folder = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_DATA", str(folder))
        patch.setattr(bundled_models, "QUICK_IMAGES", 40)
        printed: list[str] = []
        patch.setattr("builtins.print", printed.append)
        assert bundled_models.main(["--quick", "--output", str(folder / "it.json")]) == 0
    return SimpleNamespace(text="\n".join(printed), result=json.loads((folder / "it.json").read_text()))


def test_every_shipped_model_is_measured_at_every_confidence(told):
    assert [found["name"] for found in told.result["models"]] == [model.name for model in models()]
    for found, model in zip(told.result["models"], models(), strict=True):
        session = GlimpseSession(model.path)
        assert (found["sha256"], found["error_of_card"]) == (session.sha256, session.card.test_error)
        assert (found["made_by"], found["bytes"]) == (model.made_by, model.path.stat().st_size)
        assert found["images"] == 40
        rows = found["confidences"]
        assert [row["confidence"] for row in rows] == list(bundled_models.CONFIDENCES)
        assert rows[0]["glimpses"] == session.card.num_glimpses
        assert all(1 <= row["glimpses"] <= rows[0]["glimpses"] for row in rows)
        assert [row["glimpses"] for row in rows[1:]] == sorted(row["glimpses"] for row in rows[1:])
        assert all(0 <= row["error"] < 0.9 for row in rows)
        assert all(row["labels_unlike_in_batches"] == 0 for row in rows)
    hard, soft = (found["against_full"] for found in told.result["models"])
    assert hard["answers_unlike"] == 0
    assert hard["bytes_in_full"] > 1.5 * HARD.path.stat().st_size
    assert min(hard[name] for name in hard if name.startswith(("times_", "open_"))) > 0
    assert soft is None


def test_what_stands_in_and_what_means_nothing_is_said(told):
    assert (told.result["dataset"], told.result["quick"]) == ("digits", True)
    assert "digits; a quick run: the figures mean nothing" in told.text
    for model in models():
        assert f"{model.name}: " in told.text
        assert f"made by {model.made_by}" in told.text


def test_a_file_in_full_has_the_same_weights_in_float32():
    stored = onnx.load(str(HARD.path)).graph
    full = bundled_models.in_full(HARD.path.read_bytes()).graph
    halves = [tensor for tensor in stored.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert len(halves) > 10
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in full.initializer}
    assert len(full.initializer) == len(stored.initializer)
    assert len(full.node) == len(stored.node) - len(halves)
    assert not {tensor.name for tensor in full.initializer} & {node.output[0] for node in full.node}


def test_answers_are_those_of_the_images_in_their_order():
    session = GlimpseSession(HARD.path)
    canvases = np.random.default_rng(0).integers(0, 256, (5, 60, 60, 1), dtype=np.uint8)
    images = bundled_models.Images(canvases, np.zeros(5, np.int64))
    found = bundled_models.answers(session, images, 2, None)
    alone = np.concatenate([session.run(canvas[None]).probabilities[:, -1] for canvas in canvases])
    np.testing.assert_allclose(found.probabilities, alone, atol=1e-5)
    assert found.glimpses.tolist() == [8] * 5
    assert found.microseconds > 0
