import json
from argparse import ArgumentTypeError

import pytest

from glimpse.cli import app
from glimpse.cli.evaluate import parse_first_location


def test_a_checkpoint_is_evaluated(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--model.hidden", "8", "--model.gaze_hidden", "8", "--model.num_glimpses", "2", "--trainer.max_epochs", "1"]
    assert app.main(["train", *tiny, "--trainer.limit_train_batches", "8", "--output", "run"]) == 0
    capsys.readouterr()
    assert app.main(["evaluate", "run/last.ckpt", "--part", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 200


def test_a_model_is_evaluated_from_where_it_was_trained_unless_another_place_is_given(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--model.hidden", "8", "--model.gaze_hidden", "8", "--model.num_glimpses", "2", "--trainer.max_epochs", "1"]
    tiny += ["--model.first_location", "random", "--trainer.limit_train_batches", "2", "--output", "run"]
    assert app.main(["train", *tiny]) == 0
    capsys.readouterr()
    for options, where in (
        ([], "random"),
        (["--first-location", "centre"], "centre"),
        (["--first-location=-0.5,1"], "-0.5,1"),
    ):
        assert app.main(["evaluate", "run/last.ckpt", "--part", "validation", "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["first_location"] == where


@pytest.mark.parametrize("text", ["corner", "0", "0,0,0", "1.5,0", "nan,0", "0,inf"])
def test_a_first_location_is_refused_in_one_sentence(text):
    with pytest.raises(ArgumentTypeError, match=r"expected centre, random, or X,Y, both in \[-1, 1\], got"):
        parse_first_location(text)
