"""The trainings of a choice: how long they are, and what is taken from them."""

from pathlib import Path

import pytest

from glimpse.cli.automatic import trials
from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.usage import UsageError
from glimpse.data.datamodule import ImageData

DIGITS = Contender(
    "mlp", "", ("--config=digits-mlp", "--model.hidden=8", "--trainer.enable_progress_bar=false", "--data.passes=1")
)


def test_a_trial_lasts_about_as_long_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(trials, "seconds_an_image", lambda *_: 4.0 / len(ImageData().source.train))
    found = trials.run_trial(DIGITS, (), tmp_path / "mlp", 13.0, ImageData())
    assert found.epochs in (2, 3)  # 13 seconds less those that the start took
    assert found.checkpoint.is_file()
    assert 0 < found.error < 1
    assert found.measure(balanced=False) == found.error
    assert found.measure(balanced=True) == found.balanced_error
    assert "epoch 1/" in (tmp_path / "mlp" / "log.txt").read_text()
    assert "epoch" not in capsys.readouterr().out


def test_a_pretrained_network_is_fitted_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "seconds_an_image", lambda *_: pytest.fail("it has no epochs to measure"))
    fitted = Contender(DIGITS.name, "", DIGITS.options, is_pretrained=True)
    assert trials.run_trial(fitted, (), tmp_path, 1000.0, ImageData()).epochs == 1


def test_an_images_time_is_found_by_training_a_little(tmp_path: Path) -> None:
    assert 0 < trials.seconds_an_image(DIGITS, (), tmp_path) < 0.06


def test_as_many_epochs_are_trained_as_fit_into_the_time() -> None:
    assert trials.epochs_within(99.0, 0.01, 900, 300) == 9  # 900 images, and 300 at a third of their time
    assert trials.epochs_within(0.1, 0.01, 900, 300) == 1
    assert trials.epochs_within(1e9, 0.01, 900, 300) == trials.MOST_EPOCHS


def test_a_training_that_fails_ends_the_choice(tmp_path: Path) -> None:
    wrong = Contender("mlp", "", ("--config=digits-mlp", "--model.hidden=-8"))
    with pytest.raises(UsageError, match=r"--model\.hidden"):
        trials.run_trial(wrong, (), tmp_path, 1.0, ImageData())
