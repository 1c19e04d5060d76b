"""What a benchmark hands back: aligned tables to read, and JSON to keep."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A title and aligned columns, the first to the left.

    Args:
        title: What the table says.
        heads: Of the columns.
        rows: One cell for each head.
    """
    cells = [tuple(heads), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    return "\n".join([title, *(f"  {line}" for line in lines)])


def options_of(args: Sequence[str], parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse a command line, with the two options that every benchmark has.

    Args:
        args: The command line.
        parser: Knows the benchmark's own options.
    """
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument(
        "--quick", action="store_true", help="take seconds instead of minutes; the figures mean nothing"
    )
    options = parser.parse_args(args)
    if options.output and not options.output.parent.is_dir():
        parser.error(f"--output: expected a folder at {options.output.parent}, found none; make it first")
    return options


def hand_back(text: str, result: Mapping[str, Any], output: Path | None) -> None:
    """Print the tables, and write the figures where they are wanted.

    Args:
        text: The tables.
        result: The figures.
        output: The file to write, if any.
    """
    print(text)
    if output:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
