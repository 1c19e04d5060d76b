"""``glimpse evaluate``: measure a trained model on held-out images. torch is imported when it runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.parser import add_checkpoint, add_json, add_root

if TYPE_CHECKING:
    from glimpse.evaluation.evaluate import ClassifierEvaluation


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

    evaluation = evaluate_checkpoint(args.checkpoint, args.part, args.root)
    print(evaluation.to_json() if args.json else evaluation_table(evaluation))
    return 0


def evaluate_checkpoint(checkpoint: Path, part: str = "test", root: str | None = None) -> "ClassifierEvaluation":
    """Evaluate a trained model on the data that its checkpoint names.

    Args:
        checkpoint: A checkpoint that training wrote.
        part: ``test`` or ``validation``.
        root: The data set's folder, when it is not that of the training.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data are not what it was trained on.
        DataError: When the data are not there.
    """
    from glimpse.evaluation.evaluate import evaluate_classifier
    from glimpse.training.checkpoint import load_with_data

    training, data = load_with_data(checkpoint, root)
    batches = data.test_dataloader() if part == "test" else data.val_dataloader()
    return evaluate_classifier(training.observer, batches, training.classes, training.image_shape)
