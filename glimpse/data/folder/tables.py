"""Tables in CSV files whose first line names the columns."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from glimpse.data.datasets import DataError

_DELIMITERS = ",;\t"


class Table(NamedTuple):
    """A table as text."""

    columns: tuple[str, ...]
    """The names of the columns, in small letters."""
    rows: list[dict[str, str]]
    """The values of each line that is not empty, by column, without blanks around them."""


def read_table(path: Path, name: str) -> Table:
    """Read a table. A line that is too short ends with empty values.

    Args:
        path: The CSV file, in UTF-8, with commas, semicolons or tabs.
        name: What errors call it, with its article.

    Raises:
        DataError: When there is no such file, or it can't be read.
    """
    try:
        lines = list(_lines(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"expected {name} at {path}, can't read it ({error}); give a CSV file in UTF-8") from error
    columns = _columns(lines[0]) if lines else ()
    blank = dict.fromkeys(columns, "")
    rows = [blank | dict(zip(columns, map(str.strip, line), strict=False)) for line in lines[1:]]
    return Table(columns, rows)


def columns_of(path: Path) -> tuple[str, ...]:
    """Return the names of a table's columns, in small letters; none when the file can't be read as a table.

    Args:
        path: The file, of which the first line is read.
    """
    try:
        return _columns(next(_lines(path), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()


def _columns(line: list[str]) -> tuple[str, ...]:
    return tuple(column.strip().lower() for column in line)


def _lines(path: Path) -> Iterator[list[str]]:
    """The values of each line that is not empty."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        first = stream.readline()
        stream.seek(0)
        yield from filter(None, csv.reader(stream, delimiter=max(_DELIMITERS, key=first.count)))
