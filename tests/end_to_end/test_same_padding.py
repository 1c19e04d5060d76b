"""Glance and focus on a network that pads as TensorFlow does: files of one size that answer as the model does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from glimpse.contract.tensors import INPUT
from glimpse.data.datamodule import ImageData
from glimpse.export.graph.whole import Episode
from glimpse.runtime.session import GlimpseSession
from glimpse.training.families.focus import FocusTraining

pytest.importorskip("timm")
pytestmark = pytest.mark.slow

DATA: dict[str, Any] = {"dataset": "digits", "canvas_height": 128, "canvas_width": 128, "num_pieces": 2}
OPTIONS: dict[str, Any] = {
    "num_glimpses": 2,
    "window": 64,
    "reduction": 2,
    "backbone": "tf_efficientnet_lite0",
    "focus_widths": [4, 8],
    "focus_depths": [1, 1],
}
EXPORT = """
import json, sys
from pathlib import Path
import torch
from glimpse.data.datamodule import ImageData
from glimpse.export.checkpoint import card_of
from glimpse.export.model import export_model
from glimpse.export.program import export_program
from glimpse.training.families import FAMILIES

folder, close = Path(sys.argv[1]), sys.argv[2]
options, data = json.loads(sys.argv[3]), ImageData(**json.loads(sys.argv[4]))
images = next(iter(data.test_dataloader()))[0][:8].clone()
torch.manual_seed(1)
training = FAMILIES["focus"](data.classes, data.image_shape, close=close, **options)
model = training.observer.model
for layer in (model.place_classifier, model.whole_classifier, model.window_classifier):
    torch.nn.init.normal_(layer.weight, std=0.3)
training.normalise_by(torch.tensor([0.2]), torch.tensor([0.3]))
with torch.no_grad():
    training.train().observer(images)  # moves the running averages
training.eval()
torch.save(training.state_dict(), folder / "weights.pt")
torch.save(images, folder / "images.pt")
card = card_of(training, data)
parity = export_model(training.observer, card, folder / "model.onnx", images)
(folder / "parity.json").write_text(json.dumps(vars(parity)))
if close == "own":
    export_program(training.observer, card, folder / "model.pt2", images)  # compares itself with the model
"""


@pytest.fixture(scope="module", params=["own", "glance"])
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]
) -> tuple[Path, Any]:
    """The folder of a model's file, and the model."""
    path = tmp_path_factory.mktemp(request.param)
    without_hook(EXPORT, str(path), request.param, json.dumps(OPTIONS), json.dumps(DATA))
    data = ImageData(**DATA)
    training = FocusTraining(data.classes, list(data.image_shape), close=request.param, **OPTIONS)
    training.load_state_dict(torch.load(path / "weights.pt", weights_only=True))
    return path, training.eval().observer


@pytest.mark.parametrize("batch", [1, 5])
def test_the_file_answers_as_the_model_does_whatever_the_batch(written, batch):
    folder, observer = written
    images = torch.load(folder / "images.pt", weights_only=True)[:batch]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    card = GlimpseSession(folder / "model.onnx").card
    found = session.run(list(card.outputs), {INPUT: images.numpy()})
    with torch.no_grad():
        expected = Episode(observer, card.temperature)(images)
    for name, mine, wanted in zip(card.outputs, found, expected, strict=True):
        tolerance = 1e-4 * max(1.0, float(wanted.abs().max()))
        np.testing.assert_allclose(mine, wanted.numpy(), atol=tolerance, err_msg=name)
    assert json.loads((folder / "parity.json").read_text())["difference"] < 1e-4


def test_its_padding_is_part_of_the_convolutions(written):
    folder, observer = written
    assert not observer.any_size
    model = onnx.load(str(folder / "model.onnx"))
    assert [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim][1:] == [1, 128, 128]
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Pad", "If", "Loop"}
    pads = [list(entry.ints) for node in model.graph.node for entry in node.attribute if entry.name == "pads"]
    assert any(before != after for each in pads for before, after in zip(each[:2], each[2:], strict=True))
