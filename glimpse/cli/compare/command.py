"""``glimpse compare``: several models on one data set with one budget, side by side on a page.

torch is imported when it runs.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from glimpse.cli.parser import CommandParser, add_output_folder, add_root
from glimpse.cli.usage import UsageError, invocation

TRAINING_GROUPS = ("--data.", "--model.", "--trainer.")
"""Prefixes of the options that ``compare`` passes to its trainings, besides ``--seed``."""


def add_arguments(parser: CommandParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a recipe to train (a name or a YAML file), or a .ckpt file to load; at least two, side by side",
    )
    add_output_folder(parser, "compare")
    add_root(parser, "that of the recipes")
    parser.add_argument("--images", type=int, default=6, metavar="N", help="test images that are shown; 6 if left out")
    parser.add_argument(
        "--overwrite", action="store_true", help="train again the recipes whose finished runs DIR/runs holds"
    )
    parser.set_aside(split_training, "training")
    parser.epilog = (
        "Options of training, such as --trainer.max_epochs 8, --data.dataset mnist or --seed 1, hold for every recipe, "
        "and so do all that follow '--'. A finished run in DIR/runs is not trained again."
    )


def run(args: argparse.Namespace) -> int:
    """Check everything, train the recipes, measure all models, and write the page last.

    Args:
        args: The arguments of :func:`add_arguments`, and ``command_line``.

    Raises:
        UsageError: When the models can't be compared, or a recipe or an option is wrong.
        CheckpointError: When a checkpoint is none of ours, or its data have changed.
        DataError: When the data are not there.
    """
    from glimpse.cli.compare.pictures import classify_images, draw_pictures
    from glimpse.cli.compare.plan import plan_candidates
    from glimpse.cli.compare.report import FIGURES, PAGE, Comparison, comparison_table, write_comparison
    from glimpse.cli.compare.training import measured_model, train_timed
    from glimpse.evaluation.evaluate import evaluate_classifier
    from glimpse.training.checkpoint import load_with_data

    folder: Path = args.output
    if args.images < 1:
        raise UsageError(f"--images: expected at least 1, got {args.images}; raise it")
    candidates = plan_candidates(args.models, folder, args.training, args.root, args.overwrite)
    for old in (PAGE, FIGURES):
        (folder / old).unlink(missing_ok=True)
    for number, candidate in enumerate(candidates, start=1):
        doing = "training" if candidate.training else f"taking {candidate.checkpoint}, which is trained"
        print(f"{number}/{len(candidates)}  {candidate.name}: {doing}", flush=True)
        if candidate.training and (status := train_timed(candidate)):
            return status
    print("measuring all on the same held-out test images", flush=True)
    data = candidates[0].data
    entries, observers = [], []
    for candidate in candidates:
        training, _ = load_with_data(candidate.checkpoint, args.root)
        observers.append(training.observer)
        evaluation = evaluate_classifier(
            training.observer,
            data.test_dataloader(),
            training.classes,
            training.image_shape,
            training.first_location,
        )
        entries.append(measured_model(candidate, training.kind, evaluation))
    order = sorted(range(len(entries)), key=lambda place: (entries[place].evaluation.error, entries[place].name))
    views, disputed = classify_images([observers[place] for place in order], data, args.images)
    comparison = Comparison(
        data=data.describe(),
        command=f"{invocation()} {shlex.join(args.command_line)}",
        entries=[entries[place] for place in order],
        views=[view.answer for view in views],
        disputed=round(disputed, 4),
    )
    draw_pictures(comparison, views, folder)
    write_comparison(comparison, folder)
    print(f"\n{comparison_table(comparison)}\n\nthe page: {folder / PAGE}")
    return 0


def split_training(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide a command line into the command's own arguments and the options of every training.

    Args:
        args: The arguments; all behind ``--`` is the trainings', and so are ``--seed`` and the options of data, model
            and trainer wherever they stand. The argument that follows one of these is its value, unless it begins with
            ``--``.
    """
    own: list[str] = []
    training: list[str] = []
    remaining = list(args)
    while remaining:
        option = remaining.pop(0)
        if option == "--":
            return own, training + remaining
        if option.startswith(TRAINING_GROUPS) or option.partition("=")[0] == "--seed":
            valued = "=" not in option and remaining and not remaining[0].startswith("--")
            training += [option, remaining.pop(0)] if valued else [option]
        else:
            own.append(option)
    return own, training
