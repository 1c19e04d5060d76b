import sys
from pathlib import Path

import pytest

from glimpse.cli.usage import UsageError, error_message, invocation, spelling
from glimpse.data.datasets import DataError
from glimpse.errors import Argument, Clause, Setting


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an interpreter in a virtual environment, which is not activated."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path) -> None:
    (folder / "glimpse").touch(mode=0o755)


def test_a_command_that_the_shell_finds_goes_by_its_name(folder, monkeypatch):
    install(folder / ".venv" / "bin")
    monkeypatch.setenv("PATH", str(folder / ".venv" / "bin"))
    assert invocation() == "glimpse"


def test_a_command_beside_the_interpreter_goes_by_its_path(folder, monkeypatch):
    install(folder / ".venv" / "bin")
    assert invocation() == ".venv/bin/glimpse"
    (folder / "with space").mkdir()
    monkeypatch.chdir(folder / "with space")
    assert invocation() == f"{folder}/.venv/bin/glimpse"


def test_another_installations_command_is_not_taken_for_it(folder):
    install(folder)
    assert invocation() == "python -m glimpse"


def test_a_path_with_a_space_is_quoted(tmp_path, monkeypatch):
    (tmp_path / "my env").mkdir()
    install(tmp_path / "my env")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "python"))
    assert invocation() == "'my env/glimpse'"


def test_arguments_are_written_as_options():
    spell = spelling({"download": "--data.download", "what": "--model.what"})
    assert spell(Argument("what")) == "--model.what"
    assert spell(Setting("what", "mlp")) == "--model.what mlp"
    assert spell(Setting("download", True)) == "--data.download true"
    assert spelling({"zoom": "--set zoom"}, "=")(Setting("zoom", 2)) == "--set zoom=2"
    assert spell(Setting("root", "here")) is None


def test_an_error_is_written_with_the_options_that_a_command_has():
    missing = DataError("give it with ", Argument("root"), Clause(", or ", Setting("download", True)))
    assert error_message(missing, {"root": "--root"}) == "give it with --root"
    assert error_message(missing, {}) == "give it with root"
    assert error_message(UsageError("expected --root"), {"root": "--folder"}) == "expected --root"
