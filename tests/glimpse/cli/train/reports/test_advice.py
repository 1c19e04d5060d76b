"""What a training tells its user: how the best is chosen, what early stopping does, and which model to take."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule

from glimpse.cli.train.command import main
from glimpse.cli.train.reports.advice import measure_of, notes_before
from glimpse.cli.usage import invocation
from glimpse.data.datamodule import ImageData
from glimpse.training.families.whole_image import ConvolutionalTraining
from tests.glimpse.cli.train.test_command import refused

pytestmark = pytest.mark.usefixtures("folder")


def train(*args: str) -> int:
    return main(["fit", "--config", "tiny.yaml", *args], "glimpse train")


def uneven() -> ImageData:
    """The digits, with all of the zeros, and few others."""
    data = ImageData()
    part = data.source.train
    data._source = replace(data.source, train=part.take(part.labels.argsort()[:250]))
    return data


def test_unbalanced_classes_count_alike_in_the_choice_of_the_best() -> None:
    data = uneven()
    model = ConvolutionalTraining(data.classes, data.image_shape)
    assert measure_of(model, data) == "val_balanced_error"
    (note,) = notes_before(model, data, None, 5)
    assert note.startswith("data: the classes are unbalanced, with 0 to ")
    assert note.endswith("; --model.class_weights balanced makes them count alike in training, too")
    weighed = ConvolutionalTraining(data.classes, data.image_shape, class_weights="balanced")
    assert notes_before(weighed, data, None, 5)[0].endswith("in which each class counts alike")
    assert measure_of(model, ImageData()) == "val_error"
    assert measure_of(LightningModule(), data) == "val_error"
    assert notes_before(model, ImageData(), None, 5) == []


def test_early_stopping_says_what_becomes_of_the_learning_rate(capsys) -> None:
    assert train("--early_stopping", "1", "--trainer.max_epochs", "9", "--model.learning_rate", "1e-12") == 0
    output = capsys.readouterr().out
    assert (
        "early stopping: after 1 epoch without a better model; the learning rate follows its course over 9 epochs"
        in output
    )
    assert "epoch 2/9" in output
    assert "epoch 3/9" not in output
    assert "stopped early, after epoch 2 of 9: no better model for 1 epoch; the learning rate was at " in output
    assert "the trained model: runs/tiny/best.ckpt, since the training ended before" in output
    assert f"next: {invocation()} evaluate runs/tiny/best.ckpt\n" in output
    assert "early_stopping: 1\n" in Path("runs/tiny/config.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--early_stopping", "0"], "--early_stopping: expected at least 1 epoch, got 0; raise it"),
        (
            ["--early_stopping", "2", "--trainer.limit_val_batches", "0"],
            "--early_stopping: expected validation images, by which models are compared",
        ),
        (["--logger", "neptune"], "--logger: expected one of csv, mlflow, tensorboard, wandb; got 'neptune'"),
    ],
)
def test_what_can_not_be_done_is_refused_before_the_training(options, sentence, capsys) -> None:
    assert sentence in refused(capsys, "--config", "tiny.yaml", *options)
    assert not Path("runs").exists()


def test_both_models_are_measured_and_one_is_named_by_the_next_command(capsys) -> None:
    assert train("--logger", "csv", "--tensorboard") == 0
    table = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert " ".join(table[0].split()) == "on the 200 validation images error balanced accuracy macro F1 top-5 accuracy"
    assert [line.split(",")[0] for line in table[1:4]] == ["best.ckpt", "last.ckpt", "always 7"]
    model = table[4].removeprefix("the trained model: ").partition(",")[0]
    assert table[-1] == f"next: {invocation()} evaluate {model}"
    run = Path("runs/tiny")
    assert (run / "csv" / "version_0" / "metrics.csv").is_file()
    assert list(run.glob("events.out.tfevents.*"))


def test_a_training_begins_with_the_weights_of_another(capsys) -> None:
    assert train("--trainer.max_epochs", "1") == 0
    first = torch.load("runs/tiny/last.ckpt", weights_only=True)["state_dict"]
    capsys.readouterr()
    still = ("--model.learning_rate", "1e-12", "--model.weight_decay", "0")
    assert main(["--finetune", "runs/tiny/last.ckpt", *still], "glimpse train") == 0
    output = capsys.readouterr().out
    assert "the run goes to runs/tiny-2" in output
    assert "taken from runs/tiny/last.ckpt: baseline, classifier, core, encoder, gaze_core" in output
    second = torch.load("runs/tiny-2/last.ckpt", weights_only=True)["state_dict"]
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight)
    other = ["--config", "tiny.yaml", "--finetune", "runs/tiny/last.ckpt", "--model.hidden", "8"]
    assert "--model.hidden was 16, is 8; give the same options" in refused(capsys, *other)
