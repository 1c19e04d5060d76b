"""The interface that all families of models share: whole images in, a trace of the episode out.

Evaluation, export and explanation use models only through it.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glimpse.images.geometry import boxes
from glimpse.nn.retina import Retina
from glimpse.rollout import Trace


class Observer(nn.Module):
    """A model together with the roll-out that classifies whole images with it.

    Args:
        model: The model; it has buffers ``mean`` and ``std``, one number a channel.
        num_glimpses: Glimpses in an episode; 1 for a model that processes the image at once.
        retina: The retina of the model; None for a model that processes whole images.
    """

    def __init__(self, model: nn.Module, num_glimpses: int, retina: Retina | None = None) -> None:
        super().__init__()
        self.model = model
        self.num_glimpses = num_glimpses
        self.retina = retina

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.get_buffer("mean").device

    @property
    def any_size(self) -> bool:
        """Whether the model takes images of any height and width, or only those that it was built for."""
        return True

    def forward(self, images: Shaped[Tensor, "batch channels height width"]) -> Trace:
        """Classify images, with deterministic locations.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
        """
        raise NotImplementedError

    def following(
        self, images: Shaped[Tensor, "batch channels height width"], locations: Float[Tensor, "batch time 2"]
    ) -> Trace:
        """Take glimpses at given locations; only for models that choose places to look at.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
            locations: Every fixation, (x, y) in [-1, 1].
        """
        raise NotImplementedError

    @property
    def window(self) -> int | None:
        """Side of the windows, pixels, that a model looks at after a glance at the whole; None for any other."""
        return None

    @property
    def chooses(self) -> bool:
        """Whether the model chooses places to look at, at which :meth:`following` can hold it."""
        return self.retina is not None or self.window is not None

    def boxes(
        self, locations: Float[Tensor, "batch time 2"], height: int, width: int
    ) -> Float[Tensor, "batch time scales 4"] | None:
        """What each glimpse covered: (left, top, right, bottom), pixels, finest scale first; None where it is all.

        Args:
            locations: Every fixation, (x, y) in [-1, 1].
            height: The images' height, pixels.
            width: The images' width, pixels.
        """
        retina = self.retina
        if retina is None:
            return None
        windows = boxes(locations, height, width, retina.size, retina.num_scales, retina.zoom)
        return torch.stack([torch.stack(tuple(box), dim=2) for box in windows], dim=2)

    def pixels_sensed(self, channels: int, height: int, width: int) -> int:
        """Number of pixels that an episode reads, over all channels: those of its glimpses, or those of the image."""
        return channels * (self.num_glimpses * self.retina.num_pixels if self.retina else height * width)


class WholeImageObserver(Observer):
    """A model that processes the image at once, without attention.

    Its trace is one glimpse long, at the image's middle, without a map.

    Args:
        model: Maps images to logits.
        any_size: Whether it takes images of any height and width.
    """

    def __init__(self, model: nn.Module, any_size: bool) -> None:
        super().__init__(model, num_glimpses=1)
        self._any_size = any_size

    @property
    def any_size(self) -> bool:
        """Whether it takes images of any height and width, as it was constructed."""
        return self._any_size

    def forward(self, images: Shaped[Tensor, "batch channels height width"]) -> Trace:
        """Classify, as :meth:`Observer.forward`: a trace of one glimpse."""
        logits = self.model(images)
        nothing = logits.new_zeros(logits.shape[0], 1)
        return Trace(logits.unsqueeze(1), nothing.unsqueeze(2).expand(-1, -1, 2), nothing, nothing)
