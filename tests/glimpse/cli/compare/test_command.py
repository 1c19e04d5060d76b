import html
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from glimpse.cli import app
from glimpse.cli.compare.training import times_of
from glimpse.cli.evaluate import evaluate_checkpoint
from glimpse.training.checkpoint import read_checkpoint
from tests.support.comparison import COMMAND


def test_every_figure_is_that_of_the_model_alone(done, monkeypatch):
    monkeypatch.chdir(done.folder)
    entries = {entry["name"]: entry for entry in done.figures["entries"]}
    assert set(entries) == {"hard", "soft", "plain"}
    for entry in entries.values():
        alone = json.loads(evaluate_checkpoint(Path(entry["checkpoint"])).to_json())
        assert entry["evaluation"] == alone
    errors = [entry["evaluation"]["error"] for entry in done.figures["entries"]]
    assert errors == sorted(errors)
    assert {name: entry["family"] for name, entry in entries.items()} == {
        "hard": "hard",
        "soft": "soft",
        "plain": "cnn",
    }
    assert {name: entry["trained_now"] for name, entry in entries.items()} == {
        "hard": True,
        "soft": False,
        "plain": True,
    }


def test_what_training_took_is_told_as_far_as_it_is_known(done):
    entries = {entry["name"]: entry for entry in done.figures["entries"]}
    assert {name: entry["images_seen"] for name, entry in entries.items()} == {"hard": 128, "soft": 192, "plain": 128}
    for name in ("hard", "plain"):
        assert entries[name]["wall_seconds"] > 0
        assert entries[name]["cpu_seconds"] > 0
    assert entries["soft"]["wall_seconds"] > 0, "its log adds up to it"
    assert entries["soft"]["cpu_seconds"] is None
    assert "The budgets differ: the models were trained on 128 to 192 images" in " ".join(done.page.split())
    assert [epoch for epoch, _ in entries["hard"]["validation_errors"]] == [1]


def test_the_page_says_what_the_figures_say(done):
    text = " ".join(done.page.split())
    assert "$" not in done.page
    rows = re.findall(r"<tr(?: class=\"best\")?><th>(\w+)<small>[\w -]+</small></th><td>([\d.]+)</td>", done.page)
    assert rows == [(entry["name"], f"{100 * entry['evaluation']['error']:.2f}") for entry in done.figures["entries"]]
    best = re.search(r'class="best"><th>(\w+)', done.page)
    assert best
    assert best.group(1) == done.figures["entries"][0]["name"]
    assert "3 models of digits on 24x32 canvases, 2 pieces of clutter" in text
    assert "tried on the same 500 held-out test images" in text
    assert "Nothing was chosen by the test images" in text
    assert "fixations are held" in text
    assert "Found trained, and not trained again: soft (<code>runs/soft/last.ckpt</code>)." in text
    (command,) = re.findall(r"<pre>(.*)</pre>", done.page)
    assert html.unescape(command).endswith(" ".join(COMMAND))
    answers = re.findall(r'<td class="(right|wrong)"><b>(\d)</b> (\d+)%</td>', done.page)
    assert answers == [
        ("right" if answer == view["truth"] else "wrong", answer, f"{100 * sure:.0f}")
        for view in done.figures["views"]
        for answer, sure in zip(view["answers"], view["confidences"], strict=True)
    ]
    for entry in done.figures["entries"]:
        assert re.search(rf"^{entry['name']} +{100 * entry['evaluation']['error']:.2f} ", done.printed, re.MULTILINE)


def test_every_picture_is_there_and_no_other(done):
    links = set(re.findall(r'src="([^"]+)"', done.page))
    assert len([link for link in links if "implicit" in link]) == 4 * 3
    assert len([link for link in links if "explicit" in link]) == 4 * 2, "a convolutional net has no map of its own"
    for link in links:
        with Image.open(done.folder / "out" / link) as picture:
            picture.verify()
    assert {f"pictures/{file.name}" for file in (done.folder / "out" / "pictures").iterdir()} == links


def test_a_finished_run_is_taken_as_it_is_and_gives_the_same_page(done, started):
    run = Path("out/runs/hard")
    kept = {file: file.read_bytes() for file in run.iterdir()}
    pictures = {file: file.read_bytes() for file in Path("out/pictures").iterdir()}
    Path("out/pictures/explicit-99-1.png").touch()
    assert app.main(COMMAND) == 0
    assert {file: file.read_bytes() for file in run.iterdir()} == kept
    assert {file: file.read_bytes() for file in Path("out/pictures").iterdir()} == pictures
    figures = json.loads(Path("out/comparison.json").read_text())
    assert [entry.pop("trained_now") for entry in figures["entries"]] == [False] * 3
    for entry in done.figures["entries"]:
        del entry["trained_now"]
    assert figures == done.figures


@pytest.mark.slow
def test_overwriting_trains_anew(started):
    before = read_checkpoint("out/runs/hard/last.ckpt")["state_dict"]
    changed = [*COMMAND, "--overwrite", "--seed", "1"]
    assert app.main(changed) == 0
    after = read_checkpoint("out/runs/hard/last.ckpt")["state_dict"]
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert times_of(Path("out/runs/hard/last.ckpt")).cpu is not None


def test_a_training_that_fails_leaves_no_page_of_an_older_comparison(started, monkeypatch):
    monkeypatch.setattr("glimpse.cli.compare.training.train", lambda args, program: 2)
    assert app.main([*COMMAND, "--overwrite"]) == 2
    assert not Path("out/index.html").exists()
    assert not Path("out/comparison.json").exists()


@pytest.mark.parametrize(
    ("args", "models", "training"),
    [
        (["a", "b"], ["a", "b"], []),
        (["a", "b", "--trainer.max_epochs", "3"], ["a", "b"], ["--trainer.max_epochs", "3"]),
        (["--seed", "1", "a", "b", "--data.passes=2"], ["a", "b"], ["--seed", "1", "--data.passes=2"]),
        (["a", "b", "--model.gate", "--images", "2"], ["a", "b"], ["--model.gate"]),
        (["a", "b", "--", "--anything", "c", "--images"], ["a", "b"], ["--anything", "c", "--images"]),
    ],
)
def test_a_comparison_hands_the_options_of_training_on(args, models, training):
    chosen = app.parse(["compare", *args])
    assert (chosen.models, chosen.training) == (models, training)
    assert chosen.command_line == ["compare", *args]
