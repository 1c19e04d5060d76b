"""A teacher: a trained model whose belief about the whole image a student imitates (Hinton et al. 2015)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from glimpse.errors import Argument
from glimpse.nn.retina import fractions
from glimpse.training.checkpoint import CheckpointError, load_training


class Teacher:
    """A trained model that only answers. It is no part of the student: it is neither trained nor saved with it.

    Args:
        checkpoint: A checkpoint of any family, which training wrote.
        classes: The student's classes.
        channels: Channels of the student's images.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or knows other classes or another number of channels.
    """

    def __init__(self, checkpoint: str | Path, classes: Sequence[str], channels: int) -> None:
        training, _ = load_training(checkpoint)
        for what, expected, found in (
            ("the classes", ", ".join(classes), ", ".join(training.classes)),
            ("images of as many channels", str(channels), str(training.image_shape[0])),
        ):
            if expected != found:
                raise CheckpointError(
                    f"expected a teacher of {what}, {expected}, got {checkpoint}, which was trained on {found}; "
                    "train it on the same data, or leave out ",
                    Argument("teacher"),
                )
        self.observer = training.observer.requires_grad_(False)
        self.size = training.image_shape[1:]

    @torch.no_grad()
    def __call__(self, images: Shaped[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Its logits for whole images, which are scaled to the size that it was trained on.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
        """
        if self.observer.device != images.device:
            self.observer.to(images.device)
        if images.shape[2:] != self.size:
            images = functional.interpolate(
                fractions(images), self.size, mode="bilinear", align_corners=False, antialias=True
            )
        logits: Tensor = self.observer(images).logits[:, -1]
        return logits.float()
