"""What a folder was found to hold, in words and as a table, before anything is trained on it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from glimpse.contract.texts import visible
from glimpse.data.folder.grouping import Groups
from glimpse.data.folder.near_duplicates import Pairs
from glimpse.data.folder.tree import Tree

Parts = Mapping[str, Mapping[str, list[Path]]]
"""The files of each class, by part."""

_SHOWN = 5


def some_of(texts: Iterable[str], separator: str) -> str:
    """Join texts, at most five of them, and say how many more there are.

    Args:
        texts: What is listed.
        separator: What stands between two of them.
    """
    texts = list(texts)
    more = f"{separator}and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return separator.join(texts[:_SHOWN]) + more


def count_note(parts: Parts) -> str:
    """Say how many images each part has, and between which numbers those of a class lie.

    Args:
        parts: All parts.
    """
    described = []
    for part, of_class in parts.items():
        counts = {name: len(paths) for name, paths in of_class.items()}
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        spread = f"{counts[fewest]:,} of {fewest} to {counts[most]:,} of {most}"
        if counts[fewest] == counts[most]:
            spread = f"{counts[most]:,} a class"
        described.append(f"{sum(counts.values()):,} in the {part} part ({spread})")
    return f"{len(next(iter(parts.values())))} classes; images: {', '.join(described)}"


def left_out_notes(tree: Tree, boxes: Path | None = None) -> list[str]:
    """Say what was left out, one sentence a reason.

    Args:
        tree: The folder.
        boxes: The table or the folder from which boxes were read, which was not left out.
    """
    left_out = {path: reason for path, reason in tree.left_out.items() if path != boxes}
    reasons = Counter(left_out.values())
    examples = {reason: path for path, reason in reversed(list(left_out.items()))}
    return [
        f"left out: {count} x {reason}, such as {visible(str(examples[reason]))}" for reason, count in reasons.items()
    ]


def duplicate_notes(parts: Parts, groups: Groups, root: Path, files: Sequence[Path], pairs: Pairs) -> list[str]:
    """Say which images are found under several classes, and which groups and near-duplicates in several parts.

    Args:
        parts: All parts.
        groups: The groups of their files.
        root: The folder.
        files: The files to whose places the pairs refer.
        pairs: Near-duplicates.
    """
    place = {
        path: (part, name) for part, of_class in parts.items() for name, paths in of_class.items() for path in paths
    }
    notes = []
    mislabelled = [paths for paths in groups.identical if len({place[path][1] for path in paths if path in place}) > 1]
    if mislabelled:
        shown = some_of((" = ".join(_named(path, root) for path in paths[:2]) for paths in mislabelled), ", ")
        notes.append(f"the same image under several classes, {len(mislabelled)} times: {shown}; one label is wrong")
    spread: dict[str, set[str]] = {}
    for path, (part, _) in place.items():
        spread.setdefault(groups.of(path), set()).add(part)
    leaking = sorted(group for group, of_group in spread.items() if len(of_group) > 1)
    if leaking:
        notes.append(
            f"{len(leaking)} groups or identical files lie in several parts, such as {visible(leaking[0])}: "
            "figures of the held-out parts look better than they are"
        )
    similar = [
        (files[first], files[second])
        for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        if files[first] in place and files[second] in place
    ]
    across_parts = [pair for pair in similar if place[pair[0]][0] != place[pair[1]][0]]
    if across_parts:
        notes.append(
            f"{len(across_parts):,} pairs of near-duplicates lie in different parts, {_examples(across_parts, root)}: "
            "where they show the same, figures of the held-out parts look better than they are"
        )
    across_classes = [pair for pair in similar if place[pair[0]][1] != place[pair[1]][1]]
    if across_classes:
        notes.append(
            f"{len(across_classes):,} pairs of near-duplicates have different classes, "
            f"{_examples(across_classes, root)}: either a detail makes the class, or a label is wrong"
        )
    return notes


def data_page(parts: Parts, sizes: Int64[np.ndarray, "images 2"], notes: Sequence[str]) -> str:
    """Write the report as a page in Markdown: a table of counts by class and part, the images' sizes, the notes.

    Args:
        parts: All parts.
        sizes: Height and width of each image, pixels.
        notes: Sentences without a full stop.
    """
    names = list(next(iter(parts.values())))
    lines = ["# Data", "", f"| class | {' | '.join(parts)} | all |", "|---|" + "---:|" * (len(parts) + 1)]
    counted = [(visible(name).replace("|", "\\|"), [len(parts[part][name]) for part in parts]) for name in names]
    counted.append(("**all**", [sum(map(len, of_class.values())) for of_class in parts.values()]))
    lines += [f"| {name} | {' | '.join(map(str, counts))} | {sum(counts)} |" for name, counts in counted]
    lines += ["", "| size in pixels | least | median | greatest |", "|---|---:|---:|---:|"]
    for side, values in (("height", sizes[:, 0]), ("width", sizes[:, 1])):
        lines.append(f"| {side} | {values.min()} | {np.median(values):g} | {values.max()} |")
    return "\n".join([*lines, "", *(f"- {visible(note)}" for note in notes), ""])


def _examples(pairs: Sequence[tuple[Path, Path]], root: Path) -> str:
    """One pair for each of the first few images, so that they are not all of one group."""
    shown: dict[Path, str] = {}
    for first, second in pairs:
        if first not in shown and second not in shown:
            shown[first] = f"{_named(first, root)} and {_named(second, root)}"
            shown.setdefault(second, "")
        if sum(map(bool, shown.values())) == 3:
            break
    return f"such as {', '.join(text for text in shown.values() if text)}"


def _named(path: Path, root: Path) -> str:
    return visible(str(path.relative_to(root)))
