import copy
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from glimpse.contract.card import CARD_KEY, Budget, ModelCard
from glimpse.contract.seal import read_seal, seal
from glimpse.contract.tensors import INPUT, MAX_GLIMPSES
from glimpse.evaluation.calibration import budget_table
from glimpse.export import model as model_module
from glimpse.export.graph.assembly import metadata
from glimpse.export.parity import Parity, session_of
from glimpse.models.cnn import ConvolutionalNet
from glimpse.models.hard import HardObserver
from glimpse.models.observer import WholeImageObserver
from glimpse.nn.retina import Retina
from glimpse.runtime.providers import processor

GRAPHS = {"path": "adaptive", "episode": "episode", "step": "step"}


def observer_of(exported: Any) -> HardObserver:
    retina = Retina(exported.glimpse_size, exported.num_scales, exported.zoom)
    return HardObserver(exported.model, retina, exported.num_glimpses)


def card_of(model: onnx.ModelProto) -> ModelCard:
    return ModelCard.from_json(next(entry.value for entry in model.metadata_props if entry.key == CARD_KEY))


def read_card(path: Path) -> ModelCard:
    return card_of(onnx.load(str(path)))


@pytest.mark.parametrize("which", GRAPHS)
def test_a_file_is_sealed_and_carries_its_card(exported, which):
    path = getattr(exported, which)
    assert len(read_seal(path.read_bytes())) == 64
    card = read_card(path)
    assert card.graph == GRAPHS[which]
    assert card.classes == tuple("0123456789")
    assert (card.channels, card.height, card.width) == (1, 40, 52)
    assert (card.num_glimpses, card.glimpse_size, card.num_scales, card.zoom) == (3, 6, 2, 2)
    assert card.state_size == (None if which == "episode" else 32)
    assert card.versions == model_module.versions()


@pytest.mark.parametrize("which", GRAPHS)
def test_a_file_has_its_graphs_inputs_and_outputs(exported, which):
    model = onnx.load(str(getattr(exported, which)))
    onnx.checker.check_model(model, full_check=True)
    card = card_of(model)
    assert [entry.name for entry in model.graph.input] == [*card.inputs, *card.options]
    assert [entry.name for entry in model.graph.output] == list(card.outputs)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 18}


@pytest.mark.parametrize("which", GRAPHS)
def test_a_file_names_no_module_of_ours_and_no_source(exported, which):
    content = getattr(exported, which).read_bytes()
    assert set(re.findall(rb"glimpse\.[a-z_0-9]+", content)) == {b"glimpse.card", b"glimpse.sha256"}
    assert b"pkg.torch" not in content
    assert b'File "' not in content


@pytest.mark.parametrize("which", GRAPHS)
def test_the_weights_lie_in_the_file_once(exported, which):
    stored = onnx.load(str(getattr(exported, which))).graph.initializer
    told = [given for name, given in exported.model.named_parameters() if not name.startswith("baseline")]
    numbers = sum(parameter.numel() for parameter in told)
    assert 0.9 * numbers <= sum(int(np.prod(tensor.dims)) for tensor in stored) < numbers + 1000


def test_nothing_but_the_files_is_left(exported):
    left = sorted(path.name for path in exported.path.parent.iterdir())
    assert left == ["episode.onnx", "images.pt", "model.onnx", "step.onnx", "weights.pt"]


def export_it(exported: Any, monkeypatch: pytest.MonkeyPatch, path: Path, by: float = 0.0, **changes: Any) -> Parity:
    """Export the adaptive graph anew, with another bias for its first class, without asking torch for it."""
    model = onnx.load(str(exported.path))
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("classifier.bias")]
    values = numpy_helper.to_array(bias).copy()
    values[0] += by
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    card = replace(card_of(model), **changes)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata(card))
    monkeypatch.setattr(model_module, "build_graph", lambda *_: model)
    return model_module.export_model(observer_of(exported), card, path, exported.images)


def test_a_file_that_differs_is_refused_and_not_left(exported, monkeypatch, tmp_path):
    path = tmp_path / "bad.onnx"
    sentence = r"does, within 0\.0001; on 8 images it differed by up to .*bad\.onnx was not written; report this"
    with pytest.raises(model_module.ExportError, match=sentence):
        export_it(exported, monkeypatch, path, 0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_labels_differ_is_refused(exported, monkeypatch, tmp_path):
    with pytest.raises(model_module.ExportError, match=r"differed by up to .*, in [1-9][0-9]? labels"):
        export_it(exported, monkeypatch, tmp_path / "bad.onnx", 1e3)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_file_that_answers_with_no_number_is_refused(exported, monkeypatch, tmp_path, precision):
    with pytest.raises(model_module.ExportError, match="it differed by up to nan, by"):
        export_it(exported, monkeypatch, tmp_path / "bad.onnx", float("nan"), precision=precision)


def test_a_good_file_survives_a_bad_export(exported, monkeypatch, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.path.read_bytes())
    with pytest.raises(model_module.ExportError):
        export_it(exported, monkeypatch, path, 0.05)
    assert path.read_bytes() == exported.path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_within_the_tolerance_replaces_the_old_one(exported, monkeypatch, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    parity = export_it(exported, monkeypatch, path, 1e-6)
    assert parity.difference < model_module.PROBABILITY_TOLERANCE
    assert read_seal(path.read_bytes()) != read_seal(exported.path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", ["compare_with_file", "seal"])
def test_a_fault_leaves_the_good_file_and_nothing_else(exported, monkeypatch, tmp_path, fault):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"good")

    def fail(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(model_module, fault, fail)
    with pytest.raises(RuntimeError, match="the disk is full"):
        export_it(exported, monkeypatch, path)
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(exported, monkeypatch, tmp_path):
    path = tmp_path / "nowhere" / "model.onnx"
    with pytest.raises(
        model_module.ExportError, match=r"got '.*model\.onnx', whose folder '.*nowhere' does not exist; make"
    ):
        export_it(exported, monkeypatch, path)
    assert not path.parent.exists()


BUDGETS = (
    Budget(1, None, 1.0, 0.5, 1000, None),
    Budget(3, 0.9, 1.5, 0.8, 1500, None),
    Budget(3, None, 3.0, 0.9, 3000, None),
)


def test_every_budget_of_an_adaptive_graph_is_timed(exported, monkeypatch, tmp_path):
    path = tmp_path / "model.onnx"
    export_it(exported, monkeypatch, path, budgets=BUDGETS)
    card = read_card(path)
    taken = [budget.milliseconds for budget in card.budgets]
    assert all(milliseconds is not None and 0 < milliseconds < 1000 for milliseconds in taken)
    assert [replace(budget, milliseconds=None) for budget in card.budgets] == list(BUDGETS)
    assert card.measured_on == processor() != ""
    read_seal(path.read_bytes())


class Clock:
    """A clock that only a session's glimpses move, a second each."""

    def __init__(self) -> None:
        self.now = 0.0

    def run(self, names: None, feeds: dict[str, Any]) -> None:
        self.now += int(feeds[MAX_GLIMPSES])

    def read(self) -> float:
        return self.now


def test_a_budget_between_two_counts_is_timed_between_them(exported, monkeypatch):
    clock, model = Clock(), onnx.load(str(exported.path))
    monkeypatch.setattr(model_module, "open_session", lambda *_: clock)
    monkeypatch.setattr("time.perf_counter", clock.read)
    measured = model_module._timed_budgets(replace(card_of(model), budgets=BUDGETS), model, exported.images)
    assert [budget.milliseconds for budget in measured["budgets"]] == [1000, 1500, 3000]


def test_an_episode_is_timed_as_a_whole(exported):
    model = onnx.load(str(exported.episode))
    measured = model_module._timed_budgets(replace(card_of(model), budgets=BUDGETS), model, exported.images)
    one, sure, whole = (budget.milliseconds for budget in measured["budgets"])
    assert one is None
    assert sure is None
    assert whole > 0


def test_a_step_is_not_timed(exported):
    model = onnx.load(str(exported.step))
    assert model_module._timed_budgets(replace(card_of(model), budgets=BUDGETS), model, exported.images) == {}


@pytest.mark.parametrize(
    ("changes", "target", "sentence"),
    [
        ({"graph": "loop"}, "cpu", r"expected a graph out of adaptive, episode, step; got 'loop'"),
        ({"input_type": "int16"}, "cpu", r"expected an input type out of uint8, float32; got 'int16'"),
        ({"precision": "int4"}, "cpu", r"expected a precision out of float32, float16, int8; got 'int4'"),
        ({}, "tpu", r"expected a target out of cpu, gpu; got 'tpu'"),
        (
            {"precision": "int8"},
            "gpu",
            r"expected float32 or float16 for a GPU, got int8.*choose another precision, or target='cpu'",
        ),
    ],
)
def test_a_form_that_there_is_not_is_refused(exported, tmp_path, changes, target, sentence):
    card = replace(read_card(exported.path), target=target, **changes)
    with pytest.raises(model_module.ExportError, match=sentence):
        model_module.export_model(observer_of(exported), card, tmp_path / "model.onnx", exported.images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("graph", "precision"), [("adaptive", "float32"), ("step", "float16"), ("episode", "int8")])
def test_a_model_without_a_retina_has_an_episode_alone_and_no_int8(exported, graph, precision):
    observer = WholeImageObserver(ConvolutionalNet(10, 1, (4,), (1,)), True)
    card = replace(read_card(exported.path), model="cnn", graph=graph, precision=precision)
    sentence = f"expected the episode of a cnn model in float32 or float16, got the {graph} graph in {precision}; only"
    with pytest.raises(model_module.ExportError, match=sentence):
        model_module.check_export_options(observer, card)
    for allowed in ("float32", "float16"):
        model_module.check_export_options(observer, replace(card, graph="episode", precision=allowed))


CARD = ModelCard(
    model="hard",
    graph="episode",
    classes=("a", "b"),
    channels=1,
    height=8,
    width=8,
    num_glimpses=1,
    glimpse_size=4,
    num_scales=1,
    zoom=2,
    has_maps=False,
    any_size=True,
    data="noise",
    recipe={},
    versions={},
)


def checked(**found: Any) -> None:
    parity = Parity(**{"images": 100, "difference": 0.0, "ties": 0, "labels_differ": 0, **found})
    precision = "int8" if parity.difference > 0.1 else "float32"
    model_module._check_parity(parity, replace(CARD, precision=precision), Path("model.onnx"))


ROUNDED = ({"ties": 1}, {"difference": 9e-5}, {"difference": 0.2, "labels_differ": 5}, {"difference": 0.2, "ties": 9})


@pytest.mark.parametrize("found", ROUNDED)
def test_rounding_is_let_through_and_a_few_labels_with_less_precision(found):
    checked(**found)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"ties": 2}, "in 2 fixations that fell between two pixels.*report this together"),
        ({"labels_differ": 1}, r"within 0\.0001; .* in 1 labels"),
        ({"difference": 2e-4}, r"differed by up to 2\.0e-04"),
        ({"difference": math.nan}, "differed by up to nan"),
        ({"difference": 0.2, "labels_differ": 6}, r"in all but 5% of the labels; .*choose another precision"),
    ],
)
def test_more_than_that_is_not(found, sentence):
    with pytest.raises(model_module.ExportError, match=sentence):
        checked(**found)


LESS = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from glimpse.contract.card import ModelCard
from glimpse.export.model import export_model
from glimpse.runtime.providers import processor
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.nn.retina import Retina

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
model = HardAttention(**options).eval()
model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
images = torch.load(folder / "images.pt", weights_only=True)
card = ModelCard.from_json((folder / "card.json").read_text())
for precision, target in (("float32", "cpu"), ("float16", "gpu"), ("int8", "cpu")):
    path = folder / f"{precision}.onnx"
    form = replace(card, precision=precision, target=target)
    export_model(HardObserver(model, Retina(4, 1, 2), 4), form, path, images)
"""


@pytest.fixture(scope="module")
def precisions(steps: Any, tmp_path_factory: pytest.TempPathFactory, without_hook: Any) -> dict[str, Path]:
    """A model in every precision, with budgets."""
    stepping, folder = steps["mlp-plain"], tmp_path_factory.mktemp("precisions")
    images, model = stepping.images(60), copy.deepcopy(stepping.model)
    with torch.no_grad():
        # A gaze that goes the same way over every image: a rounding of its places would be another matter.
        model.policy.mean.weight.zero_()
        logits = stepping._replace(model=model).observer(4)(images).logits
        # What it is unsure of may change with less precision.
        margin = logits[:, -1].topk(2).values.diff().abs().squeeze(1)
    budgets = budget_table(logits, logits[:, -1].argmax(1), 1.3, (10, 20, 30, 40))
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save(images[margin.argsort(descending=True)[:30]], folder / "images.pt")
    (folder / "card.json").write_text(stepping.card("adaptive", budgets=budgets, temperature=1.3).to_json())
    without_hook(LESS, str(folder), json.dumps(stepping.options))
    return {precision: folder / f"{precision}.onnx" for precision in ("float32", "float16", "int8")}


def test_a_model_is_written_in_every_precision(precisions):
    for precision, path in precisions.items():
        read_seal(path.read_bytes())
        card = read_card(path)
        assert (card.precision, card.temperature) == (precision, 1.3)
        timed = [budget.milliseconds is not None for budget in card.budgets]
        assert timed == [card.target == "cpu"] * len(timed)
        session_of(path.read_bytes())


BELIEFS = """
import json, sys
from pathlib import Path
import torch
from dataclasses import replace
from glimpse.contract.card import ModelCard
from glimpse.export.model import logits_of_file
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.nn.retina import Retina

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
model = HardAttention(**options).eval()
model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
images = torch.load(folder / "images.pt", weights_only=True)
card = replace(ModelCard.from_json((folder / "card.json").read_text()), precision="int8", graph="step")
believed = logits_of_file(HardObserver(model, Retina(4, 1, 2), 4), card, images)
labels = torch.arange(len(images))
torch.save(believed(zip(images.split(10), labels.split(10), strict=True)), folder / "believed.pt")
"""


def test_what_a_file_of_less_precision_believes_is_asked_of_its_episode(steps, precisions, without_hook):
    folder = precisions["int8"].parent
    without_hook(BELIEFS, str(folder), json.dumps(steps["mlp-plain"].options))
    logits, labels = torch.load(folder / "believed.pt", weights_only=True)
    images = torch.load(folder / "images.pt", weights_only=True)
    assert labels.tolist() == list(range(len(images)))
    session = session_of(precisions["int8"].read_bytes())
    wanted = [session.run(["logits"], {INPUT: part.numpy()})[0] for part in images.split(10)]
    np.testing.assert_allclose(logits.numpy(), np.concatenate(wanted), atol=1e-5)


def test_half_precision_takes_less_room(precisions):
    sizes = {
        precision: sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(str(path)).graph.initializer)
        for precision, path in precisions.items()
    }
    assert sizes["float16"] < 0.75 * sizes["float32"]


def test_the_versions_are_those_of_what_makes_a_file():
    assert model_module.versions().keys() == {"glimpse", "torch", "onnx", "python"}
    assert model_module.versions()["onnx"] == onnx.__version__


def test_a_seal_is_of_the_file_as_it_lies_there(exported):
    sealed = exported.path.read_bytes()
    digest = read_seal(sealed).encode()
    assert sealed.count(digest) == 1
    assert seal(sealed.replace(digest, b"0" * 64)) == sealed
