import pytest

from glimpse.cli.train.command import main
from glimpse.cli.train.options import complete_flags, known_options, take
from glimpse.cli.usage import UsageError


def test_help_fits_a_screen(capsys):
    assert main(["--help"], "glimpse train") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 44
    assert max(map(len, lines)) <= 120


def test_complete_help_has_every_option_with_its_meaning(capsys):
    assert main(["--help-all"], "glimpse train") == 0
    output = " ".join(capsys.readouterr().out.split())
    for printed in (
        "--model.warm_up",
        "Share of the training in which the rate rises",
        "--trainer.max_epochs",
        "--seed",
    ):
        assert printed in output
    assert "--data.seed" not in output


def test_known_options_leave_out_what_nobody_sets():
    known = known_options()
    assert {"model.num_glimpses", "data.root", "trainer.precision", "seed", "ckpt_path"} <= set(known)
    assert not {"model.classes", "data.seed"} & set(known)


def test_a_boolean_option_that_stands_alone_is_a_flag():
    args = ["--data.download", "--seed", "-1", "--model.init_args.gate", "-c", "digits", "--overwrite"]
    completed = [
        "--data.download=true",
        "--seed",
        "-1",
        "--model.init_args.gate=true",
        "-c",
        "digits",
        "--overwrite=true",
    ]
    assert complete_flags(args) == completed
    for given in (completed, ["--overwrite", "false", "--data.download=no"], ["--model.hidden", "--print_config"]):
        assert complete_flags(given) == given


def test_flags_and_values_give_the_same_configuration(capsys):
    def configuration(*args: str) -> str:
        assert main([*args, "--print_config"], "glimpse train") == 0
        printed: str = capsys.readouterr().out
        return printed

    flags = configuration("--data.download", "--tensorboard", "--trainer.detect_anomaly", "--model.normalise", "false")
    for line in ("download: true", "tensorboard: true", "detect_anomaly: true", "normalise: false"):
        assert f"{line}\n" in flags
    values = ("--data.download", "true", "--tensorboard=true", "--trainer.detect_anomaly", "true")
    assert configuration(*values, "--model.normalise", "false") == flags


def test_take_leaves_the_other_options():
    options = ["--seed", "1", "-c", "a", "--config=b"]
    assert take(options, "--config", "-c") == ["a", "b"]
    assert options == ["--seed", "1"]


def test_take_refuses_an_option_without_its_value():
    with pytest.raises(UsageError, match="--config: expected a value after it"):
        take(["--config", "--seed", "1"], "--config")
