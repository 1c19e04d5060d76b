"""From an image file to pixels that a model can take: decode safely, turn upright, fit into the model's canvas.

Pillow and numpy only. Images are uint8, (height, width, channels), with one channel (grey) or three (RGB).
"""

import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from glimpse.contract.card import FIT, SIZE_POLICIES, SQUASH
from glimpse.images import kinds
from glimpse.images.cost import MAX_PIXEL_SCANS, ORDINARY_SCANS, estimate_reading, estimate_seconds
from glimpse.images.directories import Stream, StructureError
from glimpse.images.formats import advice_for_content
from glimpse.images.structure import check_exif, examine

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""The only decoders that a file's bytes may reach."""
TILE_WIDTH, TILE_LENGTH = 322, 323
"""Tags of a TIFF. A decoder makes room for a whole tile, of which the image may be a small part."""
TRANSPOSED = range(5, 9)
"""EXIF orientations whose rows are the upright image's columns."""
_EXIF_TEXT = "Raw profile type exif"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by the orientation of EXIF."""
MAX_DETAIL = 200
"""Letters of a decoder's own message that are passed on: some repeat what stands in the file."""
STRIP = 64
"""Rows that are converted at once: wider numbers of a whole image would take several times its memory."""
MAX_PIXELS = 2**26
"""Largest image that is decoded unless the caller gives another limit: 8192 x 8192 pixels, 200 MB as RGB."""


class ImageError(ValueError):
    """An image that can't be read, or whose pixels are not of the expected kind."""


class TooManyPixelsError(ImageError):
    """An image whose header announces more pixels than are allowed; none of them was decoded."""


class TooCostlyError(ImageError):
    """An image that is estimated to take longer than the caller allows; none of its pixels was decoded.

    Attributes:
        seconds: The estimate, of processor time. That of a file whose marks alone take longer is without its pixels.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Placement(NamedTuple):
    """Where a fitted image lies on its canvas, in pixels of the canvas."""

    left: int
    top: int
    width: int
    height: int


def decode(
    source: str | Path | bytes,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = math.inf,
    reduced_to: int | None = None,
) -> UInt8[np.ndarray, "height width channels"]:
    """Decode an image to upright 8-bit RGB or grey.

    An EXIF orientation is applied. Transparency is composited on black, the canvases' own background. 16-bit grey is
    scaled by 255/65535, not clipped; of 16-bit colours the higher byte is taken, which is at most one less. Colours are
    taken as they are stored, without a colour profile. Of an animation the first frame counts. PNG, JPEG, BMP, GIF,
    TIFF, WebP and PPM are read, recognised by their content; :mod:`glimpse.images.kinds` lists the kinds of them that
    are not.

    Args:
        source: A path, or the bytes of a file.
        name: What errors call the image; the path by default.
        max_pixels: Reject an image whose header announces more pixels than this, before any of them is decoded.
            Pillow's own limit of 179 million applies as well.
        max_seconds: Reject an image whose decoding is estimated to take longer than this, in seconds of processor
            time, before any of it is decoded.
        reduced_to: For a small picture of it: a JPEG file may be decoded at a half, a quarter or an eighth of its size,
            several times as fast, as long as each side keeps so many pixels. None for its own size.

    Returns:
        Values from 0 to 255, with one channel where the file is grey and three otherwise.

    Raises:
        TooManyPixelsError: When it is too large.
        TooCostlyError: When it would take too long.
        ImageError: When there is no such file, or it is no image of these formats, is damaged, is of a kind that would
            not come out right (:mod:`glimpse.images.kinds`), or is built so that it costs far more than its pixels
            (:mod:`glimpse.images.structure`).
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), name or "the image", max_pixels, max_seconds, reduced_to)
    path, name = Path(source), name or str(source)
    if path.is_dir():
        raise ImageError(f"expected an image file, got the directory {name!r}; pass the images inside it one by one")
    if not path.exists():
        raise ImageError(f"there is no image file {name!r}; check the path")
    if not path.is_file():
        raise ImageError(f"expected an image file, but {name!r} is no regular file; save the image to a file first")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ImageError(f"can't read the image {name!r} ({error.strerror}); check its permissions") from error
    with stream:
        return _decode(stream, name, max_pixels, max_seconds, reduced_to)


def upright_size(path: Path) -> tuple[int, int]:
    """Read the (height, width) of an upright image, pixels, from its header; none of its pixels is decoded.

    Of a PNG's orientation nothing is known from its header; its size is that in which it is stored.

    Args:
        path: An image file.

    Raises:
        ImageError: When the header can't be read; :func:`decode` says more.
    """
    try:
        with path.open("rb") as stream:
            examine(stream)
            with Image.open(stream, formats=FORMATS) as picture:
                width, height = picture.size
                # Pillow would decode a PNG to look for an orientation behind its pixels.
                known = picture.format != "PNG" or "exif" in picture.info
                orientation = picture.getexif().get(ExifTags.Base.Orientation) if known else None
    except Exception as error:  # as in decoding, hostile bytes are met with a dozen kinds of exception
        raise ImageError(f"the header of the image {str(path)!r} can't be read ({error}); copy it again") from error
    return (width, height) if orientation in TRANSPOSED else (height, width)


def placement(image_height: int, image_width: int, height: int, width: int, size_policy: str = FIT) -> Placement:
    """Compute the place of an image on a canvas of another size.

    By the policy ``fit`` it lies in the middle, as large as fits with its proportions kept; by ``squash`` it takes the
    whole canvas, and its proportions change.

    Args:
        image_height: The image's own height, pixels, at least 1.
        image_width: The image's own width, pixels, at least 1.
        height: The canvas's height, pixels, at least 1.
        width: The canvas's width, pixels, at least 1.
        size_policy: One of :data:`glimpse.contract.card.SIZE_POLICIES`.

    Raises:
        ValueError: When there is no such policy.
    """
    if size_policy == SQUASH:
        return Placement(0, 0, width, height)
    if size_policy != FIT:
        raise ValueError(f"expected a size policy out of {SIZE_POLICIES}, got {size_policy!r}; choose one of them")
    scale = min(height / image_height, width / image_width)
    scaled_height = min(height, max(1, round(image_height * scale)))
    scaled_width = min(width, max(1, round(image_width * scale)))
    return Placement((width - scaled_width) // 2, (height - scaled_height) // 2, scaled_width, scaled_height)


def fit(
    image: npt.NDArray[Any], height: int, width: int, channels: int, size_policy: str = FIT
) -> UInt8[np.ndarray, "height width channels"]:
    """Scale an image onto a canvas, to its :func:`placement`, and convert its channels; what it leaves free is black.

    An image that already has the canvas's size keeps its pixels exactly. Scaling is bilinear, and antialiased where the
    image is reduced.

    Args:
        image: uint8 (height, width, channels), grey or RGB.
        height: The canvas's height, pixels, at least 1.
        width: The canvas's width, pixels, at least 1.
        channels: 1 for grey (ITU-R 601 luma of RGB) or 3 for RGB (grey repeated).
        size_policy: One of :data:`glimpse.contract.card.SIZE_POLICIES`.

    Raises:
        ImageError: When the array is no such image, or is empty.
        ValueError: When the canvas has no pixels or another number of channels, or there is no such policy.
    """
    check_image(image, "the image")
    if channels not in (1, 3) or height < 1 or width < 1:
        raise ValueError(
            "expected a canvas of at least 1 x 1 pixels with 1 or 3 channels; "
            f"got height={height}, width={width}, channels={channels}"
        )
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture = picture.convert("L" if channels == 1 else "RGB")
    place = placement(image.shape[0], image.shape[1], height, width, size_policy)
    if picture.size != (place.width, place.height):
        picture = picture.resize((place.width, place.height), Image.Resampling.BILINEAR)
    canvas = np.zeros((height, width, channels), np.uint8)
    rows, columns = slice(place.top, place.top + place.height), slice(place.left, place.left + place.width)
    canvas[rows, columns] = np.asarray(picture).reshape(place.height, place.width, channels)
    return canvas


def check_image(image: object, name: str) -> None:
    """Reject what is not a uint8 image of shape (height, width, channels) with one or three channels.

    Args:
        image: What a caller handed over.
        name: What the error calls it.

    Raises:
        ImageError: Saying what was expected and what came.
    """
    if not isinstance(image, np.ndarray):
        came, advice = type(image).__name__, "decode a file with glimpse.images.pixels.decode first"
    elif image.dtype != np.uint8:
        came, advice = f"{image.dtype} {image.shape}", "scale values to 0..255 and convert them with astype('uint8')"
    elif image.ndim != 3 or image.shape[2] not in (1, 3):
        came, advice = f"shape {image.shape}", "a grey image needs a last axis of 1, and alpha must be composited"
    elif 0 in image.shape:
        came, advice = f"shape {image.shape}", "it has no pixels"
    else:
        return
    raise ImageError(f"expected {name} as a uint8 array (height, width, 1 or 3 channels), got {came}; {advice}")


def _decode(
    stream: Stream, name: str, max_pixels: int, max_seconds: float, reduced_to: int | None
) -> UInt8[np.ndarray, "height width channels"]:
    readable = "PNG, JPEG, BMP, GIF, TIFF, WebP or PPM"
    try:
        head = stream.read(kinds.HEAD_BYTES)
        stream.seek(0)
        if not head:
            raise ImageError(f"the image {name!r} is empty (0 bytes); copy or download it again")
        structure = examine(stream)
        size = stream.seek(0, 2)
        stream.seek(0)
        _check_seconds(estimate_reading(size, structure), max_seconds, name)
        with Image.open(stream, formats=FORMATS) as picture:
            width, height = _announced(picture)
            if width * height > max_pixels:
                raise TooManyPixelsError(
                    f"the image {name!r} announces {width} x {height} pixels, more than the "
                    f"{max_pixels:,} allowed; scale it down or raise the limit"
                )
            if width * height * structure.scans > max(ORDINARY_SCANS * max_pixels, MAX_PIXEL_SCANS):
                raise StructureError(
                    f"announces {structure.scans} scans of {width} x {height} pixels, more than is decoded; write it "
                    "again as a baseline JPEG, or scale it down"
                )
            _check_seconds(estimate_seconds(picture, width * height, size, structure), max_seconds, name)
            if kind := kinds.misread_kind(picture, head):
                raise _unsupported(name, kind)
            samples = kinds.samples_of(picture, head)
            if reduced_to is not None:
                picture.draft(None, (reduced_to, reduced_to))
            picture.load()
            return _to_array(_upright(picture), samples, name)
    except ImageError:
        raise
    except StructureError as error:
        raise ImageError(f"the image {name!r} {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(
            f"the image {name!r} announces more pixels than the {max_pixels:,} allowed, or than Pillow allows; "
            "scale it down"
        ) from error
    except UnidentifiedImageError as error:
        if kind := kinds.unreadable_tiff(stream):
            raise _unsupported(name, kind) from error
        if advice := advice_for_content(head):
            raise ImageError(f"expected a {readable} file, got {name!r}, {advice}") from error
        raise ImageError(
            f"{name!r} is no image that can be read, or is damaged at its start; expected a {readable} file"
        ) from error
    except Exception as error:  # Pillow's decoders meet hostile bytes with a dozen kinds of exception
        raise ImageError(
            f"the image {name!r} is damaged or cut short ({str(error)[:MAX_DETAIL]}); expected a whole {readable} "
            "file, copy or download it again"
        ) from error


def _check_seconds(seconds: float, max_seconds: float, name: str) -> None:
    if seconds > max_seconds:
        raise TooCostlyError(
            f"decoding the image {name!r} is estimated to take {seconds:.2g} s, more than the {max_seconds:g} s "
            "allowed; scale it down, or write it in another format",
            seconds,
        )


def _announced(picture: Image.Image) -> tuple[int, int]:
    """Width and height of what a picture's decoder makes room for: those of a TIFF's tile where that is larger."""
    width, height = picture.size
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        tile = [int(picture.tag_v2.get(tag, 0)) for tag in (TILE_WIDTH, TILE_LENGTH)]
        if tile[0] * tile[1] > width * height:
            width, height = tile
    return width, height


def _upright(picture: Image.Image) -> Image.Image:
    """Turn a loaded picture as its EXIF says. Pillow's own function writes the rest of the EXIF anew, at any cost."""
    if _EXIF_TEXT in picture.info:  # of a PNG, in hexadecimal digits behind three lines
        picture.info.setdefault("exif", bytes.fromhex("".join(picture.info[_EXIF_TEXT].split("\n")[3:])))
    if isinstance(block := picture.info.get("exif"), bytes):
        check_exif(block)
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _unsupported(name: str, kind: str) -> ImageError:
    return ImageError(
        f"expected the image {name!r} with 8 bits a sample, grey, RGB or with a palette, got {kind}, which can't be "
        "read right; convert it, for example to PNG"
    )


def _to_array(picture: Image.Image, samples: kinds.Samples, name: str) -> UInt8[np.ndarray, "height width channels"]:
    """Convert a loaded picture of any mode to 8-bit grey or RGB."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and samples.bits == 16):
        return _narrowed(np.asarray(picture), samples)
    if picture.mode in ("I", "F"):
        raise ImageError(
            f"the image {name!r} has 32 bits a pixel, whose range is unknown; expected 8 or 16 bits, "
            "convert it and say which value is white"
        )
    grey = samples.grey or picture.mode in ("1", "L", "LA", "La")
    if samples.transparent is not None:
        values = np.array(picture.convert("L"))
        values[values == samples.transparent * 255 // (2**samples.bits - 1)] = 0
        return values[..., None]
    if picture.has_transparency_data:
        layered = np.asarray(picture.convert("LA" if grey else "RGBA"))
        opaque = np.empty((*layered.shape[:2], layered.shape[2] - 1), np.uint8)
        for top in range(0, len(layered), STRIP):
            strip = layered[top : top + STRIP].astype(np.uint16)
            opaque[top : top + STRIP] = (strip[..., :-1] * strip[..., -1:] + 127) // 255
        return opaque
    flat = np.asarray(picture.convert("L" if grey else "RGB"))
    return flat[..., None].copy() if grey else flat.copy()


def _narrowed(wide: npt.NDArray[Any], samples: kinds.Samples) -> UInt8[np.ndarray, "height width 1"]:
    """Scale 16-bit grey to 8 bits."""
    narrow = np.empty((*wide.shape, 1), np.uint8)
    for top in range(0, len(wide), STRIP):
        strip = wide[top : top + STRIP].astype(np.int64)
        values = 65535 - strip if samples.white_is_zero else strip
        narrow[top : top + STRIP, :, 0] = np.where(strip == samples.transparent, 0, (values * 255 + 32767) // 65535)
    return narrow
