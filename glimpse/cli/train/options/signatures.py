"""The arguments of classes, read from their source text: to import a class would import torch. No torch."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class ClassArgument(NamedTuple):
    """An argument of a class's constructor."""

    name: str
    is_boolean: bool
    """Whether it may be true or false, by its annotation."""


def class_arguments(module: str, name: str) -> list[ClassArgument]:
    """The arguments of a class, those that it hands on to its base class by ``**options`` included.

    Args:
        module: The module that defines the class.
        name: The class.
    """
    definition = next(node for node in _source(module).body if isinstance(node, ast.ClassDef) and node.name == name)
    base = definition.bases[0] if definition.bases else None
    constructor = next(
        (node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None
    )
    found: list[ClassArgument] = []
    if constructor:
        given = constructor.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs][1:]
        found = [ClassArgument(each.arg, _may_be_boolean(each.annotation)) for each in every]
    if isinstance(base, ast.Name) and (constructor is None or constructor.args.kwarg):
        own = {each.name for each in found}
        found += [each for each in class_arguments(*_place(module, base.id)) if each.name not in own]
    return found


def classes_of(module: str, table: str) -> dict[str, str]:
    """The classes that a module-level dictionary is made of, by name, each with the module that defines it.

    Args:
        module: The module, such as ``glimpse.training.families``.
        table: The dictionary, a comprehension over a tuple of classes.
    """
    value = _assigned(module, table)
    listed = value.generators[0].iter if isinstance(value, ast.DictComp) else None
    names = [node.id for node in getattr(listed, "elts", ()) if isinstance(node, ast.Name)]
    return {name: _place(module, name)[0] for name in names}


def keys_of(module: str, table: str) -> list[str]:
    """The keys of a module-level dictionary, which are text.

    Args:
        module: The module, such as ``glimpse.data.datasets``.
        table: The dictionary.
    """
    value = _assigned(module, table)
    keys = value.keys if isinstance(value, ast.Dict) else []
    return [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def text_of(module: str, name: str) -> str:
    """A module-level text."""
    return str(ast.literal_eval(_assigned(module, name)))


@cache
def _source(module: str) -> ast.Module:
    # The spec of a submodule would import its packages.
    package, _, rest = module.partition(".")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    place = Path(spec.submodule_search_locations[0], *rest.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _assigned(module: str, name: str) -> ast.expr:
    for node in _source(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node.value
    raise LookupError(f"expected {name} in {module}, found none")


def _place(module: str, name: str) -> tuple[str, str]:
    """The module that defines a class that another module names, and its name there."""
    for node in _source(module).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return str(node.module), alias.name
    return module, name


def _may_be_boolean(annotation: ast.expr | None) -> bool:
    """Whether ``bool`` is an annotation, or a member of a union that is one."""
    if isinstance(annotation, ast.BinOp):
        return _may_be_boolean(annotation.left) or _may_be_boolean(annotation.right)
    if isinstance(annotation, ast.Subscript):
        members = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return ast.unparse(annotation.value) in ("Union", "Optional") and any(map(_may_be_boolean, members))
    return isinstance(annotation, ast.Name) and annotation.id == "bool"
