"""One name, one meaning: public names of modules that are defined twice are those of a protocol."""

import ast
from collections import defaultdict
from pathlib import Path

from tests.house.sources import MODULES, dotted

PROTOCOL = {
    "run": "carries out a subcommand",
    "add_arguments": "adds a subcommand's arguments to a parser",
    "main": "runs a command line and returns its exit status",
    "application": "builds the ASGI application, for uvicorn's workers and for Ray",
    "extract_glimpse": "the crop, in torch and in numpy; a test holds the two together",
}
"""Names that several modules define with the same meaning."""


def public_names(path: Path) -> set[str]:
    """What a module defines at its top level: classes, functions and constants; no private name."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def test_a_public_name_is_defined_in_one_module() -> None:
    defined = defaultdict(list)
    for path in MODULES:
        for name in public_names(path):
            defined[name].append(dotted(path))
    several = {name: modules for name, modules in defined.items() if len(modules) > 1}
    assert {name: modules for name, modules in several.items() if name not in PROTOCOL} == {}
    assert sorted(PROTOCOL.keys() - several) == [], "these are defined once now; delete them from PROTOCOL"
