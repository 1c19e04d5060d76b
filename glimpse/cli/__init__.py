"""The ``glimpse`` command line: one module a subcommand, imported when it is called."""

from glimpse.cli.app import main

__all__ = ["main"]
