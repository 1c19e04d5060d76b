"""A training from its command line: a user's mistake is an error that says so."""

from pathlib import Path

import pytest

from glimpse.cli.train.run.training import train
from glimpse.cli.usage import UsageError


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--config", "digits-mlp", "--model.hiden", "3"], r"there is no option --model\.hiden; did you mean .*hidden"),
        (["--config", "nothing"], "--config nothing: expected a YAML file or a recipe"),
        (["--config", "digits-mlp", "--model.hidden", "0"], r"expected --model\.hidden of at least 1, got 0"),
    ],
)
def test_a_mistake_is_told(options: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        train([*options, "--output", str(tmp_path / "run")], "glimpse train")
    assert not (tmp_path / "run").exists()


def test_a_training_leaves_its_model(tmp_path: Path, capsys) -> None:
    quick = ["--trainer.max_epochs", "1", "--data.passes", "1", "--model.hidden", "8"]
    train(["--config", "digits-mlp", *quick, "--output", str(tmp_path / "run")], "glimpse train")
    assert (tmp_path / "run" / "last.ckpt").is_file()
    assert "the trained model" in capsys.readouterr().out
    train(["--config", "digits-mlp", *quick, "--output", str(tmp_path / "other")], "glimpse train", concludes=False)
    assert (tmp_path / "other" / "last.ckpt").is_file()
    assert "the trained model" not in capsys.readouterr().out
