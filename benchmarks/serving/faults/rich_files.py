"""Image files of 8 x 8 pixels that are nearly all metadata, of any size: what decoders do beside decoding.

Each form leads Pillow through its bytes in another way. Sizes are those that attackers choose: as many bytes as a
request may have, or as few as are looked into with a batch.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from PIL import Image

Entry = tuple[int, int, int, int | bytes]
"""Tag, type and number of a field's values, and the values: one that fits in, or bytes."""
_ORIENTATION: Entry = (274, 3, 1, 6)
_SIZES = {1: 1, 2: 1, 3: 2, 5: 8, 7: 1, 10: 8, 12: 8}
"""Bytes of a value by its type: byte, text, short, fraction, undefined, signed fraction, double."""
_TABLE = b"\0" + bytes(range(1, 65))


def encode(file_format: str, **options: Any) -> bytes:
    """Write a small picture in a format of Pillow's."""
    stream = io.BytesIO()
    Image.new("P" if file_format == "GIF" else "RGB", (8, 8)).save(stream, file_format, **options)
    return stream.getvalue()


def directory(entries: list[Entry], content: bytes = b"") -> bytes:
    """Write a TIFF, or a block of EXIF, of some content and a directory.

    Args:
        entries: Its fields.
        content: What stands before the values, from the eighth byte on.
    """
    written = bytearray(b"II*\0" + bytes(4) + content)
    fields: dict[int, bytes] = {}
    for tag, kind, number, values in entries:
        place = len(written)
        if isinstance(values, bytes):
            written += values + bytes(len(values) % 2)
        fields[tag] = struct.pack("<HHII", tag, kind, number, place if isinstance(values, bytes) else values)
    written[4:8] = struct.pack("<I", len(written))
    return bytes(written) + struct.pack("<H", len(fields)) + b"".join(fields[tag] for tag in sorted(fields)) + bytes(4)


def values(tag: int, kind: int, size: int) -> Entry:
    """A field of many values."""
    number = size // _SIZES[kind]
    return (tag, kind, number, (b"\1\0\0\0" * (size // 4 + 2))[: number * _SIZES[kind]])


def tiff(*further: Entry, strips: int = 1) -> bytes:
    """A grey TIFF of 8 columns with further fields, of one strip of 8 rows, or of strips of a row."""
    rows = 8 if strips == 1 else 1
    tags = {entry[0] for entry in further}
    entries: list[Entry] = [(256, 3, 1, 8), (257, 4, 1, rows * strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    offsets, counts = (struct.pack("<I", number) * strips for number in (8, 8 * rows))
    entries += [(273, 4, strips, offsets if strips > 1 else 8), (277, 3, 1, 1), (278, 3, 1, rows)]
    entries += [(279, 4, strips, counts if strips > 1 else 64)]
    return directory([entry for entry in entries if entry[0] not in tags] + list(further), bytes(64))


def _tiff_with(tag: int, kind: int, size: int) -> bytes:
    return tiff(values(tag, kind, size))


def nested(tag: int, kind: int, size: int) -> bytes:
    """A TIFF whose directory of EXIF, or of the place, has a field of many values."""
    inner = directory([values(40_000, kind, size)])
    place = 8 + 64 + int.from_bytes(inner[4:8], "little")
    number = size // _SIZES[kind]
    moved = inner[:-8] + struct.pack("<I", 8 + 64 + 8) + inner[-4:]
    entries: list[Entry] = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), _ORIENTATION, (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64), (tag, 4, 1, place)]
    assert struct.unpack_from("<HHI", moved, len(moved) - 16) == (40_000, kind, number)
    return directory(entries, bytes(64) + moved)


def overlapping(size: int, fields: int = 65_000) -> bytes:
    """A block of EXIF whose fields all have the same values."""
    fields = min(fields, size // 24)
    values_size = size - 12 * fields - 100
    entries = [(300 + field, 7, values_size, 8) for field in range(fields)]
    return directory([_ORIENTATION, *entries], bytes(values_size))


def many_fields(size: int) -> bytes:
    """A block of EXIF of very many fields."""
    return directory([_ORIENTATION, *((300 + field, 4, 1, 7) for field in range(min(65_000, size // 12 - 9)))])


def segment(marker: int, content: bytes) -> bytes:
    """A marker segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(before: bytes = b"", in_scan: bytes = b"") -> bytes:
    """A JPEG without a density, which Pillow then looks for in the EXIF."""
    data = encode("JPEG")
    return data[:2] + before + data[20:-2] + in_scan + data[-2:]


def jpeg_with_exif(block: bytes) -> bytes:
    """A JPEG with a block of EXIF in pieces."""
    return jpeg(b"".join(segment(0xE1, b"Exif\0\0" + block[at : at + 60_000]) for at in range(0, len(block), 60_000)))


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(before: bytes = b"", behind: bytes = b"") -> bytes:
    """A PNG with more chunks before and behind its pixels."""
    data = encode("PNG")
    return data[:33] + before + data[33:-12] + behind + data[-12:]


def webp(block: bytes) -> bytes:
    """A WebP with a block of EXIF."""
    picture = encode("WEBP")[12:]
    head = b"VP8X" + struct.pack("<I", 10) + struct.pack("<I", 8) + b"\7\0\0\7\0\0"
    body = b"WEBP" + head + picture + b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(blocks: int) -> bytes:
    """A GIF with a comment of many blocks."""
    data = encode("GIF")
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    return data[:place] + b"!\xfe" + b"\x01a" * blocks + b"\0" + data[place:]


def rich_files(size: int) -> dict[str, Callable[[], bytes]]:
    """Return forms of files by name, each as the function that makes one.

    Args:
        size: Bytes that a file may have; formats that allow fewer have fewer.
    """
    return dict(_forms(size))


def _forms(size: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    room, pieces = size - 2000, min(size - 2000, 3_000_000)
    yield "JPEG, fill bytes in the scan", lambda: jpeg(in_scan=b"\xff" * room)
    yield "JPEG, bytes without a marker", lambda: b"\xff\xd8\xff" + bytes(room)
    yield "JPEG, comments", lambda: jpeg(segment(0xFE, bytes(max(0, min(65_000, room // 9000 - 4)))) * 9000)
    yield "JPEG, tables", lambda: jpeg(segment(0xDB, _TABLE * 900) * (room // 60_000 + 1))
    yield "JPEG, restart markers", lambda: jpeg(in_scan=b"\xff\xd0" * (room // 2))
    yield "JPEG, EXIF of many fields", lambda: jpeg_with_exif(many_fields(pieces))
    yield "JPEG, EXIF that overlaps", lambda: jpeg_with_exif(overlapping(pieces))
    yield "JPEG, EXIF of fractions", lambda: jpeg_with_exif(directory([_ORIENTATION, values(40_000, 5, pieces)]))
    yield "JPEG, density of fractions", lambda: jpeg_with_exif(directory([values(282, 5, pieces), (296, 3, 1, 2)]))
    yield "JPEG, list of images", lambda: jpeg(segment(0xE2, b"MPF\0" + many_fields(min(room, 65_000))))
    for kind in (3, 5, 7, 10, 12):
        block = directory([_ORIENTATION, values(40_000, kind, room)])
        yield f"WebP, EXIF of type {kind}", partial(webp, block)
        yield f"PNG, EXIF of type {kind}", partial(png, chunk(b"eXIf", block))
        for tag in (258, 282, 339, 700, 40_000):
            yield f"TIFF, field {tag} of type {kind}", partial(_tiff_with, tag, kind, room)
        for tag in (34_665, 34_853):
            yield f"TIFF, directory {tag} of type {kind}", partial(nested, tag, kind, room)
    yield "WebP, EXIF of many fields", lambda: webp(many_fields(room))
    yield "WebP, EXIF that overlaps", lambda: webp(overlapping(room))
    yield "PNG, EXIF that overlaps", lambda: png(behind=chunk(b"eXIf", overlapping(room)))
    yield (
        "PNG, EXIF in digits",
        lambda: png(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n9\n" + many_fields(room // 2).hex().encode())),
    )
    yield "PNG, empty chunks", lambda: png(chunk(b"vpAg", b"") * min(65_000, room // 12))
    yield "PNG, texts", lambda: png(behind=chunk(b"tEXt", b"a\0b") * min(65_000, room // 15))
    yield "PNG, compressed texts", lambda: png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 1))) * 31)
    yield "PNG, one chunk", lambda: png(chunk(b"vpAg", bytes(room)))
    yield "GIF, blocks", lambda: gif(min(65_000, room // 2))
    yield "TIFF, strips", lambda: tiff(strips=min(2**17, room // 8))
    yield (
        "TIFF, fields that overlap",
        lambda: tiff(*((1000 + tag, 7, room, 8) for tag in range(900)), (60_000, 7, room, bytes(room))),
    )
    yield "PPM, white space", lambda: b"P2 8 8 255\n" + b" " * room + b"1 " * 64
    yield "BMP, bytes behind", lambda: encode("BMP") + bytes(room)
