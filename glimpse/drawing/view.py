"""Drawing the prediction of an exported model for an image, and the glimpses that led to it. No torch."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from glimpse.contract.card import SQUASH, RetinaGeometry
from glimpse.drawing import animation, answer
from glimpse.drawing.answer import draw_classification
from glimpse.drawing.layout import resize, scaled_size
from glimpse.drawing.text import to_picture
from glimpse.images import crop, pixels

if TYPE_CHECKING:
    from glimpse.images.lazy import LazyImage
    from glimpse.runtime.prediction import Prediction
    from glimpse.runtime.session import GlimpseSession


class FramedPrediction(NamedTuple):
    """The prediction for one image in two frames."""

    on_canvas: "Prediction"
    """In the frame of the model's input: a batch of one, with the glimpses that were taken."""
    on_image: "Prediction"
    """The same prediction in the image's own frame."""


class View(NamedTuple):
    """An image, the model's input made of it, and the prediction for it."""

    image: UInt8[np.ndarray, "height width channels"]
    """As it was decoded."""
    canvas: UInt8[np.ndarray, "height width channels"]
    """The model's input: the image on the model's canvas, or in its own size with the model's channels."""
    on_canvas: "Prediction"
    """The prediction in the canvas's frame, a batch of one."""
    on_image: "Prediction"
    """The prediction in the image's own frame, a batch of one."""


def extent(image: "UInt8[np.ndarray, 'height width channels'] | LazyImage") -> tuple[int, int]:
    """Return an image's height and width, pixels.

    Args:
        image: An array, or an image that is read by parts.
    """
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    width, height = image.size
    return height, width


def view_of(
    session: "GlimpseSession",
    image: "UInt8[np.ndarray, 'height width channels'] | LazyImage",
    prediction: FramedPrediction,
    native: bool = False,
) -> View:
    """Put together what a picture of a prediction needs.

    Args:
        session: The model.
        image: The image that was classified.
        prediction: The prediction for it.
        native: Whether the image was classified in its own size.

    Raises:
        ImageError: When the image is too large to be drawn.
    """
    height, width = extent(image)
    if not isinstance(image, np.ndarray):
        if height * width > pixels.MAX_PIXELS:
            raise pixels.ImageError(
                f"expected an image of at most {pixels.MAX_PIXELS:,} pixels to draw, got {width} x {height}; "
                "classify it without a picture"
            )
        image = image.read((0, 0, width, height))
    canvas = pixels.fit(image, height, width, session.card.channels) if native else session.fit(image)
    return View(image, canvas, *prediction)


def draw(session: "GlimpseSession", view: View, truth: str | None = None, prefer_maps: bool = False) -> Image.Image:
    """Draw the prediction for an image, by the kind of the model.

    With a retina or windows: the scanpath, and the glimpses as the model saw them. With attention maps alone: each
    glimpse's map over the canvas. With neither: the image and the greatest probabilities.

    Args:
        session: The model.
        view: The image and the prediction for it.
        truth: The right class's name, where it is known.
        prefer_maps: Whether the maps of a model with both are drawn, in place of the scanpath.
    """
    classes, (probabilities, locations, boxes, maps, *_) = session.card.classes, view.on_image
    if maps is not None and (prefer_maps or boxes is None):
        return answer.draw_attention(_under_maps(session, view), maps[0], probabilities[0], classes, truth)
    if boxes is None:
        return answer.draw_answer(view.image, probabilities[0, -1], classes, truth)
    glimpses = _sensed(session, view)
    return draw_classification(view.image, boxes[0], locations[0], glimpses, probabilities[0], classes, truth)


def animate(session: "GlimpseSession", view: View, truth: str | None = None) -> list[Image.Image]:
    """Draw the prediction after each glimpse, a frame for each, as :mod:`glimpse.drawing.animation` describes them.

    Args:
        session: The model.
        view: The image and the prediction for it.
        truth: The right class's name, where it is known.

    Raises:
        ValueError: When the model has neither a retina, nor windows, nor attention maps.
    """
    classes, (probabilities, locations, boxes, maps, *_) = session.card.classes, view.on_image
    if boxes is None and maps is not None:
        return animation.animate_maps(_under_maps(session, view), maps[0], probabilities[0], classes, truth)
    if boxes is None:
        raise ValueError("expected a model with a retina or with attention maps, got one without a gaze to animate")
    glimpses = _sensed(session, view)
    return animation.animate_gaze(view.image, boxes[0], locations[0], glimpses, probabilities[0], classes, truth)


def _under_maps(session: "GlimpseSession", view: View) -> UInt8[np.ndarray, "height width channels"]:
    """What attention maps are laid over: the canvas, in the image's proportions where it was squashed."""
    if session.card.size_policy != SQUASH:
        return view.canvas
    height, width = view.image.shape[:2]
    size = scaled_size((width, height), max(view.canvas.shape[:2]) / max(height, width))
    return np.asarray(resize(to_picture(view.image), size))


def _sensed(session: "GlimpseSession", seen: View) -> Float[np.ndarray, "time scales channels size size"]:
    """What the model saw at each glimpse, in [0, 1]: through its retina, or the whole and then windows of one size."""
    card, locations, canvas = session.card, seen.on_canvas.locations[0], seen.canvas.transpose(2, 0, 1)
    windows = card.retina or (None if card.window is None else RetinaGeometry(card.window, 1, 1))
    if windows is None:
        raise ValueError(f"expected the card of a model with a retina or windows, got one of a {card.model!r} model")
    canvases = np.broadcast_to(canvas, (len(locations), *canvas.shape))
    glimpses = crop.extract_glimpse(canvases, locations, *windows)
    if card.window is not None:
        whole = pixels.fit(seen.canvas, card.window, card.window, card.channels)
        glimpses[0, 0] = whole.transpose(2, 0, 1) / np.float32(255)
    return glimpses
