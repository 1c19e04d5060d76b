import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from glimpse import export
from glimpse.contract import BOXES, INPUT, LOCATIONS, LOGITS, PROBABILITIES
from glimpse.models.hard import HardObserver
from glimpse.retina import Retina
from glimpse.runtime import GlimpseSession

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUTS = (LOGITS, PROBABILITIES, LOCATIONS, BOXES)


def observer_of(exported: Any) -> HardObserver:
    retina = Retina(exported.glimpse_size, exported.num_scales, exported.zoom)
    return HardObserver(exported.model, retina, exported.num_glimpses)


def episode_of(exported: Any) -> export.Episode:
    return export.Episode(observer_of(exported))


def run(path: Path, images: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: images.numpy()}), strict=True))


def perturbed(good: Path, bad: Path, by: float) -> None:
    """Copy a file with another bias for its first class."""
    model = onnx.load(str(good))
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("classifier.bias")]
    values = numpy_helper.to_array(bias).copy()
    values[0] += by
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, str(bad))


def test_the_file_is_of_opset_18_with_the_contracts_names_and_shapes(exported):
    model = onnx.load(str(exported.path))
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    (given,) = model.graph.input
    assert given.name == INPUT
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in model.graph.output] == list(OUTPUTS)
    free = [dimension.dim_param for dimension in given.type.tensor_type.shape.dim]
    assert [bool(name) for name in free] == [True, False, True, True]
    assert len({free[0], free[2], free[3]}) == 3


def test_the_weights_lie_in_the_file_once(exported):
    stored = onnx.load(str(exported.path)).graph.initializer
    numbers = sum(parameter.numel() for parameter in exported.model.parameters())
    assert numbers <= sum(int(np.prod(tensor.dims)) for tensor in stored) < numbers + 1000


def test_the_card_comes_back_from_the_file(exported):
    card = GlimpseSession(exported.path).card
    assert card.classes == tuple("0123456789")
    assert (card.channels, card.height, card.width) == (1, 40, 52)
    assert (card.num_glimpses, card.glimpse_size, card.num_scales, card.zoom) == (3, 6, 2, 2)
    assert card.versions == export.versions()


def test_the_file_answers_as_the_model_does(exported):
    parity = export.compare(episode_of(exported), exported.path, exported.images)
    assert parity.images == 8
    assert parity.labels_differ == 0
    assert parity.ties == 0
    assert parity.difference < 1e-5


def test_nothing_but_the_file_is_left(exported):
    assert sorted(path.name for path in exported.path.parent.iterdir()) == ["images.pt", "model.onnx", "weights.pt"]


@pytest.mark.parametrize("shape", [(1, 1, 40, 52), (5, 1, 40, 52), (3, 1, 29, 71), (2, 1, 5, 4), (1, 1, 200, 31)])
def test_batch_height_and_width_are_free(exported, shape):
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.no_grad():
        expected = dict(zip(OUTPUTS, episode_of(exported)(images), strict=True))
    for name, got in run(exported.path, images).items():
        np.testing.assert_allclose(got, expected[name].numpy(), atol=2e-5, err_msg=name)


def test_the_outputs_are_those_of_the_contract(exported):
    got = run(exported.path, exported.images)
    assert got["logits"].shape == (8, 3, 10)
    assert got["locations"].shape == (8, 3, 2)
    assert got["boxes"].shape == (8, 3, 2, 4)
    assert all(array.dtype == np.float32 for array in got.values())
    np.testing.assert_allclose(got["probabilities"].sum(2), 1, atol=1e-6)
    np.testing.assert_array_equal(got["locations"][:, 0], 0)
    assert np.abs(got["locations"]).max() <= 1
    sides = got["boxes"][..., 2:] - got["boxes"][..., :2]
    np.testing.assert_array_equal(sides[:, :, 0], 6)
    np.testing.assert_array_equal(sides[:, :, 1], 12)
    # On an image wider than high, the boxes' x goes further than their y.
    centre = (got["boxes"][:, :, 1, :2] + got["boxes"][:, :, 1, 2:]) / 2
    np.testing.assert_allclose(centre, (got["locations"] + 1) / 2 * [52, 40], atol=0.5 + 1e-4)


def refuse(exported: Any, monkeypatch: pytest.MonkeyPatch, path: Path, by: float) -> None:
    def write(episode: object, card: object, draft: Path, example: object) -> None:
        perturbed(exported.path, draft, by)

    monkeypatch.setattr(export, "_write", write)
    export.export_episode(observer_of(exported), GlimpseSession(exported.path).card, path, exported.images)


def test_a_file_that_differs_is_refused_and_not_left(exported, monkeypatch, tmp_path):
    path = tmp_path / "bad.onnx"
    with pytest.raises(export.ExportError, match=r"on 8 images it differed by up to .*bad\.onnx was not written"):
        refuse(exported, monkeypatch, path, 0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_labels_differ_is_refused(exported, monkeypatch, tmp_path):
    with pytest.raises(export.ExportError, match=r"differed by up to .*, in [1-8] labels"):
        refuse(exported, monkeypatch, tmp_path / "bad.onnx", 1e3)


def test_a_file_that_answers_with_no_number_is_refused(exported, monkeypatch, tmp_path):
    # Of no numbers the first is the largest: an image of that class would pass by its label alone.
    with pytest.raises(export.ExportError, match="it differed by up to nan, in"):
        refuse(exported, monkeypatch, tmp_path / "bad.onnx", float("nan"))


def test_a_good_file_survives_a_bad_export(exported, monkeypatch, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.path.read_bytes())
    with pytest.raises(export.ExportError):
        refuse(exported, monkeypatch, path, 0.05)
    assert path.read_bytes() == exported.path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_within_the_tolerance_replaces_the_old_one(exported, monkeypatch, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    refuse(exported, monkeypatch, path, 1e-6)
    assert GlimpseSession(path).card.num_glimpses == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_nothing(exported, monkeypatch, tmp_path):
    def fail(episode: object, card: object, draft: Path, example: object) -> None:
        draft.write_bytes(b"half")
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(export, "_write", fail)
    card = GlimpseSession(exported.path).card
    with pytest.raises(RuntimeError, match="the disk is full"):
        export.export_episode(observer_of(exported), card, tmp_path / "model.onnx", exported.images)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(exported, tmp_path):
    card = GlimpseSession(exported.path).card
    path = tmp_path / "nowhere" / "model.onnx"
    with pytest.raises(export.ExportError, match=r"expected a folder .*nowhere to write model\.onnx into; make"):
        export.export_episode(observer_of(exported), card, path, exported.images)
    assert not path.parent.exists()


def test_fixations_that_differ_by_rounding_count_as_ties_and_no_others(exported, monkeypatch):
    real = GlimpseSession.run

    def shifted(moved: float) -> Any:
        def answer(session: GlimpseSession, canvases: Any) -> Any:
            got = real(session, canvases)
            assert got.boxes is not None
            boxes, locations, probabilities = got.boxes.copy(), got.locations.copy(), got.probabilities.copy()
            boxes[0, 1:, :, [0, 2]] += 1
            locations[0, 1:] += moved
            probabilities[0, 1] = np.roll(probabilities[0, 1], 1)
            return got._replace(boxes=boxes, locations=locations, probabilities=probabilities)

        return answer

    episode = episode_of(exported)
    monkeypatch.setattr(GlimpseSession, "run", shifted(1e-6))
    tied = export.compare(episode, exported.path, exported.images)
    assert tied.ties == 1
    assert tied.difference < 1e-5
    monkeypatch.setattr(GlimpseSession, "run", shifted(1e-2))
    differing = export.compare(episode, exported.path, exported.images)
    assert differing.ties == 0
    assert differing.difference > export.TOLERANCE


GRID = """
import json, sys
from pathlib import Path
import torch
from glimpse.contract import ModelCard
from glimpse.export import export_episode, versions
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.retina import Retina
torch.manual_seed(0)
options = {"what": "mlp", "combine": "add", "core": "lstm", "policy": "grid", "gaze": "nothing"}
model = HardAttention(3, 3, 4, 1, 8, grid_cells=3, **options)
torch.nn.init.normal_(model.policy.scores.weight, std=3.0)
images = torch.randint(0, 256, (6, 3, 20, 15), dtype=torch.uint8)
card = ModelCard("hard", ("a", "b", "c"), 3, 20, 15, "fit", 2, 4, 1, 2, False, True, "noise", {}, None, versions())
print(json.dumps(vars(export_episode(HardObserver(model, Retina(4, 1, 2), 2), card, Path(sys.argv[1]), images))))
"""


@pytest.mark.slow
def test_a_colour_model_with_a_grid_and_an_lstm_exports_too(tmp_path):
    command = [sys.executable, "-c", GRID, str(tmp_path / "grid.onnx")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    parity = json.loads(done.stdout.splitlines()[-1])
    assert parity["labels_differ"] == 0
    assert parity["difference"] < 1e-5
    assert GlimpseSession(tmp_path / "grid.onnx").card.channels == 3


def test_boxes_that_lie_further_apart_than_a_pixel_are_no_tie(exported, monkeypatch, tmp_path):
    class Elsewhere(GlimpseSession):
        def run(self, canvases):
            got = super().run(canvases)
            assert got.boxes is not None
            return got._replace(boxes=got.boxes + 5, probabilities=np.roll(got.probabilities, 1, axis=2))

    monkeypatch.setattr(export, "GlimpseSession", Elsewhere)
    parity = export.compare(episode_of(exported), exported.path, exported.images[:8])
    assert parity.ties == 0
    assert parity.difference > export.TOLERANCE
