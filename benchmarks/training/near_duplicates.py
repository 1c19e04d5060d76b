"""How well near-duplicates are found in a folder whose true groups are known, and in what time.

    python -m benchmarks.training.near_duplicates DIR --group REGEX

The regular expression is searched for in each file's path, as by ``--data.group``; what its parentheses match, joined, names
the true group. Files of magnetic tiles have none in their names: ``--tiles`` takes images of one kind whose exposures follow
one another and whose numbers are close.
"""

import argparse
import json
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.harness.machine import describe, in_words
from glimpse.data.folder import labelled_files
from glimpse.data.folder.decoding import Scaling, decode_files
from glimpse.data.folder.grouping import telling_names
from glimpse.data.folder.near_duplicates import SIDE, gradient_descriptors, join_pairs, similar_pairs

_TILE = re.compile(r"exp(\d)_num_(\d+)")
_CLOSE = 200
"""Greatest difference of the numbers of two successive images of a tile."""


def tiles(files: list[Path]) -> list[str]:
    """Name the tile of each image.

    Args:
        files: Their files, ``KIND/expE_num_N.jpg``; E is the exposure.
    """
    names, last = [""] * len(files), dict[str, list[tuple[str, int, int]]]()
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--group", help="regular expression for the true groups")
    truth.add_argument("--tiles", action="store_true", help="the true groups of magnetic tiles")
    args = parser.parse_args()
    tree = labelled_files(args.folder).tree
    listed = [
        (path, f"{part}/{name}")
        for part, of_class in tree.parts.items()
        for name, paths in of_class.items()
        for path in paths
    ]
    files = [path for path, _ in listed]
    _, cells = np.unique([cell for _, cell in listed], return_inverse=True)
    if args.tiles:
        true = tiles(files)
    else:
        true = [" ".join(re.search(args.group, path.as_posix()).groups()) for path in files]  # type: ignore[union-attr]
    started = time.process_time()
    thumbnails = decode_files(files, Scaling(SIDE, SIDE, 1, thumbnail=True)).images[:, 0].numpy()
    decoded = time.process_time()
    pairs = similar_pairs(gradient_descriptors(thumbnails))
    groups, refused = join_pairs(pairs, cells.tolist())
    telling = telling_names(tree.root, files, pairs.first.tolist(), pairs.second.tolist())
    done = time.process_time()
    found = list(range(len(files)))
    for group in groups:
        for place in group:
            found[place] = group[0]
    results = {
        "images": len(files),
        "pairs": len(pairs.first),
        "pairs_of_a_true_group": float(np.mean([true[a] == true[b] for a, b in zip(*pairs, strict=True)])),
        "refused": refused,
        "true_groups": len(set(true)),
        "groups": len(set(found)),
        "largest": max(map(len, groups), default=1),
        "apart": apart(true, found),
        "names": telling and {"mark": telling.mark, "groups": len(set(telling.groups.values()))},
        "apart_by_names": apart(true, [telling.groups[path] for path in files]) if telling else None,
        "decoding_seconds": round(decoded - started, 1),
        "seconds": round(done - decoded, 1),
    }
    print(json.dumps(results, indent=1))
    print(in_words(describe()))


def apart(true: list[str], found: list[int] | list[str]) -> float:
    """The share of images that lie apart from another image of their true group.

    Args:
        true: The name of each image's true group.
        found: The name of the group that it was put into.
    """
    pieces = Counter(of_true for of_true, _ in set(zip(true, found, strict=True)))
    return sum(pieces[of_true] > 1 for of_true in true) / len(true)


if __name__ == "__main__":
    main()
