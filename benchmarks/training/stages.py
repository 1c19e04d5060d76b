"""Where the time of a training step goes."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.machine import threads
from benchmarks.training.steps import Alone, BareStep, Setup
from glimpse.data.datamodule import ImageData
from glimpse.rollout import Trace

STAGES = ("fetching", "drawing", "crop", "encoders", "cores", "heads and choice", "loss", "backward", "optimiser")


class Stopwatch:
    """Sums up CPU time by stage, seconds."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(("look", *STAGES), 0.0)
        self._began = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens meanwhile as one stage."""
        began = time.process_time()
        try:
            yield
        finally:
            self.spent[name] += time.process_time() - began

    def watch(self, module: nn.Module, name: str) -> None:
        """Count a module's calls as one stage; watched modules must not call each other."""

        def begin(*_: object) -> None:
            self._began = time.process_time()

        def end(*_: object) -> None:
            self.spent[name] += time.process_time() - self._began

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)

    def read(self) -> dict[str, float]:
        """Seconds by stage since the last reading; what a roll-out spends outside its modules is heads and choice."""
        spent, self.spent = self.spent, dict.fromkeys(self.spent, 0.0)
        look = spent.pop("look")
        spent["heads and choice"] = look - sum(spent[name] for name in ("crop", "encoders", "cores"))
        spent["loss"] -= look
        return spent


class Timed(Alone):
    """A LightningModule whose roll-outs are timed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stopwatch = Stopwatch()

    def explore(self, images: Tensor, generator: torch.Generator, labels: Tensor | None = None) -> Trace:
        """Look, and count it."""
        with self.stopwatch.stage("look"):
            return super().explore(images, generator, labels)


def stages(setup: Setup, steps: int) -> dict[str, Any]:
    """Where the CPU time of a training step goes, on one thread.

    Args:
        setup: The recipe.
        steps: How many steps are timed; each stage counts with its median.
    """
    data = ImageData(**setup.data)
    with threads(1):
        step = BareStep(setup, data, Timed)
        stopwatch = step.training.stopwatch
        model = step.training.observer.model
        for module, name in (
            (step.training.observer.retina, "crop"),
            (model.encoder, "encoders"),
            (model.gaze_encoder, "encoders"),
            (model.core, "cores"),
            (model.gaze_core, "cores"),
        ):
            if module is not None:
                stopwatch.watch(module, name)
        taken = [_one_step(step, data, stopwatch, number) for number in range(steps + 2)][2:]
    medians = {name: statistics.median(spent[name] for spent in taken) for name in STAGES}
    total = sum(medians.values())
    return {
        "setup": setup.name,
        "batch": setup.data["batch_size"],
        "precision": setup.precision,
        "shares": {name: seconds / total for name, seconds in medians.items()},
        "cpu_milliseconds_a_step": 1e3 * total,
    }


def _one_step(step: BareStep[Timed], data: ImageData, stopwatch: Stopwatch, number: int) -> dict[str, float]:
    part = data.source.train
    first = number * data.batch_size
    with stopwatch.stage("fetching"):
        chosen = part.take(torch.arange(first, first + data.batch_size) % len(part))
    with stopwatch.stage("drawing"):
        images = data.draw(chosen.images, batch=number)
    with stopwatch.stage("loss"):
        loss = step.loss(images, chosen.labels)
    with stopwatch.stage("backward"):
        loss.backward()
    with stopwatch.stage("optimiser"):
        step.update()
    return stopwatch.read()
