"""How an image file is built, read from its own marks before any decoder sees it: what a small file may cost.

Formats allow a file to repeat what decoders must work through: scans of a JPEG, chunks of a PNG, comments of a PPM. So
the announced pixels alone bound no decoder's work. What is counted here is far from ordinary files and near enough to
bound the work. The standard library only.

Sources: ITU-T T.81, annex B (JPEG); the PNG specification, third edition; GIF89a; TIFF 6.0; the Netpbm formats;
"Two issues with the JPEG standard and how they could be exploited" of libjpeg-turbo.
"""

import io
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

Stream = io.BytesIO | io.BufferedReader
"""An image file, at its start."""
MAX_SCANS = 100
"""Scans of a JPEG. Encoders write 1, 6 (grey), 10 (colour) or 18 (CMYK); libtiff stops at 100 as well."""
MAX_SEGMENTS = 10_000
"""Marker segments of a JPEG."""
MAX_METADATA = 64
"""Segments of a JPEG with EXIF or Photoshop's data: Pillow joins the first anew at each, and takes the second apart.
Cameras write one of each, and up to some ten where they are longer than a segment."""
MAX_FILL = 2**16
"""Bytes between the segments in front of a JPEG's first scan, and bytes of a PPM's header."""
MAX_CHUNKS = 2**16
"""Chunks of a PNG: some encoders write one a row."""
MAX_INFLATED = 2**25
"""Bytes into which the compressed texts and profiles of a PNG may grow."""
CHUNK_INFLATED = 2**20
"""Bytes at which Pillow ends the decompression of one such chunk."""
MAX_BLOCKS = 2**16
"""Data blocks in front of a GIF's first image: 16 MiB of metadata in blocks of the usual length."""
MAX_PIECES = 2**17
"""Strips or tiles of a TIFF: one a row, in two planes."""
MAX_FIELDS = 1000
"""Fields of a TIFF's page: ordinary ones have up to some hundred."""
MAX_COMMENTS = 1000
"""Comments of a plain PPM: Pillow moves the rest of a block at each."""

DEFLATE_RATIO = 1032
"""Bytes that deflate makes of one at most."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker of a JPEG; 0 behind 0xFF is data, 0xD0 to 0xD7 restart the decoder within a scan."""
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _FIRST_SEGMENT = 0xD8, 0xD9, 0xDA, 0xC0
_COMPRESSION, _STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 259, 273, 279, 324, 325
_METADATA = {0xE1: b"Exif\0\0", 0xED: b"Photoshop 3.0\0"}
"""Markers of segments with metadata that Pillow reads, and what they begin with."""
_TIFF_JPEG = 7
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
"""Types of a TIFF's values that may count or place something, as codes of :mod:`struct`."""


class StructureError(ValueError):
    """A file built so that it costs far more than its pixels; the message goes on from the file's name."""


class Structure(NamedTuple):
    """What a file's marks announce."""

    scans: int = 1
    """How often the decoder goes over the pixels, at least 1."""


def examine(stream: Stream) -> Structure:
    """Count what a file makes its decoder do, and return to the stream's start.

    Args:
        stream: The file, at its start; it must be able to seek.

    Raises:
        StructureError: When it makes the decoder do more than ordinary files do. Damaged files pass: the decoder
            says what is wrong with them.
    """
    start = stream.read(8)
    try:
        if start.startswith(b"\xff\xd8"):
            return Structure(max(1, count_scans(start + stream.read())))
        if start == b"\x89PNG\r\n\x1a\n":
            _check_png(stream)
        elif start.startswith((b"GIF87a", b"GIF89a")):
            _check_gif(stream)
        elif start.startswith((b"II", b"MM")):
            return Structure(_scans_of_tiff(stream))
        elif start.startswith(b"P"):
            _check_ppm(stream)
        return Structure()
    except (struct.error, IndexError, OverflowError):  # cut short, or damaged
        return Structure()
    finally:
        stream.seek(0)


def count_scans(data: bytes) -> int:
    """Count the scans of a JPEG, by walking through its marker segments to the end of the image.

    Args:
        data: The stream, from its first marker on.

    Returns:
        0 for one without a scan.

    Raises:
        StructureError: When there are more scans, segments, metadata or fill bytes than in ordinary files.
    """
    place = scans = segments = fill = metadata = 0
    while found := _MARKER.search(data, place):
        fill += 0 if scans else found.start() - place
        segments += 1
        if segments > MAX_SEGMENTS or fill > MAX_FILL:
            raise StructureError(
                f"has more than {MAX_SEGMENTS:,} marker segments, or {MAX_FILL:,} bytes between them, which no camera "
                "or encoder writes; write it again"
            )
        marker, place = data[found.start() + 1], found.end()
        if marker == _END_OF_IMAGE and scans:
            break
        if marker in _METADATA and data.startswith(_METADATA[marker], place + 2):
            metadata += 1
            if metadata > MAX_METADATA:
                raise StructureError(
                    f"has more than {MAX_METADATA} segments of EXIF or Photoshop's data; write it again without them"
                )
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise StructureError(
                    f"has more than {MAX_SCANS} scans, each of which is decoded over all pixels; write it again, "
                    "as a baseline JPEG"
                )
        if marker >= _FIRST_SEGMENT and marker not in (_START_OF_IMAGE, _END_OF_IMAGE):
            place += int.from_bytes(data[place : place + 2], "big")
    return scans


def _check_png(stream: Stream) -> None:
    chunks = inflated = 0
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        chunks += 1
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            inflated += min(CHUNK_INFLATED, length * DEFLATE_RATIO)
        if chunks > MAX_CHUNKS or inflated > MAX_INFLATED:
            raise StructureError(
                f"has more than {MAX_CHUNKS:,} chunks, or more than {MAX_INFLATED // CHUNK_INFLATED} large compressed "
                "texts or profiles; write it again without metadata"
            )
        if kind == b"IEND":
            return
        stream.seek(length + 4, 1)


def _check_gif(stream: Stream) -> None:
    stream.seek(10)
    flags = stream.read(3)[0]
    stream.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    blocks = 0
    while (mark := stream.read(1)) and mark not in b",;":
        if mark == b"!":
            stream.seek(1, 1)
            while size := stream.read(1)[0]:
                stream.seek(size, 1)
                blocks += 1
                if blocks > MAX_BLOCKS:
                    break
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise StructureError(
                f"has more than {MAX_BLOCKS:,} blocks in front of its first image; write it again without metadata"
            )


def _check_ppm(stream: Stream) -> None:
    stream.seek(0)
    head = stream.read(MAX_FILL)
    numbers = 2 if head[:2] in (b"P1", b"P4") else 3
    if len(head) == MAX_FILL and len(re.sub(rb"#[^\r\n]*", b"", head).split(None, numbers)) <= numbers:
        raise StructureError(f"has a header of more than {MAX_FILL:,} bytes; write it again without comments")
    if head[:2] in (b"P1", b"P2", b"P3") and (head + stream.read()).count(b"#") > MAX_COMMENTS:
        raise StructureError(f"has more than {MAX_COMMENTS:,} comments; write it again without them")


def _scans_of_tiff(stream: Stream) -> int:
    """The largest number of scans of the strips or tiles of the first page; 1 if they are no JPEGs."""
    fields = _fields(stream)
    if max(len(fields.get(tag, ())) for tag in (_STRIP_OFFSETS, _TILE_OFFSETS)) > MAX_PIECES:
        raise StructureError(f"has more than {MAX_PIECES:,} strips or tiles; write it again with larger ones")
    if fields.get(_COMPRESSION, (1,))[0] != _TIFF_JPEG:
        return 1
    left = 2 * stream.seek(0, 2)
    scans = 1
    for offsets, counts in ((_STRIP_OFFSETS, _STRIP_COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        for offset, count in set(zip(fields.get(offsets, ()), fields.get(counts, ()), strict=False)):
            stream.seek(offset)
            piece = stream.read(max(0, min(count, left)))
            left -= len(piece)
            if left <= 0:
                raise StructureError("has strips or tiles that overlap; write it again")
            scans = max(scans, count_scans(piece))
    return scans


def _fields(stream: Stream) -> dict[int, tuple[int, ...]]:
    """The fields of a TIFF's first page that place its data, by tag; of several with one tag, the first."""
    stream.seek(0)
    order = "<" if stream.read(2) == b"II" else ">"

    def unpack(code: str, number: int = 1) -> tuple[int, ...]:
        form = f"{order}{number}{code}"
        values: tuple[int, ...] = struct.unpack(form, stream.read(struct.calcsize(form)))
        return values

    def entries(large: bool) -> Iterator[tuple[int, tuple[int, ...]]]:
        width, word = (8, "Q") if large else (4, "I")
        stream.seek(unpack(word)[0])
        fields = unpack("Q" if large else "H")[0]
        if fields > MAX_FIELDS:
            raise StructureError(f"has more than {MAX_FIELDS:,} fields; write it again without metadata")
        for _ in range(fields):
            tag, kind = unpack("H", 2)
            number, here = unpack(word)[0], stream.tell()
            if tag in wanted and kind in _NUMBERS:
                if number > MAX_PIECES:
                    raise StructureError(
                        f"has more than {MAX_PIECES:,} strips or tiles; write it again with larger ones"
                    )
                if number * struct.calcsize(_NUMBERS[kind]) > width:
                    stream.seek(unpack(word)[0])
                yield tag, unpack(_NUMBERS[kind], number)
            stream.seek(here + width)

    wanted = {_COMPRESSION, _STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS}
    version = unpack("H")[0]
    if version == 43:
        stream.seek(8)
    found: dict[int, tuple[int, ...]] = {}
    for tag, values in entries(version == 43):
        found.setdefault(tag, values)
    return found
