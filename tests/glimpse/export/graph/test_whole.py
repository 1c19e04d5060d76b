import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.tensors import INPUT, LOCATIONS, LOGITS, MAPS, PROBABILITIES
from glimpse.export.graph.whole import Episode
from glimpse.export.parity import session_of
from glimpse.images import geometry
from glimpse.training.families.soft import SoftAttentionTraining

SOFT = {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 8}
SHAPE = [3, 24, 32]

EXPORT = """
import json, sys
from pathlib import Path
import onnx
import torch
from glimpse.contract.card import ModelCard
from glimpse.export.graph.whole import export_whole_episode
from glimpse.training.families.soft import SoftAttentionTraining

folder = Path(sys.argv[1])
training = SoftAttentionTraining(["a", "b", "c"], [3, 24, 32], **json.loads(sys.argv[2])).eval()
training.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
images = torch.randint(0, 256, (4, 3, 24, 32), dtype=torch.uint8)
for kind in ("uint8", "float32"):
    card = ModelCard.from_json((folder / f"{kind}.json").read_text())
    onnx.save(export_whole_episode(training.observer, card, images), str(folder / f"{kind}.onnx"))
"""


@pytest.fixture(scope="module")
def soft() -> SoftAttentionTraining:
    """A soft model of random weights."""
    torch.manual_seed(4)
    training = SoftAttentionTraining(["a", "b", "c"], SHAPE, **SOFT).eval()  # type: ignore[arg-type]
    for parameter in training.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    training.normalise_by(torch.tensor([0.2, 0.3, 0.4]), torch.tensor([0.3, 0.2, 0.3]))
    return training


CARD = ModelCard(
    model="soft",
    graph="episode",
    classes=("a", "b", "c"),
    channels=3,
    height=24,
    width=32,
    num_glimpses=2,
    glimpse_size=None,
    num_scales=None,
    zoom=None,
    has_maps=True,
    any_size=True,
    data="noise",
    recipe={},
    versions={},
    temperature=2.0,
)


@pytest.fixture(scope="module")
def files(soft: SoftAttentionTraining, tmp_path_factory: pytest.TempPathFactory, without_hook: Any) -> Path:
    """The soft model's graphs for bytes and for fractions."""
    folder = tmp_path_factory.mktemp("whole")
    torch.save(soft.state_dict(), folder / "weights.pt")
    for kind in ("uint8", "float32"):
        (folder / f"{kind}.json").write_text(replace(CARD, input_type=kind).to_json())
    without_hook(EXPORT, str(folder), json.dumps(SOFT))
    return folder


def pictures(batch: int = 3, height: int = 24, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 24, 32), (3, 24, 32), (2, 37, 20)])
def test_the_graph_of_a_model_without_a_retina_answers_as_it_does(soft, files, kind, batch, height, width):
    images = pictures(batch, height, width)
    with torch.no_grad():
        expected = Episode(soft.observer, 2.0)(images)
    given = (images if kind == "uint8" else images / 255).numpy()
    found = session_of((files / f"{kind}.onnx").read_bytes()).run(list(CARD.outputs), {INPUT: given})
    for name, mine, wanted in zip(CARD.outputs, found, expected, strict=True):
        np.testing.assert_allclose(mine, wanted.numpy(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_the_graph_says_what_it_takes_and_gives(files, kind):
    model = onnx.load(str(files / f"{kind}.onnx"))
    (given,) = model.graph.input
    assert given.name == INPUT
    assert given.type.tensor_type.elem_type == getattr(onnx.TensorProto, "FLOAT" if kind == "float32" else "UINT8")
    assert [entry.name for entry in model.graph.output] == [LOGITS, PROBABILITIES, LOCATIONS, MAPS]
    texts = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelCard.from_json(texts[CARD_KEY]) == replace(CARD, input_type=kind)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18


def test_an_episode_answers_with_the_outputs_of_its_card(soft):
    with torch.no_grad():
        logits, probabilities, locations, maps = Episode(soft.observer)(pictures())
        trace = soft.observer(pictures())
    assert torch.equal(logits, trace.logits)
    assert torch.equal(locations, trace.locations)
    assert torch.equal(maps, trace.maps)
    torch.testing.assert_close(probabilities, logits.softmax(2))


def test_a_temperature_makes_an_episode_less_sure_and_nothing_else(soft):
    with torch.no_grad():
        cold, warm = Episode(soft.observer)(pictures()), Episode(soft.observer, 3.0)(pictures())
    assert torch.equal(cold[0], warm[0])
    torch.testing.assert_close(warm[1], (cold[0] / 3).softmax(2))
    assert (warm[1].max(2).values < cold[1].max(2).values).all()


def test_an_episode_of_a_model_with_a_retina_has_boxes(steps: Any):
    stepping = steps["conv-gru"]
    with torch.no_grad():
        *_, locations, boxes = Episode(stepping.observer(4))(stepping.images(3))
    expected = geometry.boxes(locations, 20, 26, 4, 2, 2)
    assert boxes.shape == (3, 4, 2, 4)
    assert torch.equal(boxes[:, :, 1], torch.stack(tuple(expected[1]), 2))
