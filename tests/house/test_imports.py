"""What imports what: the contracts of import-linter cover every package, and light modules bring nothing heavy."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from glimpse.cli.app import SUBCOMMANDS
from tests.house.sources import MODULES, PACKAGES, REPOSITORY, SOURCES, dotted

CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
}
HEAVY = CONTRACTS["without-torch"]["forbidden_modules"]
LIGHT = [*CONTRACTS["without-torch"]["source_modules"], *CONTRACTS["serve"]["source_modules"]]
"""Packages that do without torch altogether: import-linter follows every import, this test imports every module."""
HEAVY_LATER = (
    "glimpse.__main__",
    "glimpse.cli.app",
    "glimpse.cli.classify",
    "glimpse.cli.parser",
    "glimpse.cli.usage",
    *(
        entry.module
        for entry in SUBCOMMANDS
        if entry.module.startswith("glimpse.cli.") and "classify" not in entry.module
    ),
)
"""Modules and packages that are imported before the subcommand is known, or without torch installed: what they import
of it stands inside functions."""
# Packages of an extra that is not among the developers', without which a module can't be imported.
NEEDED = {"glimpse_serve.on_ray": ("ray",)}

# Imports each module in a child of a process that has imported a few packages that all may import, to save their time.
IMPORTS = """
import json, os, sys, traceback
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # its thread would be missing in a child, which waits for it at its end
import numpy, onnxruntime, PIL.Image, starlette.applications, uvicorn

def brought(name, heavy):
    try:
        __import__(name)
    except Exception:
        return traceback.format_exc()
    return [package for package in heavy if package in sys.modules]

found = {}
for name in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    if not os.fork():
        with os.fdopen(writing, "w") as stream:
            json.dump(brought(name, json.loads(sys.argv[2])), stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        found[name] = json.load(stream)
    os.wait()
print(json.dumps(found))
"""


def light_modules() -> list[str]:
    prefixes = tuple(f"{name}." for name in (*LIGHT, *HEAVY_LATER))
    return [name for name in map(dotted, MODULES) if name == "glimpse" or f"{name}.".startswith(prefixes)]


@pytest.fixture(scope="module")
def brought() -> dict[str, list[str] | str]:
    """Heavy packages that each light module brings, imported in a process of its own; a traceback where it can't be."""
    command = [sys.executable, "-c", IMPORTS, json.dumps(light_modules()), json.dumps(HEAVY)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, list[str] | str] = json.loads(run.stdout)
    return found


@pytest.mark.child
@pytest.mark.parametrize("name", light_modules())
def test_importing_it_brings_nothing_heavy(name: str, brought: dict[str, list[str] | str]) -> None:
    for package in NEEDED.get(name, ()):
        pytest.importorskip(package)
    assert brought[name] == []


def test_what_is_light_is_there() -> None:
    names = set(map(dotted, MODULES))
    assert [name for name in (*LIGHT, *HEAVY_LATER) if name not in names] == []


def test_no_package_is_light_in_two_lists() -> None:
    prefixes = tuple(f"{name}." for name in LIGHT)
    assert [name for name in HEAVY_LATER if f"{name}.".startswith(prefixes)] == []


def test_the_layers_of_every_package_are_exhaustive() -> None:
    layers = [contract for contract in CONTRACTS.values() if contract["type"] == "layers"]
    assert sorted(name for contract in layers for name in contract["containers"]) == sorted(
        package.name for package in PACKAGES
    )
    assert [contract["id"] for contract in layers if contract.get("exhaustive") is not True] == []
    assert [contract["id"] for contract in layers if "exhaustive_ignores" in contract] == []


def test_the_service_and_the_runtime_do_without_the_same_packages() -> None:
    assert CONTRACTS["serve"]["forbidden_modules"] == HEAVY


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """The product modules that a module imports, anywhere in it, for types only as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & names
            found |= {node.module} if inside - names else set()
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & names


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {dotted(path) for path in MODULES}
    TopologicalSorter({dotted(path): imported_modules(path, names) for path in MODULES}).prepare()
