import re
from pathlib import Path

import pytest
import torch

from glimpse.cli import app
from glimpse.cli.compare.plan import name_of
from tests.support.comparison import BUDGET, COMMAND, recipe, refused


def test_a_run_of_another_recipe_is_not_taken_for_this_one(started, capsys):
    output = refused(capsys, "hard.yaml", "plain.yaml", *BUDGET, "--seed", "1", "--output", "out")
    assert "out/runs/hard holds a run of another recipe: --" in output
    assert "seed was 0, is 1" in output
    assert "to train it anew, add --overwrite, or choose another --output" in output
    # The data may have moved.
    assert app.main([*COMMAND, "--root", "elsewhere"]) == 0


def test_a_run_that_was_stopped_is_told(started, capsys):
    config = Path("out/runs/plain/config.yaml")
    config.write_text(re.sub(r"max_epochs: 1\b", "max_epochs: 2", config.read_text()))
    args = ["plain.yaml", "runs/soft/last.ckpt", "--trainer.limit_train_batches", "2", "--trainer.max_epochs", "2"]
    Path("out/runs/plain/times.json").unlink()
    output = refused(capsys, *args, "--output", "out")
    assert "out/runs/plain holds a run that was stopped after 1 of 2 epochs; finish it with: " in output
    assert "train --ckpt_path out/runs/plain/last.ckpt; to train it anew, add --overwrite" in output


def test_a_checkpoint_that_a_training_would_overwrite_is_refused(started, capsys):
    args = ["hard.yaml", "out/runs/hard/best.ckpt", *BUDGET, "--output", "out"]
    output = refused(capsys, *args, "--overwrite")
    assert "out/runs/hard/best.ckpt would be overwritten by the training of hard.yaml; copy it to another" in output
    assert app.main(["compare", *args]) == 0


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
