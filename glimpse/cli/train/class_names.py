"""Short names of the classes that recipes name: a file stays valid when a module moves."""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from glimpse.cli.usage import UsageError, suggestion
from glimpse.data.datamodule import ImageData
from glimpse.training.families import FAMILIES

GROUPS: dict[str, dict[str, type]] = {
    "model": {family.__name__: family for family in FAMILIES.values()},
    "data": {ImageData.__name__: ImageData},
}
"""Classes by short name, for each group of options that chooses one."""
CLASSES = {name: kind for group in GROUPS.values() for name, kind in group.items()}
PACKAGE = __name__.partition(".")[0]
SHORT_NAMES = "short-names"
"""The parser's mode: YAML in which our classes stand by short names."""


def import_path(name: str) -> str:
    """Where a class can be imported from in this version; a name that is none of ours is returned as it is."""
    kind = CLASSES.get(name)
    return f"{kind.__module__}.{kind.__qualname__}" if kind else name


def short_name(path: str) -> str:
    """The short name of the class at an import path; the path itself where the class is none of ours.

    Args:
        path: An import path whose module is imported already.
    """
    found = _imported(path)
    return next((name for name, kind in CLASSES.items() if kind is found), path)


def renamed(options: Any, rename: Callable[[str], str]) -> Any:
    """Options with the name of every class in them replaced.

    Args:
        options: What a YAML file holds, at any depth.
        rename: From a class's name to the one that takes its place.
    """
    if isinstance(options, Mapping):
        return {
            key: rename(value) if key == "class_path" and isinstance(value, str) else renamed(value, rename)
            for key, value in options.items()
        }
    return [renamed(option, rename) for option in options] if isinstance(options, list) else options


def check_names(args: Sequence[str], recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Reject an unknown short name, and an import path of ours that this version does not have.

    A class of a user's own is named by its import path; a short name is always one of ours, whatever is imported.

    Args:
        args: The command line.
        recipes: What each recipe holds, by its path.

    Raises:
        UsageError: With the short names that there are, and the one that was most likely meant.
    """
    for group in GROUPS:
        for option in (f"--{group}", f"--{group}.class_path"):
            for arg, after in zip_longest(args, args[1:], fillvalue=""):
                name, equals, value = arg.partition("=")
                if name == option:
                    _check_path(option, group, value if equals else after)
        for file, recipe in recipes.items():
            chosen = recipe.get(group)
            path = chosen.get("class_path") if isinstance(chosen, Mapping) else chosen
            if isinstance(path, str):
                _check_path(f"{file}: {group}", group, path)


def _check_path(place: str, group: str, path: str) -> None:
    module, _, name = path.rpartition(".")
    known = GROUPS[group]
    if path.isidentifier() and path not in known:
        raise UsageError(
            f"{place}: expected the name of a class, found none called {path!r} among {', '.join(known)}"
            f"{suggestion(path, known) or '; give your own as MODULE.CLASS'}"
        )
    if module.partition(".")[0] == PACKAGE and _imported(path) is None:
        expected = f"the short name {name}" if name in known else f"one of {', '.join(known)}"
        hint = "" if name in known else suggestion(name, known)
        raise UsageError(
            f"{place}: expected {expected}, got the import path {path}, which this version of Glimpse does not have"
            f"{hint}"
        )


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _read(text: str) -> Any:
    return renamed(get_loader("yaml")(text), import_path)


def _write(options: Any) -> str:
    text: str = yaml.safe_dump(renamed(options, short_name), sort_keys=False, allow_unicode=True)
    return text


set_loader(SHORT_NAMES, _read, (yaml.YAMLError,))
set_dumper(SHORT_NAMES, _write)
