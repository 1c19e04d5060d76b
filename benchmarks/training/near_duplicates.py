"""How well near-duplicates are found in three sets of photographs whose true groups are known, and in what time.

The sets are unpacked side by side in one folder: traffic signs (frames of a track), magnetic tiles (six exposures of
each tile, known by the order of exposures and by numbers that are close), circuit boards (with and without a defect).
"""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.command_line import command_parser
from benchmarks.harness.machine import describe
from glimpse.contract.card import SQUASH
from glimpse.data.folder import labelled_files
from glimpse.data.folder.decoding import Scaling, decode_files
from glimpse.data.folder.grouping import telling_names
from glimpse.data.folder.near_duplicates import THUMBNAIL_SIDE, gradient_descriptors, join_pairs, similar_pairs

_TILE = re.compile(r"exp(\d)_num_(\d+)")
_CLOSE = 200
"""Greatest difference of the numbers of two successive images of a tile."""


def tiles(files: list[Path]) -> list[str]:
    """Name the tile of each image.

    Args:
        files: Their files, ``KIND/expE_num_N.jpg``; E is the exposure.
    """
    names = [""] * len(files)
    last: dict[str, list[tuple[str, int, int]]] = {}
    keys = [tuple(map(int, match.groups())) if (match := _TILE.search(path.name)) else (0, 0) for path in files]
    for place in sorted(range(len(files)), key=lambda place: keys[place][1]):
        exposure, number = keys[place]
        kind = files[place].parent.name
        open_tiles = last.setdefault(kind, [])
        fitting = [tile for tile in open_tiles if tile[1] < exposure and number - tile[2] <= _CLOSE]
        tile = max(fitting, key=lambda tile: tile[2], default=None)
        if tile:
            open_tiles.remove(tile)
        names[place] = tile[0] if tile else f"{kind} {number}"
        open_tiles.append((names[place], exposure, number))
    return names


def by_name(pattern: str) -> Callable[[list[Path]], list[str]]:
    """Name the group of each image by a part of its path.

    Args:
        pattern: A regular expression, whose parentheses match the group's name.
    """

    def named(files: list[Path]) -> list[str]:
        matches = [re.search(pattern, path.as_posix()) for path in files]
        return [match[1] if match else "" for match in matches]

    return named


SETS = {
    "magnetic-tiles/images": tiles,
    "traffic-signs": by_name(r"/([^/]*/[^/]*/[0-9]+)_[0-9]+\.png$"),
    "circuit-boards": by_name(r"/([0-9]+)(?:-[0-9]+)?\.png$"),
}
"""The folder of each set, and what names the true groups of its files."""


def main(args: Sequence[str]) -> int:
    """Measure, print, and write the result."""
    parser = command_parser("benchmarks.training.near_duplicates", __doc__)
    parser.add_argument("folder", type=Path, help="holds the sets")
    parser.add_argument("--output", type=Path, help="JSON file of the result")
    given = parser.parse_args(args)
    found = {"machine": describe(), "sets": {name: measured(given.folder / name, true) for name, true in SETS.items()}}
    print(json.dumps(found, indent=1))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(folder: Path, true_groups: Callable[[list[Path]], list[str]]) -> dict[str, Any]:
    """Find the near-duplicates of a set, and compare their groups with the true ones.

    Args:
        folder: The set's.
        true_groups: Names the true group of each file.
    """
    tree = labelled_files(folder).tree
    listed = [
        (path, f"{part}/{name}")
        for part, of_class in tree.parts.items()
        for name, paths in of_class.items()
        for path in paths
    ]
    files, cells = [path for path, _ in listed], [cell for _, cell in listed]
    true = true_groups(files)
    _, numbers = np.unique(cells, return_inverse=True)
    started = time.process_time()
    thumbnails = (
        decode_files(files, Scaling(THUMBNAIL_SIDE, THUMBNAIL_SIDE, 1, SQUASH, thumbnail=True)).images[:, 0].numpy()
    )
    decoded = time.process_time()
    pairs = similar_pairs(gradient_descriptors(thumbnails))
    groups, refused = join_pairs(pairs, numbers.tolist())
    telling = telling_names(tree.root, files, cells, pairs.first.tolist(), pairs.second.tolist())
    done = time.process_time()
    within = sum(true[one] == true[other] for one, other in zip(*pairs, strict=True))
    found = list(range(len(files)))
    for group in groups:
        for place in group:
            found[place] = group[0]
    return {
        "images": len(files),
        "pairs": len(pairs.first),
        "pairs_of_a_true_group": round(within / len(pairs.first), 3),
        "pairs_not_joined": refused,
        "true_groups": len(set(true)),
        "groups": len(set(found)),
        "largest": max(map(len, groups), default=1),
        "apart": round(apart(true, found), 4),
        "groups_by_names": len(set(telling.groups.values())) if telling else None,
        "apart_by_names": round(apart(true, [telling.groups.get(path) or path for path in files]), 4)
        if telling
        else None,
        "decoding_cpu_seconds": round(decoded - started, 1),
        "cpu_seconds": round(done - decoded, 1),
    }


def apart(true: Sequence[str], found: Sequence[object]) -> float:
    """The share of images that lie apart from another image of their true group.

    Args:
        true: The name of each image's true group.
        found: The name of the group that it was put into.
    """
    pieces = Counter(of_true for of_true, _ in set(zip(true, found, strict=True)))
    return sum(pieces[of_true] > 1 for of_true in true) / len(true)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
