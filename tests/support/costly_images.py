"""Image files that cost far more than their bytes and pixels let expect."""

import io
import struct
import zlib
from typing import Any

from PIL import Image


def encode(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    """Write a picture in a format of Pillow's."""
    stream = io.BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def jpeg_with_scans(side: int, extra: int) -> bytes:
    """A progressive grey JPEG whose last refinement scan is repeated: 6 scans and the extra ones."""
    data = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=90)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * extra + data[-2:]


def segment(marker: int, content: bytes) -> bytes:
    """A marker segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(before: bytes = b"", behind: bytes = b"") -> bytes:
    """A small PNG with more chunks before and behind its pixels."""
    data = encode(Image.new("RGB", (8, 8)), "PNG")
    return data[:33] + before + data[33:-12] + behind + data[-12:]


def _tiff(content: bytes, entries: list[tuple[int, int, int, int]]) -> bytes:
    content += bytes(len(content) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory + bytes(4)


def tiff_with_strips(strips: int) -> bytes:
    """A grey TIFF of 8 pixels' width with one strip a row."""
    offsets = b"".join(struct.pack("<I", 8 + 8 * row) for row in range(strips))
    content = bytes(8 * strips) + offsets + struct.pack("<I", 8) * strips
    first = 8 + 8 * strips
    entries = [(256, 3, 1, 8), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, strips, first), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, strips, first + 4 * strips)]
    return _tiff(content, entries)


def tiff_with_fields(fields: int, large: bool = False) -> bytes:
    """A TIFF, or a BigTIFF, of which only the number of fields is right."""
    if large:
        return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, fields) + bytes(20 * fields)
    return b"II*\0" + struct.pack("<IH", 8, fields) + bytes(12 * fields)


def tiff_of_jpeg(jpeg: bytes, side: int, overlapping: int = 1) -> bytes:
    """A grey TIFF whose strips are a JPEG, from its first byte, from its second, and so on."""
    first = 8 + len(jpeg) + len(jpeg) % 2
    offsets = b"".join(struct.pack("<I", 8 + strip) for strip in range(overlapping))
    counts = b"".join(struct.pack("<I", len(jpeg) - strip) for strip in range(overlapping))
    places = (8, len(jpeg)) if overlapping == 1 else (first, first + len(offsets))
    entries = [(256, 3, 1, side), (257, 3, 1, side), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1)]
    entries += [(273, 4, overlapping, places[0]), (277, 3, 1, 1), (278, 3, 1, side), (279, 4, overlapping, places[1])]
    return _tiff(jpeg + bytes(len(jpeg) % 2) + offsets + counts, entries)


def run_length_bmp(side: int) -> bytes:
    """A grey BMP of runs of one pixel, which Pillow decodes in Python."""
    body = (b"\x01\x00" * side + b"\0\0") * side + b"\0\1"
    head = 14 + 40 + 1024
    file_head = b"BM" + struct.pack("<IHHI", head + len(body), 0, 0, head)
    return (
        file_head + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0) + bytes(1024) + body
    )
