"""What a training tells its user beforehand, and at its end: how good its models are, which to take, what comes next.

It imports torch.
"""

import shlex
from dataclasses import replace
from pathlib import Path

from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from glimpse.cli.usage import invocation
from glimpse.data.datamodule import ImageData
from glimpse.evaluation.evaluate import beliefs
from glimpse.evaluation.recommendation import Finalist, finalists_table, recommend
from glimpse.evaluation.scores import is_unbalanced
from glimpse.training.callbacks import BEST_FILE, CONFUSION_FILE, CURVES_FILE, LAST_FILE, METRICS_FILE
from glimpse.training.checkpoint import read_checkpoint
from glimpse.training.classifier import BALANCED_ERROR, VALIDATION_ERROR, ClassifierTraining


def measure_of(model: LightningModule | None, data: LightningDataModule | None) -> str:
    """The figure by which the best model is chosen: the balanced error where the classes are unbalanced.

    Args:
        model: What is trained.
        data: What it is trained on.
    """
    if isinstance(model, ClassifierTraining) and isinstance(data, ImageData) and is_unbalanced(data.class_counts):
        return BALANCED_ERROR
    return VALIDATION_ERROR


def notes_before(
    model: LightningModule, data: LightningDataModule, patience: int | None, epochs: int | None
) -> list[str]:
    """What a user should know before a training starts: how its best model is chosen, and when it ends.

    Args:
        model: What is trained.
        data: What it is trained on.
        patience: Epochs without a better model after which the training stops; None for never.
        epochs: Epochs that the training is to have; None or -1 where steps are its end.
    """
    notes = []
    if measure_of(model, data) == BALANCED_ERROR and isinstance(data, ImageData):
        least, most = int(data.class_counts.min()), int(data.class_counts.max())
        weigh = "--model.class_weights balanced makes them count alike in training, too"
        notes.append(
            f"data: the classes are unbalanced, with {least:,} to {most:,} training images: {BEST_FILE} is chosen by "
            "the balanced error, in which each class counts alike"
            + ("" if model.hparams["class_weights"] == "balanced" else f"; {weigh}")
        )
    if patience is not None:
        course = _epochs(epochs) if epochs and epochs > 0 else "the whole training"
        notes.append(
            f"early stopping: after {_epochs(patience)} without a better model; the learning rate follows its course "
            f"over {course}, and errors fall most at its end, so a short patience may stop too early"
        )
    return notes


def stopped_early(trainer: Trainer) -> str | None:
    """The sentence about a training that early stopping has ended; None for any other.

    Args:
        trainer: After the fit.
    """
    stopping = trainer.early_stopping_callback
    if not isinstance(stopping, EarlyStopping) or not stopping.stopped_epoch:
        return None
    group = trainer.optimizers[0].param_groups[0]
    of = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    rate = f"; the learning rate was at {group['lr'] / group['max_lr']:.0%} of its peak" if "max_lr" in group else ""
    return (
        f"stopped early, after epoch {stopping.stopped_epoch + 1}{of}: no better model for "
        f"{_epochs(stopping.patience)}{rate}"
    )


def _epochs(count: int) -> str:
    return f"{count} epoch" + "s" * (count != 1)


def is_finished(trainer: Trainer) -> bool:
    """Whether a training came to the end that it was planned to have.

    Args:
        trainer: After the fit.
    """
    epochs, steps = trainer.max_epochs or -1, trainer.max_steps
    return 0 < epochs <= trainer.current_epoch or 0 < steps <= trainer.global_step


def compare_models(
    trainer: Trainer, model: ClassifierTraining, data: ImageData, output: Path
) -> tuple[list[str], Path, str]:
    """Evaluate the best and the last model on the validation images, and recommend one of them.

    Args:
        trainer: After the fit.
        model: What was trained; it is left with the weights of the last model.
        data: What it was trained on.
        output: The run's folder, with both checkpoints in it.

    Returns:
        A table as lines, the checkpoint to take, and the reason.
    """
    model.to(trainer.strategy.root_device)
    finalists: list[Finalist] = []
    steps: list[int] = []
    for name in (BEST_FILE, LAST_FILE):
        checkpoint = read_checkpoint(output / name)
        steps.append(checkpoint["global_step"])
        if len(set(steps)) < len(steps):  # the best model is the last one
            finalists.append(replace(finalists[0], name=name))
            continue
        model.load_state_dict(checkpoint["state_dict"])
        logits, labels = beliefs(model.observer, data.val_dataloader(), "own", model.first_location)
        finalists.append(Finalist(name, checkpoint["epoch"] + 1, logits[:, -1]))
    model.to("cpu")
    balanced = measure_of(model, data) == BALANCED_ERROR
    chosen, reason = recommend(finalists[0], finalists[1], labels, balanced, is_finished(trainer))
    return finalists_table(finalists, labels, model.classes), output / chosen.name, reason


def conclude(trainer: Trainer, model: LightningModule, data: LightningDataModule, output: Path) -> list[str]:
    """What a user should know after a training: how good its models are, which one to take, and the next command.

    Args:
        trainer: After the fit.
        model: What was trained.
        data: What it was trained on.
        output: The run's folder.

    Returns:
        Lines to print; none where no model was kept.
    """
    chosen, lines, reason = output / LAST_FILE, [""], ""
    if not chosen.exists():
        return []
    if sentence := stopped_early(trainer):
        lines.append(sentence)
    if isinstance(model, ClassifierTraining) and isinstance(data, ImageData) and (output / BEST_FILE).exists():
        table, chosen, reason = compare_models(trainer, model, data, output)
        lines += table
    return [
        *lines,
        f"the trained model: {chosen}" + f", {reason}" * bool(reason),
        f"how it went: {output / METRICS_FILE}, {CURVES_FILE} and {CONFUSION_FILE} beside it",
        f"next: {invocation()} evaluate {shlex.quote(str(chosen))}",
    ]
