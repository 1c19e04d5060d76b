import pytest

from glimpse_serve.models.names import ModelError, check_served_name, named_models
from glimpse_serve.settings import Settings


def test_without_models_those_that_come_with_glimpse_are_served(tmp_path):
    assert [name for name, path in named_models(Settings())] == ["digits-hard", "digits-soft"]
    assert named_models(Settings(directory=str(tmp_path))) == []


def test_models_are_named_after_their_files_or_as_given(tmp_path):
    file = tmp_path / "owl.onnx"
    file.touch()
    assert named_models(Settings(models=(str(file), f"cat={file}"))) == [("owl", file), ("cat", file)]


@pytest.mark.parametrize(
    ("models", "directory", "message"),
    [
        (("{file}", "{file}"), "", "each model under a name of its own.*name one of them with NAME=FILE"),
        (("{file}.not",), "", "a model's file at '.*', found none"),
        (("a/b={file}",), "", "a model's name of letters"),
        ((), "/nowhere/at/all", "a directory of models, found none at '/nowhere/at/all'"),
    ],
)
def test_what_can_not_be_served_is_an_error(tmp_path, models, directory, message):
    file = tmp_path / "owl.onnx"
    file.touch()
    with pytest.raises(ModelError, match=message):
        named_models(Settings(models=tuple(model.format(file=file) for model in models), directory=directory))


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a b", ".hidden", "x" * 65, "ö"])
def test_a_name_has_to_fit_an_address(name):
    with pytest.raises(ModelError, match="name of letters"):
        check_served_name(name)
    check_served_name("owl-2.b_C")
