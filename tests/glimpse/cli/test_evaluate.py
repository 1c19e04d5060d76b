import json

from glimpse.cli import app


def test_a_checkpoint_is_evaluated(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--model.hidden", "8", "--model.gaze_hidden", "8", "--model.num_glimpses", "2", "--trainer.max_epochs", "1"]
    assert app.main(["train", *tiny, "--trainer.limit_train_batches", "8", "--output", "run"]) == 0
    capsys.readouterr()
    assert app.main(["evaluate", "run/last.ckpt", "--part", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 200
