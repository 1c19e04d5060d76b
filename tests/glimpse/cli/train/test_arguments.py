import pytest

from glimpse.cli.train.arguments import complete_arguments
from glimpse.cli.train.command import main
from glimpse.cli.usage import UsageError

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


@pytest.mark.parametrize("given", [["--data.dataset", "folder"], ["--data.dataset=mnist", "--data.dataset=folder"]])
def test_a_folder_of_images_takes_the_recipe_of_folders(given):
    arguments, name = complete_arguments(given, {})
    assert name == "folder"
    assert arguments[1].endswith("folder.yaml")
    assert complete_arguments([*given, "--config", "mnist-28"], {})[1] == "mnist-28"
    assert complete_arguments(["--data.dataset", "mnist"], {})[1] == "digits"


def test_a_training_from_a_checkpoint_takes_the_recipe_beside_it(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "config.yaml").write_text("model: {hidden: 8}\n")
    arguments, name = complete_arguments(["--finetune", "mine/best.ckpt", "--seed", "2"], {})
    assert name == "mine"
    assert "--config=mine/config.yaml" in arguments
    assert arguments[-4:] == ["--finetune", "mine/best.ckpt", "--seed", "2"]
    both = ["--finetune", "mine/best.ckpt", "--ckpt_path", "mine/last.ckpt"]
    with pytest.raises(UsageError, match=r"--ckpt_path, to go on with .*last.ckpt, or --finetune, .*; got both; leave"):
        complete_arguments(both, {})
