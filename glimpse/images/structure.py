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
from typing import NamedTuple

from glimpse.images.directories import Directories, Stream, StructureError

MAX_SCANS = 100
"""Scans of a JPEG. Encoders write 1, 6 (grey), 10 (colour) or 18 (CMYK); libtiff stops at 100 as well."""
MAX_SEGMENTS = 10_000
"""Marker segments of a JPEG."""
MAX_METADATA = 64
"""Segments of a JPEG with EXIF, Photoshop's data or a list of further images: Pillow joins the first anew at each, and
takes the others apart. Cameras write one of each, and up to some ten where they are longer than a segment."""
MAX_FILL = 2**16
"""Bytes between the segments in front of a JPEG's first scan, pairs of fill bytes in its scans, and bytes of a PPM's
header. Pillow's decoder of JPEGs goes over fill bytes anew with each block of the file."""
MAX_CHUNKS = 2**16
"""Chunks of a PNG: some encoders write one a row."""
MAX_INFLATED = 2**25
"""Bytes into which the compressed texts and profiles of a PNG may grow."""
CHUNK_INFLATED = 2**20
"""Bytes at which Pillow ends the decompression of one such chunk."""
MAX_BLOCKS = 2**16
"""Data blocks in front of a GIF's first image: 16 MiB of metadata in blocks of the usual length."""
_BLOCKS = 10
"""Blocks of a GIF that cost Pillow as much as a part of another file."""
MAX_COMMENTS = 1000
"""Comments of a plain PPM: Pillow moves the rest of a block at each."""

DEFLATE_RATIO = 1032
"""Bytes that deflate makes of one at most."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker of a JPEG; 0 behind 0xFF is data, 0xD0 to 0xD7 restart the decoder within a scan."""
_END_OF_IMAGE, _START_OF_SCAN, _TABLES, _FIRST_SEGMENT = 0xD9, 0xDA, 0xDB, 0xC0
_WITHOUT_LENGTH = frozenset((0xC8, 0xD8, _END_OF_IMAGE, *range(0xF0, 0xFE)))
"""Markers behind which Pillow skips nothing; no decoder knows the first and the last of them."""
_TABLE_BYTES = 65
"""Bytes of a table of quantisation, of which a segment may hold many."""
_COMPRESSION = 259
_PIECES = ((273, 279), (324, 325))
"""Fields of a TIFF: offsets and byte counts of its strips, and of its tiles."""
_EXIF, _LIST = b"Exif\0\0", b"MPF\0"
_METADATA = {0xE1: _EXIF, 0xE2: _LIST, 0xED: b"Photoshop 3.0\0"}
"""Markers of segments with metadata that Pillow reads, and what they begin with."""
_TIFF_JPEG = 7


class Structure(NamedTuple):
    """What a file's marks announce."""

    scans: int = 1
    """How often the decoder goes over the pixels, at least 1."""
    parts: int = 0
    """What Pillow takes one by one, in Python: segments, chunks, blocks, fields, strips."""
    inflated: int = 0
    """Bytes into which compressed metadata may grow."""


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
            return _examine_jpeg(start + stream.read())
        if start == b"\x89PNG\r\n\x1a\n":
            return _examine_png(stream)
        if start.startswith((b"GIF87a", b"GIF89a")):
            return _examine_gif(stream)
        if start.startswith((b"II", b"MM")):
            return _examine_tiff(stream)
        if start.startswith(b"P"):
            _check_ppm(stream)
        return Structure()
    except (struct.error, IndexError, OverflowError):  # cut short, or damaged
        return Structure()
    finally:
        stream.seek(0)


def check_exif(block: bytes) -> None:
    """Check a block of EXIF before it is read.

    Args:
        block: The block, with or without the word ``Exif`` before it.

    Raises:
        StructureError: When it holds more than those of ordinary files.
    """
    Directories(io.BytesIO(block.removeprefix(_EXIF).removeprefix(_EXIF)), nested=False)


def count_scans(data: bytes) -> int:
    """Count the scans of a JPEG, by walking through its marker segments to the end of the image.

    Args:
        data: The stream, from its first marker on.

    Returns:
        0 for one without a scan.

    Raises:
        StructureError: When there are more scans, segments, metadata or fill bytes than in ordinary files.
    """
    return _walk_jpeg(data)[0]


def _examine_jpeg(data: bytes) -> Structure:
    scans, segments, metadata = _walk_jpeg(data)
    exif = b"".join(content.removeprefix(_EXIF) for content in metadata if content.startswith(_EXIF))
    lists = [content.removeprefix(_LIST) for content in metadata if content.startswith(_LIST)]
    read = [Directories(io.BytesIO(block), nested=False) for block in (exif.removeprefix(_EXIF), *lists[-1:])]
    return Structure(max(1, scans), segments + sum(directories.parts for directories in read))


def _walk_jpeg(data: bytes) -> tuple[int, int, list[bytes]]:
    """Walk to the end of the image; returns the numbers of its scans and segments, and its metadata."""
    place = scans = segments = fill = 0
    metadata: list[bytes] = []
    while True:
        found = _MARKER.search(data, place)
        start = found.start() if found else len(data)
        fill += data.count(b"\xff\xff", place, start + 1) if scans else start - place
        marker, place, length = data[start + 1] if found else _END_OF_IMAGE, start + 2, 0
        if marker >= _FIRST_SEGMENT and marker not in _WITHOUT_LENGTH:
            length = int.from_bytes(data[place : place + 2], "big")
        segments += 1 + length // _TABLE_BYTES if marker == _TABLES else 1
        if segments > MAX_SEGMENTS or fill > MAX_FILL:
            raise StructureError(
                f"has more than {MAX_SEGMENTS:,} marker segments and tables, or {MAX_FILL:,} bytes between them, which "
                "no camera or encoder writes; write it again"
            )
        if marker == _END_OF_IMAGE and (scans or not found):
            break
        if marker in _METADATA and data.startswith(_METADATA[marker], place + 2):
            metadata.append(data[place + 2 : place + length])
            if len(metadata) > MAX_METADATA:
                raise StructureError(
                    f"has more than {MAX_METADATA} segments of EXIF, of Photoshop's data or with lists of images; "
                    "write it again without them"
                )
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise StructureError(
                    f"has more than {MAX_SCANS} scans, each of which is decoded over all pixels; write it again, "
                    "as a baseline JPEG"
                )
        place += length
    return scans, segments, metadata


def _examine_png(stream: Stream) -> Structure:
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
            break
        stream.seek(length + 4, 1)
    return Structure(parts=chunks, inflated=inflated)


def _examine_gif(stream: Stream) -> Structure:
    stream.seek(10)
    flags = stream.read(3)[0]
    stream.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    blocks = 0
    while (mark := stream.read(1)) and mark not in b",;":
        blocks += 1
        if mark == b"!":
            stream.seek(1, 1)
            while blocks <= MAX_BLOCKS and (size := stream.read(1)[0]):
                stream.seek(size, 1)
                blocks += 1
        if blocks > MAX_BLOCKS:
            raise StructureError(
                f"has more than {MAX_BLOCKS:,} blocks in front of its first image; write it again without metadata"
            )
    return Structure(parts=blocks // _BLOCKS)


def _check_ppm(stream: Stream) -> None:
    stream.seek(0)
    head = stream.read(MAX_FILL)
    numbers = 2 if head[:2] in (b"P1", b"P4") else 3
    if len(head) == MAX_FILL and len(re.sub(rb"#[^\r\n]*", b"", head).split(None, numbers)) <= numbers:
        raise StructureError(f"has a header of more than {MAX_FILL:,} bytes; write it again without comments")
    if head[:2] in (b"P1", b"P2", b"P3") and (head + stream.read()).count(b"#") > MAX_COMMENTS:
        raise StructureError(f"has more than {MAX_COMMENTS:,} comments; write it again without them")


def _examine_tiff(stream: Stream) -> Structure:
    """Count the fields of the first page, and the scans of its strips or tiles where they are JPEGs."""
    page = Directories(stream, nested=True)
    pieces = [(page.pieces(offsets), page.pieces(counts)) for offsets, counts in _PIECES]
    parts = page.parts + sum(len(offsets) for offsets, _ in pieces)
    if (page.numbers(_COMPRESSION) or (1,))[0] != _TIFF_JPEG:
        return Structure(parts=parts)
    left = 2 * stream.seek(0, 2)
    scans = 1
    for offsets, counts in pieces:
        for offset, count in set(zip(offsets, counts, strict=False)):
            stream.seek(offset)
            piece = stream.read(max(0, min(count, left)))
            left -= len(piece)
            if left <= 0:
                raise StructureError("has strips or tiles that overlap; write it again")
            scans = max(scans, count_scans(piece))
    return Structure(scans, parts)
