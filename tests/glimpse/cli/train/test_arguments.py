import pytest

from glimpse.cli.train.arguments import complete_arguments
from glimpse.cli.train.command import main

pytestmark = pytest.mark.usefixtures("folder")


def test_options_win_over_recipes_wherever_they_stand(capsys):
    args = ["--model.num_glimpses", "7", "--config", "mnist-28", "--print_config"]
    assert main(args, "glimpse train") == 0
    output = capsys.readouterr().out
    assert "num_glimpses: 7" in output
    assert "dataset: mnist" in output


def test_without_a_recipe_options_apply_to_the_default_one():
    arguments, name = complete_arguments(["--seed", "1"], {})
    assert name == "digits"
    assert arguments[0] == "fit"
    assert arguments[1].endswith("digits.yaml")


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
