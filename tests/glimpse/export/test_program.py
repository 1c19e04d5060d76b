"""Programs of torch.export: made in a subprocess without the hook, and run in one that knows nothing of Glimpse."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.data.datamodule import ImageData
from glimpse.export import program
from glimpse.export.graph.whole import Episode
from glimpse.export.program import ProgramError, ProgramParity
from glimpse.models.observer import Observer
from glimpse.rollout import Trace
from glimpse.training.families import FAMILIES
from tests.glimpse.contract.test_card import CARD, NO_RETINA

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = {"dataset": "digits", "canvas_height": 32, "canvas_width": 40, "num_pieces": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "hard": ("hard", {"num_glimpses": 3, "glimpse_size": 6, "num_scales": 2, "hidden": 8, "gaze_hidden": 8}),
    "soft": ("soft", {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 8, "score": "additive"}),
    "local": ("soft", {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 8, "attention": "local-m"}),
    "mlp": ("mlp", {"hidden": 8}),
}
EXPORT = """
import json, sys
from pathlib import Path
import torch
from glimpse.contract.card import ModelCard
from glimpse.data.datamodule import ImageData
from glimpse.export.program import export_program
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
    observer = training.observer
    retina = observer.retina
    sizes = (retina.size, retina.num_scales, retina.zoom) if retina else (None, None, None)
    with torch.no_grad():
        maps = training(images[:1]).maps is not None
    card = ModelCard(
        kind, "adaptive", training.classes, *training.image_shape, observer.num_glimpses, *sizes, maps,
        observer.any_size, "digits", {}, {}, state_size=5, temperature=2.0,
    )
    parity = export_program(observer, card, folder / f"{name}.pt2", images)
    (folder / f"{name}.json").write_text(json.dumps(parity._asdict()))
"""
RUN = """
import json, sys
import torch

folder, key = sys.argv[1], sys.argv[3]
images = torch.load(f"{folder}/images.pt", weights_only=True)
for name in json.loads(sys.argv[2]):
    extra = {key: ""}
    run = torch.export.load(f"{folder}/{name}.pt2", extra_files=extra).module()
    found = {"card": extra[key]}
    for which, given in {"all": images, "one": images[:1], "tall": images[:3].transpose(2, 3)}.items():
        try:
            with torch.no_grad():
                found[which] = [output.clone() for output in run(given.contiguous())]
        except (AssertionError, RuntimeError) as error:
            found[which] = str(error)
    torch.save(found, f"{folder}/{name}.found")
assert "glimpse" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]) -> Path:
    """Every case, exported, and what its program answers where there is no Glimpse."""
    path = tmp_path_factory.mktemp("programs")
    without_hook(EXPORT, str(path), json.dumps(CASES), json.dumps(DATA))
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(path), json.dumps(list(CASES)), CARD_KEY]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path, check=False)
    assert done.returncode == 0, done.stderr
    return path


def answers_of(folder: Path, name: str) -> Episode:
    kind, options = CASES[name]
    data = ImageData(**DATA)  # type: ignore[arg-type]
    training: Any = FAMILIES[kind](data.classes, data.image_shape, **options)
    training.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    return Episode(training.eval().observer, 2.0)


def found_in(folder: Path, name: str) -> Any:
    return torch.load(folder / f"{name}.found", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_program_names_no_module_of_ours_and_no_source(name, folder):
    with zipfile.ZipFile(folder / f"{name}.pt2") as held:
        texts = [held.read(entry) for entry in held.namelist() if entry.endswith(".json")]
    assert texts
    for text in texts:
        assert not re.search(rb"\bglimpse\.[a-z_]+\.", text)
        assert b".py" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_program_answers_as_the_model_does_without_glimpse(name, folder):
    parity = json.loads((folder / f"{name}.json").read_text())
    assert parity["images"] == 40
    assert parity["labels_differ"] == 0
    assert parity["difference"] < 1e-5
    found, images = found_in(folder, name), torch.load(folder / "images.pt", weights_only=True)
    card = ModelCard.from_json(found["card"])
    with torch.no_grad():
        expected = answers_of(folder, name)(images)
    assert len(expected) == len(found["all"]) == len(card.outputs)
    for ours, theirs, one in zip(expected, found["all"], found["one"], strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one, ours[:1], atol=1e-4, rtol=1e-4)
    answers = found["all"][1][:, -1]
    assert answers.std(0).max() > 1e-3, "the answer should depend on the image"
    torch.testing.assert_close(answers, (found["all"][0][:, -1] / 2).softmax(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_other_heights_and_widths_are_taken_where_the_card_says_so_and_nowhere_else(name, folder):
    found, images = found_in(folder, name), torch.load(folder / "images.pt", weights_only=True)
    assert ModelCard.from_json(found["card"]).any_size == (name in ("hard", "soft"))
    if name not in ("hard", "soft"):
        assert isinstance(found["tall"], str)
        return
    with torch.no_grad():
        expected = answers_of(folder, name)(images[:3].transpose(2, 3).contiguous())
    for ours, theirs in zip(expected, found["tall"], strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_card_is_that_of_an_episode(name, folder):
    card = ModelCard.from_json(found_in(folder, name)["card"])
    assert (card.graph, card.state_size, card.temperature) == ("episode", None, 2.0)
    assert card.options == (("first_location",) if name == "hard" else ())
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".pt2") == sorted(
        f"{case}.pt2" for case in CASES
    )


@pytest.mark.child
@pytest.mark.slow
def test_the_manual_names_a_class(folder, tmp_path):
    manual = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    (example,) = [text for text in re.findall(r"```python\n(.*?)```", manual, re.DOTALL) if "digits.pt2" in text]
    shutil.copyfile(folder / "hard.pt2", tmp_path / "digits.pt2")
    command = [sys.executable, "-W", "ignore", "-c", example]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in [str(digit) for digit in range(10)]


class Still(Observer):
    """Says of every image what the means of its halves say."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), 1)

    def forward(self, images: Tensor) -> Trace:
        left, right = (half.float().mean((1, 2, 3)) for half in images.chunk(2, 3))
        nothing = left.new_zeros(len(images), 1)
        return Trace(
            torch.stack((left, right), 1).unsqueeze(1), nothing.unsqueeze(2).expand(-1, -1, 2), nothing, nothing
        )


PLAIN = replace(CARD, classes=("left", "right"), num_glimpses=1, any_size=False, **NO_RETINA)
IMAGES = torch.randint(0, 256, (4, 1, 40, 60), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (0.5, r"on 4 images it differed by up to 5\.0e-01, and in 0 labels, so .*bad\.pt2 was not written"),
        (float("nan"), "it differed by up to nan"),
    ],
)
def test_a_program_that_differs_is_refused_and_not_left(change, sentence, monkeypatch, tmp_path):
    def read(path: Path) -> Any:
        answers = Episode(Still(), 1.0)
        return lambda images: tuple(output + change for output in answers(images)), PLAIN

    monkeypatch.setattr(program, "read_program", read)
    monkeypatch.setattr(program, "_write", lambda answers, card, path, example: path.write_bytes(b"new"))
    (tmp_path / "bad.pt2").write_bytes(b"old")
    with pytest.raises(ProgramError, match=sentence):
        program.export_program(Still(), PLAIN, tmp_path / "bad.pt2", IMAGES)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_program_with_other_labels_is_refused(monkeypatch, tmp_path):
    answers = Episode(Still(), 1.0)
    flipped = answers(IMAGES)[0].flip(2)
    monkeypatch.setattr(program, "read_program", lambda path: (lambda images: (flipped, *answers(images)[1:]), PLAIN))
    monkeypatch.setattr(program, "_write", lambda answers, card, path, example: None)
    with pytest.raises(ProgramError, match="and in 4 labels"):
        program.export_program(Still(), PLAIN, tmp_path / "bad.pt2", IMAGES)


def test_a_good_program_replaces_the_old_one(monkeypatch, tmp_path):
    monkeypatch.setattr(program, "read_program", lambda path: (Episode(Still(), 1.0), PLAIN))
    monkeypatch.setattr(program, "_write", lambda answers, card, path, example: path.write_bytes(b"new"))
    (tmp_path / "good.pt2").write_bytes(b"old")
    card = replace(PLAIN, graph="adaptive", state_size=3)
    parity = program.export_program(Still(), card, tmp_path / "good.pt2", IMAGES)
    assert parity == ProgramParity(4, 0.0, 0)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_a_program_that_lost_its_card_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(program, "read_program", lambda path: (Episode(Still(), 1.0), replace(PLAIN, data="others")))
    monkeypatch.setattr(program, "_write", lambda answers, card, path, example: None)
    with pytest.raises(ProgramError, match=r"expected good\.pt2 to carry its card, got another"):
        program.export_program(Still(), PLAIN, tmp_path / "good.pt2", IMAGES)


@pytest.mark.parametrize(
    ("name", "count", "sentence"),
    [
        ("model.pt", 4, r"expected a file name that ends in \.pt2, got 'model\.pt'; rename it"),
        ("nowhere/model.pt2", 4, r"got '.*model\.pt2', whose folder '.*nowhere' does not exist; make"),
        ("model.pt2", 1, "expected at least 2 images to compare the program with the model, got 1"),
    ],
)
def test_what_can_not_be_written_is_said_before_anything_is(name, count, sentence, tmp_path):
    with pytest.raises(ProgramError, match=sentence):
        program.export_program(Still(), PLAIN, tmp_path / name, IMAGES[:count])
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_not_to_replace_a_folder(tmp_path):
    (tmp_path / "model.pt2").mkdir()
    with pytest.raises(
        ProgramError, match=r"expected a file that can be written, got '.*pt2', which is a folder; name a file"
    ):
        program.check_program_file(tmp_path / "model.pt2")
