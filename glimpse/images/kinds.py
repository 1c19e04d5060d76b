"""Kinds of image files that Pillow opens and reads wrongly, or can't read: each is refused by its name.

Every mode and depth of each format was compared with images whose pixels are known; what differed is listed here.
"""

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    EXTRASAMPLES,
    FILLORDER,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    YCBCRSUBSAMPLING,
)

WHITE_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 2, 3, 5, 6
"""Photometric interpretations of a TIFF (TIFF 6.0)."""
HEAD_BYTES = 70
"""Bytes at a file's beginning that tell a PNG's and a BMP's kind."""

_INK_SET = 332
_RAW, _JPEG = 1, 7
_COLOURS = {0: "white-is-zero grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_COMPRESSIONS = {5: "LZW", 7: "JPEG", 8: "deflated", 32773: "PackBits", 32946: "deflated"}
_NUMBERS = {2: "signed", 3: "floating-point"}
_BITFIELDS, _RLE8, _RLE4 = 3, 1, 2
_PNG_BITS, _PNG_COLOURS = 24, 25


class Samples(NamedTuple):
    """What Pillow's mode doesn't say of the samples in a file."""

    bits: int = 8
    """Of a sample: those of a PNG or a PPM; 8 for the others."""
    grey: bool = False
    """Whether the file is grey although Pillow makes it RGB."""
    white_is_zero: bool = False
    """Whether the 16-bit pixels of a TIFF are still to be inverted. Pillow inverts those of fewer bits."""
    transparent: int | None = None
    """The grey value of a PNG, of its number of bits, that is transparent."""


def samples_of(picture: Image.Image, head: bytes) -> Samples:
    """Find out what the mode of a picture doesn't say.

    Args:
        picture: As it was opened; its pixels need not be loaded.
        head: The first :data:`HEAD_BYTES` bytes of its file.
    """
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return Samples(white_is_zero=picture.tag_v2.get(PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO) == WHITE_IS_ZERO)
    if picture.format == "PPM":
        return Samples(bits=16)
    if picture.format == "PNG":
        bits, colours = head[_PNG_BITS], head[_PNG_COLOURS]
        transparent = picture.info.get("transparency") if colours == 0 else None
        if bits == 1 and transparent is not None:  # which Pillow alone scales
            transparent = min(transparent, 1)
        return Samples(bits, colours in (0, 4), transparent=transparent)
    return Samples()


def misread_kind(picture: Image.Image, head: bytes) -> str | None:
    """Name the kind of a file whose pixels Pillow would read wrongly.

    Args:
        picture: As it was opened; its pixels need not be loaded.
        head: The first :data:`HEAD_BYTES` bytes of its file.

    Returns:
        The kind, to follow "got"; None for a file that is read right.
    """
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return _misread_tiff(picture.tag_v2)
    check = _CHECKS.get(picture.format or "")
    return check(picture, head) if check else None


def unreadable_tiff(stream: io.BytesIO | io.BufferedReader) -> str | None:
    """Name the kind of a TIFF that Pillow doesn't open.

    Args:
        stream: Its bytes; the position is moved.

    Returns:
        The kind, to follow "got"; None when it is no TIFF, or its tags can't be read.
    """
    stream.seek(0)
    head = stream.read(8)
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        stream.seek(tags.next)
        tags.load(stream)
        return _tiff(tags)
    except (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, Warning, struct.error):
        return None


def _misread_tiff(tags: Mapping[int, Any]) -> str | None:
    colours, bits = tags.get(PHOTOMETRIC_INTERPRETATION, 0), tags.get(BITSPERSAMPLE, (1,))
    compression, samples = tags.get(COMPRESSION, _RAW), tags.get(SAMPLESPERPIXEL, 1)
    planar = tags.get(PLANAR_CONFIGURATION, 1) == 2 and samples > 1
    wrong = (
        (max(tags.get(SAMPLEFORMAT, (1,))) == 2 and max(bits) < 32)
        or not {1, 2, 4, 8, 16, 32}.issuperset(bits)
        or colours == 8
        or (colours == CMYK and tags.get(_INK_SET, 1) != 1)
        or (planar and compression == _RAW and (max(bits) > 8 or tags.get(FILLORDER, 1) == 2))
        or (planar and colours < RGB and max(tags.get(EXTRASAMPLES, (0,))) > 0)
        or (planar and colours == PALETTE and max(tags.get(EXTRASAMPLES, (0,))) > 0)
        or (planar and colours == YCBCR and compression == _JPEG)
        or (colours == YCBCR and compression == _RAW and tuple(tags.get(YCBCRSUBSAMPLING, (2, 2))) != (1, 1))
    )
    if wrong:
        return _tiff(tags)
    if colours == PALETTE and max(tags.get(COLORMAP, (65535,))) < 256:
        return "a TIFF whose palette has numbers of 8 bits where 16 belong"
    return None


def _tiff(tags: Mapping[int, Any]) -> str:
    """The kind of a TIFF in words, such as "a 16-bit planar uncompressed RGB TIFF with alpha"."""
    bits = max(tags.get(BITSPERSAMPLE, (1,)))
    colours = tags.get(PHOTOMETRIC_INTERPRETATION, 0)
    compression = tags.get(COMPRESSION, _RAW)
    if not all(isinstance(value, int) for value in (bits, colours, compression)):
        return "a TIFF with texts or fractions where whole numbers belong"
    extra = tags.get(EXTRASAMPLES, ())
    words = [
        f"{bits}-bit",
        _NUMBERS.get(max(tags.get(SAMPLEFORMAT, (1,))), ""),
        "planar" if tags.get(PLANAR_CONFIGURATION, 1) == 2 else "",
        "uncompressed" if compression == _RAW else _COMPRESSIONS.get(compression, f"compression-{compression}"),
        _COLOURS.get(colours, f"photometric-{colours}"),
        "TIFF",
        "whose inks are others" if colours == CMYK and tags.get(_INK_SET, 1) != 1 else "",
        "with its bits reversed" if tags.get(FILLORDER, 1) == 2 else "",
        f"with {len(extra)} further samples a pixel" if extra else "",
    ]
    text = " ".join(word for word in words if word)
    return f"an {text}" if text.startswith("8") else f"a {text}"


def _misread_png(picture: Image.Image, head: bytes) -> str | None:
    if (head[_PNG_BITS], head[_PNG_COLOURS]) == (16, 2) and "transparency" in picture.info:
        return "a 16-bit RGB PNG in which one colour is transparent"
    return None


def _misread_bmp(picture: Image.Image, head: bytes) -> str | None:
    size, bits, compression = struct.unpack_from("<I", head, 14)[0], head[28], struct.unpack_from("<I", head, 30)[0]
    if bits == 16 and size >= 56 and compression == _BITFIELDS and any(head[66:70]):
        return "a 16-bit BMP with transparency"
    packed = bits in (2, 4) and compression not in (_RLE8, _RLE4) and picture.mode == "L"
    if bits in (2, 4, 8) and size > 12 and (picture.mode == "1" or packed):
        return f"a {bits}-bit BMP whose palette is a row of greys that Pillow takes for pixels of another depth"
    return None


def _misread_ppm(picture: Image.Image, head: bytes) -> str | None:
    return "a form of PPM that Pillow alone knows" if head[:2] in (b"P0", b"Py") else None


def _misread_gif(picture: Image.Image, head: bytes) -> str | None:
    """Pillow fills what a first frame leaves of the screen with the first colour of the frame's own table."""
    tiles = getattr(picture, "tile", None)
    if not tiles or tiles[0][1] == (0, 0, *picture.size) or "transparency" in picture.info:
        return None
    tables = [table and bytes(table.palette) for table in (picture.palette, getattr(picture, "global_palette", None))]
    if picture.info.get("background") == 0 and tables[0] == tables[1]:
        return None
    return "a GIF whose first frame lies on a background of another colour table"


def _misread_jpeg(picture: Image.Image, head: bytes) -> str | None:
    if picture.mode == "CMYK" and "adobe" not in picture.info:
        return "a CMYK JPEG that doesn't say whether its inks are inverted"
    return None


_CHECKS: dict[str, Callable[[Image.Image, bytes], str | None]] = {
    "PNG": _misread_png,
    "BMP": _misread_bmp,
    "PPM": _misread_ppm,
    "GIF": _misread_gif,
    "JPEG": _misread_jpeg,
    "MPO": _misread_jpeg,
}
