"""The library names arguments; options of a command line stand in the command line alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = (REPOSITORY / "glimpse", REPOSITORY / "envs" / "glimpse_envs")
FRONT_ENDS = (REPOSITORY / "glimpse" / "cli", REPOSITORY / "envs" / "glimpse_envs" / "play")
OPTION = re.compile(r"--[a-z]")
COMMAND = re.compile(r"'glimpse [^']*'")
"""A whole command, in quotation marks, such as 'glimpse export --graph adaptive': it means the same everywhere."""


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string in a module, but for docstrings; the parts of one f-string are one text."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in whole for part in node.values}
    for joined in whole:
        texts = [part.value for part in joined.values if isinstance(part, ast.Constant)]
        yield joined.lineno, "...".join(map(str, texts))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            yield node.lineno, node.value


def options_in(source: str) -> list[int]:
    """Lines of a module whose strings name an option of a command line."""
    return [line for line, text in literals(source) if OPTION.search(COMMAND.sub("", text))]


def test_no_string_of_the_library_names_an_option() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for package in LIBRARY
        for path in sorted(package.rglob("*.py"))
        if not any(path.is_relative_to(front_end) for front_end in FRONT_ENDS)
        for line in options_in(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_an_option_is_found_wherever_it_stands() -> None:
    assert options_in('raise ValueError(f"expected --data.{name} of at least 1")') == [1]
    assert options_in('"""Docs.\n\n--x"""\nadvice = "leave --weights out"') == [4]
    assert options_in("advice = \"export it with 'glimpse export --graph adaptive'\"") == []
