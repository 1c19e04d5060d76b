"""The command line's parser."""

import argparse
import re
from typing import NoReturn

from glimpse.cli.usage import UsageError, suggestion


class Parser(argparse.ArgumentParser):
    """A parser that knows no abbreviations and, for a mistyped command, the nearest right one."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Hand the mistake on."""
        found = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
        if not found:
            message = f"{message}; see --help"
        else:
            choices = re.findall(r"[\w-]+", found.group(2))
            message = (
                f"expected one of {', '.join(choices)}; got {found.group(1)!r}{suggestion(found.group(1), choices)}"
            )
        raise UsageError(message)

    def options(self) -> list[str]:
        """Names of the options, with their dashes."""
        return [name for action in self._actions for name in action.option_strings]
