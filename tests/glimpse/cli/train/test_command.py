import pytest

from glimpse.cli import app
from glimpse.cli.train import command
from glimpse.cli.train.command import main

pytestmark = pytest.mark.usefixtures("folder")


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command line is refused with."""
    assert main(list(args), "glimpse train") == 2
    output = capsys.readouterr()
    assert output.err.count("\n") <= 2
    assert "Traceback" not in output.err
    return output.err


def test_the_subcommand_hands_its_arguments_on(monkeypatch):
    calls = []

    def note(args, program):
        calls.append((args, program))
        return 0

    monkeypatch.setattr(command, "main", note)
    assert app.main(["train", "--json", "--model.x", "1", "--", "--help"]) == 0
    assert app.main(["train", "fit"], program="python train.py") == 0
    assert calls == [(["--json", "--model.x", "1", "--", "--help"], "glimpse train"), (["fit"], "python train.py")]


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
                f"--trainer.precision: expected one of auto, 32-true, bf16-mixed, 16-mixed; got {precision}; the m",
            )
            for precision in ("64-true", "64", "bf16-true", "16-true")
        ),
        (["--trainer.devices", "3"], "expected --data.batch_size to be a multiple of 3, the number of processes that"),
        (
            ["--trainer.devices", "2", "--trainer.strategy", "fsdp"],
            "--trainer.strategy: expected one of auto, ddp",
        ),
        (["--trainer.num_nodes", "2"], "--trainer.num_nodes: expected 1, this machine, got 2; leave it out"),
        (["--resume", "digits"], "--resume digits: expected the folder of a run, or its name in runs/, found neither"),
        (["--resume", "a", "--output", "b"], "--output can't be given with --resume, which takes it from the run"),
        (["--output", "/proc/nothing/here"], "expected a folder to write to"),
        (["stray"], "expected options, or a folder of images, got 'stray', which is no folder"),
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
        ("model: {classes: [a, b]}", "own.yaml: model.classes can't be set: it follows from the data"),
        ("model: [1,\n", "own.yaml: expected valid YAML, but at line"),
    ],
)
def test_a_mistake_in_a_recipe_names_the_file(recipe, sentence, capsys, folder):
    (folder / "own.yaml").write_text(recipe)
    assert sentence in refused(capsys, "--config", "own.yaml")
