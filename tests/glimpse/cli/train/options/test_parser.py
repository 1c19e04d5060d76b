from glimpse.cli.train.command import main
from glimpse.cli.train.options.names import boolean_options, known_options
from glimpse.cli.train.options.parser import complete_parser
from glimpse.training.families import FAMILIES


def real_options() -> set[str]:
    """Names of the options that Lightning's parser makes of the classes, without leading dashes."""
    parsers = [complete_parser(kind) for kind in FAMILIES]
    names = {name for parser in parsers for action in parser._actions for name in action.option_strings}
    # Of a type that may be a class or a list as well, jsonargparse makes an option for its help and one that appends.
    return {name.removeprefix("--") for name in names if not name.endswith((".help", "+"))}


def test_the_names_read_from_source_text_are_those_of_the_parser():
    assert set(known_options()) - {"config", "print_config", "help-all"} == real_options()


def test_so_are_those_that_are_true_or_false():
    found = set()
    for kind in FAMILIES:
        parser = complete_parser(kind)
        for action in parser._actions:
            if "true,false" in (action.metavar or "") or "bool" in str(getattr(action, "_typehint", "")):
                found |= {name.removeprefix("--") for name in action.option_strings}
    assert boolean_options() == {name for name in found if not name.endswith((".help", "+"))}


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
