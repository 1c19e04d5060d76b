"""Where files stand: tests at mirrored paths, small folders, short files, names that say something."""

import ast
import statistics

import pytest

from tests.house.sources import MODULES, PACKAGES, REPOSITORY, mirrored, python_files, relative

ENTRIES = 14
"""Most files and folders in a product package, without ``__init__.py``, ``__main__.py`` and ``py.typed``."""
ENTRIES_BELOW = 12
"""Most of them in a folder of a product package."""
WITH_MORE_ENTRIES = {"glimpse/cli": "one file a subcommand", "glimpse/cli/train/configs": "one file a recipe"}
LINES = 400
"""Most lines of a Python file."""
MEDIAN_LINES = 150
"""Most lines of the median module of the product."""
CARELESS_NAMES = {"utils", "util", "common", "base", "helpers", "misc"}

# Modules without a test at the mirrored path, each with the reason.
UNTESTED = {
    "glimpse/__main__.py": "one call of the command line; tests/glimpse/cli/test_app.py starts it",
    "glimpse/export/graph/annotations.py": "tests/glimpse/models/test_soft.py and the exported soft models",
}


def lines_of(path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_module_has_its_test_at_the_mirrored_path() -> None:
    missing = [
        f"{relative(path)} needs {relative(mirrored(path))}"
        for path in MODULES
        if path.stem != "__init__" and relative(path) not in UNTESTED and not mirrored(path).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("name", UNTESTED)
def test_a_module_without_a_test_is_there_and_has_none(name: str) -> None:
    assert (REPOSITORY / name).exists(), f"{name} is gone; delete it from UNTESTED"
    assert not mirrored(REPOSITORY / name).exists(), f"{name} has a test; delete it from UNTESTED"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_folders_have_few_entries(package) -> None:
    apart = {"__init__.py", "__main__.py", "py.typed", "__pycache__"}
    folders = [package, *(path for path in package.rglob("*") if path.is_dir() and path.name != "__pycache__")]
    counts = {folder: len([entry for entry in folder.iterdir() if entry.name not in apart]) for folder in folders}
    crowded = {
        relative(folder): count
        for folder, count in counts.items()
        if count > (ENTRIES if folder == package else ENTRIES_BELOW) and relative(folder) not in WITH_MORE_ENTRIES
    }
    assert crowded == {}


def test_files_are_short() -> None:
    files = python_files("glimpse", "envs", "serve", "tests", "benchmarks")
    found = {relative(path): lines_of(path) for path in files}
    assert {name: lines for name, lines in found.items() if lines > LINES} == {}


def test_the_median_module_is_short() -> None:
    assert statistics.median(map(lines_of, MODULES)) <= MEDIAN_LINES


def test_every_folder_of_modules_is_a_package_that_says_what_it_holds() -> None:
    # Without its __init__.py a folder is missing from the wheel, though it imports from a checkout.
    folders = sorted({path.parent for path in (*MODULES, *python_files("benchmarks"))})
    described = {
        folder: (folder / "__init__.py").exists()
        and ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        for folder in folders
    }
    assert [relative(folder) for folder, docstring in described.items() if not docstring] == []


def test_nothing_has_a_careless_name() -> None:
    paths = [*MODULES, *python_files("tests", "benchmarks")]
    names = {relative(path): {path.stem, path.parent.name} for path in paths}
    assert [path for path, stems in names.items() if stems & CARELESS_NAMES] == []
