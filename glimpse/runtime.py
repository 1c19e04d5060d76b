"""Running an exported model: onnxruntime and numpy, no torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
from jaxtyping import Float, UInt8

from glimpse import pixels
from glimpse.contract import BOXES, CARD_KEY, INPUT, LOCATIONS, MAPS, PROBABILITIES, ContractError, ModelCard

_ADVICE = "expected an ONNX file written by 'glimpse export'"


class Prediction(NamedTuple):
    """What a model believes of each image of a batch, and where it looked, after each glimpse."""

    probabilities: Float[np.ndarray, "batch time classes"]
    """In [0, 1]; the last time holds the answer."""
    locations: Float[np.ndarray, "batch time 2"]
    """Fixations, (x, y); the image's edges lie at -1 and 1, x to the right, y down."""
    boxes: Float[np.ndarray, "batch time scales 4"] | None = None
    """Windows in pixels, (left, top, right, bottom), finest scale first, not clipped to the image; None for a model
    without a retina."""
    maps: Float[np.ndarray, "batch time map_height map_width"] | None = None
    """Attention weights over equal cells of the model's canvas, which sum to one; None for a model without maps."""


class ImagePrediction(NamedTuple):
    """A :class:`Prediction` for one image, without the batch axis."""

    probabilities: Float[np.ndarray, "time classes"]
    locations: Float[np.ndarray, "time 2"]
    boxes: Float[np.ndarray, "time scales 4"] | None = None
    maps: Float[np.ndarray, "time map_height map_width"] | None = None


class GlimpseSession:
    """An exported model, loaded and ready to classify.

    It holds no state between calls, so that threads may share it. It runs on the CPU, by default on one thread that
    does not spin while it waits: the model is small, and several sessions on several cores beat one on many.

    Attributes:
        card: What the model says of itself.

    Args:
        path: An ONNX file written by ``glimpse export``.
        threads: Threads within an operator, at least 1.

    Raises:
        ContractError: When there is no such file, it is no ONNX file, it lacks its card, or its card and its graph do
            not agree.
        ValueError: When the number of threads is below 1.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"expected at least 1 thread, got {threads}")
        self._session = _load(Path(path), threads)
        self.card: ModelCard = _read_card(self._session, str(path))
        _check_graph(self._session, self.card, str(path))

    def fit(self, image: npt.NDArray[Any]) -> UInt8[np.ndarray, "height width channels"]:
        """Put an image onto the model's canvas, by the card's size policy.

        Args:
            image: uint8 (height, width, channels), grey or RGB, of any size.

        Raises:
            ImageError: When it is no such image.
        """
        return pixels.fit(image, self.card.height, self.card.width, self.card.channels)

    def run(self, canvases: npt.NDArray[Any]) -> Prediction:
        """Classify images that lie on the model's canvas already; locations and boxes are in the canvas's frame.

        Args:
            canvases: uint8 (batch, height, width, channels): what :meth:`fit` returned, stacked.

        Raises:
            ImageError: When the canvases are not uint8, or not of the model's size and channels.
        """
        expected = (self.card.height, self.card.width, self.card.channels)
        if canvases.dtype != np.uint8 or canvases.shape[1:] != expected or not len(canvases):
            raise pixels.ImageError(
                f"expected uint8 canvases of shape (batch, {expected[0]}, {expected[1]}, {expected[2]}), at least one, "
                f"got {canvases.dtype} {canvases.shape}; put images onto the canvas with fit, or hand them to predict"
            )
        images = np.ascontiguousarray(canvases.transpose(0, 3, 1, 2))
        names = [PROBABILITIES, LOCATIONS, *(name for name in (BOXES, MAPS) if name in self.card.outputs)]
        found = dict(zip(names, self._session.run(names, {INPUT: images}), strict=True))
        return Prediction(found[PROBABILITIES], found[LOCATIONS], found.get(BOXES), found.get(MAPS))

    def predict(self, images: npt.NDArray[Any] | Sequence[npt.NDArray[Any]]) -> Prediction:
        """Classify images of any size.

        Args:
            images: uint8 (batch, height, width, channels), or one (height, width, channels) array for each image; grey
                or RGB.

        Returns:
            Locations and boxes in the frame of each image as it was given, not of the model's canvas. A location is
            beyond -1 or 1 where the model looked at the black around an image of other proportions than its canvas.
            Maps stay in the frame of the canvas.

        Raises:
            ImageError: When there is no image, or one of them is none.
        """
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise pixels.ImageError(
                f"expected a batch (batch, height, width, channels), got shape {images.shape}; "
                "hand a single image to predict_one, or a list of images to predict"
            )
        if not len(images):
            raise pixels.ImageError("expected at least one image, got none")
        for index, image in enumerate(images):
            pixels.check(image, f"image {index}")
        prediction = self.run(np.stack([self.fit(image) for image in images]))
        return self.onto_images(prediction, [(image.shape[0], image.shape[1]) for image in images])

    def predict_one(self, image: npt.NDArray[Any]) -> ImagePrediction:
        """Classify one image of any size.

        Args:
            image: uint8 (height, width, channels), grey or RGB.

        Returns:
            Locations and boxes in the image's own frame.

        Raises:
            ImageError: When it is no such image.
        """
        pixels.check(image, "the image")
        found = self.predict([image])
        boxes, maps = (None if field is None else field[0] for field in (found.boxes, found.maps))
        return ImagePrediction(found.probabilities[0], found.locations[0], boxes, maps)

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
        return Prediction(prediction.probabilities, locations.astype(np.float32), boxes, prediction.maps)


def _load(path: Path, threads: int) -> Any:
    if not path.is_file():
        what = "a directory" if path.is_dir() else "no such file"
        raise ContractError(f"can't load the model {str(path)!r}: {what}; {_ADVICE}")
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise ContractError(f"can't load the model {str(path)!r} ({error.strerror}); check its permissions") from error
    if start == b"PK\x03\x04" or start[:1] == b"\x80":
        raise ContractError(
            f"{str(path)!r} is a checkpoint or pickled code, no exported model; {_ADVICE}, run "
            "'glimpse export CHECKPOINT' first"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no parent of their own
        raise ContractError(f"onnxruntime can't load the model {str(path)!r} ({error}); {_ADVICE}") from error


def _read_card(session: Any, name: str) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        raise ContractError(
            f"{name!r} has no model card (metadata key {CARD_KEY!r}), so nothing says what its numbers mean; {_ADVICE}"
        )
    try:
        card = ModelCard.from_json(text)
    except ContractError as error:
        raise ContractError(f"{name!r}: {error}") from error
    retina = ("glimpse_size", "num_scales", "zoom")
    counts = ("height", "width", "num_glimpses", *(retina if card.glimpse_size is not None else ()))
    if any(not isinstance(getattr(card, count), int) or getattr(card, count) < 1 for count in counts):
        given = ", ".join(f"{count}={getattr(card, count)!r}" for count in counts)
        raise ContractError(f"{name!r}: expected whole numbers of at least 1 in the card, got {given}; {_ADVICE}")
    if card.size_policy != "fit" or card.channels not in (1, 3) or not card.classes:
        raise ContractError(
            f"{name!r}: expected a card with size_policy 'fit', 1 or 3 channels and at least one class, got "
            f"size_policy={card.size_policy!r}, channels={card.channels!r}, {len(card.classes)} classes; "
            "use a version of Glimpse that knows them"
        )
    return card


def _check_graph(session: Any, card: ModelCard, name: str) -> None:
    """Refuse a graph that is not what its card says."""
    inputs = {node.name: (node.type, node.shape) for node in session.get_inputs()}
    outputs = {node.name: node.shape for node in session.get_outputs()}
    wanted = ("tensor(uint8)", [None, card.channels, card.height, card.width])
    if set(inputs) != {INPUT} or inputs[INPUT][0] != wanted[0] or not _agree(inputs[INPUT][1], wanted[1]):
        raise ContractError(
            f"{name!r}: expected one input {INPUT!r} {wanted} as its card says, got {inputs}; {_ADVICE}"
        )
    if not set(card.outputs) <= set(outputs):
        raise ContractError(f"{name!r}: expected the outputs {card.outputs}, got {tuple(outputs)}; {_ADVICE}")
    if not _agree(outputs[PROBABILITIES], [None, None, len(card.classes)]):
        raise ContractError(
            f"{name!r}: its card names {len(card.classes)} classes, but its {PROBABILITIES} have the shape "
            f"{outputs[PROBABILITIES]}; {_ADVICE}"
        )


def _agree(shape: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether a graph's shape, with its symbols and unknowns, can be the wanted one."""
    return len(shape) == len(wanted) and all(
        not isinstance(given, int) or expected is None or given == expected
        for given, expected in zip(shape, wanted, strict=True)
    )
