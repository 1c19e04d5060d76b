import math
import os
import re
import resource
from typing import Any
from unittest.mock import NonCallableMagicMock

import pytest
import pytorch_lightning as lightning
import torch

from glimpse.data.datamodule import ImageData
from glimpse.training.callbacks import (
    CollapseWarning,
    EpochBar,
    EpochLog,
    FitReport,
    WholeCheckpointIO,
    WholeCheckpoints,
    checkpoints,
    collapse,
    confusion,
    explored_by,
    final_confusion,
    in_words,
    panels,
    read_metrics,
)
from glimpse.training.families.hard import HardAttentionTraining
from tests.glimpse.test_files import no_space, unchanged


def trainer_at(epoch: int, **metrics: float) -> Any:
    """As much of a trainer as the callbacks look at, after 300 steps."""
    return NonCallableMagicMock(
        spec=lightning.Trainer,
        current_epoch=epoch,
        max_epochs=5,
        global_step=300,
        is_global_zero=True,
        sanity_checking=False,
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
    )


def tiny(**options: Any) -> HardAttentionTraining:
    return HardAttentionTraining(list("0123456789"), [1, 24, 24], hidden=8, gaze_hidden=8, **options)


def run_epoch(log: EpochLog, epoch: int, **metrics: float) -> None:
    trainer = trainer_at(epoch, **metrics)
    log.on_train_epoch_start(trainer, tiny())
    log.on_validation_end(trainer, tiny())
    log.on_train_epoch_end(trainer, tiny())


def test_each_epoch_is_a_row_and_a_line(tmp_path, capsys):
    log = EpochLog(tmp_path)
    run_epoch(log, 0, val_error=0.25, train_loss=1.5, gaze_spread=0.4)
    told = capsys.readouterr().out
    assert told.startswith("epoch 1/5  ")
    assert "validation error 25.00 %  loss 1.500  spread of the gaze 0.400" in told
    (row,) = read_metrics(tmp_path / "metrics.csv")
    assert (row["epoch"], row["val_error"], row["train_loss"]) == (1, 0.25, 1.5)
    assert math.isnan(row["train_reward"])
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_resumed_run_keeps_the_rows_before_it_only(tmp_path):
    log = EpochLog(tmp_path)
    for epoch in range(3):
        run_epoch(log, epoch, val_error=0.5)
    resumed = EpochLog(tmp_path)
    resumed.on_train_start(trainer_at(1), tiny())
    run_epoch(resumed, 1, val_error=0.125)
    assert [(row["epoch"], row["val_error"]) for row in read_metrics(tmp_path / "metrics.csv")] == [
        (1, 0.5),
        (2, 0.125),
    ]


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    trainer = lightning.Trainer(
        callbacks=checkpoints(tmp_path), logger=False, accelerator="cpu", enable_progress_bar=False
    )
    setting = next(callback for callback in trainer.callbacks if isinstance(callback, WholeCheckpoints))  # type: ignore[attr-defined]
    setting.setup(trainer, tiny(), "fit")
    trainer.strategy.connect(tiny())
    path = tmp_path / "new" / "last.ckpt"
    trainer.save_checkpoint(path)
    assert "state_dict" in torch.load(path, weights_only=True)
    monkeypatch.setattr(os, "fsync", no_space)
    with unchanged(tmp_path), pytest.raises(OSError, match=r"No space left on device: .*last.ckpt"):
        trainer.save_checkpoint(path)


def test_a_disk_that_is_full_while_a_checkpoint_is_written_is_told_as_such(tmp_path):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"weights": torch.ones(3)}, path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with unchanged(tmp_path), pytest.raises(OSError, match=r"File too large: .*last.ckpt"):
            WholeCheckpointIO().save_checkpoint({"weights": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_a_way_to_write_checkpoints_that_the_user_gave_stays():
    class Own(WholeCheckpointIO):
        pass

    own = Own()
    trainer = lightning.Trainer(plugins=own, logger=False, accelerator="cpu", enable_progress_bar=False)
    WholeCheckpoints().setup(trainer, tiny(), "fit")
    assert trainer.strategy.checkpoint_io is own


def test_a_log_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    run_epoch(EpochLog(tmp_path), 0, val_error=0.5)
    monkeypatch.setattr(os, "fsync", no_space)
    with unchanged(tmp_path), pytest.raises(OSError, match=r"No space left on device: .*metrics.csv"):
        run_epoch(EpochLog(tmp_path), 1, val_error=0.4)


def test_no_log_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.csv") == []


def test_figures_that_were_not_measured_are_left_out():
    assert in_words({"train_reward": 0.5}) == "reward 0.500"


def test_the_bar_shows_what_was_measured_last():
    shown = EpochBar().get_metrics(trainer_at(2, val_error=0.1, gaze_spread=0.2, val_other=1.0), tiny())
    assert shown == {"error": "10.00%", "gaze": "0.200"}


GRID = {"policy": "grid"}
GAUSSIAN = {"policy": "gaussian"}


@pytest.mark.parametrize(
    ("spread", "reaction", "clamped", "options", "sentence"),
    [
        (0.01, 0.01, 0.0, GRID, "the same place all the time .*raise --model.spread or --model.entropy_weight, lower"),
        (0.01, 0.01, 0.0, GAUSSIAN, "place all the time .*raise --model.spread, lower --model.learning_rate"),
        (math.nan, math.nan, 0.0, GAUSSIAN, "nearly the same place"),
        (0.5, 0.019, 0.0, GAUSSIAN, "the same places whatever the image .reaction 0.019, expected at least 0"),
        (0.5, 0.5, 0.97, GAUSSIAN, "onto the image's border .97% of the fixations.*lower --model.learning_rate"),
    ],
)
def test_a_collapsed_gaze_is_described_with_what_to_change(spread, reaction, clamped, options, sentence):
    warning = collapse(spread, reaction, clamped, explored_by(options))
    assert warning is not None
    assert re.search(sentence, warning.render(lambda argument: f"--model.{argument.name}"))
    assert re.search(sentence.replace("--model.", ""), str(warning))


@pytest.mark.parametrize(
    ("options", "explore"),
    [
        (GRID, "spread or entropy_weight"),
        (GAUSSIAN, "spread"),
        ({"relaxation": "gumbel-st"}, "softness"),
        ({"relaxation": "bilinear"}, "spread"),
    ],
)
def test_each_policy_explores_by_options_of_its_own(options, explore):
    assert str(explored_by(options)) == explore


def test_a_gaze_that_moves_is_not_warned_of():
    assert collapse(0.2, 0.1, 0.3, explored_by(GAUSSIAN)) is None
    assert collapse(0.2, math.nan, 0.3, explored_by(GAUSSIAN)) is None


def test_the_warning_writes_arguments_as_its_front_end_does(capsys):
    CollapseWarning().on_validation_end(trainer_at(4, gaze_spread=0.001), tiny())
    assert "; raise spread, lower learning_rate, or raise num_scales so that" in capsys.readouterr().err
    spelled = CollapseWarning(lambda argument: f"--model.{argument.name}")
    spelled.on_validation_end(trainer_at(4, gaze_spread=0.001), tiny())
    assert "; raise --model.spread, lower --model.learning_rate, or raise --model.num_scales" in capsys.readouterr().err


def test_the_warning_comes_once_and_not_before_the_policy_had_time(capsys):
    warning, training = CollapseWarning(), tiny()
    for epoch in range(6):
        warning.on_validation_end(trainer_at(epoch, gaze_spread=0.001), training)
    told = capsys.readouterr().err
    assert told.startswith("warning after epoch 3: the gaze has collapsed")
    assert told.count("\n") == 1


def show(warning: CollapseWarning, biases: list[float]) -> None:
    """Run the callback through a validation with a policy of its own mean in each batch."""
    training = tiny(relative=False).eval()
    batch = torch.zeros(9, 1, 24, 24, dtype=torch.uint8), torch.zeros(9, dtype=torch.long)
    trainer = trainer_at(3, gaze_spread=0.5, gaze_reaction=0.5)
    warning.on_validation_start(trainer, training)
    for index, bias in enumerate(biases):
        torch.nn.init.constant_(dict(training.named_parameters())["observer.model.policy.mean.bias"], bias)
        warning.on_validation_batch_end(trainer, training, None, batch, index)
    warning.on_validation_end(trainer, training)


def test_a_gaze_at_the_border_is_noticed(capsys):
    show(CollapseWarning(), [5.0, 5.0])
    assert "onto the image's border (100% of the fixations)" in capsys.readouterr().err


def test_the_border_is_measured_on_every_batch(capsys):
    warning = CollapseWarning()
    for biases in ([5.0, 0.0], [0.0, 5.0]):
        show(warning, biases)
    assert capsys.readouterr().err == ""


def test_one_path_for_every_image_is_noticed_though_it_is_a_wide_one(capsys):
    CollapseWarning().on_validation_end(trainer_at(4, gaze_spread=0.4, gaze_reaction=0.0), tiny())
    assert "looks at the same places whatever the image" in capsys.readouterr().err


def test_a_single_glimpse_chooses_nothing_and_cannot_collapse(capsys):
    CollapseWarning().on_validation_end(trainer_at(4, gaze_spread=0.0), tiny(num_glimpses=1))
    assert capsys.readouterr().err == ""


def test_the_confusion_matrix_counts_every_validation_image():
    data, training = ImageData("digits"), tiny()
    matrix = confusion(training, data)
    assert torch.equal(matrix.sum(1), data.source.validation.labels.bincount(minlength=10))
    assert training.training


def test_the_last_validations_confusion_is_taken_where_it_is_of_all_images_and_of_the_last_step():
    training, data = tiny(), ImageData("digits")
    counted = confusion(training, data)
    of_validation = torch.eye(10, dtype=torch.int64) * 17
    of_validation[0, 0] += int(counted.sum()) - int(of_validation.sum())
    training.confusion, training.validated_step = of_validation, training.global_step
    assert final_confusion(training, data) is of_validation
    training.validated_step -= 1
    assert final_confusion(training, data).equal(counted)
    training.validated_step, training.confusion = training.global_step, of_validation // 2
    assert final_confusion(training, data).equal(counted)


def test_curves_are_in_percent_of_error():
    rows = [{"val_error": 0.5, "train_loss": 1.0, "train_reward": 0.1, "baseline_error": 0.2, "gaze_spread": 0.3}]
    drawn = panels(rows)
    assert drawn["validation error, %"] == {"error": [50.0]}
    assert drawn["gaze, half images"] == {"spread": [0.3]}


def test_a_training_that_measured_no_number_ends_without_curves(tmp_path):
    log = EpochLog(tmp_path)
    run_epoch(log, 0, train_loss=math.nan)
    FitReport(tmp_path).on_fit_end(trainer_at(1), tiny())
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_what_a_family_does_not_measure_has_no_curve():
    assert panels([{"val_error": 0.5, "train_loss": 1.0, "coverage_penalty": 0.25, "attention_entropy": 2.0}]) == {
        "validation error, %": {"error": [50.0]},
        "training": {"classification loss": [1.0], "coverage penalty": [0.25]},
        "entropy of the attention, nats": {"entropy": [2.0]},
    }
    gone_later = panels([{"train_loss": 1.0}, {"train_loss": math.nan}])["training"]["classification loss"]
    assert gone_later[0] == 1.0
    assert math.isnan(gone_later[1])


def test_the_log_has_what_of_the_gaze_is_owed_to_the_image(tmp_path):
    log = EpochLog(tmp_path)
    run_epoch(log, 0, gaze_spread=0.4, gaze_reaction=0.25)
    assert read_metrics(tmp_path / "metrics.csv")[0]["gaze_reaction"] == 0.25
