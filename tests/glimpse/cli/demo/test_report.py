import html
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

from PIL import Image

from glimpse.cli import app
from glimpse.cli.demo.examples import Example
from glimpse.cli.demo.report import next_command, write_demo_page
from glimpse.cli.usage import invocation
from glimpse.export.checkpoint import Exported
from glimpse.runtime.session import GlimpseSession


def test_the_page_holds_the_figures_that_were_measured(demo):
    assert re.findall(r'<div class="tile[^"]*"><b>([\d.]+) %</b>', demo.page) == ["5.2", "30.4", "48.5", "12.6"]
    table = re.findall(r"<tr><th>(\w+)</th><td>([\d.]+)</td><td>([\d.]+)</td><td>([\d.]+)</td></tr>", demo.page)
    assert table == [
        ("own", "50.2", "20.1", "5.2"),
        ("random", "50.2", "40.3", "30.4"),
        ("centre", "50.2", "50.0", "48.5"),
        ("grid", "70.0", "30.0", "12.6"),
    ]
    text = " ".join(demo.page.split())
    assert "Measured on 500 held-out test images" in text
    assert "216 pixels sensed of an image of 2,080" in text
    assert "7,469 parameters. Calibration error 1.7 %." in text
    assert "On 8 test images its probabilities differ from the trained model's by at most 3e-07." in text
    assert "$" not in demo.page
    kept = json.loads((demo.folder / "demo" / "evaluation.json").read_text(encoding="utf-8"))
    assert kept == json.loads(demo.evaluation.to_json())


def test_every_link_and_picture_is_there(demo):
    links = set(re.findall(r'(?:src|href)="([^"]+)"', demo.page))
    assert {"fixations.png", "confusion.png", "run/learning-curves.png"} < links
    for link in links:
        with Image.open(demo.folder / "demo" / link) as picture:
            picture.verify()
    left = {f"scanpaths/{file.name}" for file in (demo.folder / "demo" / "scanpaths").iterdir()}
    assert left == {link for link in links if link.startswith("scanpaths/")}, "no pictures of an older run remain"


def test_names_are_escaped(demo, tmp_path):
    card = replace(GlimpseSession(demo.folder / "demo" / "model.onnx").card, data="<i>images</i> & more")
    exported = Exported(demo.folder / "demo" / "model.onnx", card, demo.parity)
    example = Example("01-x", "<b>right</b>", '<script>"', 0.5, 2)
    write_demo_page(demo.evaluation, exported, [example], 60.0, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for text in ("<i>", "<script>", "<b>right"):
        assert text not in page
    assert "trained by policy gradient on &lt;i&gt;images&lt;/i&gt; &amp; more" in page
    assert (
        "<b>&lt;script&gt;&quot;</b>, 50% sure, but it is <b>&lt;b&gt;right&lt;/b&gt;</b>; settled after glimpse 2"
        in page
    )
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_the_summary_names_all_errors_and_a_command_that_runs(demo, monkeypatch, capsys):
    for words, error in (
        ("error with the model's own fixations", "5.2%"),
        ("the same weights, random fixations", "30.4%"),
        ("the same weights, always the centre", "48.5%"),
        ("the same weights, a grid of fixations", "12.6%"),
    ):
        assert re.search(rf"^  {words} +{re.escape(error)}$", demo.printed, re.MULTILINE)
    assert "See it look: open demo/index.html" in demo.printed
    (command,) = re.findall(r"^Try next: +(.*)$", demo.printed, re.MULTILINE)
    (on_page,) = re.findall(r"<pre>(.* classify .*)</pre>", demo.page)
    assert html.unescape(on_page) == command
    monkeypatch.chdir(demo.folder)
    assert command.startswith(f"{invocation()} classify demo/model.onnx demo/images/01-")
    assert app.main(shlex.split(command.removeprefix(invocation()))) == 0
    assert "drawn in demo/looked/01-" in capsys.readouterr().out


def test_a_folder_with_a_space_is_quoted(demo):
    exported = Exported(
        Path("my demo/model.onnx"), GlimpseSession(demo.folder / "demo" / "model.onnx").card, demo.parity
    )
    command = next_command(exported, [Example("01-6", "6", "6", 0.9, 1)], Path("my demo"))
    words = shlex.split(command.removeprefix(invocation()))
    assert words == ["classify", "my demo/model.onnx", "my demo/images/01-6.png", "--draw", "my demo/looked"]
