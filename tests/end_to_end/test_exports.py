"""Every family, from the command line to a file that answers as its model does, on images of any size where it can."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.seal import read_seal
from glimpse.contract.tensors import BOXES, GLIMPSES, INPUT, LOGITS, MAPS, PROBABILITIES
from glimpse.data.datamodule import ImageData
from glimpse.export.graph.whole import Episode
from glimpse.runtime.session import GlimpseSession
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families import FAMILIES

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = {"dataset": "digits", "canvas_height": 32, "canvas_width": 40, "num_pieces": 2}
SOFT = {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 8, "window": 2}
RETINA = {"num_glimpses": 2, "glimpse_size": 6, "num_scales": 2, "hidden": 8, "gaze_hidden": 8}
FOCUS = {"num_glimpses": 2, "window": 12, "widths": [4, 8], "depths": [1, 1], "focus_widths": [4], "focus_depths": [1]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "soft-additive": ("soft", {**SOFT, "score": "additive"}),
    "soft-location": ("soft", {**SOFT, "score": "location"}),
    "soft-local-p": ("soft", {**SOFT, "attention": "local-p", "score": "content", "core": "lstm"}),
    "soft-local-m": ("soft", {**SOFT, "attention": "local-m", "score": "scaled-dot", "gate": True}),
    "self": ("self", {"features": 8, "heads": 2, "layers": 2}),
    "cnn": ("cnn", {"widths": [4, 8], "depths": [1, 1]}),
    "mlp": ("mlp", {"hidden": 8}),
    "relaxed": ("relaxed", {**RETINA, "relaxation": "gumbel", "grid_cells": 3}),
    "focus": ("focus", FOCUS),
}
ANY_SIZE = {"soft-additive", "self", "cnn", "relaxed", "focus"}
WITH_MAPS = {"self", "focus"} | {name for name in CASES if name.startswith("soft")}

EXPORT = """
import json, sys
from pathlib import Path
import torch
from glimpse.export.checkpoint import card_of
from glimpse.data.datamodule import ImageData
from glimpse.export.model import export_model
from glimpse.training.families import FAMILIES

folder, cases, data = Path(sys.argv[1]), json.loads(sys.argv[2]), ImageData(**json.loads(sys.argv[3]))
images = next(iter(data.test_dataloader()))[0][:40].clone()
torch.save(images, folder / "images.pt")
for name, (kind, options) in cases.items():
    torch.manual_seed(1)
    training = FAMILIES[kind](data.classes, data.image_shape, **options).eval()
    for parameter in training.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    training.normalise_by(torch.tensor([0.2]), torch.tensor([0.3]))
    torch.save(training.state_dict(), folder / f"{name}.pt")
    parity = export_model(training.observer, card_of(training, data), folder / f"{name}.onnx", images)
    (folder / f"{name}.json").write_text(json.dumps(vars(parity)))
"""


class Written(NamedTuple):
    """A model and its file."""

    name: str
    training: ClassifierTraining
    session: Any
    card: ModelCard
    parity: dict[str, float]
    images: Tensor
    """Real ones, uint8 (40, 1, 32, 40)."""

    def run(self, images: Tensor) -> dict[str, npt.NDArray[Any]]:
        """What the file answers, by name."""
        names = list(self.card.outputs)
        return dict(zip(names, self.session.run(names, {INPUT: images.numpy()}), strict=True))

    def expect(self, images: Tensor) -> dict[str, npt.NDArray[Any]]:
        """What the model answers, by name."""
        with torch.no_grad():
            outputs = Episode(self.training.observer)(images)
        names = replace(self.card, graph="episode").outputs
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]) -> Path:
    """One file for each case, exported without the hook."""
    path = tmp_path_factory.mktemp("exports")
    without_hook(EXPORT, str(path), json.dumps(CASES), json.dumps(DATA))
    return path


def read_card(path: Path) -> ModelCard:
    """The card of a file that nobody changed."""
    read_seal(path.read_bytes())
    texts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    return ModelCard.from_json(texts[CARD_KEY])


@pytest.fixture(scope="module", params=CASES)
def written(request: pytest.FixtureRequest, folder: Path) -> Written:
    """A case's model and file."""
    name: str = request.param
    kind, options = CASES[name]
    data = ImageData(**DATA)  # type: ignore[arg-type]
    training: Any = FAMILIES[kind](data.classes, data.image_shape, **options)
    training.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    card = read_card(folder / f"{name}.onnx")
    parity = json.loads((folder / f"{name}.json").read_text())
    return Written(name, training.eval(), session, card, parity, torch.load(folder / "images.pt", weights_only=True))


def agree(got: dict[str, npt.NDArray[Any]], expected: dict[str, npt.NDArray[Any]]) -> None:
    for name, values in expected.items():
        assert got[name].dtype == (np.int64 if name == GLIMPSES else np.float32)
        np.testing.assert_allclose(got[name], values, atol=1e-4 * max(1, np.abs(values).max()), err_msg=name)


@pytest.mark.slow
def test_the_file_answers_as_the_model_does_on_real_images(written):
    assert written.parity["images"] == 40
    assert written.parity["labels_differ"] == 0
    assert written.parity["difference"] < 2e-5
    agree(written.run(written.images), written.expect(written.images))
    answers = written.run(written.images)[PROBABILITIES][:, -1]
    assert answers.std(0).max() > 1e-3, "the answer should depend on the image"


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7])
def test_a_batch_has_any_size_and_no_mate_matters(written, batch):
    images = written.images[3 : 3 + batch]
    got = written.run(images)
    assert all(len(values) == batch for values in got.values())
    agree(got, written.expect(images))
    agree(got, {name: values[3 : 3 + batch] for name, values in written.run(written.images).items()})


@pytest.mark.slow
def test_other_heights_and_widths_are_taken_where_the_card_says_so_and_nowhere_else(written):
    assert written.card.any_size is (written.name in ANY_SIZE)
    generator = torch.Generator().manual_seed(0)
    for height, width in ((32, 41), (53, 24), (20, 77)):
        images = torch.randint(0, 256, (3, 1, height, width), generator=generator, dtype=torch.uint8)
        if written.card.any_size:
            agree(written.run(images), written.expect(images))
        else:
            with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="invalid dimensions"):
                written.run(images)


@pytest.mark.slow
def test_the_outputs_are_those_of_the_card(written):
    assert tuple(output.name for output in written.session.get_outputs()) == written.card.outputs
    assert (MAPS in written.card.outputs) is written.card.has_maps is (written.name in WITH_MAPS)
    assert (BOXES in written.card.outputs) is (written.name in ("relaxed", "focus"))
    got = written.run(written.images[:5])
    glimpses = written.card.num_glimpses
    assert glimpses == (2 if written.name.startswith(("soft", "relaxed", "focus")) else 1)
    assert got[LOGITS].shape == got[PROBABILITIES].shape == (5, glimpses, 10)
    np.testing.assert_allclose(got[PROBABILITIES].sum(2), 1, atol=1e-5)
    if written.card.has_maps:
        rows, columns = (4, 5) if written.name in ("self", "focus") else (8, 10)
        assert got[MAPS].shape == (5, glimpses, rows, columns)
        assert got[MAPS].min() >= 0
        np.testing.assert_allclose(got[MAPS].sum((2, 3)), 1, atol=1e-5)
        assert got[MAPS].std(0).max() > 1e-4, "the map should depend on the image"
    if BOXES in written.card.outputs:
        assert got[BOXES].shape == (5, glimpses, 1 if written.card.window else 2, 4)
    if written.card.window:
        assert (got[BOXES][:, 0, 0] == [0, 0, 40, 32]).all()
        left, top, right, bottom = got[BOXES][:, 1, 0].T
        assert (right - left == 12).all()
        assert (bottom - top == 12).all()
        assert min(left.min(), top.min()) >= 0
        assert right.max() <= 40
        assert bottom.max() <= 32


@pytest.mark.slow
def test_the_runtime_hands_on_what_the_card_promises(written, folder):
    session = GlimpseSession(folder / f"{written.name}.onnx")
    found = session.run(written.images[:2].permute(0, 2, 3, 1).numpy())
    assert (found.maps is not None) is written.card.has_maps
    assert (found.boxes is not None) is written.card.has_boxes
    np.testing.assert_allclose(found.probabilities, written.expect(written.images[:2])[PROBABILITIES], atol=1e-4)


@pytest.mark.slow
def test_a_file_names_no_module_of_ours_and_no_source(written, folder):
    content = (folder / f"{written.name}.onnx").read_bytes()
    assert set(re.findall(rb"glimpse\.[a-z_0-9]+", content)) == {b"glimpse.card", b"glimpse.sha256"}
    assert b"pkg.torch" not in content
    assert b'File "' not in content


@pytest.mark.slow
def test_only_what_looks_through_a_retina_can_stop_early(written):
    adaptive = written.name == "relaxed"
    assert written.card.graph == ("adaptive" if adaptive else "episode")
    assert (GLIMPSES in written.card.outputs) is written.card.has_retina is adaptive
    assert tuple(entry.name for entry in written.session.get_inputs()) == written.card.inputs
    overridable = tuple(entry.name for entry in written.session.get_overridable_initializers())
    assert sorted(overridable) == sorted(written.card.options)


RECIPE = """
data: {{class_path: ImageData, init_args: {{dataset: digits, canvas_height: 32, canvas_width: 36, batch_size: 32}}}}
model: {{class_path: {name}, init_args: {options}}}
trainer: {{max_epochs: 1, limit_train_batches: 2, limit_val_batches: 1, accelerator: cpu}}
"""
SMALLEST: dict[str, dict[str, Any]] = {
    "hard": RETINA,
    "relaxed": RETINA,
    "soft": {**SOFT, "coverage": 0.1},
    "self": CASES["self"][1],
    "cnn": CASES["cnn"][1],
    "mlp": CASES["mlp"][1],
    "focus": FOCUS,
}
COMMANDS = """
import contextlib, io, json, sys
from glimpse.cli.app import main

told = {}
for kind in sys.argv[1:]:
    checkpoint = f"runs/{kind}/last.ckpt"
    for command in (["train", "--config", f"{kind}.yaml"], ["evaluate", checkpoint], ["export", checkpoint]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(command)
        told[f"{kind} {command[0]}"] = [status, out.getvalue(), err.getvalue()]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]) -> tuple[Path, dict[str, Any]]:
    """Every family trained for two steps, evaluated and exported: the folder, and what each command told."""
    path = tmp_path_factory.mktemp("families")
    for kind, options in SMALLEST.items():
        recipe = RECIPE.format(name=FAMILIES[kind].__name__, options=json.dumps(options))
        (path / f"{kind}.yaml").write_text(recipe)
    told = without_hook(COMMANDS, *SMALLEST, cwd=path)
    return path, json.loads(told.splitlines()[-1])


def test_no_family_is_forgotten():
    assert SMALLEST.keys() == FAMILIES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALLEST)
def test_a_family_is_trained_evaluated_and_exported_from_the_command_line(kind, runs):
    path, told = runs
    for command in ("train", "evaluate", "export"):
        status, out, err = told[f"{kind} {command}"]
        assert status == 0, f"{command}: {err}"
        assert "warning" not in err.lower()
        assert out
    card = read_card(path / "runs" / kind / "model.onnx")
    assert card.model == kind
    assert card.graph == ("adaptive" if kind in ("hard", "relaxed") else "episode")
    assert 0.05 <= card.temperature <= 20
    assert [budget.max_glimpses for budget in card.budgets if budget.confidence is None] == list(
        range(1, card.num_glimpses + 1)
    )
    assert card.budgets[card.num_glimpses - 1].milliseconds
    assert len(card.multiply_accumulates) == card.num_glimpses
    assert (card.height, card.width) == (32, 36)
    assert card.test_error is not None
    assert 0 < card.test_error < 1
    assert {name: card.recipe["model"][name] for name in SMALLEST[kind]} == SMALLEST[kind]
    assert (path / "runs" / kind / "learning-curves.png").is_file()
