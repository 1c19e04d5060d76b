"""Models on a backbone: every graph of theirs answers as they do, stops early, is drawn, and is explained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glimpse.data.datamodule import ImageData
from glimpse.drawing.view import FramedPrediction, draw, view_of
from glimpse.evaluation.maps import implicit_maps
from glimpse.runtime.session import GlimpseSession
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families import FAMILIES

pytestmark = pytest.mark.slow

DATA = {"dataset": "digits", "canvas_height": 36, "canvas_width": 40, "num_pieces": 2}
NETWORK = {"backbone": "resnet18", "backbone_layer": "layer1.1.relu_1"}
RETINA = {"num_glimpses": 3, "glimpse_size": 32, "num_scales": 2, "hidden": 16, "gaze_hidden": 8}
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "hard": ("hard", RETINA, ["adaptive", "episode", "step"]),
    "relaxed": ("relaxed", {**RETINA, "gaze": "layer", "num_scales": 1}, ["adaptive"]),
    "soft": ("soft", {"num_glimpses": 2, "hidden": 8}, ["episode"]),
    "cnn": ("cnn", {}, ["episode"]),
}
FILES = [f"{name}-{graph}" for name, (_, _, graphs) in CASES.items() for graph in graphs]
TRAINING = """
def training_of(kind, options, data):
    torch.manual_seed(1)
    training = FAMILIES[kind](data.classes, data.image_shape, **options)
    torch.nn.init.normal_(training.observer.model.classifier.weight, std=2.0)
    training.normalise_by(torch.tensor([0.449]), torch.tensor([0.226]))
    with torch.no_grad():
        training.train().observer(next(iter(data.test_dataloader()))[0][:16])  # moves the running averages
    return training.eval()
"""
EXPORT = (
    """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from glimpse.data.datamodule import ImageData
from glimpse.export.checkpoint import card_of
from glimpse.export.model import export_model
from glimpse.training.families import FAMILIES
"""
    + TRAINING
    + """
folder, cases, network, data = Path(sys.argv[1]), *map(json.loads, sys.argv[2:4]), ImageData(**json.loads(sys.argv[4]))
images = next(iter(data.test_dataloader()))[0][:24].clone()
for name, (kind, options, graphs) in cases.items():
    training = training_of(kind, network | options, data)
    torch.save(training.state_dict(), folder / f"{name}.pt")
    for graph in graphs:
        card = card_of(training, data)
        card = replace(card, graph=graph, state_size=None if graph == "episode" else card.state_size)
        parity = export_model(training.observer, card, folder / f"{name}-{graph}.onnx", images)
        (folder / f"{name}-{graph}.json").write_text(json.dumps(vars(parity)))
"""
)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return ImageData(**DATA)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def images(data: ImageData) -> Tensor:
    drawn: Tensor = next(iter(data.test_dataloader()))[0][:6].clone()
    return drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]) -> Path:
    """One file for each graph of each model."""
    path = tmp_path_factory.mktemp("exports")
    without_hook(EXPORT, str(path), json.dumps(CASES), json.dumps(NETWORK), json.dumps(DATA))
    return path


def model(name: str, folder: Path, data: ImageData) -> ClassifierTraining:
    kind, options, _ = CASES[name]
    training = FAMILIES[kind](data.classes, list(data.image_shape), **(NETWORK | options))
    training.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    return training.eval()


def pixels(images: Tensor) -> np.ndarray[Any, Any]:
    """(batch, height, width, channels), as sessions take them."""
    return images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("file", FILES)
def test_a_file_answers_as_its_model_does(file, folder, data, images):
    parity = json.loads((folder / f"{file}.json").read_text())
    assert (parity["images"], parity["labels_differ"]) == (24, 0)
    session = GlimpseSession(folder / f"{file}.onnx")
    prediction = session.predict(pixels(images))
    trace = model(file.partition("-")[0], folder, data).observer(images)
    expected = trace.logits.softmax(2).detach().numpy()
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-4)
    assert trace.logits[:, -1].std(0).max() > 1e-3, "the answer should depend on the image"


def test_a_model_on_a_backbone_stops_early(folder, images):
    session = GlimpseSession(folder / "hard-adaptive.onnx")
    whole = session.predict_one(pixels(images)[0])
    assert len(whole.probabilities) == 3
    assert len(session.predict_one(pixels(images)[0], max_glimpses=2).probabilities) == 2
    assert len(session.predict_one(pixels(images)[0], confidence=0.01).probabilities) == 1


@pytest.mark.parametrize("file", ["hard-adaptive", "relaxed-adaptive", "soft-episode", "cnn-episode"])
def test_an_answer_is_drawn(file, folder, images):
    session = GlimpseSession(folder / f"{file}.onnx")
    image = pixels(images)[:1]
    prediction = session.predict(image)
    view = view_of(session, image[0], FramedPrediction(prediction, prediction))
    assert min(draw(session, view).size) >= 36


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["jacobian", "smoothed"])
def test_an_answer_is_explained(name, method, folder, data, images):
    observer = model(name, folder, data).observer
    maps = implicit_maps(observer, images[:2], torch.tensor([1, 3]), method)
    assert maps.shape == (2, 36, 40)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))
