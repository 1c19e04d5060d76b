import csv
import errno
import signal
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback

from glimpse.cli.train.command import main
from glimpse.cli.train.run.lock import RunLock
from glimpse.cli.usage import invocation
from glimpse.training import precision
from glimpse.training.callbacks import EpochLog, FitReport, read_metrics
from tests.glimpse.cli.train.test_command import refused

pytestmark = pytest.mark.usefixtures("folder")


class StopAfterOne(Callback):
    """Stop a run after its first epoch, as a user does."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


def train(*args: str) -> int:
    return main(["fit", "--config", "tiny.yaml", *args], "glimpse train")


def weights(checkpoint: str) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return loaded


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
    output = capsys.readouterr()
    assert "digits on 40x44 canvases, 2 pieces of clutter" in output.out
    assert "epoch 2/2" in output.out
    assert f"next: {invocation()} evaluate runs/tiny/last.ckpt" in output.out
    assert "litlogger" not in output.out + output.err


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
    stop = f"--trainer.callbacks=[{{class_path: {__name__}.StopAfterOne}}]"
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
    stop = f"--trainer.callbacks=[{{class_path: {__name__}.StopAfterOne}}]"
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
    assert capsys.readouterr().err.endswith(f"stopped; go on with: {invocation()} train --resume runs/tiny\n")


def test_an_interrupt_after_the_last_epoch_leaves_a_trained_model(capsys, monkeypatch):
    monkeypatch.setattr(FitReport, "on_fit_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("--trainer.max_epochs", "1")
    assert capsys.readouterr().err.endswith("come to its end; the trained model is runs/tiny/last.ckpt\n")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_goes_on_by_its_name_and_with_its_own_options(folder, capsys, monkeypatch):
    assert train("--output", "straight", "--seed", "5", "--model.hidden", "12") == 0
    with monkeypatch.context() as patch:
        patch.setattr(EpochLog, "on_validation_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train("--seed", "5", "--model.hidden", "12")
    assert not (folder / "runs" / "tiny" / "last.ckpt").exists()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(FitReport, "on_train_epoch_start", interrupt_the_second)
            with pytest.raises(KeyboardInterrupt):
                main(["--resume", "tiny"], "glimpse train")
        assert torch.load("runs/tiny/last.ckpt", weights_only=True)["epoch"] == 0
    assert main(["--resume", "runs/tiny"], "glimpse train") == 0
    straight, resumed = weights("straight/last.ckpt"), weights("runs/tiny/last.ckpt")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert [path.name for path in (folder / "runs").iterdir()] == ["tiny"]
    capsys.readouterr()
    assert "is finished: 2 epochs" in refused(capsys, "--resume", "tiny")


def interrupt_the_second(_: Callback, trainer: Trainer, *__: object) -> None:
    if trainer.current_epoch == 1:
        raise KeyboardInterrupt


def test_a_folder_in_which_another_training_writes_is_not_touched(folder, capsys):
    (folder / "run").mkdir()
    with RunLock(folder / "run"):
        assert "run: another training, process " in refused(capsys, "--config", "tiny.yaml", "--output", "run")
    assert list((folder / "run").iterdir()) == []


def test_a_training_that_diverges_keeps_the_last_good_model(folder, capsys, monkeypatch):
    class Spoil(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 1:
                next(pl_module.parameters()).data[0] = torch.inf

    monkeypatch.setattr("glimpse.cli.train.training_cli.ScheduleCheck", Spoil)
    assert train() == 1
    assert "the loss became nan at step 4; lower --model.learning_rate, clip the" in (said := capsys.readouterr()).err
    assert said.err.endswith("; the last good model is runs/tiny/last.ckpt\n")
    assert "the trained model" not in said.out
    assert all(weight.isfinite().all() for weight in weights("runs/tiny/last.ckpt").values())


def test_a_full_disk_ends_a_training_with_the_way_to_go_on(capsys, monkeypatch):
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("glimpse.training.callbacks.whole_file", full)
    assert train("--trainer.max_epochs", "1") == 1
    assert capsys.readouterr().err.endswith(
        "runs/tiny/best.ckpt': No space left on device; put that right, and go on with: "
        f"{invocation()} train --resume runs/tiny\n"
    )


def test_drafts_of_a_killed_training_are_removed(folder):
    draft = folder / "run" / ".glimpse-abc" / "last.ckpt"
    draft.parent.mkdir(parents=True)
    draft.touch()
    assert train("--output", "run", "--trainer.max_epochs", "1") == 0
    assert not draft.parent.exists()


@pytest.mark.child
@pytest.mark.slow
def test_two_processes_train_as_one_does(capfd):
    rest = ("--trainer.max_epochs", "1", "--trainer.precision", "32-true", "--model.first_location", "random")
    for devices in ("1", "2"):
        assert train("--output", f"run-{devices}", "--trainer.devices", devices, *rest) == 0
    one, two = (weights(f"run-{devices}/last.ckpt") for devices in ("1", "2"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=1e-4)
    figures = [read_metrics(Path(f"run-{devices}/metrics.csv"))[0] for devices in ("1", "2")]
    for name in ("val_error", "train_loss", "train_reward", "baseline_error"):
        assert figures[0][name] == pytest.approx(figures[1][name], abs=1e-4)
    printed = capfd.readouterr()
    assert printed.out.count("epoch 1/1") == printed.out.count("the trained model") == 2
    assert "Warning" not in printed.err


def test_steps_may_be_the_end_instead_of_epochs(capsys):
    assert train("--trainer.max_epochs", "-1", "--trainer.max_steps", "4") == 0
    assert torch.load("runs/tiny/last.ckpt", weights_only=True)["global_step"] == 4


def test_a_run_without_validation_has_a_last_model_only(folder, capsys):
    assert train("--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0") == 0
    assert (folder / "runs" / "tiny" / "last.ckpt").is_file()
    assert not (folder / "runs" / "tiny" / "best.ckpt").exists()
    output = capsys.readouterr()
    assert output.err == ""
    assert "best" not in output.out


@pytest.mark.slow
def test_an_output_folder_is_not_used_twice(folder, capsys):
    assert train("--output", "run", "--trainer.max_epochs", "1") == 0
    capsys.readouterr()
    here = ("--config", "tiny.yaml", "--output", "run")
    assert "--output run: it holds a run already" in refused(capsys, *here)
    assert main([*here, "--overwrite", "--trainer.max_epochs", "1", "--tensorboard"], "train") == 0
    assert list((folder / "run").glob("events.out.tfevents.*"))
    (folder / "file").touch()
    assert "expected a folder, found a file" in refused(capsys, "--config", "tiny.yaml", "--output", "file")


def test_a_fault_keeps_its_traceback(monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("a fault of ours")

    monkeypatch.setattr("glimpse.training.families.hard.losses", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        train()


@pytest.mark.parametrize(
    ("fast", "given", "used", "output", "warning"),
    [
        (True, (), "bf16-mixed", "precision: bfloat16; so it is\n", ""),
        (False, (), "32-true", "precision: float32; so it is\n", ""),
        (False, ("--trainer.precision", "32-true"), "32-true", "", ""),
        (
            False,
            ("--trainer.precision", "bf16"),
            "bf16-mixed",
            "",
            "warning: --trainer.precision bf16-mixed: so it is: bfloat16 is likely to be several times slower than "
            "float32; auto takes the faster one\n",
        ),
    ],
)
def test_the_precision_is_told_and_recorded(fast, given, used, output, warning, folder, capsys, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_support", lambda device: precision.Support(fast, "so it is"))
    assert train("--trainer.max_epochs", "1", *given) == 0
    printed = capsys.readouterr()
    assert printed.out.count("precision: ") == bool(output)
    assert output in printed.out
    assert ("warning: --trainer.precision" in printed.err) == bool(warning)
    assert warning in printed.err
    assert torch.load("runs/tiny/last.ckpt", weights_only=True)["precision"] == used
    text = (folder / "runs" / "tiny" / "config.yaml").read_text()
    assert f"\n# computed in {used}\n" in text
    assert f"\n  precision: {given[1] if given else 'auto'}\n" in text
