"""Jobs for a model and their results: plain data that executors pass on, between processes if need be."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from glimpse.runtime.graph import Arrays
from glimpse.runtime.prediction import Prediction
from glimpse_serve.inference.decoder import DecodedImage

SMALL_BYTES = 2**14
"""An image file of at most so many bytes (and pixels) is decoded within a few tenths of a millisecond."""

MOST_BYTES = 2**16
"""Bytes of the largest file that is looked into with its batch: four for each pixel of the largest image that is."""


class TooLargeInBatch(NamedTuple):
    """In place of a result: the image is too large for the batch; submit it again as a :class:`DecodedImage`."""


@dataclass(frozen=True, slots=True)
class ClassifyJob:
    """An image to classify.

    Attributes:
        image: The bytes of an image file, or the decoded image.
        name: The image's name in error messages.
        max_glimpses: Glimpses at most; None for those of the card. Already validated.
        confidence: Probability at which the prediction is returned early; None for never. Already validated.
        first_location: Where to begin, (x, y) in [-1, 1] of the image; None for the centre. Already validated.
    """

    image: bytes | DecodedImage
    name: str = "the image"
    max_glimpses: int | None = None
    confidence: float | None = None
    first_location: tuple[float, float] | None = None

    @property
    def key(self) -> Hashable:
        """Images with the same limits and the same first location may share a batch."""
        return self.max_glimpses, self.confidence, self.first_location

    @property
    def size(self) -> int:
        """Always one image."""
        return 1

    @property
    def light(self) -> bool:
        """Whether it is decoded already, or small."""
        return not isinstance(self.image, bytes) or len(self.image) <= SMALL_BYTES


class ClassifyResult(NamedTuple):
    """The prediction for one image."""

    prediction: Prediction
    """Of a batch of one, with the glimpses that were taken, in the frame of the original image."""
    height: int
    """Height of the original image, pixels."""
    width: int
    """Width of the original image, pixels."""
    decode_seconds: float
    """Seconds of the whole batch."""
    model_seconds: float
    """Seconds of the whole batch."""


@dataclass(frozen=True, slots=True)
class InferJob:
    """Tensors for the model's graph.

    Attributes:
        inputs: Input tensors by name.
        outputs: Names of the requested outputs.
        key: Jobs with equal keys may run in one batch; None for a job that runs alone.
        size: Number of images.
    """

    inputs: Arrays
    outputs: tuple[str, ...]
    key: Hashable | None
    size: int

    @property
    def light(self) -> bool:
        """Whether the tensors are small and may share a batch, so that the measured time an image holds for them."""
        return self.key is not None and sum(array.nbytes for array in self.inputs.values()) <= SMALL_BYTES


class InferResult(NamedTuple):
    """The outputs of the graph."""

    outputs: Arrays
    model_seconds: float
    """Seconds of the whole batch."""


@dataclass(frozen=True, slots=True)
class ExplainJob:
    """An image to classify glimpse by glimpse, with an explanation.

    Attributes:
        canvas: The image on the model's canvas.
        max_glimpses: Glimpses at most; None for those of the card. Already validated.
        confidence: Probability at which the prediction is returned early; None for never. Already validated.
        first_location: Where to begin, (x, y) in [-1, 1] of the image; None for the centre. Already validated.
    """

    canvas: DecodedImage
    max_glimpses: int | None = None
    confidence: float | None = None
    first_location: tuple[float, float] | None = None

    @property
    def key(self) -> Hashable | None:
        """None: it runs alone."""
        return None

    @property
    def size(self) -> int:
        """Always one image."""
        return 1

    @property
    def light(self) -> bool:
        """False: it runs the model once a glimpse."""
        return False


class ExplainResult(NamedTuple):
    """A prediction with the time of each glimpse."""

    on_canvas: Prediction
    """Of a batch of one, in the frame of the canvas."""
    on_image: Prediction
    """The same in the frame of the original image."""
    seconds: tuple[float, ...]
    """When the prediction after each glimpse was ready, from the start of the first glimpse."""
