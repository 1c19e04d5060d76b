"""The house rules that a machine can hold: what imports torch, what has tests, what nothing is called."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError

from glimpse.images import geometry

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = (REPOSITORY, REPOSITORY / "envs", REPOSITORY / "serve")
PACKAGES = tuple(
    source / name for source, name in zip(SOURCES, ("glimpse", "glimpse_envs", "glimpse_serve"), strict=True)
)
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))

HEAVY = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "gymnasium", "sklearn")
# What only runs an exported model, and what is imported before anybody knows which subcommand was asked for.
LIGHT = (
    "glimpse",
    "glimpse.__main__",
    "glimpse.drawing.album",
    "glimpse.drawing.animation",
    "glimpse.cli.classify.formats",
    "glimpse.runtime.prediction",
    "glimpse.drawing.charts",
    "glimpse.cli.classify.command",
    "glimpse.cli.classify.options",
    "glimpse.cli.app",
    "glimpse.contract.card",
    "glimpse.images.crop",
    "glimpse.export",
    "glimpse.export.targets",
    "glimpse.export.targets.target",
    "glimpse.export.targets.triton",
    "glimpse.contract.episode",
    "glimpse.errors",
    "glimpse.files",
    "glimpse.cli.export",
    "glimpse.runtime.stepping",
    "glimpse.images.geometry",
    "glimpse_envs.play.blocks",
    "glimpse.drawing.heatmap",
    "glimpse.cli.classify.images",
    "glimpse.runtime.graph",
    "glimpse.cli.inspect",
    "glimpse.cli.usage",
    "glimpse.keys",
    "glimpse.export.targets.kserve",
    "glimpse.images.lazy",
    "glimpse.drawing.text",
    "glimpse.runtime.model_file",
    "glimpse.drawing.answer",
    "glimpse_envs.play.opponent",
    "glimpse.images.pixels",
    "glimpse_envs.play.record",
    "glimpse.cli.classify.progress",
    "glimpse.runtime.providers",
    "glimpse.runtime.providers",
    "glimpse.runtime.session",
    "glimpse_envs.play.mosaic",
    "glimpse.runtime.inputs",
    "glimpse.drawing.view",
    "glimpse.drawing.scanpath",
    "glimpse.export.targets.ownership",
)
# Packages of an extra that is not among the developers', without which a module can't be imported.
NEEDED = {"glimpse_serve.on_ray": ("ray",)}
# Modules without a test file of their own, each with the reason.
UNTESTED = {
    "glimpse/__main__.py": "one call of the command line; tests/glimpse/cli/test_app.py starts it",
}
CARELESS_NAMES = {"utils", "util", "common", "base", "helpers", "misc"}


def dotted(path: Path) -> str:
    """The import name of a module's file."""
    source = next(source for source in reversed(SOURCES) if path.is_relative_to(source))
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def light_modules() -> list[str]:
    names = [dotted(path) for path in MODULES]
    return [name for name in names if name in LIGHT or name.split(".")[0] == "glimpse_serve"]


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


def test_every_module_has_its_tests() -> None:
    written = {path.name for path in (REPOSITORY / "tests").rglob("test_*.py")}
    missing = [
        f"{relative(path)} needs a test_{path.stem}.py under tests/"
        for path in MODULES
        if path.stem != "__init__" and relative(path) not in UNTESTED and f"test_{path.stem}.py" not in written
    ]
    assert missing == []


def test_every_exception_is_still_needed() -> None:
    assert [name for name in UNTESTED if not (REPOSITORY / name).exists()] == []


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_every_folder_of_modules_is_a_package() -> None:
    # Without its __init__.py a folder is missing from the wheel, though it imports from a checkout.
    folders = {path.parent for path in MODULES}
    assert [relative(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_nothing_has_a_careless_name() -> None:
    paths = [*MODULES, *(REPOSITORY / "tests").rglob("*.py")]
    names = {relative(path): {path.stem, path.parent.name} for path in paths}
    assert [path for path, stems in names.items() if stems & CARELESS_NAMES] == []


@pytest.mark.skipif(bool(os.environ.get("GLIMPSE_NO_TYPECHECK")), reason="GLIMPSE_NO_TYPECHECK is set")
def test_signatures_are_checked_under_pytest() -> None:
    with pytest.raises(TypeCheckError, match="windows"):
        geometry.windows("8", 1, 2)  # type: ignore[arg-type]


def test_a_test_that_is_not_marked_starts_no_python_process() -> None:
    with pytest.raises(RuntimeError, match=r"test_layout.* starts a Python process; mark it with @pytest\.mark\.child"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_program_without_the_hook_that_fails_is_told(without_hook: Callable[..., str], tmp_path: Path) -> None:
    told = without_hook(
        "import os, sys; print(os.getcwd(), sys.argv[1:], os.environ['SIDE'], __name__)", "1", cwd=tmp_path, SIDE="2"
    )
    assert told == f"{tmp_path} ['1'] 2 __main__\n"
    with pytest.raises(AssertionError, match=r"(?s)status 1\nbegun\n.*ValueError: nothing"):
        without_hook("print('begun'); raise ValueError('nothing')")
    assert without_hook("from glimpse import geometry; geometry.windows(8.0, 1, 2)") == ""
