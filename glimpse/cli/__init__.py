"""The ``glimpse`` command line: one module a subcommand, imported when it is asked for."""

from glimpse.cli.app import main

__all__ = ["main"]
