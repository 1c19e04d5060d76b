from pathlib import Path

import pytest

from glimpse.cli.train.options.signatures import class_arguments, classes_of, keys_of, text_of
from glimpse.data.datasets import FOLDER, SOURCES
from glimpse.training.classifier import arguments_of
from glimpse.training.families import FAMILIES

SOURCE = """
from collections import abc
from {package}.low import Low as Below

class Plain:
    pass

class Top(Below):
    def __init__(self, first: int, *, sure: bool | None = None, many: "list[bool]" = (), **options) -> None:
        super().__init__(**options)

class Closed(Below):
    def __init__(self, only: Optional[bool]) -> None:
        super().__init__()

NAMED: dict[str, type] = {{each.__name__: each for each in (Top, Below)}}
TEXTS = {{"a": 1, "b": 2}}
WORD = "text"
"""
LOW = """
class Low(Plain.Other):
    def __init__(self, last: Union[Literal["x"], bool] = "x", first: bool = True):
        pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that can't be imported, and whose source text can be read."""
    folder = tmp_path / "unread_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "top.py").write_text(SOURCE.format(package=folder.name))
    (folder / "low.py").write_text(LOW)
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


def test_arguments_are_found_without_an_import(package):
    assert class_arguments(f"{package}.top", "Top") == [
        ("first", False),
        ("sure", True),
        ("many", False),
        ("last", True),
    ]
    assert class_arguments(f"{package}.top", "Closed") == [("only", True)]
    assert class_arguments(f"{package}.top", "Plain") == []


def test_tables_are_found_without_an_import(package):
    assert classes_of(f"{package}.top", "NAMED") == {"Top": f"{package}.top", "Below": f"{package}.low"}
    assert keys_of(f"{package}.top", "TEXTS") == ["a", "b"]
    assert text_of(f"{package}.top", "WORD") == "text"
    with pytest.raises(LookupError, match=f"expected LOST in {package}.top, found none"):
        text_of(f"{package}.top", "LOST")


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"):
        class_arguments("no_such_package.part", "Any")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.__name__)
def test_they_are_those_of_the_class(family):
    found = [each.name for each in class_arguments(family.__module__, family.__name__)]
    assert len(found) == len(set(found))
    assert set(found) == arguments_of(family).keys()


def test_so_are_the_data_sets():
    assert keys_of("glimpse.data.datasets", "SOURCES") == list(SOURCES)
    assert text_of("glimpse.data.datasets", "FOLDER") == FOLDER
