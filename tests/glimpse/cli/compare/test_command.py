import html
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

from glimpse.cli import app
from glimpse.cli.compare import command as command_module
from glimpse.cli.compare.plan import name_of
from glimpse.cli.compare.training import images_seen, times_of
from glimpse.cli.evaluate import evaluate_checkpoint
from glimpse.training.checkpoint import read_checkpoint

DATA = """
data:
  class_path: ImageData
  init_args: {{dataset: digits, canvas_height: 24, canvas_width: 32, num_pieces: {pieces}, batch_size: 64}}
"""
MODELS = {
    "hard": "HardAttentionTraining, init_args: {num_glimpses: 3, glimpse_size: 4, num_scales: 2, hidden: 16}",
    "soft": "SoftAttentionTraining, init_args: {num_glimpses: 2, widths: [4, 8], depths: [1, 1], hidden: 16}",
    "plain": "ConvolutionalTraining, init_args: {widths: [4, 8], depths: [1, 1]}",
}
BUDGET = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches=2"]
COMMAND = ["compare", "hard.yaml", "runs/soft/last.ckpt", "plain.yaml", *BUDGET, "--output", "out", "--images", "4"]


def recipe(name: str, pieces: int = 2, epochs: int = 1) -> str:
    trainer = f"trainer: {{accelerator: cpu, max_epochs: {epochs}}}\n"
    return f"{DATA.format(pieces=pieces)}model: {{class_path: {MODELS[name]}}}\n{trainer}"


class Done(NamedTuple):
    """A comparison that has been made: two models trained, one loaded."""

    folder: Path
    """Where it was started; it wrote to ``out`` inside."""
    page: str
    figures: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Done:
    folder = tmp_path_factory.mktemp("started")
    for name in MODELS:
        (folder / f"{name}.yaml").write_text(recipe(name))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert app.main(["train", "--config", "soft.yaml", "--trainer.limit_train_batches", "3"]) == 0
        patch.setattr(command_module, "print", lambda text, **_: said.append(text), raising=False)
        assert app.main(COMMAND) == 0
    figures = json.loads((folder / "out" / "comparison.json").read_text())
    return Done(folder, (folder / "out" / "index.html").read_text(encoding="utf-8"), figures, "\n".join(said))


@pytest.fixture
def started(done, tmp_path, monkeypatch) -> Path:
    """A folder to start in, with the recipes and the runs of the finished comparison."""
    folder: Path = tmp_path / "copy"
    shutil.copytree(done.folder, folder)
    monkeypatch.chdir(folder)
    return folder


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a comparison is refused with, before anything is trained or written."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert app.main(["compare", *args]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("glimpse: ")
    assert told.err.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    return " ".join(told.err.split())


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
        assert re.search(rf"^{entry['name']} +{100 * entry['evaluation']['error']:.2f} ", done.said, re.MULTILINE)


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


def test_a_run_of_another_recipe_is_not_taken_for_this_one(started, capsys):
    told = refused(capsys, "hard.yaml", "plain.yaml", *BUDGET, "--seed", "1", "--output", "out")
    assert "out/runs/hard holds a run of another recipe: --" in told
    assert "seed was 0, is 1" in told
    assert "to train it anew, add --overwrite, or choose another --output" in told
    # The data may have moved.
    assert app.main([*COMMAND, "--root", "elsewhere"]) == 0


def test_a_run_that_was_stopped_is_told(started, capsys):
    config = Path("out/runs/plain/config.yaml")
    config.write_text(re.sub(r"max_epochs: 1\b", "max_epochs: 2", config.read_text()))
    args = ["plain.yaml", "runs/soft/last.ckpt", "--trainer.limit_train_batches", "2", "--trainer.max_epochs", "2"]
    Path("out/runs/plain/times.json").unlink()
    told = refused(capsys, *args, "--output", "out")
    assert "out/runs/plain holds a run that was stopped after 1 of 2 epochs; finish it with: " in told
    assert "train --ckpt_path out/runs/plain/last.ckpt; to train it anew, add --overwrite" in told


def test_a_checkpoint_that_a_training_would_overwrite_is_refused(started, capsys):
    args = ["hard.yaml", "out/runs/hard/best.ckpt", *BUDGET, "--output", "out"]
    told = refused(capsys, *args, "--overwrite")
    assert "out/runs/hard/best.ckpt would be overwritten by the training of hard.yaml; copy it to another" in told
    assert app.main(["compare", *args]) == 0


def test_weights_alone_do_not_say_how_long_they_were_trained(started):
    checkpoint = read_checkpoint("out/runs/hard/last.ckpt")
    assert images_seen(checkpoint, 1000) == 2 * 64
    assert images_seen(checkpoint, 40) == 2 * 40
    del checkpoint["loops"]
    assert images_seen(checkpoint, 1000) is None


def test_times_are_of_this_checkpoint_alone(started):
    last = Path("out/runs/hard/last.ckpt")
    assert times_of(last).cpu is not None
    shutil.copy("out/runs/plain/last.ckpt", last)
    assert times_of(last).cpu is None
    shutil.copy(last, "alone.ckpt")
    assert times_of(Path("alone.ckpt")) == (None, None)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["hard.yaml"], "expected at least 2 models to compare, got 1; give another recipe or checkpoint"),
        (
            ["hard.yaml", "out/runs/hard/last.ckpt"],
            "expected models of different names, got 'hard' twice, hard.yaml and out/runs/hard/last.ckpt; rename one",
        ),
        (["hard.yaml", "sfot"], "sfot: expected a YAML file or a recipe out of "),
        (["hard.yaml", "missing.ckpt"], "expected a checkpoint at missing.ckpt, found nothing"),
        (["hard.yaml", "foreign.ckpt"], "foreign.ckpt is a checkpoint of something other than Glimpse"),
        (["hard.yaml", "broken.yaml"], "broken.yaml: broken.yaml: expected valid YAML"),
        (
            ["hard.yaml", "plain.yaml", "--model.num_glimpses", "2"],
            "plain.yaml: there is no option --model.num_glimpses",
        ),
        (
            ["hard.yaml", "plain.yaml", "--trainer.max_epochs", "no"],
            "hard.yaml: --trainer.max_epochs: expected a whole",
        ),
        (
            ["hard.yaml", "plain.yaml", "--", "--config", "digits"],
            "--config can't be handed to the trainings: the compar",
        ),
        (["hard.yaml", "plain.yaml", "--images", "0"], "--images: expected at least 1, got 0; raise it"),
        (
            ["hard.yaml", "plain.yaml", "--trainer.fast_dev_run", "true"],
            "hard.yaml: expected a training that keeps its model, got --trainer.fast_dev_run or",
        ),
        (
            ["hard.yaml", "cluttered.yaml"],
            "expected models of one data set, got hard on digits on 24x32 canvases, 2 pieces of clutter and cluttered "
            "on digits on 24x32 canvases, 3 pieces of clutter: --data.num_pieces is 2, 3; give every training the same",
        ),
        (
            ["cluttered.yaml", "runs/soft/last.ckpt"],
            "got cluttered on digits on 24x32 canvases, 3 pieces of clutter and soft on digits on 24x32 canvases",
        ),
        (
            ["hard.yaml", "longer.yaml"],
            "expected one budget for all trainings, got hard and longer: --trainer.max_epochs is 1, 2; give "
            "--trainer.max_epochs behind the models, and it holds for all",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_training(args, sentence, started, capsys):
    Path("broken.yaml").write_text("model: {")
    Path("cluttered.yaml").write_text(recipe("plain", pieces=3))
    Path("longer.yaml").write_text(recipe("plain", epochs=2))
    torch.save({"state_dict": {}}, "foreign.ckpt")
    assert sentence in refused(capsys, *args)


def test_a_training_that_fails_leaves_no_page_of_an_older_comparison(started, monkeypatch):
    monkeypatch.setattr("glimpse.cli.compare.training.train", lambda args, program: 2)
    assert app.main([*COMMAND, "--overwrite"]) == 2
    assert not Path("out/index.html").exists()
    assert not Path("out/comparison.json").exists()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("digits", "digits"),
        ("a/my soft.yaml", "my soft"),
        ("runs/digits/config.yaml", "digits"),
        ("runs/digits/last.ckpt", "digits"),
        ("runs/digits/best.ckpt", "digits-best"),
        ("mine.ckpt", "mine"),
    ],
)
def test_models_are_called_by_their_recipe_or_run(model, name):
    assert name_of(model) == name
