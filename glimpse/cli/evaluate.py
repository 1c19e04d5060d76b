"""``glimpse evaluate``: measure a trained model on images that it has never seen."""

import argparse
from pathlib import Path

from glimpse.evaluation.evaluate import ClassifierEvaluation, evaluate_classifier
from glimpse.training.checkpoint import load_with_data


def evaluate_checkpoint(checkpoint: Path, part: str = "test", root: str | None = None) -> ClassifierEvaluation:
    """Evaluate a trained model on the data that its checkpoint names.

    Args:
        checkpoint: A checkpoint that training wrote.
        part: ``test`` or ``validation``.
        root: Where the data set lies, when not where it lay in training.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data are not what it was trained on.
        DataError: When the data are not there.
    """
    training, data = load_with_data(checkpoint, root)
    batches = data.test_dataloader() if part == "test" else data.val_dataloader()
    return evaluate_classifier(training.observer, batches, training.classes, training.image_shape)


def _evaluate(args: argparse.Namespace) -> int:
    from glimpse.evaluation.evaluate import evaluation_table

    pass

    evaluation = evaluate_checkpoint(args.checkpoint, args.part, args.root)
    print(evaluation.to_json() if args.json else evaluation_table(evaluation))
    return 0
