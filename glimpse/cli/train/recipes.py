"""Training recipes: YAML files of this package, or a user's own."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from glimpse.cli.usage import UsageError
from glimpse.errors import suggestion

DEFAULT_RECIPE = "digits"
FOLDER_RECIPE = "folder"
"""The recipe of the user's own images, and the name of their data set."""
CONFIG_FILE = "config.yaml"
"""The resolved recipe of a run, in its folder."""


def recipes() -> dict[str, Path]:
    """The recipes that come with Glimpse, by name: the files of this package's folder ``configs``."""
    folder = Path(str(resources.files("glimpse.cli.train").joinpath("configs")))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


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
    raise UsageError(
        f"{option}{name}: expected a YAML file or a recipe out of {', '.join(sorted(known))}, found neither"
        f"{suggestion(path.stem, known)}"
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


def flatten_recipe(recipe: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """A recipe's options by their names on the command line, such as ``model.num_glimpses``.

    Args:
        recipe: Groups of options, at any depth. A class path stands under the name of its group.
        group: The name of the group that ``recipe`` is; empty for a whole recipe.
    """
    options: dict[str, Any] = {}
    for key, value in recipe.items():
        name = group if key in ("init_args", "class_path") else f"{group}.{key}".strip(".")
        options |= flatten_recipe(value, name) if isinstance(value, dict) else {name: value}
    return options
