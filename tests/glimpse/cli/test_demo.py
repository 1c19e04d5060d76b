import argparse
import html
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from glimpse.cli import app, demo
from glimpse.cli.demo import Example
from glimpse.cli.train.command import main as train_command
from glimpse.cli.usage import invocation
from glimpse.evaluation.evaluate import ClassifierEvaluation
from glimpse.export.checkpoint import Exported
from glimpse.export.parity import Parity
from glimpse.runtime.session import GlimpseSession

TINY = """
data: {canvas_height: 40, canvas_width: 52, num_pieces: 3, batch_size: 64, passes: 1}
model: {num_glimpses: 3, glimpse_size: 6, num_scales: 2, hidden: 16, gaze_hidden: 16}
trainer: {max_epochs: 1, limit_train_batches: 2, accelerator: cpu}
"""
EVALUATION = ClassifierEvaluation(
    images=500,
    error=0.052,
    errors={
        "own": [0.502, 0.201, 0.052],
        "random": [0.502, 0.403, 0.304],
        "centre": [0.502, 0.5, 0.485],
        "grid": [0.7, 0.3, 0.126],
    },
    calibration_error=0.017,
    per_class=[],
    confusion=np.diag(np.arange(40, 50)).tolist(),
    num_glimpses=3,
    pixels_sensed=216,
    pixels_of_image=2080,
    multiply_accumulates=21_456,
    parameters=7_469,
)
PARITY = Parity(images=8, labels_differ=0, difference=3e-7, ties=0)


class Done(NamedTuple):
    """A demo that has run, and what it said."""

    folder: Path
    """Where it was started; it wrote to ``demo`` inside."""
    page: str
    said: str


@pytest.fixture(scope="module")
def done(tmp_path_factory, exported) -> Done:
    """The demo in miniature: it trains a tiny model, but its figures are made up and its exported file is another's."""
    folder = tmp_path_factory.mktemp("started")
    (folder / "tiny.yaml").write_text(TINY)
    output = folder / "demo"
    said: list[str] = []

    def train(args: list[str], program: str) -> int:
        assert args[:3] == ["fit", "--config", "digits"]
        assert not (output / "index.html").exists()
        return train_command([*args[:3], "--config", "tiny.yaml", *args[3:]], program)

    def evaluate(checkpoint: Path) -> ClassifierEvaluation:
        assert checkpoint.is_file()
        return EVALUATION

    def export(checkpoint: Path, path: Path) -> Exported:
        assert checkpoint.is_file()
        shutil.copy(exported.path, path)
        return Exported(path, GlimpseSession(path).card, PARITY)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(demo, "train", train)
        patch.setattr(demo, "evaluate_checkpoint", evaluate)
        patch.setattr(demo, "export_checkpoint", export)
        patch.setattr(demo, "print", lambda text, **_: said.append(text), raising=False)
        output.mkdir()
        (output / "index.html").write_text("an older page")
        (output / "scanpaths").mkdir()
        (output / "scanpaths" / "99-9.png").touch()
        assert demo.run(argparse.Namespace(output=Path("demo"))) == 0
    return Done(folder, (output / "index.html").read_text(encoding="utf-8"), "\n".join(said))


def test_the_page_holds_the_figures_that_were_measured(done):
    assert re.findall(r'<div class="tile[^"]*"><b>([\d.]+) %</b>', done.page) == ["5.2", "30.4", "48.5", "12.6"]
    table = re.findall(r"<tr><th>(\w+)</th><td>([\d.]+)</td><td>([\d.]+)</td><td>([\d.]+)</td></tr>", done.page)
    assert table == [
        ("own", "50.2", "20.1", "5.2"),
        ("random", "50.2", "40.3", "30.4"),
        ("centre", "50.2", "50.0", "48.5"),
        ("grid", "70.0", "30.0", "12.6"),
    ]
    text = " ".join(done.page.split())
    assert "Measured on 500 held-out test images" in text
    assert "216 pixels sensed of an image of 2,080" in text
    assert "7,469 parameters. Calibration error 1.7 %." in text
    assert "On 8 test images its probabilities differ from the trained model's by at most 3e-07." in text
    assert "$" not in done.page
    kept = json.loads((done.folder / "demo" / "evaluation.json").read_text(encoding="utf-8"))
    assert kept == json.loads(EVALUATION.to_json())


def test_every_link_and_picture_is_there(done):
    links = set(re.findall(r'(?:src|href)="([^"]+)"', done.page))
    assert {"fixations.png", "confusion.png", "run/learning-curves.png"} < links
    for link in links:
        with Image.open(done.folder / "demo" / link) as picture:
            picture.verify()
    left = {f"scanpaths/{file.name}" for file in (done.folder / "demo" / "scanpaths").iterdir()}
    assert left == {link for link in links if link.startswith("scanpaths/")}, "no pictures of an older run remain"


def test_right_answers_come_before_wrong_ones_and_are_what_the_exported_file_says(done):
    session = GlimpseSession(done.folder / "demo" / "model.onnx")
    shown = re.findall(
        r'<figure class="(\w+)"><a href="scanpaths/(\d\d-(\d))\.png">.*?<b>(\d)</b>, (\d+)% sure', done.page
    )
    assert [kind for kind, *_ in shown] == ["right"] * 6 + ["wrong"] * 4
    for kind, name, truth, answer, confidence in shown:
        assert (answer == truth) == (kind == "right")
        pixels = np.asarray(Image.open(done.folder / "demo" / "images" / f"{name}.png"))
        beliefs = session.run(pixels[None, :, :, None]).probabilities[0, -1]
        assert session.card.classes[int(beliefs.argmax())] == answer
        assert f"{beliefs.max():.0%}" == f"{confidence}%"


def test_the_summary_names_all_errors_and_a_command_that_runs(done, monkeypatch, capsys):
    for words, error in (
        ("error with the model's own fixations", "5.2%"),
        ("the same weights, random fixations", "30.4%"),
        ("the same weights, always the centre", "48.5%"),
        ("the same weights, a grid of fixations", "12.6%"),
    ):
        assert re.search(rf"^  {words} +{re.escape(error)}$", done.said, re.MULTILINE)
    assert "See it look: open demo/index.html" in done.said
    (told,) = re.findall(r"^Try next: +(.*)$", done.said, re.MULTILINE)
    (on_page,) = re.findall(r"<pre>(.* classify .*)</pre>", done.page)
    assert html.unescape(on_page) == told
    monkeypatch.chdir(done.folder)
    assert told.startswith(f"{invocation()} classify demo/model.onnx demo/images/01-")
    assert app.main(shlex.split(told.removeprefix(invocation()))) == 0
    assert "drawn in demo/looked/01-" in capsys.readouterr().out


def test_names_are_escaped(done, tmp_path):
    card = replace(GlimpseSession(done.folder / "demo" / "model.onnx").card, data="<i>images</i> & more")
    exported = Exported(done.folder / "demo" / "model.onnx", card, PARITY)
    example = Example("01-x", "<b>right</b>", '<script>"', 0.5, 2)
    demo.write_page(EVALUATION, exported, [example], 60.0, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for text in ("<i>", "<script>", "<b>right"):
        assert text not in page
    assert "trained by policy gradient on &lt;i&gt;images&lt;/i&gt; &amp; more" in page
    assert (
        "<b>&lt;script&gt;&quot;</b>, 50% sure, but it is <b>&lt;b&gt;right&lt;/b&gt;</b>; settled after glimpse 2"
        in page
    )
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_a_folder_with_a_space_is_quoted(done):
    exported = Exported(Path("my demo/model.onnx"), GlimpseSession(done.folder / "demo" / "model.onnx").card, PARITY)
    command = demo.next_command(exported, [Example("01-6", "6", "6", 0.9, 1)], Path("my demo"))
    words = shlex.split(command.removeprefix(invocation()))
    assert words == ["classify", "my demo/model.onnx", "my demo/images/01-6.png", "--draw", "my demo/looked"]


def test_a_run_that_fails_leaves_no_page_of_an_older_one(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("an older page")
    monkeypatch.setattr(demo, "train", lambda args, program: 2)
    assert demo.run(argparse.Namespace(output=tmp_path)) == 2
    assert not (tmp_path / "index.html").exists()
