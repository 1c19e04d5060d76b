"""Which files are served under which names. Nothing heavy is imported, so that mistakes are told before a start."""

import re
from pathlib import Path

from glimpse_serve.models import bundled
from glimpse_serve.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a model may be called, since it stands in addresses."""


class ModelError(ValueError):
    """A model that can't be served."""


def named_models(settings: Settings) -> list[tuple[str, Path]]:
    """Tell which files are to be served under which names, those of a watched directory apart.

    Args:
        settings: As they were given.

    Returns:
        What was given, or what comes with the package where nothing was, not even a directory.

    Raises:
        ModelError: When two have one name, a name has no place in an address, or there is no such file or directory.
    """
    if settings.directory and not Path(settings.directory).is_dir():
        raise ModelError(
            f"expected a directory of models, found none at {settings.directory!r}; make it, or check its path"
        )
    if not settings.models and not settings.directory:
        return [(model.name, model.path) for model in bundled.models()]
    found: dict[str, Path] = {}
    for given in settings.models:
        name, equals, file = given.partition("=")
        path = Path(file if equals else given)
        name = name if equals else path.stem
        check_name(name)
        if not path.is_file():
            raise ModelError(f"expected a model's file at {str(path)!r}, found none; check its path")
        if name in found:
            raise ModelError(
                f"expected each model under a name of its own, got {str(found[name])!r} and {str(path)!r} under "
                f"{name!r}; name one of them with NAME=FILE"
            )
        found[name] = path
    return list(found.items())


def check_name(name: str) -> None:
    """Refuse a name that has no place in an address.

    Args:
        name: Of a model.

    Raises:
        ModelError: When it is one.
    """
    if not NAME.fullmatch(name):
        raise ModelError(
            f"expected a model's name of letters, digits, '.', '_' and '-', got {name!r:.80}; name it with NAME=FILE"
        )
