"""Names and files of the models to serve. Nothing heavy is imported, so that mistakes are reported before the start."""

import re
from pathlib import Path

from glimpse_serve.models import bundled
from glimpse_serve.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A model's name, which is part of URLs."""


class ModelError(ValueError):
    """A model that can't be served."""


def named_models(settings: Settings) -> list[tuple[str, Path]]:
    """Return the names and files of the models to serve, without those of a model directory.

    Args:
        settings: The settings of the service.

    Returns:
        The models of the settings; the bundled models where the settings name neither models nor a directory.

    Raises:
        ModelError: When two models have the same name, a name can't be part of a URL, or a file or the directory does
            not exist.
    """
    if settings.directory and not Path(settings.directory).is_dir():
        raise ModelError(
            f"expected a directory of models, found none at {settings.directory!r}; make it, or check its path"
        )
    if not settings.models and not settings.directory:
        return [(model.name, model.path) for model in bundled.models()]
    found: dict[str, Path] = {}
    for argument in settings.models:
        name, equals, file = argument.partition("=")
        path = Path(file if equals else argument)
        name = name if equals else path.stem
        check_served_name(name)
        if not path.is_file():
            raise ModelError(f"expected a model's file at {str(path)!r}, found none; check its path")
        if name in found:
            raise ModelError(
                f"expected each model under a name of its own, got {str(found[name])!r} and {str(path)!r} under "
                f"{name!r}; name one of them with NAME=FILE"
            )
        found[name] = path
    return list(found.items())


def check_served_name(name: str) -> None:
    """Check that a model's name can be part of a URL.

    Args:
        name: The name.

    Raises:
        ModelError: When it can't.
    """
    if not NAME.fullmatch(name):
        raise ModelError(
            f"expected a model's name of letters, digits, '.', '_' and '-', got {name!r:.80}; name it with NAME=FILE"
        )
