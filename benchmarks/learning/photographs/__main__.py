"""Photographs: what ``glimpse train DIR`` makes of a set, and what looking earns there.

``python -m benchmarks.learning.photographs SET [--root DIR] [--seeds N ...] [--output FILE]`` runs ``glimpse train``
once for each seed as a user would, and measures the model on the test images. Figures of earlier calls in FILE are
kept.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe
from benchmarks.harness.reports import hand_back
from glimpse.cli.threads import set_defaults, use_all_processors

AS_STARTED = dict(os.environ)
"""The environment of a user's command: without the settings of this process."""
set_defaults()

from benchmarks.learning.photographs.product import evaluate_product, train_product  # noqa: E402
from benchmarks.learning.photographs.report import report  # noqa: E402
from benchmarks.learning.photographs.results import merge_results, read_result, write_result  # noqa: E402
from benchmarks.learning.photographs.sets import SETS, PhotoSet, make_up  # noqa: E402
from benchmarks.learning.photographs.similar import write_similar_groups  # noqa: E402
from glimpse.data.datasets import data_root  # noqa: E402

MINUTES, QUICK_MINUTES = 20.0, 0.1


def main(args: Sequence[str]) -> int:
    """Train, measure, print the tables, and write the figures to ``--output`` as soon as there are some.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.learning.photographs", __doc__)
    parser.add_argument("set", metavar="SET", choices=SETS, help=f"the photographs: {', '.join(SETS)}")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help=f"the folder that holds {', '.join(each.folder for each in SETS.values())}; GLIMPSE_DATA if left out",
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"what the product is given (default: {MINUTES:g})"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="of the runs (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the runs' folders go; dropped if left out")
    parser.add_argument(
        "--evaluate-only", action="store_true", help="measure the runs in --keep again; --output has their times"
    )
    options = options_of(args, parser)
    photos = SETS[options.set]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "photographs" if options.quick else data_root(options.root).resolve()
        folder = make_up(photos, root) if options.quick else root / photos.folder
        if not folder.is_dir():
            parser.error(f"--root: expected a folder that holds {photos.folder}, found none in {root}; unpack it there")
        runs = options.keep.resolve() if options.keep else Path(place) / "runs"
        more: tuple[str, ...] = ()
        if photos.similar and not options.quick:
            table = runs / f"{options.set}.csv"
            print(f"{write_similar_groups(folder, table):,} groups of similar photographs", flush=True)
            more = ("--data.labels", str(table), "--data.near_duplicates", "false")
        result = merge_results(read_result(options.output), result_of(options.set, photos, options.quick))
        for seed in options.seeds:
            output = runs / f"{options.set}-seed{seed}"
            if options.evaluate_only:
                training = result["seeds"].get(str(seed), {}).get("product", {}).get("training")
                if training is None or not output.is_dir():
                    parser.error(f"--evaluate-only: expected a run in --keep, its times in --output; run seed {seed}")
            else:
                minutes = QUICK_MINUTES if options.quick else options.minutes
                training = train_product(folder, minutes, seed, output, AS_STARTED, more)
                result = add(result, seed, {"product": {"training": training}}, options.output)
            use_all_processors()
            found = {"training": training, **evaluate_product(folder, output, photos)}
            result = add(result, seed, {"product": found}, options.output)
    hand_back(report(result), result, options.output)
    return 0


def result_of(name: str, photos: PhotoSet, quick: bool) -> dict[str, Any]:
    """A result without figures yet.

    Args:
        name: Of the set.
        photos: The set.
        quick: Whether the figures mean nothing.
    """
    machine = describe()
    return {
        "quick": quick,
        "set": name,
        "about": photos.about if not quick else f"made-up images in the place of {photos.about}",
        "measure": photos.measure,
        "target": photos.target,
        "known": list(photos.known),
        "machine": machine,
        "load_average_after": machine["load_average"],
        "seeds": {},
    }


def add(result: Mapping[str, Any], seed: int, found: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
    """Add figures to a result, and write it, so that what comes next can fail.

    Args:
        result: The result so far.
        seed: Of the run that the figures are of.
        found: The figures.
        output: The file to write, if any.
    """
    latest = {**result, "load_average_after": describe()["load_average"], "seeds": {str(seed): found}}
    merged = merge_results(result, latest)
    write_result(merged, output)
    return merged


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
