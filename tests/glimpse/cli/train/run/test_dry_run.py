from pathlib import Path

import pytest

from glimpse.cli.train.command import main as train
from glimpse.cli.train.recipes import flatten_recipe, read_recipe
from glimpse.cli.train.run.dry_run import dry_run
from glimpse.cli.usage import UsageError

TINY = ["fit", "--config", "digits", "--model.hidden", "8", "--model.gaze_hidden", "8", "--model.num_glimpses", "2"]
BRIEF = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]


@pytest.mark.slow
def test_it_resolves_what_the_training_then_writes_down(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, recipe = dry_run([*TINY, *BRIEF], "glimpse")
    assert list(Path().iterdir()) == []
    assert data.describe() == "digits on 60x60 canvases, 4 pieces of clutter"
    assert (recipe["model"].rpartition(".")[2], recipe["model.hidden"]) == ("HardAttentionTraining", 8)
    assert train([*TINY, *BRIEF, "--output", "run"], "glimpse") == 0
    assert flatten_recipe(read_recipe(Path("run/config.yaml"))) == recipe


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.hiden", "8"], "there is no option --model.hiden; did you mean --model.hidden"),
        (["--trainer.max_epochs", "0"], "--trainer.max_epochs: expected a number above 0, got 0"),
        (["--data.num_pieces", "3", "--data.canvas_height", "0"], "a canvas needs both its sides"),
        (["--trainer.fast_dev_run", "true"], "expected a training that keeps its model, got --trainer.fast_dev_run or"),
        (["--trainer.enable_checkpointing", "false"], "or --trainer.enable_checkpointing false; leave it out"),
    ],
)
def test_what_a_training_refuses_is_refused(options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        dry_run([*TINY, *options], "glimpse")
    assert list(Path().iterdir()) == []
