"""The trainings of a choice: how long they are, and what is taken from them."""

from pathlib import Path

import pytest

from glimpse.cli.automatic import trials
from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.usage import UsageError
from glimpse.data.datamodule import ImageData
from glimpse.training.checkpoint import read_checkpoint

DIGITS = Contender(
    "mlp", "", ("--config=digits-mlp", "--model.hidden=8", "--trainer.enable_progress_bar=false", "--data.passes=1")
)


def test_a_trial_lasts_about_as_long_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(trials, "seconds_an_image", lambda *_: (4.0 / len(ImageData().source.train), 128))
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
    seconds, batch_size = trials.seconds_an_image(DIGITS, (), tmp_path)
    assert 0 < seconds < 0.06
    assert batch_size == 128


def test_as_much_is_trained_as_fits_into_the_time() -> None:
    def length(seconds: float) -> tuple[int, int | None]:
        return trials.length_within(seconds, 0.01, 16, 900, 300)

    assert length(99.0) == (9, None)  # 900 images, and 300 at a third of their time
    assert length(11.0) == (1, None)
    assert length(9.0) == (1, 50)
    assert length(0.1) == length(-5.0) == (1, trials.LEAST_BATCHES)
    assert length(1e9) == (trials.MOST_EPOCHS, None)
    assert trials.length_within(0.1, 0.01, 16, 40, 300) == (1, 3)  # there are no more batches


def test_a_part_of_an_epoch_is_trained_where_a_whole_one_would_take_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "seconds_an_image", lambda *_: (1.0, 32))
    options = ("--data.batch_size=32",)
    found = trials.run_trial(DIGITS, options, tmp_path / "mlp", 1.0, ImageData())
    assert found.epochs == 1
    assert read_checkpoint(found.checkpoint)["global_step"] == trials.LEAST_BATCHES
    longer = trials.run_trial(DIGITS, options, tmp_path / "mlp", 1.0, ImageData(), least_epochs=2)
    assert longer.epochs == 2
    assert read_checkpoint(longer.checkpoint)["global_step"] > 2 * trials.LEAST_BATCHES


def test_a_training_that_fails_ends_the_choice(tmp_path: Path) -> None:
    wrong = Contender("mlp", "", ("--config=digits-mlp", "--model.hidden=-8"))
    with pytest.raises(UsageError, match=r"--model\.hidden"):
        trials.run_trial(wrong, (), tmp_path, 1.0, ImageData())
