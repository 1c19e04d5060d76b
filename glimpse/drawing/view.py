"""What an exported model sees in an image: reading, looking, and drawing how an answer came about. No torch."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from PIL import Image

from glimpse.drawing import animation, answer
from glimpse.drawing.answer import draw_classification
from glimpse.image_paths import ImageSource
from glimpse.images import crop, pixels

if TYPE_CHECKING:
    from glimpse.images.lazy import LazyImage
    from glimpse.runtime.session import GlimpseSession, Prediction

LAZY_SUFFIXES = frozenset((".npy", ".zarr", ".tif", ".tiff"))
"""What the names of images end with that can be read by parts, in small letters."""


class Look(NamedTuple):
    """What a model made of one image."""

    on_canvas: "Prediction"
    """The answer in the frame of what the model was shown: a batch of one, with the glimpses that it took."""
    on_image: "Prediction"
    """The same in the image's own frame."""


class Sight(NamedTuple):
    """One image that a model has looked at."""

    image: UInt8[np.ndarray, "height width channels"]
    """As it was decoded."""
    canvas: UInt8[np.ndarray, "height width channels"]
    """As the model saw it."""
    on_canvas: "Prediction"
    """The answer in the canvas's frame, a batch of one."""
    on_image: "Prediction"
    """The answer in the image's own frame, a batch of one."""


def read(source: ImageSource, native: bool = False) -> "UInt8[np.ndarray, 'height width channels'] | LazyImage":
    """Read an image.

    Args:
        source: Where it comes from.
        native: Whether it is looked at in its own size. It is then read by parts, if it can be.

    Raises:
        ImageError: When it can't be read.
    """
    if source.path is None:
        return pixels.decode(sys.stdin.buffer.read(), "standard input")
    if not native or source.path.suffix.lower() not in LAZY_SUFFIXES:
        return pixels.decode(source.path)
    from glimpse.images.lazy import open_lazily

    try:
        return open_lazily(source.path)
    except pixels.ImageError as error:
        if not source.path.suffix.lower().startswith(".tif"):
            raise
        try:
            return pixels.decode(source.path)  # a small one, that need not be tiled
        except pixels.ImageError:
            raise error from None


def extent(image: "UInt8[np.ndarray, 'height width channels'] | LazyImage") -> tuple[int, int]:
    """Tell an image's height and width, pixels.

    Args:
        image: What :func:`read` returned.
    """
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    width, height = image.size
    return height, width


def look(session: "GlimpseSession", images: Sequence[npt.NDArray[Any]], **limits: Any) -> list[Look]:
    """Have a model look at images on its canvas, all of them in one batch.

    Args:
        session: The model.
        images: uint8 (height, width, channels), grey or RGB, each of any size; at least one.
        limits: When it stops: what of ``max_glimpses``, ``confidence`` and ``seconds`` is limited.
    """
    on_canvas = session.run(np.stack([session.fit(image) for image in images]), **limits)
    on_image = session.onto_images(on_canvas, [extent(image) for image in images])
    return [Look(on_canvas.row(index), on_image.row(index)) for index in range(len(images))]


def look_natively(
    session: "GlimpseSession", image: "UInt8[np.ndarray, 'height width channels'] | LazyImage", **limits: Any
) -> Look:
    """Have a model look at an image in its own size.

    Args:
        session: The model.
        image: Grey or RGB, 0 to 255.
        limits: See :func:`look`.

    Raises:
        ImageError: When the model can't take the image in its size.
    """
    found = session.predict([image], size="native", **limits).row(0)
    return Look(found, found)


def sight_of(
    session: "GlimpseSession",
    image: "UInt8[np.ndarray, 'height width channels'] | LazyImage",
    found: Look,
    native: bool = False,
) -> Sight:
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
                "leave out --draw and --animate"
            )
        image = image.read((0, 0, width, height))
    canvas = pixels.fit(image, height, width, session.card.channels) if native else session.fit(image)
    return Sight(image, canvas, *found)


def draw(session: "GlimpseSession", seen: Sight, truth: str | None = None) -> Image.Image:
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


def animate(session: "GlimpseSession", seen: Sight, truth: str | None = None) -> list[Image.Image]:
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


def _sensed(session: "GlimpseSession", seen: Sight) -> Float[np.ndarray, "time scales channels size size"]:
    """What the retina saw at each glimpse."""
    card, locations, canvas = session.card, seen.on_canvas.locations[0], seen.canvas.transpose(2, 0, 1)
    if card.glimpse_size is None or card.num_scales is None or card.zoom is None:
        raise ValueError(f"expected the card of a model with a retina, got one of a {card.model!r} model without")
    canvases = np.broadcast_to(canvas, (len(locations), *canvas.shape))
    return crop.extract_glimpse(canvases, locations, card.glimpse_size, card.num_scales, card.zoom)
