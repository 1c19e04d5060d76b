"""Running an exported model: onnxruntime and numpy, no torch."""

import time
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import FIRST_LOCATION, INPUT
from glimpse.errors import Argument, Setting
from glimpse.images import pixels
from glimpse.images.frames import Frames
from glimpse.images.pixels import ImageError
from glimpse.runtime import inputs, stepping, whole_episode
from glimpse.runtime.graph import Arrays, InferenceGraph
from glimpse.runtime.inputs import FirstLocations, GraphInput, Image, Locations, Sizes
from glimpse.runtime.limits import LimitError, Limits, check_limits, is_whole
from glimpse.runtime.model_file import load_model_file
from glimpse.runtime.prediction import Glance, ImagePrediction, Prediction, truncate

MAX_THREADS = 1024
"""A larger number raises an error, since no processor has so many cores."""
SHRINKING = 32
"""Images in a batch from which on it pays to call an adaptive graph once a glimpse, for those that have not stopped."""


class _Wish(NamedTuple):
    """What a caller wants of the images, checked."""

    limit: Limits
    started: float | None
    """When the time began to run, on :func:`time.perf_counter`; None for when the first glance is requested."""
    first: Locations | None
    """Where to begin, in the frame of what the graph takes; None for the centre."""


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

    The first glimpse is taken at the centre of what the model takes, even if it was trained with random first ones, so
    that an answer is the same every time. ``first_location`` is another place, (x, y) in [-1, 1] of the image as given:
    one for all images, or (batch, 2), one for each. A model without a retina raises an error for it.

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
        return pixels.fit(image, *self.card.canvas)

    def run(
        self,
        canvases: npt.NDArray[Any],
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
        first_location: FirstLocations | None = None,
    ) -> Prediction:
        """Classify images that lie on the model's canvas already; locations and boxes are in the canvas's frame.

        Args:
            canvases: (batch, height, width, channels): what :meth:`fit` returned, stacked.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops for an image.
            seconds: Time for the whole batch.
            first_location: Where to begin, in the canvas's frame (:meth:`onto_canvas`); the centre when left out.

        Raises:
            ImageError: When the canvases are of another type, or not of the model's size and channels, or hold values
                that are no pixels.
            LimitError: When a limit is out of its range.
            ArgumentError: When the first location is outside the image, or the model has no retina.
        """
        started = time.perf_counter()
        limit = self._limits(max_glimpses, confidence, seconds)
        images = inputs.to_nchw(canvases, self.card)
        return self._predict(images, _Wish(limit, started, self._first(first_location, len(images), None)))

    def predict(
        self,
        images: npt.NDArray[Any] | Sequence[Image],
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
        size: str | None = None,
        first_location: FirstLocations | None = None,
    ) -> Prediction:
        """Classify images of any size.

        Args:
            images: (batch, height, width, channels), or one (height, width, channels) array or lazy image for each;
                grey or RGB.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops for an image.
            seconds: Time for all the images together.
            size: ``fit`` puts them onto the model's canvas, ``native`` keeps their size.
            first_location: Where to begin, in the image's own frame; the centre when left out.

        Returns:
            Locations and boxes in the frame of each image as it was given, not of the model's canvas. A location is
            beyond -1 or 1 where the fixation lies on the black that the size policy ``fit`` leaves around an image.
            Maps stay in the frame of the canvas.

        Raises:
            ImageError: When there is no image, or one of them is none, or can't be taken in its size.
            LimitError: When a limit is out of its range.
            ArgumentError: When the first location is outside the image, or the model has no retina.
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
            graph_input: GraphInput = inputs.to_nchw(images, self.card)
            sizes: Sizes = None
        else:
            names = [f"image {index}" for index in range(len(images))]
            graph_input, sizes = inputs.graph_inputs(list(images), names, size, self.card)
        wish = _Wish(limit, started, self._first(first_location, len(images), sizes))
        return self._in_their_frames(self._predict(graph_input, wish), sizes)

    def predict_one(
        self,
        image: Image,
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
        size: str | None = None,
        first_location: FirstLocations | None = None,
    ) -> ImagePrediction:
        """Classify one image of any size.

        Args:
            image: (height, width, channels), or a lazy image; grey or RGB.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops.
            seconds: Time for it.
            size: ``fit`` puts it onto the model's canvas, ``native`` keeps its size.
            first_location: Where to begin, in the image's own frame; the centre when left out.

        Returns:
            Locations and boxes in the image's own frame.

        Raises:
            ImageError: When it is no such image, or can't be taken in its size.
            LimitError: When a limit is out of its range.
            ArgumentError: When the first location is outside the image, or the model has no retina.
            ValueError: When the size is neither ``fit`` nor ``native``.
        """
        started = time.perf_counter()
        limit = self._limits(max_glimpses, confidence, seconds)
        if isinstance(image, np.ndarray) and self._are_canvases(image[None], size):
            graph_input: GraphInput = inputs.to_nchw(image[None], self.card)
            sizes: Sizes = None
        else:
            graph_input, sizes = inputs.graph_inputs([image], ["the image"], size, self.card)
        wish = _Wish(limit, started, self._first(first_location, 1, sizes))
        return self._in_their_frames(self._predict(graph_input, wish), sizes).first()

    def scan(
        self,
        image: Image,
        *,
        max_glimpses: int | None = None,
        confidence: float | None = None,
        seconds: float | None = None,
        size: str | None = None,
        first_location: FirstLocations | None = None,
    ) -> Iterator[Glance]:
        """Classify one image of any size and yield the prediction after each glimpse.

        Args:
            image: (height, width, channels), or a lazy image; grey or RGB.
            max_glimpses: Glimpses at most.
            confidence: Probability of a class at which the model stops.
            seconds: Time since the first glance is requested; it includes the caller's time between the glances.
            size: ``fit`` puts it onto the model's canvas, ``native`` keeps its size.
            first_location: Where to begin, in the image's own frame; the centre when left out.

        Returns:
            Glances, the last of which has the reason for the end. With an adaptive and a step graph each glimpse is
            taken when its glance is requested, with an episode all are taken before the first glance.

        Raises:
            ImageError: When it is no such image, or can't be taken in its size.
            LimitError: When a limit is out of its range.
            ArgumentError: When the first location is outside the image, or the model has no retina.
            ValueError: When the size is neither ``fit`` nor ``native``.
        """
        limit = self._limits(max_glimpses, confidence, seconds)
        graph_input, sizes = inputs.graph_inputs([image], ["the image"], size, self.card)
        return self._glances(graph_input, sizes, _Wish(limit, None, self._first(first_location, 1, sizes)))

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

    def onto_canvas(self, first_location: FirstLocations | None, sizes: Sequence[tuple[int, int]]) -> Locations | None:
        """Move first locations from the images' frames to that of the canvas, for :meth:`run`.

        Args:
            first_location: In the images' frames; None for the centre.
            sizes: Each image's (height, width) before it is fitted, pixels.

        Raises:
            ArgumentError: When it is outside the image, or the model has no retina.
        """
        return self._first(first_location, len(sizes), sizes)

    def onto_images(self, prediction: Prediction, sizes: Sequence[tuple[int, int]]) -> Prediction:
        """Move a prediction's locations and boxes from the canvas's frame to that of the images that were put onto it.

        Args:
            prediction: What :meth:`run` returned.
            sizes: Each image's (height, width) before it was fitted, pixels.
        """
        if all(size == (self.card.height, self.card.width) for size in sizes):
            return prediction
        frames = Frames(sizes, self.card.height, self.card.width, self.card.size_policy)
        has_glance, boxes = self.card.window is not None, prediction.boxes
        boxes = None if boxes is None else frames.boxes_on_images(boxes, has_glance)
        return prediction._replace(locations=frames.locations_on_images(prediction.locations), boxes=boxes)

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

    def _in_their_frames(self, prediction: Prediction, sizes: Sizes) -> Prediction:
        return prediction if sizes is None else self.onto_images(prediction, sizes)

    def _first(self, location: FirstLocations | None, batch: int, sizes: Sizes) -> Locations | None:
        return None if location is None else inputs.onto_input(location, batch, sizes, self.card)

    def _predict(self, images: GraphInput, wish: _Wish) -> Prediction:
        graph, limit, first = self.card.graph, wish.limit, wish.first
        if graph == "adaptive" and isinstance(images, list) and limit.seconds is None:
            return whole_episode.run_views(self._graph, self.card, images, limit, first)
        by_glimpses = isinstance(images, list) or limit.seconds is not None or self._shrinks(images, limit)
        if graph == "step" or (graph == "adaptive" and by_glimpses):
            return stepping.collect(self._steps(images, wish))
        if isinstance(images, list):
            return truncate(whole_episode.run_one_by_one(self._graph, images, first), limit)
        start = {} if first is None else {FIRST_LOCATION: first}
        if graph == "episode":
            return truncate(whole_episode.prediction_of(self._graph({INPUT: images, **start})), limit)
        return whole_episode.run_adaptive(self._graph, images, limit, start)

    def _shrinks(self, images: npt.NDArray[Any], limit: Limits) -> bool:
        """Whether it pays to leave out images that have stopped; the graph's own loop takes all to the last stop."""
        return limit.confidence is not None and len(images) >= SHRINKING

    def _steps(self, images: GraphInput, wish: _Wish) -> Iterator[stepping.StepState]:
        if self.card.graph == "step":
            take_glimpse = stepping.from_step_graph(self._graph, self.card, images)
        elif isinstance(images, list):
            take_glimpse = stepping.from_windows(self._graph, self.card, images)
        else:
            take_glimpse = stepping.from_images(self._graph, images)
        return stepping.step_through(take_glimpse, len(images), self.card.state_size or 0, *wish)

    def _glances(self, images: GraphInput, sizes: Sizes, wish: _Wish) -> Iterator[Glance]:
        if self.card.graph == "episode":
            started = time.perf_counter()
            steps = stepping.replay(self._predict(images, wish), started)
        else:
            steps = self._steps(images, wish)
        for index, step in enumerate(steps):
            yield stepping.glance_of(index, step, self._in_their_frames(step.prediction, sizes))
