from pathlib import Path

import pytest

from glimpse.cli.train.run.folder import choose_output, run_files
from glimpse.cli.usage import UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hold_a_run(folder: str) -> None:
    Path(folder).mkdir(parents=True)
    (Path(folder) / "config.yaml").touch()


def test_a_run_goes_to_a_folder_of_its_recipe_and_of_its_own():
    assert choose_output(None, "digits", False, None) == Path("runs/digits")
    hold_a_run("runs/digits")
    assert choose_output(None, "digits", False, None) == Path("runs/digits-2")
    hold_a_run("runs/digits-2")
    assert choose_output(None, "digits", False, None) == Path("runs/digits-3")
    assert choose_output(None, "digits", True, None) == Path("runs/digits")


def test_a_folder_without_a_run_may_hold_anything_else():
    Path("mine").mkdir()
    (Path("mine") / "notes.txt").touch()
    assert choose_output("mine", "digits", False, None) == Path("mine")
    assert run_files(Path("mine")) == []


def test_a_resumed_run_stays_where_it_is():
    hold_a_run("mine")
    assert choose_output(None, "digits", False, Path("mine/last.ckpt")) == Path("mine")
    assert choose_output("mine", "digits", False, Path("mine/last.ckpt")) == Path("mine")
    hold_a_run("other")
    with pytest.raises(UsageError, match="it holds a run already; choose another folder"):
        choose_output("other", "digits", False, Path("mine/last.ckpt"))
