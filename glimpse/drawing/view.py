"""What an exported model sees in an image: reading, looking, and drawing how an answer came about. No torch."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from glimpse.drawing import animation, answer
from glimpse.drawing.answer import draw_classification
from glimpse.images import crop, pixels

if TYPE_CHECKING:
    from glimpse.images.lazy import LazyImage
    from glimpse.runtime.session import GlimpseSession, Prediction


class FramedPrediction(NamedTuple):
    """What a model made of one image."""

    on_canvas: "Prediction"
    """The answer in the frame of what the model was shown: a batch of one, with the glimpses that it took."""
    on_image: "Prediction"
    """The same in the image's own frame."""


class View(NamedTuple):
    """One image that a model has looked at."""

    image: UInt8[np.ndarray, "height width channels"]
    """As it was decoded."""
    canvas: UInt8[np.ndarray, "height width channels"]
    """As the model saw it."""
    on_canvas: "Prediction"
    """The answer in the canvas's frame, a batch of one."""
    on_image: "Prediction"
    """The answer in the image's own frame, a batch of one."""


def extent(image: "UInt8[np.ndarray, 'height width channels'] | LazyImage") -> tuple[int, int]:
    """Tell an image's height and width, pixels.

    Args:
        image: What :func:`read` returned.
    """
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    width, height = image.size
    return height, width


def view_of(
    session: "GlimpseSession",
    image: "UInt8[np.ndarray, 'height width channels'] | LazyImage",
    found: FramedPrediction,
    native: bool = False,
) -> View:
    """Put together what a picture of a look needs.

    Args:
        session: The model.
        image: What it looked at.
        found: What it made of it.
        native: Whether it looked at the image in its own size.

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
    return View(image, canvas, *found)


def draw(session: "GlimpseSession", seen: View, truth: str | None = None) -> Image.Image:
    """Draw what a model made of an image, by its kind.

    With a retina: the scanpath, and what the retina saw. With attention maps: each glimpse's map over the canvas. With
    neither: the image and the strongest beliefs.

    Args:
        session: The model.
        seen: What it made of the image.
        truth: The right class's name, where it is known.
    """
    classes, (probabilities, locations, boxes, maps, *_) = session.card.classes, seen.on_image
    if maps is not None:
        return answer.draw_attention(seen.canvas, maps[0], probabilities[0], classes, truth)
    if boxes is None:
        return answer.draw_answer(seen.image, probabilities[0, -1], classes, truth)
    glimpses = _sensed(session, seen)
    return draw_classification(seen.image, boxes[0], locations[0], glimpses, probabilities[0], classes, truth)


def animate(session: "GlimpseSession", seen: View, truth: str | None = None) -> list[Image.Image]:
    """Draw how a model came to its answer, a frame for each glimpse; see :mod:`glimpse.drawing.animation`.

    Args:
        session: The model.
        seen: What it made of the image.
        truth: The right class's name, where it is known.

    Raises:
        ValueError: When the model has neither a retina nor attention maps.
    """
    classes, (probabilities, locations, boxes, maps, *_) = session.card.classes, seen.on_image
    if maps is not None:
        return animation.animate_maps(seen.canvas, maps[0], probabilities[0], classes, truth)
    if boxes is None:
        raise ValueError("expected a model with a retina or with attention maps, got one without a gaze to animate")
    glimpses = _sensed(session, seen)
    return animation.animate_gaze(seen.image, boxes[0], locations[0], glimpses, probabilities[0], classes, truth)


def _sensed(session: "GlimpseSession", seen: View) -> Float[np.ndarray, "time scales channels size size"]:
    """What the retina saw at each glimpse."""
    card, locations, canvas = session.card, seen.on_canvas.locations[0], seen.canvas.transpose(2, 0, 1)
    if card.retina is None:
        raise ValueError(f"expected the card of a model with a retina, got one of a {card.model!r} model without")
    canvases = np.broadcast_to(canvas, (len(locations), *canvas.shape))
    return crop.extract_glimpse(canvases, locations, *card.retina)
