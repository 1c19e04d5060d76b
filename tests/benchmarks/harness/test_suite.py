"""The list of benchmarks: the runner, the table in the README and the committed results agree with it."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.harness import suite
from benchmarks.harness.suite import Benchmark, Run, missing_needs, read_suite, runs_of, table_of

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = REPOSITORY / "benchmarks"
STARTED_BY_OTHERS = {
    "benchmarks.harness.fresh_process": "reads its task from its argument; benchmarks.runtime starts it",
    "benchmarks.harness.suite": "runs the others",
    "benchmarks.serving.fastapi_server": "a server; benchmarks.serving.cost starts it",
    "benchmarks.serving.litserve_server": "a server; benchmarks.serving.cost starts it",
    "benchmarks.serving.load": "reads its task from standard input; benchmarks.serving.cost starts it",
}
WITHOUT_OPTIONS = ("benchmarks.harness.fresh_process", "benchmarks.serving.load")
NOT_RUN_YET = {
    "photographs-signs.json": "its run of 20 minutes has not been made yet",
    "photographs-signs.log": "its run of 20 minutes has not been made yet",
    "photographs-tiles.json": "its run of 20 minutes has not been made yet",
    "photographs-tiles.log": "its run of 20 minutes has not been made yet",
    "photographs-tiles-similar.json": "its run of 20 minutes has not been made yet",
    "photographs-tiles-similar.log": "its run of 20 minutes has not been made yet",
    "photographs-boards-cut300.json": "its run of 20 minutes has not been made yet",
    "photographs-boards-cut300.log": "its run of 20 minutes has not been made yet",
    "photographs-signs-cut300.json": "its run of 20 minutes has not been made yet",
    "photographs-signs-cut300.log": "its run of 20 minutes has not been made yet",
    "photographs-tiles-cut300.json": "its run of 20 minutes has not been made yet",
    "photographs-tiles-cut300.log": "its run of 20 minutes has not been made yet",
    "photographs-signs-2x200.json": "its run of 20 minutes has not been made yet",
    "photographs-signs-2x200.log": "its run of 20 minutes has not been made yet",
    "processes.json": "no machine with two free cores has been at hand",
    "processes.log": "no machine with two free cores has been at hand",
    "processes.png": "no machine with two free cores has been at hand",
    "runtime-gpu.json": "no CUDA device has been at hand",
}
NEEDED = {"benchmarks.envs.ap_gym_learning": "ap_gym", "benchmarks.serving.litserve_server": "litserve"}
HELP = """
import importlib, json, os, sys

os.environ["COLUMNS"] = "200"
for name in json.loads(sys.argv[1]):
    try:
        module = importlib.import_module(name)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{name}.__main__")
        module.main(["--help"])
    except SystemExit as end:
        assert not end.code, (name, end.code)
    else:
        raise AssertionError(f"{name} went on after --help")
"""


def programs() -> list[str]:
    """Import paths of the modules that are run by ``python -m``."""
    files = [path for path in FOLDER.rglob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]
    modules = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in files]
    return sorted(module.removesuffix(".__main__") for module in modules)


def test_every_program_is_in_the_suite():
    listed = {each.module for each in read_suite() if each.module}
    assert sorted(listed | set(STARTED_BY_OTHERS)) == programs()


@pytest.mark.slow
def test_every_program_prints_its_help(without_hook: Callable[..., str]):
    from importlib.util import find_spec

    names = [
        name
        for name in programs()
        if name not in WITHOUT_OPTIONS and (name not in NEEDED or find_spec(NEEDED[name]) is not None)
    ]
    printed = without_hook(HELP, json.dumps(names))
    for name in names:
        assert f"usage: python -m {name} " in printed


def test_no_module_hides_a_package_of_its_name():
    ours = {path.stem for path in FOLDER.rglob("*.py")}
    theirs = {"fastapi", "gymnasium", "litserve", "numpy", "onnx", "onnxruntime", "ray", "torch", "uvicorn"}
    assert ours & (theirs | set(sys.stdlib_module_names) - {"__init__"}) == set()


def test_the_table_of_the_readme_is_that_of_the_suite():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"<!-- suite: begin -->\n(.*)<!-- suite: end -->", readme, re.DOTALL)
    assert found == table_of(read_suite()), "run python -m benchmarks.harness.suite --table and paste what it prints"


def test_the_readme_names_modules_that_are_there():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    folders = "|".join(path.parent.name for path in FOLDER.glob("*/__init__.py"))
    named = set(re.findall(rf"`(?:python -m )?(?:benchmarks\.)?((?:{folders})\.\w+)", readme))
    assert len(named) > 20
    places = {name: FOLDER / name.replace(".", "/") for name in sorted(named)}
    assert [name for name, place in places.items() if not (place.is_dir() or place.with_suffix(".py").exists())] == []


def test_every_committed_result_is_some_benchmarks():
    listed = [file for each in read_suite() for file in each.files()]
    committed = {path.name for path in (FOLDER / "results").iterdir()}
    assert sorted(committed | set(NOT_RUN_YET)) == sorted(listed)


def test_every_recipe_is_a_cell():
    cells = [cell for each in read_suite() for cell in each.cells]
    assert sorted(cells) == sorted(path.stem for path in (FOLDER / "recipes").glob("*.yaml"))


def test_needs_are_known():
    assert {need for each in read_suite() for need in each.needs} <= {"gpu", "reference", *suite.DATA, *suite.EXTRAS}


def test_what_reads_a_run_comes_after_it():
    kept: set[str] = set()
    for run in runs_of(read_suite(), (), quick=False, results="results", reference=None):
        read = set(re.findall(r"runs/cells/([\w-]+)-seed0", " ".join(run.command)))
        assert read <= kept, run.name
        if "--keep" in run.command:
            kept.add(run.name)


TWO = [
    Benchmark(
        "one", "first", ("one.json",), module="some.one", arguments="--output {results}/one.json", reference=True
    ),
    Benchmark(
        "cells",
        "second",
        ("{cell}.json", ".log"),
        module="some.two",
        arguments="{cell}.yaml",
        cells=("left", "right"),
        quick="--quick {cell}",
    ),
    Benchmark("third", "by hand", ("third.json",), by_hand="make third"),
]


def test_a_run_is_a_process_with_its_arguments_filled_in():
    assert runs_of(TWO, (), quick=False, results="folder", reference="/there") == [
        Run("one", ("-m", "some.one", "--reference", "/there", "--output", "folder/one.json")),
        Run("left", ("-m", "some.two", "left.yaml")),
        Run("right", ("-m", "some.two", "right.yaml")),
    ]


def test_benchmarks_and_cells_are_chosen_by_name():
    chosen = runs_of(TWO, ("right", "one"), quick=False, results="folder", reference=None)
    assert chosen == [
        Run("one", ("-m", "some.one", "--output", "folder/one.json")),
        Run("right", ("-m", "some.two", "right.yaml")),
    ]
    assert len(runs_of(TWO, ("cells",), quick=False, results="folder", reference=None)) == 2


def test_a_quick_run_leaves_out_what_has_no_short_form():
    assert runs_of(TWO, (), quick=True, results="folder", reference=None) == [
        Run("left", ("-m", "some.two", "--quick", "left")),
        Run("right", ("-m", "some.two", "--quick", "right")),
    ]
    with pytest.raises(ValueError, match=r"no quick run of one"):
        runs_of(TWO, ("one",), quick=True, results="folder", reference=None)


@pytest.mark.parametrize(("name", "sentence"), [("fourth", "got fourth; --list"), ("third", "no run of third")])
def test_a_name_that_cannot_be_run_is_an_error(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        runs_of(TWO, (name,), quick=False, results="folder", reference=None)


def test_an_entry_is_run_either_by_the_suite_or_by_hand(tmp_path):
    file = tmp_path / "suite.toml"
    file.write_text('[[benchmark]]\nname = "it"\nabout = "something"\nresults = ["it.json"]\n')
    with pytest.raises(ValueError, match="either module or by_hand in 'it'"):
        read_suite(file)


def test_two_entries_of_one_name_are_an_error(tmp_path):
    file = tmp_path / "suite.toml"
    entry = '[[benchmark]]\nname = "it"\nabout = "something"\nresults = ["it.json"]\nmodule = "some"\n'
    file.write_text(entry + entry)
    with pytest.raises(ValueError, match="got it twice"):
        read_suite(file)


def test_files_are_those_of_all_cells():
    assert TWO[1].files() == ["left.json", "right.json", "left.log", "right.log"]


def test_missing_needs_are_stated(tmp_path, monkeypatch):
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path))
    monkeypatch.setattr(suite, "EXTRAS", {"bench": ("json", "no_such_package")})
    benchmark = Benchmark(
        "it", "something", ("it.json",), module="some", needs=("mnist", "photographs", "reference", "bench")
    )
    mnist, photographs, reference, bench = missing_needs(benchmark, None)
    assert mnist.startswith("MNIST: set GLIMPSE_DATA")
    assert photographs.startswith("photographs: set GLIMPSE_DATA")
    assert reference.endswith("name a checkout with --reference or GLIMPSE_REFERENCE")
    assert bench == "no_such_package: pip install '.[bench]'"
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "traffic-signs").mkdir()
    monkeypatch.setattr(suite, "EXTRAS", {"bench": ("json",)})
    assert list(missing_needs(benchmark, "/there")) == []


@pytest.mark.child
def test_a_quick_run_writes_into_the_folder_that_is_named(tmp_path, capfd):
    assert suite.main(["tables", "--quick", "--results", str(tmp_path)]) == 0
    assert (tmp_path / "tables.md").read_text().startswith("# Comparisons")
    assert capfd.readouterr().out.startswith("== tables: python -m benchmarks.learning.tables")


@pytest.mark.child
def test_a_benchmark_that_fails_does_not_stop_the_next(tmp_path, capfd):
    missing = tmp_path / "missing"
    assert suite.main(["tables", "maze-learning", "--quick", "--results", str(missing)]) == 1
    assert "== 2 of 2 failed: tables, maze-learning" in capfd.readouterr().err


def test_the_list_and_the_table_run_nothing(capsys, monkeypatch):
    monkeypatch.setattr(suite, "carry_out", None)
    assert suite.main(["--list"]) == 0
    assert "\n  families-60-hard\n" in capsys.readouterr().out
    assert suite.main(["--table"]) == 0
    assert capsys.readouterr().out == table_of(read_suite())
