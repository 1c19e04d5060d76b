from pathlib import Path

import pytest

from glimpse.cli.train import recipes
from glimpse.cli.usage import UsageError


def test_the_recipes_that_come_with_glimpse_are_found_and_read():
    found = recipes.recipes()
    assert {"digits", "mnist-28", "cluttered-60-8"} <= found.keys()
    for path in found.values():
        assert recipes.read_recipe(path).keys() <= {"data", "model", "trainer", "seed"}


def test_recipes_are_files_of_the_package():
    folder = Path(recipes.__file__).parent / "configs"
    assert recipes.find_recipe("digits") == folder / "digits.yaml"
    assert set(recipes.recipes().values()) == set(folder.iterdir())


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match=r"recipe out of .*digits.*found neither; did you mean digits\?"):
        recipes.find_recipe("digts")


@pytest.mark.parametrize("content", ["- a\n- b\n", "", "text"])
def test_a_recipe_is_made_of_groups(content, tmp_path):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"own.yaml: expected groups of options"):
        recipes.read_recipe(tmp_path / "own.yaml")


def test_a_recipe_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"own.yaml: expected"):
        recipes.read_recipe(tmp_path / "own.yaml")


def test_options_are_named_as_on_the_command_line():
    nested = {"seed": 0, "data": {"class_path": "ImageData", "init_args": {"passes": 2}}, "trainer": {"max_epochs": 3}}
    flat = {"seed": 0, "data": "ImageData", "data.passes": 2, "trainer.max_epochs": 3}
    assert recipes.flatten_recipe(nested) == flat
    assert list(recipes.flatten_recipe({"model": {"init_args": {"hidden": 3}, "class_path": "X"}})) == [
        "model.hidden",
        "model",
    ]
