"""The base of every family's training: normalisation, validation, optimiser, schedule, and logged figures."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, ClassVar

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from glimpse.data.datamodule import ImageData
from glimpse.data.held_out import LabelledBatch, generator_for
from glimpse.data.share import share_of_this_process
from glimpse.errors import Argument, ArgumentError, Setting
from glimpse.evaluation.scores import balanced_accuracy, count_confusion
from glimpse.models.observer import Observer
from glimpse.nn.retina import fractions
from glimpse.rollout import Trace
from glimpse.training.objectives import balanced_weights, classification_loss, distillation_loss

VALIDATION_ERROR, BALANCED_ERROR = "val_error", "val_balanced_error"
"""The shares of wrong predictions among the validation images, and their mean over the classes."""
_TEACHER = "glimpse.training.transfer.teacher:Teacher"
"""By name: it knows all families, which know this module."""
GAZE_FIGURES = ("gaze_spread", "gaze_reaction")
SAMPLE = 2000
"""Training images that the pixels' mean and standard deviation are measured on."""
OPTIMISATION = {
    "learning_rate": (0.0, math.inf),
    "warm_up": (0.0, 1.0),
    "weight_decay": (0.0, math.inf),
    "smoothing": (0.0, 0.99),
    "teacher_weight": (0.0, 1.0),
    "teacher_temperature": (0.01, 1000.0),
    "seed": (0, math.inf),
}
"""Ranges of the options that every family has."""
CLASS_WEIGHTS = ("none", "balanced")


class ClassifierTraining(lightning.LightningModule):
    """Train an observer. A family adds its arguments, its observer and its ``training_step``.

    Each class saves its own arguments by :meth:`save_hyperparameters`, which adds to those that are saved already, so
    that ``hparams`` and checkpoints have all of them by name.

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        smoothing: Label smoothing, in [0, 1).
        class_weights: Weights of the classes in the cross-entropy: none, or balanced, under which each class has the
            same share of it however many training images it has.
        learning_rate: Peak of the one-cycle schedule (Smith and Topin 2018).
        warm_up: Share of the training in which the rate rises, in (0, 1).
        weight_decay: Weight decay of AdamW (Loshchilov and Hutter 2019).
        teacher: A checkpoint of a trained model, whose belief about the whole image is imitated (Hinton et al. 2015).
        teacher_weight: Its share of the classifier's loss, in [0, 1]; the labels have the rest.
        teacher_temperature: What both beliefs' logits are divided by before they are compared, above 0.
        seed: Fixes whatever is random in the training: the order of the images, the canvases, and the exploration,
            first locations and noise of a family that has them.
    """

    kind: ClassVar[str]
    """The family, as checkpoints and cards name it."""
    title: ClassVar[str]
    """The family in words, for pages and tables."""
    figures: ClassVar[tuple[str, ...]] = ("train_loss",)
    """The figures that a training step logs."""
    observer: Observer
    first_location: str = "centre"
    """Where the first glimpses are taken, one of :data:`glimpse.contract.episode.FIRST_LOCATIONS`."""
    is_finetuned: bool
    """Whether its weights, and the mean and standard deviation that belong to them, are those of another training."""

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        smoothing: float = 0.0,
        class_weights: str = "none",
        learning_rate: float = 1.5e-3,
        warm_up: float = 0.15,
        weight_decay: float = 0.01,
        teacher: str | None = None,
        teacher_weight: float = 0.5,
        teacher_temperature: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.classes = tuple(classes)
        self.image_shape = tuple(image_shape)
        self.smoothing = smoothing
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", torch.ones(len(classes)) if class_weights == "balanced" else None)
        self.learning_rate, self.warm_up, self.weight_decay = learning_rate, warm_up, weight_decay
        self.seed = seed
        self.is_finetuned = False
        self.teacher: Callable[[Tensor], Tensor] | None = None
        self.figures_of_steps: list[Tensor] = []
        self.confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self.validated_step = -1

    def forward(self, images: Tensor) -> Trace:
        """Classify images with deterministic locations. uint8 or floating point, NCHW."""
        trace: Trace = self.observer(images)
        return trace

    def load_pretrained(self) -> None:
        """Load weights that were trained elsewhere, in a family that has any; once, so that none undoes a training.

        It is called when a new fit begins, never for a checkpoint, whose weights are its own: the file may be gone.

        Raises:
            ValueError: When the weights can't be read or don't fit.
        """

    def on_fit_start(self) -> None:
        """Load the teacher. Before a new fit, load pretrained weights, and measure classes' weights and pixels.

        In ``setup``, which runs earlier, the trainer doesn't know yet whether it resumes from a checkpoint.

        Raises:
            ArgumentError: When the classes are to be weighed, and their images can't be counted.
        """
        if self.hparams["teacher"] is not None and self.teacher is None:
            self.teacher = resolve_name(_TEACHER)(self.hparams["teacher"], self.classes, self.image_shape[0])
        # Convolutions are faster with the channels last in memory: 1.1 to 1.6 times on the processor that was tried.
        self.observer.to(memory_format=torch.channels_last)
        if self.trainer.ckpt_path is not None:
            return
        data = getattr(self.trainer, "datamodule", None)
        if self.class_weights is not None:
            if not isinstance(data, ImageData):
                raise ArgumentError(
                    "expected data of the class ImageData, whose training images can be counted, with ",
                    Setting("class_weights", "balanced"),
                    f"; got {type(data).__name__}; leave it out",
                )
            self.class_weights.copy_(balanced_weights(data.class_counts))
        if self.is_finetuned:
            return
        self.load_pretrained()
        statistics = self.pixel_statistics()
        if statistics is not None:
            self.normalise_by(*statistics)

    def on_fit_end(self) -> None:
        """Lay the weights out in memory as they lie in a loaded checkpoint, so that both compute alike, to the bit."""
        self.observer.to(memory_format=torch.contiguous_format)

    def pixel_statistics(self) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation of each channel, which the model begins with: those of the training images."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ImageData):
            return None
        sample = fractions(data.draw(data.source.train.images[:SAMPLE]))
        return sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-3)

    def normalise_by(self, mean: Tensor, std: Tensor) -> None:
        """Have the model normalise pixels by these, one number a channel."""
        model = self.observer.model
        model.get_buffer("mean").copy_(mean)
        model.get_buffer("std").copy_(std)

    def classification(
        self, images: Tensor, logits: Tensor, labels: Tensor, every_glimpse: bool = True, repeats: int = 1
    ) -> Tensor:
        """The classifier's loss under this training's options, the teacher's share in it where there is a teacher.

        It is :func:`glimpse.training.objectives.classification_loss`.

        Args:
            images: uint8 NCHW.
            logits: Belief after each glimpse, (batch, time, classes).
            labels: True classes.
            every_glimpse: Whether each glimpse counts, or the last alone.
            repeats: Roll-outs an image, next to one another along the batch of the logits.
        """
        loss = classification_loss(logits, labels, every_glimpse, self.smoothing, self.class_weights)
        return self.taught(loss, images, logits, every_glimpse, repeats)

    def taught(
        self, classification: Tensor, images: Tensor, logits: Tensor, every_glimpse: bool = True, repeats: int = 1
    ) -> Tensor:
        """The classifier's loss with the teacher's share in it, where there is a teacher.

        Args:
            classification: The loss by the labels.
            images: uint8 NCHW.
            logits: Belief after each glimpse, (batch, time, classes).
            every_glimpse: Whether the belief after each glimpse is trained, or that after the last.
            repeats: Roll-outs an image, next to one another along the batch of the logits.
        """
        if self.teacher is None:
            return classification
        belief = self.teacher(images).repeat_interleave(repeats, 0)
        temperature, weight = self.hparams["teacher_temperature"], self.hparams["teacher_weight"]
        return classification.lerp(distillation_loss(logits, belief, temperature, every_glimpse), weight)

    def note(self, *figures: Tensor) -> None:
        """Log a step's figures, as means over the epoch and all at once: logging each step costs more than its loss.

        Args:
            figures: Numbers, in the order of ``self.figures``.
        """
        self.figures_of_steps.append(torch.stack([figure.detach().float() for figure in figures]))
        if self.trainer.is_last_batch:
            means = torch.stack(self.figures_of_steps).mean(0)
            self.figures_of_steps.clear()
            self.log_dict(dict(zip(self.figures, means, strict=True)), on_step=False, on_epoch=True, sync_dist=True)

    def step_generator(self, device: torch.device, batch_idx: int) -> torch.Generator:
        """The randomness of a training step; where several processes share the batch, as in one that has all of it.

        Args:
            device: Where it draws.
            batch_idx: Number of the batch in its epoch, from 0.
        """
        return generator_for(device, self.seed, 2, self.current_epoch, batch_idx, share=share_of_this_process())

    def validate(self, images: Tensor, batch_idx: int) -> Trace:
        """Look at validation images; a family that begins at random locations does so here, too.

        Args:
            images: uint8 NCHW.
            batch_idx: Which batch of the validation images they are.
        """
        trace: Trace = self(images)
        return trace

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Deterministic error on the validation images, spread of the gaze, and what of it is owed to the image.

        The spread is over images and time together; a gaze that follows one path whatever the image has it too. Its
        reaction is the spread over the images alone, the mean over time. Both are standard deviations, in half images.
        """
        images, labels = batch
        trace = self.validate(images, batch_idx)
        predictions = trace.logits[:, -1].argmax(1)
        self.confusion += count_confusion(predictions, labels, len(self.classes))
        found = {VALIDATION_ERROR: (predictions != labels).float().mean()}
        chosen = trace.locations[:, 1:]
        if chosen.shape[1]:
            found["gaze_spread"] = chosen.flatten(0, 1).std(0, correction=0).mean()
            found["gaze_reaction"] = chosen.std(0, correction=0).mean()
        self.log_dict(found, batch_size=len(labels))

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self.confusion = torch.zeros_like(self.confusion, device=self.device)

    def on_validation_epoch_end(self) -> None:
        """Log the balanced error, of the images of all processes together."""
        self.confusion = self.trainer.strategy.reduce(self.confusion, reduce_op="sum")
        self.validated_step = self.global_step
        self.log(BALANCED_ERROR, 1 - balanced_accuracy(self.confusion), sync_dist=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, in groups with the peak of their learning rates: here all that is not frozen, in one."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": trained, "lr": self.learning_rate}]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a one-cycle learning rate."""
        groups = self.parameter_groups()
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        # A rate that rises in a single step would be divided by zero.
        steps = schedule_steps(self.trainer)
        rise = max(self.warm_up, 2 / steps)
        peaks = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=rise)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]."""
        return min(1.0, self.global_step / schedule_steps(self.trainer))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint as ours, so that no other is taken for one."""
        checkpoint["glimpse_model"] = self.kind


def arguments_of(family: type) -> dict[str, inspect.Parameter]:
    """List the arguments of a class by name, those that it passes on to its base classes by ``**options`` included.

    Args:
        family: The class.
    """
    found: dict[str, inspect.Parameter] = {}
    for base in family.__mro__:
        if "__init__" in vars(base):
            _, *parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            named = {each.name: each for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD}
            found = named | found
            if len(named) == len(parameters):
                break
    return found


def schedule_steps(trainer: lightning.Trainer) -> int:
    """Steps of the learning rate's schedule: those of the training, and at least the 3 that a cycle needs."""
    return max(3, int(trainer.estimated_stepping_batches))


def check_training_options(
    options: Mapping[str, Any],
    counts: Sequence[str] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Reject options that make no sense, each with its name.

    Args:
        options: A family's arguments, by name.
        counts: Those that are at least 1.
        ranges: Least and largest value of others, beside those of ``OPTIMISATION``.
        choices: The names that others may have.

    Raises:
        ArgumentError: When one is out of its range or its choices.
    """
    if len(options["classes"]) < 2:
        raise ArgumentError(f"expected at least 2 classes, got {len(options['classes'])}")
    for name in counts:
        if options[name] < 1:
            raise ArgumentError("expected ", Argument(name), f" of at least 1, got {options[name]}; raise it")
    for name, (least, most) in {**(ranges or {}), **OPTIMISATION}.items():
        if not least <= options[name] <= most:
            raise ArgumentError("expected ", Argument(name), f" from {least:g} to {most:g}, got {options[name]}")
    for name, names in {**(choices or {}), "class_weights": CLASS_WEIGHTS}.items():
        if options[name] not in names:
            raise ArgumentError("expected ", Argument(name), f" out of {', '.join(names)}; got {options[name]!r}")
    if options["learning_rate"] <= 0:
        raise ArgumentError("expected ", Argument("learning_rate"), f" above 0, got {options['learning_rate']}")
    if options["warm_up"] in (0, 1):
        raise ArgumentError(
            "expected ", Argument("warm_up"), f" above 0 and below 1, got {options['warm_up']}; it is a share"
        )
