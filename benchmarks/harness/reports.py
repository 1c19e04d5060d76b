"""What a benchmark prints and writes: a heading, aligned tables, and JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import in_words
from glimpse.files import write_whole


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


def figures_table(title: str, figures: Mapping[str, Any]) -> str:
    """A table of named figures, one a row; floats with three decimals.

    Args:
        title: What the figures are of.
        figures: By name.
    """
    rows = [(name, f"{value:.3f}" if isinstance(value, float) else value) for name, value in figures.items()]
    return table(title, ("", ""), rows)


def heading(result: Mapping[str, Any], *facts: str) -> str:
    """What a report begins with: the machine, the load average at the end, and what the figures are of.

    Args:
        result: Has ``machine``, ``load_average_after`` and ``quick``.
        facts: The data, the sizes, the threads; joined by semicolons.
    """
    load = f"load average at the end {result['load_average_after'][0]}"
    return f"{in_words(result['machine'])}\n{'; '.join([load, *facts])}{quick_remark(result)}"


def quick_remark(result: Mapping[str, Any], separator: str = "; ") -> str:
    """The remark that a quick run's figures mean nothing; empty for a full run.

    Args:
        result: Has ``quick``.
        separator: Stands before the remark.
    """
    return f"{separator}a quick run: the figures mean nothing" * bool(result["quick"])


def hand_back(text: str, result: Mapping[str, Any], output: Path | None) -> None:
    """Print the tables, and write the figures to a file if there is one.

    Args:
        text: The tables.
        result: The figures.
        output: The file to write, if any.
    """
    print(text)
    if output:
        write_whole(output, json.dumps(result, indent=2) + "\n")
