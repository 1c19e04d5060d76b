"""The images of an environment: a fixed set, or canvases that are drawn anew for every episode.

A *scene* identifies the image of an episode: an index for a fixed set of images, the canvas itself for drawn ones. An
image has one target, its class, or a sequence of targets from left to right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from glimpse.data.canvas import Canvas
from glimpse.data.datasets import Split
from glimpse.data.held_out import BLOCK, generator_for
from glimpse.nn.retina import Retina
from glimpse_envs.classification.prefiltered import PrefilteredRetina, prefiltered_bytes

PREFILTER_LIMIT = 2**30
"""Largest memory in bytes of a prefiltered retina; larger sets of images are filtered at each glimpse."""

KEPT_SENSORS = 2
"""Number of prefiltered retinas that are kept for a set of images; the oldest is dropped first."""

Sensor = Callable[[Tensor, Tensor], Tensor]
"""From scenes and locations, (x, y) in [-1, 1], to glimpses in [0, 1]."""


class SceneError(ValueError):
    """Images or labels that are invalid."""


class SceneBatch(NamedTuple):
    """The scenes and labels of new episodes."""

    scene: Tensor
    """The scenes, one in each row."""
    labels: Int64[Tensor, "batch targets"]
    """The true classes, from left to right."""


@runtime_checkable
class Scenes(Protocol):
    """A source of scenes."""

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """Channels, height and width."""
    num_targets: int
    """Number of classes to name for each image, one after the other."""

    def __len__(self) -> int:
        """Number of images to choose from."""
        ...

    def fetch(self, indices: Int64[Tensor, " batch"], generator: torch.Generator) -> SceneBatch:
        """Return scenes and labels of the images at the given indices."""
        ...

    def images(self, scene: Tensor) -> UInt8[Tensor, "batch channels height width"]:
        """The full images, which an agent does not observe."""
        ...

    def sensor(self, retina: Retina) -> Sensor:
        """A function that takes glimpses of these scenes with a retina of the given shape."""
        ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """Your own images and labels, for the argument ``dataset`` of an environment.

    Attributes:
        images: Pixels in [0, 255], uint8 (images, channels, height, width), an array or a tensor.
        labels: Class indices from 0, integers (images,) or, for sequences, (images, targets), an array or a tensor.
        classes: Class names, in the order of the indices; by default the indices as text.

    Raises:
        SceneError: When there is no image, the number of labels is wrong, or a label is not an index of a class.
    """

    images: Any
    labels: Any
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images, labels = torch.as_tensor(self.images), torch.as_tensor(self.labels).long()
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise SceneError(
                "expected images as uint8 (images, channels, height, width), got "
                f"{images.dtype} {tuple(images.shape)}; convert them to bytes with the channels first"
            )
        if 0 in images.shape:
            raise SceneError(f"expected at least one image of at least one pixel, got shape {tuple(images.shape)}")
        if labels.ndim not in (1, 2) or len(labels) != len(images) or labels.shape[-1] == 0:
            raise SceneError(
                f"expected a label, or a row of them, for each of {len(images)} images, got shape {tuple(labels.shape)}"
            )
        classes = tuple(self.classes) or tuple(str(number) for number in range(max(2, int(labels.max()) + 1)))
        if int(labels.min()) < 0 or int(labels.max()) >= len(classes):
            wrong = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
            raise SceneError(
                f"expected labels from 0 to {len(classes) - 1}, the numbers of {len(classes)} classes, got {wrong}; "
                "fix the label, or name more classes"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.unsqueeze(1) if labels.ndim == 1 else labels)
        object.__setattr__(self, "classes", classes)

    def __deepcopy__(self, memo: dict[int, object]) -> "Pictures":
        # Gymnasium copies the arguments of an environment several times; immutable images can be shared.
        return self


class FixedScenes:
    """A fixed set of images. The averages of the retina are computed in advance if they fit into memory.

    Args:
        pictures: The images.
        device: Device of the images.
    """

    def __init__(self, pictures: Pictures, device: torch.device | str = "cpu") -> None:
        self._images = pictures.images.to(device)
        self._labels = pictures.labels.to(device)
        self.classes = pictures.classes
        channels, height, width = self._images.shape[1:]
        self.image_shape = (channels, height, width)
        self.num_targets = self._labels.shape[1]
        self._sensors: dict[tuple[int, int, int], Sensor] = {}

    def __len__(self) -> int:
        return len(self._images)

    def fetch(self, indices: Int64[Tensor, " batch"], generator: torch.Generator) -> SceneBatch:
        """The indices themselves, and the labels of the images."""
        return SceneBatch(indices, self._labels.index_select(0, indices))

    def images(self, scene: Int64[Tensor, " batch"]) -> UInt8[Tensor, "batch channels height width"]:
        """The full images."""
        images: Tensor = self._images[scene]
        return images

    def sensor(self, retina: Retina) -> Sensor:
        """The prefiltered retina, created once for each shape; the plain retina if it would not fit into memory."""
        shape = (retina.size, retina.num_scales, retina.zoom)
        if shape not in self._sensors:
            fits = prefiltered_bytes(tuple(self._images.shape), retina) <= PREFILTER_LIMIT
            if len(self._sensors) == KEPT_SENSORS:
                self._sensors.pop(next(iter(self._sensors)))
            self._sensors[shape] = PrefilteredRetina(self._images, retina) if fits else partial(self._crop, retina)
        return self._sensors[shape]

    def _crop(
        self, retina: Retina, scene: Int64[Tensor, " batch"], location: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch scales channels size size"]:
        return retina(self._images[scene], location)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, object]) -> "FixedScenes":
        return self  # immutable images can be shared


class ImageScenes:
    """Base class of scenes that are the images themselves."""

    def images(
        self, scene: UInt8[Tensor, "batch channels height width"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        """The scenes themselves."""
        return scene

    def sensor(self, retina: Retina) -> Sensor:
        """The retina itself: the images are not known in advance."""
        return retina


class DrawnScenes(ImageScenes):
    """Images on canvases that are drawn anew for every episode.

    Args:
        part: The images.
        classes: Class names.
        canvas: Draws the canvas of one image. For sequences, one canvas for each target is placed side by side; the
            first has the requested image, the others random images.
        num_targets: Images on a canvas, from left to right.
        device: Device of all tensors.
    """

    def __init__(
        self,
        part: Split,
        classes: tuple[str, ...],
        canvas: Canvas,
        num_targets: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self._part = Split(part.images.to(device), part.labels.to(device))
        self._canvas = canvas
        self.classes = classes
        self.num_targets = num_targets
        self.image_shape = (part.images.shape[1], canvas.height, num_targets * canvas.width)

    def __len__(self) -> int:
        return len(self._part)

    def fetch(self, indices: Int64[Tensor, " batch"], generator: torch.Generator) -> SceneBatch:
        """Draw canvases."""
        chosen = indices.unsqueeze(1)
        if self.num_targets > 1:
            shape = (len(indices), self.num_targets - 1)
            others = torch.randint(len(self), shape, generator=generator, device=indices.device)
            chosen = torch.cat([chosen, others], dim=1)
        drawn = [
            self._canvas.draw(self._part.images[column], self._part.images, generator) for column in chosen.unbind(1)
        ]
        return SceneBatch(drawn[0] if len(drawn) == 1 else torch.cat(drawn, dim=3), self._part.labels[chosen])

    def __deepcopy__(self, memo: dict[int, object]) -> "DrawnScenes":
        return self  # immutable images can be shared

    def freeze(self, seed: int) -> Pictures:
        """Draw one canvas for each image; equal seeds give equal canvases.

        They are drawn block by block, as :class:`glimpse.data.held_out.FrozenBlocks` does in training.

        Args:
            seed: Seeds the drawing.
        """
        batches = []
        for block, indices in enumerate(torch.arange(len(self)).split(BLOCK)):
            batches.append(self.fetch(indices, generator_for("cpu", seed, block)))
        scenes, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return Pictures(scenes, labels, self.classes)


def random_indices(
    count: int, batch: int, generator: torch.Generator, device: torch.device | str
) -> Int64[Tensor, " batch"]:
    """Draw indices of images uniformly."""
    return torch.randint(count, (batch,), generator=generator, device=device)


def random_locations(batch: int, generator: torch.Generator, device: torch.device | str) -> Float[Tensor, "batch 2"]:
    """Draw locations uniformly, (x, y) in [-1, 1]."""
    return torch.rand(batch, 2, generator=generator, device=device) * 2 - 1
