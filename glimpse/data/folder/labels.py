"""A table of labels: a CSV file with the columns ``path`` and ``label``, and ``group`` and ``part`` where known."""

from pathlib import Path
from typing import NamedTuple

from glimpse.contract.texts import name_fault, visible
from glimpse.data.datasets import DataError
from glimpse.data.folder.tables import read_table
from glimpse.data.folder.tree import PARTS, TRAIN, Tree, part_of

_COLUMNS = ("path", "label", "group", "part")
_SHOWN_FAULTS = 10


class LabelTable(NamedTuple):
    """What a table of labels states."""

    tree: Tree
    """The files, by part and class."""
    groups: dict[Path, str]
    """The group of each file that has one."""


def read_labels(table: Path, root: Path) -> LabelTable:
    """Read a table of labels.

    Args:
        table: The CSV file, in UTF-8, with a first line that names its columns.
        root: The folder to which its paths are relative.

    Raises:
        DataError: When there is no such table, or it names files that are not there, or one twice; all faults at once.
    """
    columns, rows = read_table(table, "a table of labels")
    if not {"path", "label"} <= set(columns):
        raise DataError(
            f"expected a table with the columns path and label (and group, part where known) at {table}, found "
            f"{', '.join(columns) or 'no line'}; name the columns in the first line"
        )
    parts: dict[str, dict[str, list[Path]]] = {}
    groups: dict[Path, str] = {}
    faults: list[str] = []
    seen: set[Path] = set()
    for line, row in enumerate(rows, start=2):
        values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
        path = root / values["path"]
        part = part_of(values["part"]) if values["part"] else TRAIN
        if not values["path"] or not values["label"]:
            faults.append(f"line {line} has no path or no label")
        elif name_fault(values["label"]) is not None:
            faults.append(
                f"line {line} has a label that {name_fault(values['label'])}: {visible(repr(values['label']))}"
            )
        elif part is None:
            faults.append(f"line {line} has the part {values['part']!r}, none of {', '.join(PARTS)}")
        elif not path.is_file():
            faults.append(f"line {line} names {values['path']}, which is not there")
        elif path in seen:
            faults.append(f"line {line} names {values['path']} a second time")
        else:
            seen.add(path)
            parts.setdefault(part, {}).setdefault(values["label"], []).append(path)
            if values["group"]:
                groups[path] = values["group"]
    if faults:
        more = f"; and {len(faults) - _SHOWN_FAULTS} more faults" if len(faults) > _SHOWN_FAULTS else ""
        raise DataError(
            f"expected each line of {table} to name an image under {root} and its label; "
            f"{'; '.join(faults[:_SHOWN_FAULTS])}{more}; mend or remove these lines"
        )
    tree = Tree(root, root, {part: parts[part] for part in PARTS if part in parts})
    if TRAIN not in tree.parts or len(tree.classes) < 2:
        raise DataError(
            f"expected images of at least 2 classes to train on in {table}, found {len(tree.classes)}; add lines"
        )
    return LabelTable(tree, groups)
