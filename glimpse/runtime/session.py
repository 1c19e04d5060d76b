"""Running an exported model: onnxruntime and numpy, no torch."""

import operator
import time
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import INPUT
from glimpse.errors import Argument, Setting
from glimpse.images import pixels
from glimpse.images.pixels import ImageError
from glimpse.runtime import inputs, stepping
from glimpse.runtime.graph import Arrays, InferenceGraph
from glimpse.runtime.inputs import GraphInput, Image
from glimpse.runtime.limits import LimitError, Limits, check_limits, is_whole
from glimpse.runtime.model_file import load_model_file
from glimpse.runtime.prediction import Glance, ImagePrediction, Prediction, truncate

MAX_THREADS = 1024
"""A larger number raises an error, since no processor has so many cores."""
SHRINKING = 32
"""Images in a batch from which on it pays to call an adaptive graph once a glimpse, for those that have not stopped."""


class GlimpseSession:
    """An exported model, loaded and ready to classify.

    It holds no state between calls, so that threads may share it. It runs on the CPU by default, on one thread that
    does not spin while it waits: the model is small, and several sessions on several cores beat one on many.

    Its predictions are the same for every kind of graph; what differs is the time that an early end saves. An
    *adaptive* graph leaves its loop as soon as it has stopped for every image of the batch; in a large batch it is
    called once a glimpse, without the images for which it has stopped. A *step* graph is called once a glimpse, for the
    images for which the model has not stopped. An *episode* graph always takes all its glimpses, and the prediction
    leaves out those beyond the limits: no time is saved, and a limit of the time raises an error.

    The limits are the same in every method. ``max_glimpses``: from 1 to the card's number, which is the default.
    ``confidence``: in (0, 1]; the model stops for an image when a class has this probability or more. ``seconds``:
    above 0; after this time of the call no further round of glimpses, one of each image, is begun; the first is taken
    in any case. A prediction's ``reasons`` name the limit that ended the glimpses of each image.

    Images are uint8 (height, width, channels), grey or RGB. A model whose card has the input type float32 takes float32
    images in [0, 1] as well. With ``size="fit"``, the default for arrays in memory, they are put onto the model's
    canvas. With ``size="native"`` they keep their size: of an image of any size a model with a retina, run glimpse by
    glimpse, then reads only the pixels under its windows. Lazy images (:mod:`glimpse.images.lazy`) are always native.
    An array that is mapped from a file (``np.memmap``, as ``np.load(path, mmap_mode="r")`` makes it) is treated like a
    lazy image, unless ``size="fit"`` is given.

    Every result is finite. Where the graph returns NaN or infinity, every method raises an
    :class:`~glimpse.runtime.graph.OutputError`.

    Attributes:
        card: The model's card.
        sha256: The seal of its file.
        provider: What it runs on, one of :data:`glimpse.runtime.providers.PROVIDERS`.
        path: Its file.

    Args:
        path: An ONNX file written by ``glimpse export``.
        threads: Threads within an operator, from 1 to 1024.
        provider: What to run it on, one of :data:`glimpse.runtime.providers.PROVIDERS`.
        warm_up: Whether to run it once, on a black image, so that the first image does not wait for the layout
            of the memory.
        sha256: The seal that the file must have, so that no other file is loaded in its place; any when left out.

    Raises:
        ContractError: When there is no such file, it is no ONNX file, it lacks its card, it was changed since it was
            written, or its card and its graph do not agree.
        ProviderError: When the provider is unknown, not installed, or does not start.
        OutputError: When its outputs for a black image are not finite.
        LimitError: When the number of threads is no whole number, or out of its range.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 1,
        provider: str = "cpu",
        warm_up: bool = True,
        sha256: str | None = None,
    ) -> None:
        if not (is_whole(threads) and 1 <= threads <= MAX_THREADS):
            raise LimitError(
                "expected a whole number of ",
                Argument("threads"),
                f" from 1 to {MAX_THREADS}, got {threads!r:.60}; 1 is the fastest for a small model",
            )
        self.path = Path(path)
        self.provider = provider
        model = load_model_file(self.path, sha256)
        self.card: ModelCard = model.card
        self.sha256 = model.sha256
        self._graph = InferenceGraph(model, provider, int(threads))
        if warm_up:
            self._graph(self._graph.zeros())

    def fit(self, image: npt.NDArray[Any]) -> UInt8[np.ndarray, "height width channels"]:
        """Put an image onto the model's canvas, by the card's size policy.

        Args:
            image: uint8 (height, width, channels), grey or RGB, of any size.

        Raises:
            ImageError: When it is no such image.
        """
        return pixels.fit(image, self.card.height, self.card.width, self.card.channels)

    def run(
        self,
        canvases: npt.NDArray[Any],
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
    ) -> Prediction:
        """Classify images that lie on the model's canvas already; locations and boxes are in the canvas's frame.

        Args:
            canvases: (batch, height, width, channels): what :meth:`fit` returned, stacked.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops for an image.
            seconds: Time for the whole batch.

        Raises:
            ImageError: When the canvases are of another type, or not of the model's size and channels, or hold values
                that are no pixels.
            LimitError: When a limit is out of its range.
        """
        started = time.perf_counter()
        limit = self._limits(max_glimpses, confidence, seconds)
        return self._predict(inputs.to_nchw(canvases, self.card), limit, started)

    def predict(
        self,
        images: npt.NDArray[Any] | Sequence[Image],
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
        size: str | None = None,
    ) -> Prediction:
        """Classify images of any size.

        Args:
            images: (batch, height, width, channels), or one (height, width, channels) array or lazy image for each;
                grey or RGB.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops for an image.
            seconds: Time for all the images together.
            size: ``fit`` puts them onto the model's canvas, ``native`` keeps their size.

        Returns:
            Locations and boxes in the frame of each image as it was given, not of the model's canvas. A location is
            beyond -1 or 1 where the fixation lies on the black around an image of other proportions than its canvas.
            Maps stay in the frame of the canvas.

        Raises:
            ImageError: When there is no image, or one of them is none, or can't be taken in its size.
            LimitError: When a limit is out of its range.
            ValueError: When the size is neither ``fit`` nor ``native``.
        """
        started = time.perf_counter()
        limit = self._limits(max_glimpses, confidence, seconds)
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise ImageError(
                f"expected a batch (batch, height, width, channels), got shape {images.shape}; "
                "hand a single image to predict_one, or a list of images to predict"
            )
        if not isinstance(images, Sized):
            raise ImageError(
                f"expected an array (batch, height, width, channels) or a list of images, got {type(images).__name__}; "
                "hand a single image to predict_one, and what a generator yields as a list"
            )
        if not len(images):
            raise ImageError("expected at least one image, got none")
        if isinstance(images, np.ndarray) and self._are_canvases(images, size):
            return self._predict(inputs.to_nchw(images, self.card), limit, started)
        graph_input, sizes = inputs.graph_inputs(
            list(images), [f"image {index}" for index in range(len(images))], size, self.card
        )
        return self._in_their_frames(self._predict(graph_input, limit, started), sizes)

    def predict_one(
        self,
        image: Image,
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
        size: str | None = None,
    ) -> ImagePrediction:
        """Classify one image of any size.

        Args:
            image: (height, width, channels), or a lazy image; grey or RGB.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops.
            seconds: Time for it.
            size: ``fit`` puts it onto the model's canvas, ``native`` keeps its size.

        Returns:
            Locations and boxes in the image's own frame.

        Raises:
            ImageError: When it is no such image, or can't be taken in its size.
            LimitError: When a limit is out of its range.
            ValueError: When the size is neither ``fit`` nor ``native``.
        """
        started = time.perf_counter()
        limit = self._limits(max_glimpses, confidence, seconds)
        if isinstance(image, np.ndarray) and self._are_canvases(image[None], size):
            return self._predict(inputs.to_nchw(image[None], self.card), limit, started).first()
        graph_input, sizes = inputs.graph_inputs([image], ["the image"], size, self.card)
        return self._in_their_frames(self._predict(graph_input, limit, started), sizes).first()

    def scan(
        self,
        image: Image,
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
        size: str | None = None,
    ) -> Iterator[Glance]:
        """Classify one image of any size and yield the prediction after each glimpse.

        Args:
            image: (height, width, channels), or a lazy image; grey or RGB.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops.
            seconds: Time since the first glance is requested; it includes the caller's time between the glances.
            size: ``fit`` puts it onto the model's canvas, ``native`` keeps its size.

        Returns:
            Glances, the last of which has the reason for the end. With an adaptive and a step graph each glimpse is
            taken when its glance is requested, with an episode all are taken before the first glance.

        Raises:
            ImageError: When it is no such image, or can't be taken in its size.
            LimitError: When a limit is out of its range.
            ValueError: When the size is neither ``fit`` nor ``native``.
        """
        limit = self._limits(max_glimpses, confidence, seconds)
        graph_input, sizes = inputs.graph_inputs([image], ["the image"], size, self.card)
        return self._glances(graph_input, sizes, limit)

    def infer(self, given: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Run the graph itself, once, on its own tensors.

        Of the inputs only what onnxruntime checks is checked: types, names and numbers of axes. The caller ensures that
        ``max_glimpses`` is a number that the model was trained to take, and that locations are finite.

        Args:
            given: The graph's inputs, as :mod:`glimpse.contract.card` describes them; those with a default may be left
                out.
            outputs: Names of the requested outputs; all but the logits if left out.

        Returns:
            The outputs by their names.

        Raises:
            OutputError: When an output is not finite.
        """
        return self._graph(given, outputs)

    def interrupt(self, seconds: float = 0.0) -> None:
        """End calls of the graph that have gone on for long; may be called in any thread.

        They raise :class:`glimpse.runtime.graph.InterruptedRunError`. A graph may hold a loop whose end depends on the
        image, so that no trial tells beforehand how long it takes.

        Args:
            seconds: How long a call of the graph may go on; all calls are ended when left out.
        """
        self._graph.interrupt(seconds)

    def onto_images(self, prediction: Prediction, sizes: Sequence[tuple[int, int]]) -> Prediction:
        """Move a prediction's locations and boxes from the canvas's frame to that of the images that were put onto it.

        Args:
            prediction: What :meth:`run` returned.
            sizes: Each image's (height, width) before it was fitted, pixels.
        """
        if all(size == (self.card.height, self.card.width) for size in sizes):
            return prediction
        canvas = np.array([self.card.width, self.card.height])
        own = np.array([(width, height) for height, width in sizes])
        places = [pixels.placement(height, width, self.card.height, self.card.width) for height, width in sizes]
        corner = np.array([(place.left, place.top) for place in places])
        scaled = np.array([(place.width, place.height) for place in places])
        stretch, shift = canvas / scaled, (canvas - 2 * corner - scaled) / scaled
        locations = prediction.locations * stretch[:, None] + shift[:, None]
        boxes = prediction.boxes
        if boxes is not None:
            corners = np.tile(corner, 2)[:, None, None]
            boxes = ((boxes - corners) * np.tile(own / scaled, 2)[:, None, None]).astype(np.float32)
        return prediction._replace(locations=locations.astype(np.float32), boxes=boxes)

    def _limits(self, max_glimpses: int | None, confidence: float | None, seconds: float | None) -> Limits:
        if seconds is not None and self.card.graph == "episode":
            raise LimitError(
                "expected no limit of time, since an episode graph takes all its glimpses at once, got ",
                Setting("seconds", seconds),
                "; leave it out, or export the model with 'glimpse export --graph adaptive'",
            )
        return check_limits(self.card.num_glimpses, max_glimpses, confidence, seconds)

    def _are_canvases(self, images: npt.NDArray[Any], size: str | None) -> bool:
        """Whether a batch needs no fitting: uint8 pixels of the model's own size that lie in memory."""
        card = self.card
        return (
            size in (None, "fit")
            and images.dtype == np.uint8
            and images.shape[1:] == (card.height, card.width, card.channels)
            and not isinstance(images, np.memmap)
        )

    def _in_their_frames(self, prediction: Prediction, sizes: list[tuple[int, int]] | None) -> Prediction:
        return prediction if sizes is None else self.onto_images(prediction, sizes)

    def _predict(self, images: GraphInput, limit: Limits, started: float) -> Prediction:
        graph = self.card.graph
        if graph == "adaptive" and isinstance(images, list) and limit.seconds is None:
            return stepping.run_views(self._graph, self.card, images, limit)
        by_glimpses = isinstance(images, list) or limit.seconds is not None or self._shrinks(images, limit)
        if graph == "step" or (graph == "adaptive" and by_glimpses):
            return stepping.collect(self._steps(images, limit, started))
        if isinstance(images, list):
            return truncate(stepping.run_one_by_one(self._graph, images), limit)
        if graph == "episode":
            return truncate(stepping.prediction_of(self._graph({INPUT: images})), limit)
        return stepping.run_adaptive(self._graph, images, limit)

    def _shrinks(self, images: npt.NDArray[Any], limit: Limits) -> bool:
        """Whether a batch is large enough to be worth leaving out the images for which the model has stopped.

        The graph's own loop goes on for all images until it has stopped for the last one.
        """
        return limit.confidence is not None and len(images) >= SHRINKING

    def _steps(self, images: GraphInput, limit: Limits, started: float | None) -> Iterator[stepping.StepState]:
        if self.card.graph == "step":
            take_glimpse = stepping.from_step_graph(self._graph, self.card, images)
        elif isinstance(images, list):
            take_glimpse = stepping.from_windows(self._graph, self.card, images)
        else:
            take_glimpse = stepping.from_images(self._graph, images)
        return stepping.step_through(take_glimpse, len(images), self.card.state_size or 0, limit, started)

    def _glances(self, images: GraphInput, sizes: list[tuple[int, int]] | None, limit: Limits) -> Iterator[Glance]:
        if self.card.graph == "episode":
            started = time.perf_counter()
            steps = stepping.replay(self._predict(images, limit, started), started)
        else:
            steps = self._steps(images, limit, started=None)
        for index, step in enumerate(steps):
            in_frame = self._in_their_frames(step.prediction, sizes)
            probabilities, location, boxes, map_ = in_frame.map_arrays(operator.itemgetter((0, 0)))
            label = int(probabilities.argmax())
            yield Glance(
                index,
                location,
                boxes,
                map_,
                probabilities,
                label,
                float(probabilities[label]),
                step.seconds,
                step.reasons[0],
            )
