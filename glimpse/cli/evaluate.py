"""``glimpse evaluate``: measure a trained model on held-out images. torch is imported when it runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.parser import add_checkpoint, add_json, add_root, parse_location
from glimpse.cli.usage import UsageError
from glimpse.contract.episode import FIRST_LOCATIONS

if TYPE_CHECKING:
    from glimpse.evaluation.evaluate import ClassifierEvaluation, FirstLocation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    add_checkpoint(parser)
    add_root(parser, "that of the training")
    parser.add_argument(
        "--part",
        choices=("test", "validation"),
        default="test",
        help="which images to measure on; the test images if left out",
    )
    parser.add_argument(
        "--first-location",
        type=parse_first_location,
        metavar="centre|random|X,Y",
        help="where the first glimpses are taken, X and Y in [-1, 1], the image's centre 0,0; as in the training if "
        "left out",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint and print its figures.

    Args:
        args: The arguments of :func:`add_arguments`.

    Raises:
        CheckpointError: See :func:`evaluate_checkpoint`.
        DataError: See :func:`evaluate_checkpoint`.
    """
    from glimpse.evaluation.evaluate import evaluation_table

    evaluation = evaluate_checkpoint(args.checkpoint, args.part, args.root, args.first_location)
    print(evaluation.to_json() if args.json else evaluation_table(evaluation))
    return 0


def evaluate_checkpoint(
    checkpoint: Path, part: str = "test", root: str | None = None, first_location: "FirstLocation | None" = None
) -> "ClassifierEvaluation":
    """Evaluate a trained model on the data that its checkpoint names.

    Args:
        checkpoint: A checkpoint that training wrote.
        part: ``test`` or ``validation``.
        root: The data set's folder, when it is not that of the training.
        first_location: Where the first glimpses are taken; as in the training when left out.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data are not what it was trained on.
        DataError: When the data are not there.
        UsageError: When a first location is given, and the model has no retina.
    """
    from glimpse.evaluation.evaluate import evaluate_classifier
    from glimpse.training.checkpoint import load_with_data

    training, data = load_with_data(checkpoint, root)
    batches = data.test_dataloader() if part == "test" else data.val_dataloader()
    if first_location is not None and training.observer.retina is None:
        raise UsageError(
            f"--first-location: expected a model with a retina, got one that takes whole images in ({training.kind}); "
            "leave it out"
        )
    return evaluate_classifier(
        training.observer,
        batches,
        training.classes,
        training.image_shape,
        training.first_location if first_location is None else first_location,
    )


def parse_first_location(text: str) -> "FirstLocation":
    """Read a first location: one of :data:`glimpse.contract.episode.FIRST_LOCATIONS`, or two numbers in [-1, 1].

    Args:
        text: As it was given on the command line.

    Raises:
        ArgumentTypeError: When it is neither.
    """
    if text in FIRST_LOCATIONS:
        return text
    try:
        return parse_location(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected {', '.join(FIRST_LOCATIONS)}, or X,Y, both in [-1, 1], got {text!r}; 0,0 is the image's centre"
        ) from None
