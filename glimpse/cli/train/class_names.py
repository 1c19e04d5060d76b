"""Short names of the classes that recipes name: a file stays valid when a module moves. No torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pkgutil import resolve_name
from typing import Any

from glimpse.cli.train.options.names import DATA_CLASS, families_by_name
from glimpse.cli.usage import UsageError
from glimpse.errors import suggestion

GROUPS: dict[str, dict[str, str]] = {
    "model": {name: f"{module}.{name}" for name, module in families_by_name().items()},
    "data": {DATA_CLASS[1]: ".".join(DATA_CLASS)},
}
"""Import paths of classes by their short names, for each group of options that chooses a class."""
CLASSES = {name: path for group in GROUPS.values() for name, path in group.items()}
PACKAGE = __name__.partition(".")[0]


def import_path(name: str) -> str:
    """Where a class can be imported from in this version; a name that is none of ours is returned as it is."""
    return CLASSES.get(name, name)


def short_name(path: str) -> str:
    """The short name of the class at an import path; the path itself where the class is none of ours.

    Args:
        path: An import path.
    """
    found = _imported(path)
    place = f"{found.__module__}.{found.__qualname__}" if isinstance(found, type) else path
    return next((name for name, known in CLASSES.items() if known == place), path)


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
    for place, group, path in _chosen(args, recipes):
        _check_path(place, group, path)


def groups_of_ours(args: Sequence[str], recipes: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The groups for which nobody chooses a class that is not ours.

    Args:
        args: The command line.
        recipes: What each recipe holds, by its path.
    """
    foreign = {
        group
        for _, group, path in _chosen(args, recipes)
        if path not in GROUPS[group] and path not in GROUPS[group].values()
    }
    return GROUPS.keys() - foreign


def names_own_alone(args: Sequence[str], recipes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether data and model are ours, and the trainer gets no object of a class that the user names.

    Args:
        args: The command line.
        recipes: What each recipe holds, by its path.
    """
    named: list[str] = []

    def note(name: str) -> str:
        named.append(name)
        return name

    for recipe in recipes.values():
        renamed(recipe.get("trainer"), note)
    objects = tuple(f"--trainer.{name}" for name in ("callbacks", "logger", "plugins", "profiler", "strategy"))
    return (
        groups_of_ours(args, recipes) == GROUPS.keys()
        and not named
        and not any(arg.startswith(objects) for arg in args)
    )


def _chosen(args: Sequence[str], recipes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Every class that is chosen: the option or recipe that does, the group, and the class's name."""
    for group in GROUPS:
        for option in (f"--{group}", f"--{group}.class_path"):
            for arg, after in zip_longest(args, args[1:], fillvalue=""):
                name, equals, value = arg.partition("=")
                if name == option:
                    yield option, group, value if equals else after
        for file, recipe in recipes.items():
            chosen = recipe.get(group)
            path = chosen.get("class_path") if isinstance(chosen, Mapping) else chosen
            if isinstance(path, str):
                yield f"{file}: {group}", group, path


def _check_path(place: str, group: str, path: str) -> None:
    module, _, name = path.rpartition(".")
    known = GROUPS[group]
    if path.isidentifier() and path not in known:
        raise UsageError(
            f"{place}: expected the name of a class, found none called {path!r} among {', '.join(known)}"
            f"{suggestion(path, known) or '; give your own as MODULE.CLASS'}"
        )
    if module.partition(".")[0] == PACKAGE and path not in known.values() and _imported(path) is None:
        expected = f"the short name {name}" if name in known else f"one of {', '.join(known)}"
        hint = "" if name in known else suggestion(name, known)
        raise UsageError(
            f"{place}: expected {expected}, got the import path {path}, which this version of Glimpse does not have"
            f"{hint}"
        )


def _imported(path: str) -> Any:
    """What an import path leads to; None where there is nothing."""
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return None
