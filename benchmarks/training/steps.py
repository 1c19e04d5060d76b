"""How fast training is: the bare step, and the whole trainer beside it."""

import io
import itertools
import logging
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytorch_lightning as lightning
import torch
import yaml
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from benchmarks.harness.machine import Clock, Samples, clocked, interleave, threads
from glimpse.cli.train.arguments import complete_arguments
from glimpse.cli.train.lightning_setup import quiet
from glimpse.cli.train.recipes import find_recipe, read_recipe
from glimpse.cli.train.training_cli import TrainingCLI
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import DataError
from glimpse.training import HardAttentionTraining
from glimpse.training.precision import choose_precision

PAPER_MODEL = {
    "num_glimpses": 6,
    "glimpse_size": 8,
    "num_scales": 1,
    "hidden": 256,
    "what": "mlp",
    "combine": "add",
    "core": "plain",
    "gaze": "nothing",
    "reward": "terminal",
    "every_glimpse": False,
}
"""Mnih et al. 2014, section 3.1, for 28x28 images."""
CACHED_BATCHES = 32
"""Batches that the bare step goes round, drawn beforehand."""


@dataclass(frozen=True)
class Setup:
    """One training recipe, in the groups of a recipe's file.

    Attributes:
        name: What it is called in the results.
        data: Arguments of ``ImageData``.
        model: Arguments of ``HardAttentionTraining``.
        trainer: Arguments of Lightning's trainer.
    """

    name: str
    data: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """Lightning's name for the precision; what a recipe leaves to the hardware is chosen as in a training."""
        return choose_precision(self.trainer.get("precision"), "cpu").name


def paper_setup(name: str, dataset: str, batch: int, precision: str, **data: Any) -> Setup:
    """The paper's model on images as they are: an encoder of linear layers, one roll-out, a reward at the end.

    Args:
        name: What it is called in the results.
        dataset: Name of the data set.
        batch: Images in a batch.
        precision: Lightning's name for the precision.
        data: More arguments of ``ImageData``.
    """
    return Setup(name, {"dataset": dataset, "batch_size": batch, **data}, PAPER_MODEL, {"precision": precision})


def recipe_setup(name: str, dataset: str) -> Setup:
    """A recipe that comes with Glimpse, as it is shipped, over the data set that is there.

    Args:
        name: The recipe's name.
        dataset: Name of the data set.
    """
    groups = read_recipe(find_recipe(name))
    data = {**groups["data"]["init_args"], "dataset": dataset}
    return Setup(f"{name}.yaml", data, groups["model"]["init_args"], groups["trainer"])


def available_dataset() -> str:
    """``mnist`` where it is found, else the embedded ``digits``."""
    try:
        _ = ImageData("mnist").source
    except DataError:
        return "digits"
    return "mnist"


class Alone(HardAttentionTraining):
    """The LightningModule apart from a trainer: the same training step, without logging."""

    def current_spread(self) -> float:
        """Exploration as at the start of the training."""
        return self.spread

    def note(self, *figures: Tensor) -> None:
        """Nothing is logged."""


Module = TypeVar("Module", bound=Alone)


class BareStep(Generic[Module]):
    """One optimiser step on batches that lie ready: what any trainer of this model has to compute.

    Args:
        setup: The recipe.
        data: Where the batches come from; canvases are drawn here, beforehand.
        module: The LightningModule's class.
    """

    def __init__(self, setup: Setup, data: ImageData, module: type[Module]) -> None:
        torch.manual_seed(0)
        self.training = module(classes=data.classes, image_shape=data.image_shape, **setup.model)
        self.optimizer = torch.optim.AdamW(
            self.training.parameters(), lr=self.training.learning_rate, weight_decay=self.training.weight_decay
        )
        self.clip = setup.trainer.get("gradient_clip_val")
        self.mixed = setup.precision == "bf16-mixed"
        part = data.source.train
        shown = part.take(torch.arange(CACHED_BATCHES * data.batch_size) % len(part))
        images = data.draw(shown.images)
        ready = zip(images.split(data.batch_size), shown.labels.split(data.batch_size), strict=True)
        self.batches = itertools.cycle(list(ready))

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The LightningModule's loss."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            return self.training.training_step((images, labels), 0)

    def update(self) -> None:
        """Change the weights, and forget the gradients."""
        if self.clip:
            nn.utils.clip_grad_norm_(self.training.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self) -> None:
        """Take the step."""
        self.loss(*next(self.batches)).backward()
        self.update()


def bare_steps(setups: list[Setup], threads_used: int, repetitions: int, seconds: float) -> list[dict[str, Any]]:
    """Time the bare step of several recipes side by side.

    Args:
        setups: The recipes; the first is what the others are compared with.
        threads_used: Threads that torch computes with.
        repetitions: Samples of each.
        seconds: CPU time of a sample.
    """
    with threads(threads_used):
        steps = {setup.name: BareStep(setup, ImageData(**setup.data), Alone) for setup in setups}
        samples = interleave(steps, repetitions, seconds)
    first = setups[0]
    return [
        {
            "setup": setup.name,
            "threads": threads_used,
            "times_first": _speed(samples[setup.name], setup, samples[first.name], first, "cpu"),
            "times_first_wall": _speed(samples[setup.name], setup, samples[first.name], first, "wall"),
            **_rates(samples[setup.name], setup.data["batch_size"]),
        }
        for setup in setups
    ]


def _speed(mine: Samples, setup: Setup, theirs: Samples, first: Setup, clock: str) -> float:
    """How many times more images in the same time."""
    images: float = setup.data["batch_size"] / first.data["batch_size"]
    return theirs.over(mine, clock) * images


def _rates(samples: Samples, images: int) -> dict[str, float]:
    return {
        "images_per_cpu_second": images / samples.median(),
        "images_per_second": images / samples.median("wall"),
    }


class SideBySide(Callback):
    """Times each epoch of a training run, validation left out, and just before it as many bare steps.

    Args:
        bare: The same recipe's bare step.
        steps: Bare steps before each epoch.
    """

    def __init__(self, bare: Callable[[], Any], steps: int) -> None:
        self.bare = bare
        self.steps = steps
        self.trainer_clocks: list[Clock] = []
        self.bare_clocks: list[Clock] = []
        self.batches = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the epoch before, time the bare steps, and start the epoch's clock."""
        self._close()
        self.bare_clocks.append(clocked(self.bare, self.steps))
        self.trainer_clocks.append(Clock())
        self.trainer_clocks[-1].start()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop for the validation."""
        self.trainer_clocks[-1].stop()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on: what is written after the validation belongs to the training."""
        self.trainer_clocks[-1].start()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the last epoch."""
        self._close()
        self.batches = int(trainer.num_training_batches)

    def _close(self) -> None:
        if self.trainer_clocks:
            self.trainer_clocks[-1].stop()


class MeasuredCLI(TrainingCLI):
    """The command behind ``glimpse train``, with one callback more, ahead of all the others."""

    watch: Callback

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Add the callback."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.insert(0, self.watch)
        return trainer


def trainer_beside_bare(setup: Setup, threads_used: int, epochs: int, steps: int) -> dict[str, Any]:
    """Train as ``glimpse train`` does, and time its epochs against the same recipe's bare step, in turn.

    Args:
        setup: The recipe.
        threads_used: Threads that torch computes with.
        epochs: Epochs that count; one more goes before them, to warm up.
        steps: Batches in an epoch; 0 for all there are.
    """
    data = ImageData(**setup.data)
    count = steps or len(data.train_dataloader())
    with threads(threads_used):
        watch = SideBySide(BareStep(setup, data, Alone), count)
        with tempfile.TemporaryDirectory() as folder:
            _train(setup, watch, Path(folder), epochs + 1, count)
    trainer, bare = (
        Samples(
            tuple(clock.cpu / watch.batches for clock in clocks[1:]),
            tuple(clock.wall / watch.batches for clock in clocks[1:]),
        )
        for clocks in (watch.trainer_clocks, watch.bare_clocks)
    )
    batch = setup.data["batch_size"]
    return {
        "setup": setup.name,
        "threads": threads_used,
        "of_bare": bare.over(trainer),
        "of_bare_wall": bare.over(trainer, "wall"),
        "batches_an_epoch": watch.batches,
        "trainer": _rates(trainer, batch),
        "bare": _rates(bare, batch),
    }


def _train(setup: Setup, watch: Callback, folder: Path, epochs: int, steps: int) -> None:
    recipe = folder / "recipe.yaml"
    groups = {
        "data": {"class_path": "ImageData", "init_args": setup.data},
        "model": {"class_path": "HardAttentionTraining", "init_args": setup.model},
        "trainer": {**setup.trainer, "max_epochs": epochs, "limit_train_batches": steps},
    }
    recipe.write_text(yaml.safe_dump(groups), encoding="utf-8")
    arguments, name = complete_arguments(["--config", str(recipe), "--output", str(folder / "run")], {})
    watched = type("WatchedCLI", (MeasuredCLI,), {"watch": watch})
    logging.disable(logging.INFO)
    try:
        with quiet(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            watched(arguments, "glimpse train", name)
    finally:
        logging.disable(logging.NOTSET)
