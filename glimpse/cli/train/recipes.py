"""Training recipes: YAML files that come with Glimpse, or a user's own."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from glimpse.cli.usage import UsageError, nearest

DEFAULT_RECIPE = "digits"


def recipe_folders() -> list[Path]:
    """Where recipes lie: beside a checkout's packages, or where an installation put them."""
    return [
        Path(__file__).parents[3] / "configs",
        Path(sysconfig.get_path("data")) / "share" / "glimpse" / "configs",
    ]


def recipes() -> dict[str, Path]:
    """The recipes that come with Glimpse, by name."""
    found: dict[str, Path] = {}
    for folder in recipe_folders():
        for file in sorted(folder.glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


def find_recipe(name: str, option: str = "--config ") -> Path:
    """The file of a recipe.

    Args:
        name: A recipe's name, or the path of a YAML file.
        option: What an error writes before the name.

    Raises:
        UsageError: When there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = recipes()
    if name in known:
        return known[name]
    meant = nearest(path.stem, known)
    hint = f"; did you mean {meant}?" if meant else ""
    raise UsageError(
        f"{option}{name}: expected a YAML file or a recipe out of {', '.join(sorted(known))}, found neither{hint}"
    )


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe's groups of options.

    Raises:
        UsageError: When the file can't be read, is no valid YAML, or holds something other than groups of options.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise UsageError(f"{path}: expected valid YAML, but{place}: {problem}; mend the file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a readable YAML file, got: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected groups of options (data:, model:, trainer:), got {str(content)[:40]!r}")
    return content


def option_names(recipe: dict[str, Any], group: str = "") -> Iterator[str]:
    """Names of the options that a recipe sets, as the command line has them, such as ``model.num_glimpses``."""
    for key, value in recipe.items():
        name = group if key == "init_args" else f"{group}.{key}".strip(".")
        if isinstance(value, dict):
            yield from option_names(value, name)
        elif key != "class_path":
            yield name
