import csv
import signal
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback

from glimpse.cli.train import command
from glimpse.cli.train.command import main
from glimpse.cli.usage import invocation
from glimpse.training.callbacks import EpochLog

TINY = """
data: {batch_size: 64, canvas_height: 40, canvas_width: 44, num_pieces: 2}
model: {num_glimpses: 3, num_scales: 2, hidden: 16, gaze_hidden: 16, what: mlp}
trainer: {max_epochs: 2, limit_train_batches: 3, accelerator: cpu}
"""


class StopAfterOne(Callback):
    """Stop a run after its first epoch, as a user does."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a recipe of a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLIMPSE_DATA", raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def train(*args: str) -> int:
    return main(["fit", "--config", "tiny.yaml", *args], "glimpse train")


def weights(checkpoint: str) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return loaded


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command line is refused with."""
    assert main(list(args), "glimpse train") == 2
    told = capsys.readouterr()
    assert told.err.count("\n") <= 2
    assert "Traceback" not in told.err
    return told.err


def test_a_run_leaves_everything_beside_its_checkpoints(folder, capsys):
    assert train("--seed", "3") == 0
    run = folder / "runs" / "tiny"
    assert sorted(file.name for file in run.iterdir()) == [
        "best.ckpt",
        "config.yaml",
        "confusion.png",
        "last.ckpt",
        "learning-curves.png",
        "metrics.csv",
    ]
    with (run / "metrics.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["1", "2"]
    told = capsys.readouterr()
    assert "digits on 40x44 canvases, 2 pieces of clutter" in told.out
    assert "epoch 2/2" in told.out
    assert f"next: {invocation()} evaluate runs/tiny/last.ckpt" in told.out
    assert "litlogger" not in told.out + told.err


@pytest.mark.slow
def test_the_saved_configuration_makes_the_same_run_again_in_a_folder_of_its_own(folder):
    assert train("--model.num_glimpses", "2", "--seed", "3") == 0
    assert main(["--config", "runs/tiny/config.yaml"], "glimpse train") == 0
    first, second = weights("runs/tiny/last.ckpt"), weights("runs/tiny-2/last.ckpt")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_one_seed_decides_the_run():
    for seed in ("3", "4"):
        assert train("--seed", seed, "--output", f"seed-{seed}", "--trainer.max_epochs", "1") == 0
    first, second = weights("seed-3/last.ckpt"), weights("seed-4/last.ckpt")
    assert not torch.equal(first["observer.model.policy.mean.weight"], second["observer.model.policy.mean.weight"])


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_it_would_have(folder):
    stop = "--trainer.callbacks=[{class_path: test_command.StopAfterOne}]"
    assert train("--output", "straight") == 0
    assert train("--output", "halted", stop) == 0
    assert torch.load("halted/last.ckpt", weights_only=True)["epoch"] == 0
    (folder / "halted" / "config.yaml").write_text((folder / "straight" / "config.yaml").read_text())
    assert main(["--ckpt_path", "halted/last.ckpt"], "glimpse train") == 0
    straight, resumed = weights("straight/last.ckpt"), weights("halted/last.ckpt")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert len((folder / "halted" / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_what_a_run_cannot_go_on_from(folder, capsys):
    assert train("--trainer.max_epochs", "1") == 0
    capsys.readouterr()
    again = ("--ckpt_path", "runs/tiny/last.ckpt")
    assert "is finished: 1 epochs" in refused(capsys, *again)
    longer = refused(capsys, *again, "--trainer.max_epochs", "4")
    assert "is of a run of 3 steps, and this one was to have 12" in longer
    assert "; leave --trainer.max_epochs and the data's options as they were, or start anew without --ckpt" in longer
    assert "hidden was 16, is 8; give the same ones" in refused(capsys, *again, "--model.hidden", "8")
    assert "--data.num_pieces was 2, is 3; give the same ones" in refused(capsys, *again, "--data.num_pieces", "3")
    elsewhere = refused(capsys, *again, "--data.root", "elsewhere", "--data.download", "true")
    assert "is finished: 1 epochs" in elsewhere
    assert "expected a checkpoint at nowhere.ckpt, found nothing" in refused(capsys, "--ckpt_path", "nowhere.ckpt")
    (folder / "runs" / "tiny" / "config.yaml").unlink()
    assert "expected the run's config.yaml beside runs/tiny/last.ckpt" in refused(capsys, *again)


@pytest.mark.slow
def test_a_refused_run_leaves_everything_as_it_was(folder, capsys):
    assert train("--output", "a", "--trainer.max_epochs", "1") == 0
    assert train("--output", "b", "--trainer.max_epochs", "1") == 0
    held = {file: file.read_bytes() for name in ("a", "b") for file in (folder / name).iterdir()}
    longer = ("--ckpt_path", "a/last.ckpt", "--trainer.max_epochs", "4")
    assert "is of a run of 3 steps" in refused(capsys, *longer)
    assert "is of a run of 3 steps" in refused(capsys, *longer, "--output", "b", "--overwrite", "true")
    assert {file: file.read_bytes() for name in ("a", "b") for file in (folder / name).iterdir()} == held


@pytest.mark.slow
def test_the_shortest_run_can_be_gone_on_from(folder):
    stop = "--trainer.callbacks=[{class_path: test_command.StopAfterOne}]"
    short = ("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1")
    assert train("--output", "run", *short, stop) == 0
    recipe = folder / "run" / "config.yaml"
    assert train("--ckpt_path", "run/last.ckpt", "--output", "run", *short) == 0
    assert recipe.is_file()
    assert len((folder / "run" / "metrics.csv").read_text().splitlines()) == 3


def test_who_interrupts_a_run_is_told_how_to_go_on_and_can_interrupt_again(capsys, monkeypatch):
    def interrupt(_: Callback, trainer: Trainer, *__: object) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpochLog, "on_train_epoch_start", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert signal.getsignal(signal.SIGINT) == handler
    assert capsys.readouterr().err.endswith(f"go on with: {invocation()} train --ckpt_path runs/tiny/last.ckpt\n")


def test_steps_may_be_the_end_instead_of_epochs(capsys):
    assert train("--trainer.max_epochs", "-1", "--trainer.max_steps", "4") == 0
    assert torch.load("runs/tiny/last.ckpt", weights_only=True)["global_step"] == 4


def test_a_run_without_validation_has_a_last_model_only(folder, capsys):
    assert train("--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0") == 0
    assert (folder / "runs" / "tiny" / "last.ckpt").is_file()
    assert not (folder / "runs" / "tiny" / "best.ckpt").exists()
    told = capsys.readouterr()
    assert told.err == ""
    assert "best" not in told.out


@pytest.mark.slow
def test_an_output_folder_is_not_used_twice(folder, capsys):
    assert train("--output", "run", "--trainer.max_epochs", "1") == 0
    capsys.readouterr()
    here = ("--config", "tiny.yaml", "--output", "run")
    assert "--output run: it holds a run already" in refused(capsys, *here)
    assert main([*here, "--overwrite", "true", "--trainer.max_epochs", "1", "--tensorboard", "true"], "train") == 0
    assert list((folder / "run").glob("events.out.tfevents.*"))
    (folder / "file").touch()
    assert "expected a folder, found a file" in refused(capsys, "--config", "tiny.yaml", "--output", "file")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--model.num_glimpse", "3"], "there is no option --model.num_glimpse; did you mean --model.num_glimpses?"),
        (["--trainer.max_epoch", "3"], "there is no option --trainer.max_epoch; did you mean --trainer.max_epochs?"),
        (["--data.datset", "x"], "there is no option --data.datset; did you mean --data.dataset?"),
        (["--modle.x", "3"], "there is no option --modle.x; did you mean --model"),
        (["--outptu", "x"], "there is no option --outptu; did you mean --output?"),
        (["--model.num_glimpses", "six"], "--model.num_glimpses: expected a whole number, got 'six'"),
        (["--model.num_glimpses"], "--model.num_glimpses: expected a value after it, got none"),
        (["--data.download", "maybe"], "--data.download: expected true or false, got 'maybe'"),
        (["--trainer.precision", "8"], "--trainer.precision: expected"),
        (["--seed", "-1"], "--seed: expected a whole number from 0 to 4294967295, got -1"),
        (["--data.seed", "1"], "--data.seed can't be set: it follows from --seed"),
        (["--model", "Nobody"], "expected the name of a class, found none called 'Nobody'"),
        (["--data.dataset", "minst"], "expected --data.dataset out of digits, mnist"),
        (
            ["--data.dataset", "mnist"],
            "expected MNIST under data, found no complete copy of it; give its folder with --data.root or "
            "GLIMPSE_DATA, or have it downloaded with --data.download true",
        ),
        (["--data.jitter", "-1"], "expected --data.jitter of at least 0, got -1"),
        (["--data.canvas_height", "0"], "got --data.canvas_height 0, --data.canvas_width 60, --data.num_pieces 4"),
        (["--data.piece_size", "30"], "got --data.piece_size 30; lower it"),
        (["--model.hidden", "0"], "expected --model.hidden of at least 1, got 0; raise it"),
        (
            ["--model.what", "conv", "--model.glimpse_size", "1"],
            "a conv encoder needs --model.glimpse_size of at least 2; raise it, or use --model.what mlp",
        ),
        (["--model.num_scales", "9"], "lower --model.num_scales or --model.zoom"),
        (
            ["--model.glimpse_size", "80", "--model.num_scales", "1"],
            "expected images at least as large as the retina's finest window",
        ),
        (["--data.canvas_height", "9", "--data.canvas_width", "9"], "expected a canvas of at least 24x24 pixels"),
        (["--trainer.max_epochs", "-5"], "--trainer.max_epochs: expected a number above 0, got -5"),
        (["--trainer.max_epochs", "0"], "--trainer.max_epochs: expected a number above 0, got 0; nothing would be tr"),
        (["--trainer.max_steps", "0"], "--trainer.max_steps: expected a number above 0, got 0"),
        (["--trainer.limit_train_batches", "0"], "--trainer.limit_train_batches: expected a number above 0, got 0"),
        (
            ["--trainer.max_epochs", "-1"],
            "--trainer.max_epochs: expected an end, which the learning rate's course is planned by, got -1; give the",
        ),
        *(
            (
                ["--trainer.precision", precision],
                f"--trainer.precision: expected one of 32-true, bf16-mixed, 16-mixed; got {precision}; the model's",
            )
            for precision in ("64-true", "64", "bf16-true", "16-true")
        ),
        (["--trainer.devices", "2"], "expected a run of one process, got 2; set --trainer.devices 1"),
        (["--output", "/proc/nothing/here"], "expected a folder to write to"),
        (["stray"], "expected options, or the command fit, got 'stray'"),
        (["--seed", "1", "stray"], "expected options only, got 'stray'"),
        (["--config", "digit"], "expected a YAML file or a recipe out of"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(args, sentence, capsys, folder):
    assert sentence in refused(capsys, *args)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (
            "model: {init_args: {num_glimpse: 3}}",
            "own.yaml: there is no option model.num_glimpse; did you mean model.num",
        ),
        ("trainer: {max_epoch: 3}", "own.yaml: there is no option trainer.max_epoch; did you mean trainer.max_epochs?"),
        ("data: {batch_size: many}", "own.yaml: data.batch_size: expected a whole number, got 'many'"),
        ("model: {classes: [a, b]}", "own.yaml: model.classes can't be set: the data say it"),
        ("model: [1,\n", "own.yaml: expected valid YAML, but at line"),
    ],
)
def test_a_mistake_in_a_recipe_names_the_file(recipe, sentence, capsys, folder):
    (folder / "own.yaml").write_text(recipe)
    assert sentence in refused(capsys, "--config", "own.yaml")


def test_options_win_over_recipes_wherever_they_stand(capsys):
    args = ["--model.num_glimpses", "7", "--config", "mnist-28", "--print_config"]
    assert main(args, "glimpse train") == 0
    told = capsys.readouterr().out
    assert "num_glimpses: 7" in told
    assert "dataset: mnist" in told


def test_without_a_recipe_options_apply_to_the_default_one():
    arguments, name = command.complete_arguments(["--seed", "1"], {})
    assert name == "digits"
    assert arguments[0] == "fit"
    assert arguments[1].endswith("digits.yaml")


def test_a_fault_keeps_its_traceback(monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("a fault of ours")

    monkeypatch.setattr("glimpse.training.hard.losses", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        train()


@pytest.mark.parametrize(
    ("model", "family", "option"),
    [
        ("class_path: SoftAttentionTraining", "SoftAttentionTraining", "hidden: 128"),
        ("init_args: {num_glimpses: 3}", "HardAttentionTraining", "num_glimpses: 3"),
    ],
)
def test_a_family_takes_nothing_over_from_the_default_one(folder, capsys, model, family, option):
    (folder / "mine.yaml").write_text(f"model: {{{model}}}\n".replace("{class", "{ class"))
    main(["--config", "mine.yaml", "--print_config"], "glimpse train")
    text = capsys.readouterr().out
    assert family in text
    assert option in text
