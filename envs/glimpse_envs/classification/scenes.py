"""Where an environment's images come from: from a fixed set, or drawn anew on a canvas for every episode.

A *scene* is what an episode looks at. Of a fixed set it is the image's number; of drawn canvases it is the canvas. An
image has one target, its class, or a sequence of them, read from left to right.
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
"""Bytes of memory up to which fixed images are filtered beforehand."""

KEPT_SENSORS = 2
"""Shapes of a retina that fixed images stay filtered for; the oldest gives way."""

Sense = Callable[[Tensor, Tensor], Tensor]
"""From scenes and locations, (x, y) in [-1, 1], to glimpses in [0, 1]."""


class SceneError(ValueError):
    """Images or labels that no environment can show."""


class Batch(NamedTuple):
    """What new episodes look at."""

    scene: Tensor
    """The scenes, one a row."""
    labels: Int64[Tensor, "batch targets"]
    """The true classes, from left to right."""


@runtime_checkable
class Scenes(Protocol):
    """Something that deals scenes."""

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """Channels, height and width."""
    num_targets: int
    """Classes to be told of an image, one after the other."""

    def __len__(self) -> int:
        """How many images there are to choose from."""
        ...

    def deal(self, places: Int64[Tensor, " batch"], generator: torch.Generator) -> Batch:
        """Deal the scenes of the images at the given places."""
        ...

    def images(self, scene: Tensor) -> UInt8[Tensor, "batch channels height width"]:
        """The whole images, which an agent never gets to see."""
        ...

    def sensor(self, retina: Retina) -> Sense:
        """How the retina looks at these scenes."""
        ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images and labels of one's own, to be handed to an environment as its ``dataset``.

    Attributes:
        images: Pixels in [0, 255], uint8 (images, channels, height, width), an array or a tensor.
        labels: Class numbers from 0, whole numbers (images,) or, for sequences, (images, targets), likewise.
        classes: Class names, in the order of the labels; the numbers as text when left out.

    Raises:
        SceneError: When there is no image, there is not one label for each, or a label is outside the classes.
    """

    images: Any
    labels: Any
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images, labels = torch.as_tensor(self.images), torch.as_tensor(self.labels).long()
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise SceneError(
                "expected images as uint8 (images, channels, height, width), got "
                f"{images.dtype} {tuple(images.shape)}; bring them to bytes with the channels first"
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
                "mend the label, or name more classes"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.unsqueeze(1) if labels.ndim == 1 else labels)
        object.__setattr__(self, "classes", classes)

    def __deepcopy__(self, memo: dict[int, object]) -> "Pictures":
        # Gymnasium copies an environment's arguments again and again; what never changes may be shared.
        return self


class FixedScenes:
    """Images that are always the same. They are filtered beforehand where memory allows it.

    Args:
        pictures: The images.
        device: Where they are kept.
    """

    def __init__(self, pictures: Pictures, device: torch.device | str = "cpu") -> None:
        self._images = pictures.images.to(device)
        self._labels = pictures.labels.to(device)
        self.classes = pictures.classes
        channels, height, width = self._images.shape[1:]
        self.image_shape = (channels, height, width)
        self.num_targets = self._labels.shape[1]
        self._sensors: dict[tuple[int, int, int], Sense] = {}

    def __len__(self) -> int:
        return len(self._images)

    def deal(self, places: Int64[Tensor, " batch"], generator: torch.Generator) -> Batch:
        """Deal images by their numbers."""
        return Batch(places, self._labels.index_select(0, places))

    def images(self, scene: Int64[Tensor, " batch"]) -> UInt8[Tensor, "batch channels height width"]:
        """The whole images."""
        shown: Tensor = self._images[scene]
        return shown

    def sensor(self, retina: Retina) -> Sense:
        """The prefiltered retina, made once for each shape; the plain one where it would not fit into memory."""
        shape = (retina.size, retina.num_scales, retina.zoom)
        if shape not in self._sensors:
            fits = prefiltered_bytes(tuple(self._images.shape), retina) <= PREFILTER_LIMIT
            if len(self._sensors) == KEPT_SENSORS:
                self._sensors.pop(next(iter(self._sensors)))
            self._sensors[shape] = PrefilteredRetina(self._images, retina) if fits else partial(self._look, retina)
        return self._sensors[shape]

    def _look(
        self, retina: Retina, scene: Int64[Tensor, " batch"], location: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch scales channels size size"]:
        return retina(self._images[scene], location)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, object]) -> "FixedScenes":
        return self  # images never change, and may be shared


class DrawnScenes:
    """Images put onto canvases that are drawn anew for every episode.

    Args:
        part: The images.
        classes: Class names.
        canvas: How a canvas is drawn. Of sequences it is the canvas of one image: as many are put side by side as
            there are targets, and the images beside the chosen one are chosen at random.
        num_targets: Images on a canvas, from left to right.
        device: Where everything is kept.
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

    def deal(self, places: Int64[Tensor, " batch"], generator: torch.Generator) -> Batch:
        """Draw canvases."""
        chosen = places.unsqueeze(1)
        if self.num_targets > 1:
            shape = (len(places), self.num_targets - 1)
            others = torch.randint(len(self), shape, generator=generator, device=places.device)
            chosen = torch.cat([chosen, others], dim=1)
        drawn = [
            self._canvas.draw(self._part.images[column], self._part.images, generator) for column in chosen.unbind(1)
        ]
        return Batch(drawn[0] if len(drawn) == 1 else torch.cat(drawn, dim=3), self._part.labels[chosen])

    def images(
        self, scene: UInt8[Tensor, "batch channels height width"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        """The canvases themselves."""
        return scene

    def sensor(self, retina: Retina) -> Sense:
        """The retina itself: nothing can be prepared."""
        return retina

    def __deepcopy__(self, memo: dict[int, object]) -> "DrawnScenes":
        return self  # images never change, and may be shared

    def freeze(self, seed: int) -> Pictures:
        """Draw one canvas for each image, the same ones every time.

        They are drawn block by block, as :class:`glimpse.data.held_out.FrozenBlocks` draws those of a training.

        Args:
            seed: Freezes them.
        """
        dealt = []
        for block, places in enumerate(torch.arange(len(self)).split(BLOCK)):
            dealt.append(self.deal(places, generator_for("cpu", seed, block)))
        scenes, labels = (torch.cat(parts) for parts in zip(*dealt, strict=True))
        return Pictures(scenes, labels, self.classes)


def random_places(
    count: int, batch: int, generator: torch.Generator, device: torch.device | str
) -> Int64[Tensor, " batch"]:
    """Choose images, each as likely as any other."""
    return torch.randint(count, (batch,), generator=generator, device=device)


def random_locations(batch: int, generator: torch.Generator, device: torch.device | str) -> Float[Tensor, "batch 2"]:
    """Choose places on the image, (x, y) in [-1, 1], each as likely as any other."""
    return torch.rand(batch, 2, generator=generator, device=device) * 2 - 1
