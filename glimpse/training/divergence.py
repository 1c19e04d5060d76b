"""A training that has diverged stops before it keeps a model: its loss or a weight is no finite number any more."""

from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from glimpse.data.share import mean_over_processes
from glimpse.errors import Argument, Sentence, Setting, Spelling, in_python

INTERVAL = 50
"""Steps after which losses are looked at on a GPU, which would have to be waited for; on a processor each one is."""


class DivergedError(Exception):
    """A training whose loss or weights have become infinite or NaN.

    Args:
        what: Which of them, since which step.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.sentence = Sentence(
            f"{what}; lower ",
            Argument("learning_rate"),
            ", clip the gradients with ",
            Setting("gradient_clip_val", 1.0),
            ", or compute in ",
            Setting("precision", "32-true"),
        )

    def __str__(self) -> str:
        return self.render()

    def render(self, spelling: Spelling = in_python) -> str:
        """Write the sentence for a front end, see :meth:`glimpse.errors.Sentence.render`."""
        return self.sentence.render(spelling)


class DivergenceStop(Callback):
    """Stop a training when its loss becomes infinite or NaN, and never let a checkpoint hold such weights.

    Raises:
        DivergedError: From the hooks, in every process of the training alike.
    """

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[Tensor] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Forget an earlier fit."""
        self._steps, self._losses = [], []

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Note the loss of a step, and look at it before it changes the weights, or some steps later."""
        self._steps.append(trainer.global_step + 1)
        self._losses.append(loss.detach())
        if loss.device.type == "cpu" or len(self._losses) >= INTERVAL:
            self._check_losses()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at what a validation would otherwise measure for nothing."""
        self._check_losses()
        check_weights(dict(pl_module.state_dict()), trainer.global_step)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look at what is about to take the place of the last good model."""
        self._check_losses()
        check_weights(checkpoint["state_dict"], trainer.global_step)

    def _check_losses(self) -> None:
        if not self._losses:
            return
        losses = mean_over_processes(torch.stack(self._losses)).tolist()
        steps, self._steps, self._losses = self._steps, [], []
        for step, loss in zip(steps, losses, strict=True):
            if not abs(loss) < float("inf"):
                raise DivergedError(f"the loss became {loss} at step {step}")


def check_weights(weights: dict[str, Any], step: int) -> None:
    """Reject weights that are infinite or NaN.

    Args:
        weights: A model's state; what is no tensor of floating-point numbers is passed over.
        step: How many steps were taken.

    Raises:
        DivergedError: When there are such weights; it names the first.
    """
    for name, weight in weights.items():
        if isinstance(weight, Tensor) and weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise DivergedError(f"the weights {name} were no finite numbers any more after step {step}")
