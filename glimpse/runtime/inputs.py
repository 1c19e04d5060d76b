"""The input of a model: images fitted onto its canvas, or images in their own size, of which it reads parts.

Images are uint8 (height, width, channels), grey or RGB; a model whose card has the input type float32 takes float32 in
[0, 1] as well. The functions return pixels of the card's type, with its channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from glimpse.contract.card import ModelCard
from glimpse.errors import Argument, ArgumentError
from glimpse.images import pixels
from glimpse.images.frames import Frames
from glimpse.images.geometry import Box
from glimpse.images.lazy import ArrayImage, LazyImage, unreadable
from glimpse.images.pixels import MAX_PIXELS, ImageError

Image = npt.NDArray[Any] | LazyImage
Pixels = Shaped[np.ndarray, "height width channels"]
Locations = npt.NDArray[np.float32]
"""(batch, 2): (x, y) of each image's next glimpse, in [-1, 1] within what the model takes."""
Sizes = Sequence[tuple[int, int]] | None
"""Each image's (height, width) before it was fitted onto the canvas, pixels; None where none was."""
FirstLocations = Sequence[Any] | npt.NDArray[Any]
"""(x, y) in [-1, 1] of each image, or (batch, 2), one for each."""


class ImageView(NamedTuple):
    """An image of any size, of which parts can be read."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    read: Callable[[Box], npt.NDArray[Any]]
    """Pixels under a box inside the image, (height, width, channels), as the model takes them."""
    name: str
    """What errors call it."""
    pixels: npt.NDArray[Any] | None = None
    """All its pixels where they lie, in memory or mapped from a file, (height, width, channels), as the model takes
    them; None where they must be read or converted."""

    def whole(self) -> Pixels:
        """All its pixels.

        Raises:
            ImageError: When there are more than :data:`glimpse.images.pixels.MAX_PIXELS`.
        """
        if self.height * self.width > MAX_PIXELS:
            raise ImageError(
                f"expected {self.name} with at most {MAX_PIXELS:,} pixels, since this model takes images in as a "
                f"whole, got {self.width} x {self.height}; scale it down, or use a model with a retina that "
                "'glimpse export --graph adaptive' wrote, which reads only what it looks at"
            )
        return self.read(Box(0, 0, self.width, self.height))


GraphInput = npt.NDArray[Any] | list[ImageView]
"""A batch on the canvas, (batch, channels, height, width), or images in their own sizes."""


def graph_inputs(images: list[Any], names: list[str], size: str | None, card: ModelCard) -> tuple[GraphInput, Sizes]:
    """Take images of any size as a model's input.

    Args:
        images: Arrays or lazy images.
        names: What errors call them.
        size: ``fit`` puts them onto the model's canvas, ``native`` takes them as they are; when left out, arrays in
            memory are fitted, and lazy and mapped ones taken as they are.
        card: The model's card.

    Returns:
        The input, and each image's (height, width) before it was fitted, pixels; None where none was fitted.

    Raises:
        ImageError: When one of them is no image, or can't be taken in its size.
        ValueError: When the size is neither ``fit`` nor ``native``.
    """
    mapped = lazy = 0
    for image in images:
        if not isinstance(image, np.ndarray):
            lazy += isinstance(image, LazyImage)
        elif isinstance(image, np.memmap):
            mapped += 1
    by_parts = lazy + mapped
    if size is None and 0 < by_parts < len(images):
        raise ImageError(
            f"expected arrays or lazy images, got {by_parts} lazy or mapped ones out of {len(images)}; "
            "take all of them as they are with size='native', or hand them over apart"
        )
    if size not in (None, "fit", "native"):
        raise ValueError(f"expected a size of 'fit' or 'native', got {size!r}; choose one of them")
    if size == "native" or (size is None and by_parts):
        if not card.any_size and card.graph != "step":
            advice = "read them as whole arrays" if lazy else "scale them with size='fit'"
            raise ImageError(
                f"expected images to fit, since this model's graph takes {card.width} x {card.height} "
                f"pixels and nothing else; {advice}, or export the model for any size"
            )
        return [to_view(*each, card) for each in zip(images, names, strict=True)], None
    if lazy:
        raise ImageError(
            "expected arrays to fit onto the model's canvas, got a lazy image, which is looked at as it is; "
            "leave size='fit' out, or read it as a whole and hand over the array"
        )
    fitted = [to_canvas(*each, card) for each in zip(images, names, strict=True)]
    canvases = fitted[0][None] if len(fitted) == 1 else np.stack(fitted)
    return to_nchw(canvases, card), [(image.shape[0], image.shape[1]) for image in images]


def onto_input(location: FirstLocations, batch: int, sizes: Sizes, card: ModelCard) -> Locations:
    """Take the first locations in the frames of the images into the frames of what the model takes.

    Args:
        location: (x, y) in [-1, 1] of each image, or (batch, 2), one for each.
        batch: How many images there are.
        sizes: Each image's (height, width) before it was fitted onto the canvas, pixels; None where none was.
        card: The model's card.

    Raises:
        ArgumentError: When it is no such location, or the model has no retina.
    """
    given = check_first_location(location, card, batch)
    if sizes is not None:
        given = Frames(sizes, card.height, card.width, card.size_policy).locations_on_canvas(given)
    return np.array(np.broadcast_to(given, (batch, 2)), np.float32)


def check_first_location(location: FirstLocations, card: ModelCard, batch: int = 1) -> npt.NDArray[np.float64]:
    """Check where a caller wants the first glimpses.

    Args:
        location: (x, y) in [-1, 1], or (batch, 2).
        card: The model's card.
        batch: How many images there are.

    Returns:
        (2,) or (batch, 2), as it was given.

    Raises:
        ArgumentError: When it is no such location, or the model has no retina.
    """
    if card.retina is None:
        raise ArgumentError(
            "expected no ",
            Argument("first_location"),
            f", since the model takes an image in at once ({card.model}), got {location!r:.60}; leave it out",
        )
    try:
        given = np.asarray(location)
    except ValueError:  # of rows of several lengths
        given = np.empty(0)
    if given.shape not in ((2,), (batch, 2)) or given.dtype.kind not in "iuf" or not (np.abs(given) <= 1).all():
        raise ArgumentError(
            "expected a ",
            Argument("first_location"),
            f" (x, y), both in [-1, 1], got {location!r:.60}; leave it out to begin at the image's centre, (0, 0)",
        )
    return given.astype(np.float64)


def to_canvas(image: Any, name: str, card: ModelCard) -> Pixels:
    """Put an image onto a model's canvas.

    Args:
        image: The image.
        name: What errors call it.
        card: The model's card.

    Raises:
        ImageError: When it is no image, or is float32 and has not the canvas's size and channels already.
    """
    canvas = card.canvas
    expected = canvas[:3]
    if _is_float(image, card):
        if image.shape != expected:
            raise ImageError(
                f"expected {name} as float32 {expected}, the model's own size, got {image.shape}; hand an image of "
                "another size as uint8, which is scaled, or with size='native', which is not"
            )
        return _checked(image, name)
    pixels.check_image(image, name)
    return _as_input(image if image.shape == expected else pixels.fit(image, *canvas), card)


def to_view(image: Any, name: str, card: ModelCard) -> ImageView:
    """Take an image as it is.

    Args:
        image: An array or a lazy image.
        name: What errors call it.
        card: The model's card.

    Raises:
        ImageError: When it is no image. Float values are checked at once where they lie in memory. Of an array that
            is mapped from a file, and of a lazy image, what is read is checked when it is read.
    """
    if _is_float(image, card):
        if image.ndim != 3 or image.shape[2] != card.channels or 0 in image.shape:
            raise ImageError(
                f"expected {name} as float32 (height, width, {card.channels}), got {image.shape}; hand it as uint8 to "
                "have its channels converted"
            )
        if isinstance(image, np.memmap):
            return ImageView(image.shape[0], image.shape[1], lambda box: _checked(_part(image, box), name), name)
        values = _checked(image, name)
        return ImageView(image.shape[0], image.shape[1], lambda box: _part(values, box), name, values)
    if isinstance(image, LazyImage):
        lazy = image
    else:
        pixels.check_image(image, name)
        lazy = ArrayImage(image, name)
    (width, height), channels = lazy.size, lazy.channels
    if channels not in (1, 3) or width < 1 or height < 1:
        raise ImageError(
            f"expected {name} with 1 or 3 channels and at least one pixel, got {channels} channels and "
            f"{width} x {height} pixels; leave out alpha and further planes"
        )

    def read(box: Box) -> Pixels:
        corners = (box.left, box.top, box.right, box.bottom)
        try:
            part = lazy.read(corners)
        except ImageError:
            raise
        except Exception as error:  # a user's image may lie anywhere, and fail as it likes
            raise unreadable(name, corners, error) from error
        pixels.check_image(part, f"a part of {name}")
        expected = (box.bottom - box.top, box.right - box.left, channels)
        if part.shape != expected:
            raise ImageError(
                f"expected {expected} pixels of {name} under {tuple(box)}, got {part.shape}; read them all"
            )
        return _as_input(part if channels == card.channels else pixels.fit(part, *expected[:2], card.channels), card)

    if type(lazy) is ArrayImage and (channels, "uint8") == (card.channels, card.input_type):
        return ImageView(height, width, read, name, lazy.pixels)
    return ImageView(height, width, read, name)


def to_nchw(canvases: Any, card: ModelCard) -> Shaped[np.ndarray, "batch channels height width"]:
    """Turn pictures on a model's canvas into what its graph takes.

    Args:
        canvases: (batch, height, width, channels).
        card: The model's card.

    Raises:
        ImageError: When they are no array, are of another type, size or number of channels, are none, or hold values
            that are no pixels.
    """
    expected = (card.height, card.width, card.channels)
    if not isinstance(canvases, np.ndarray):
        raise ImageError(
            f"expected canvases as one array (batch, {expected[0]}, {expected[1]}, {expected[2]}), got "
            f"{type(canvases).__name__}; put them behind one another with np.stack, or hand images to predict"
        )
    is_float = _is_float(canvases, card)
    if not (canvases.dtype == np.uint8 or is_float) or canvases.shape[1:] != expected or not len(canvases):
        kinds = "uint8 or float32" if card.input_type == "float32" else "uint8"
        raise ImageError(
            f"expected {kinds} canvases of shape (batch, {expected[0]}, {expected[1]}, {expected[2]}), at least one, "
            f"got {canvases.dtype} {canvases.shape}; put images onto the canvas with fit, or hand them to predict"
        )
    checked = _checked(canvases, "the canvases") if is_float else _as_input(canvases, card)
    return np.ascontiguousarray(checked.transpose(0, 3, 1, 2))


def _is_float(image: Any, card: ModelCard) -> bool:
    return card.input_type == "float32" and isinstance(image, np.ndarray) and image.dtype == np.float32


def _as_input(image: npt.NDArray[Any], card: ModelCard) -> npt.NDArray[Any]:
    return image if card.input_type == "uint8" else image / np.float32(255)


def _part(image: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    return image[box.top : box.bottom, box.left : box.right]


def _checked(image: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Refuse float values that are no pixels."""
    strange = np.count_nonzero(~np.isfinite(image))
    if strange or image.min() < 0 or image.max() > 1:
        came = f"{strange} that are NaN or infinite" if strange else f"some from {image.min():g} to {image.max():g}"
        raise ImageError(f"expected the values of {name} in [0, 1], got {came}; scale them, or hand uint8 pixels")
    return image
