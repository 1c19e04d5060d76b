"""What a model can be asked, and what it answers: plain data, which engines pass on."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glimpse.runtime.graph import Arrays
from glimpse.runtime.prediction import Prediction

SMALL_BYTES = 2**14
"""An image file up to this size, of as many pixels at most, is decoded within a few tenths of a millisecond."""


class DecodedImage(NamedTuple):
    """An image that was decoded and put onto a model's canvas."""

    pixels: npt.NDArray[np.uint8]
    """(height, width, channels) of the canvas."""
    height: int
    """Of the image as it came, pixels."""
    width: int
    """Likewise."""


class TooLargeInBatch(NamedTuple):
    """In place of an answer: the image is to be decoded apart, and handed over as a canvas."""


@dataclass(frozen=True, slots=True)
class ClassifyJob:
    """An image to classify.

    Attributes:
        image: The bytes of an image file, or what became of them.
        name: What errors call it.
        max_glimpses: Glimpses at most; None for those of the card. Checked before.
        confidence: Probability at which it is told; None for never. Checked before.
    """

    image: bytes | DecodedImage
    name: str = "the image"
    max_glimpses: int | None = None
    confidence: float | None = None

    @property
    def key(self) -> Hashable:
        """Images are looked at together that are looked at for equally long."""
        return self.max_glimpses, self.confidence

    @property
    def size(self) -> int:
        """One image."""
        return 1

    @property
    def light(self) -> bool:
        """Whether it is soon decoded."""
        return not isinstance(self.image, bytes) or len(self.image) <= SMALL_BYTES


class ClassifyResult(NamedTuple):
    """What a model made of an image."""

    found: Prediction
    """Of a batch of one, with the glimpses that were taken, in the frame of the image as it came."""
    height: int
    """Of the image as it came, pixels."""
    width: int
    """Likewise."""
    decode_seconds: float
    """Of the whole batch."""
    model_seconds: float
    """Of the whole batch."""


@dataclass(frozen=True, slots=True)
class InferJob:
    """Inputs for the graph itself.

    Attributes:
        given: By their names.
        outputs: Names of those that are wanted.
        key: See :class:`glimpse_serve.inference.batcher.Job`.
        size: Images in it.
    """

    given: Arrays
    outputs: tuple[str, ...]
    key: Hashable | None
    size: int

    @property
    def light(self) -> bool:
        """Whether there are few of them, and the graph's time is known of others like them."""
        return self.key is not None and sum(array.nbytes for array in self.given.values()) <= SMALL_BYTES


class InferResult(NamedTuple):
    """What the graph answered."""

    outputs: Arrays
    model_seconds: float
    """Of the whole batch."""


@dataclass(frozen=True, slots=True)
class ExplainJob:
    """An image that a model is to be watched looking at.

    Attributes:
        canvas: The image on the model's canvas.
        max_glimpses: Glimpses at most; None for those of the card. Checked before.
        confidence: Probability at which it is told; None for never. Checked before.
    """

    canvas: DecodedImage
    max_glimpses: int | None = None
    confidence: float | None = None

    @property
    def key(self) -> Hashable | None:
        """It is answered alone."""
        return None

    @property
    def size(self) -> int:
        """One image."""
        return 1

    @property
    def light(self) -> bool:
        """It takes many steps."""
        return False


class ExplainResult(NamedTuple):
    """What was seen."""

    on_canvas: Prediction
    """Of a batch of one, in the canvas's frame."""
    on_image: Prediction
    """In the frame of the image as it came."""
    seconds: tuple[float, ...]
    """After which each glimpse's belief was there, from the first's beginning on."""
