"""One name, one meaning: public names of modules that are defined twice are those of a protocol."""

import ast
from collections import defaultdict
from pathlib import Path

from tests.house.sources import MODULES, dotted

PROTOCOL = {
    "run": "carries out a subcommand",
    "add_arguments": "adds a subcommand's arguments to a parser",
    "main": "runs a command line and returns its exit status",
    "CHOICES": "of a training class: the values that each option may have",
    "COUNTS": "of a training class: options that are at least 1",
    "RANGES": "of a training class: the range of each option",
}
# Names that two modules define although they mean different things. The list only gets shorter.
TWICE = {
    "Arrays",
    "Batch",
    "DATASETS",
    "DATATYPES",
    "DEFAULT",
    "Evaluation",
    "FIRST_LOCATIONS",
    "FOLDER",
    "GLIMPSES",
    "Glimpse",
    "HEADER_LENGTH",
    "HELP",
    "Handler",
    "Images",
    "LONGEST",
    "METHODS",
    "MOST",
    "Observation",
    "PATIENCE",
    "PRECISIONS",
    "Parser",
    "Part",
    "RESERVED",
    "Receive",
    "SCHEMA_VERSION",
    "SIZES",
    "SUFFIXES",
    "State",
    "WAYS",
    "Window",
    "application",
    "arrays",
    "cells",
    "check",
    "check_options",
    "describe",
    "evaluate",
    "extract_glimpse",
    "load",
    "look",
    "picture",
    "read",
    "serve",
    "settings_of",
    "summary",
    "table",
    "write_page",
}


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
    twice = {name: modules for name, modules in defined.items() if len(modules) > 1 and name not in PROTOCOL}
    assert {name: modules for name, modules in twice.items() if name not in TWICE} == {}
    assert sorted(TWICE - set(twice)) == [], "these have one meaning now; delete them from TWICE"
