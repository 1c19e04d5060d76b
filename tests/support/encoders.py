"""Encoders of image files written out by hand, so that what a decoder should find is known without a second decoder."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[Any]
"""(height, width, samples): whole numbers of as many bits as the file has, or floats."""


def packed(samples: Samples, bits: int, order: str = ">") -> bytes:
    """Put the rows behind one another, each beginning at a byte, the first sample in the highest bits.

    Args:
        samples: Of one image, tile or strip.
        bits: Of a sample.
        order: Of the bytes of a sample of more than 8 bits, ``<`` or ``>``.
    """
    rows = samples.reshape(len(samples), -1)
    if bits >= 8:
        kind = "f" if rows.dtype.kind == "f" else "u"
        return rows.astype(f"{order}{kind}{bits // 8}").tobytes()
    spread = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def packbits(content: bytes) -> bytes:
    """Compress as PackBits does, in literal runs alone."""
    runs = (content[start : start + 128] for start in range(0, len(content), 128))
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def png(
    samples: Samples,
    bits: int,
    colour_type: int,
    chunks: Sequence[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """Encode a PNG (ISO/IEC 15948), unfiltered.

    Args:
        samples: Grey, RGB, palette entries, grey and alpha, or RGBA, by the colour type.
        bits: Of a sample.
        colour_type: 0, 2, 3, 4 or 6.
        chunks: Kinds and bodies of the chunks before the pixels.
        interlaced: Whether the pixels come in the seven passes of Adam7.
    """

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [samples[top::down, left::right] for top, left, down, right in adam7] if interlaced else [samples]
    rows = [part[row : row + 1] for part in parts if part.size for row in range(len(part))]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour_type, 0, 0, interlaced)
    body = [
        (b"IHDR", header),
        *chunks,
        (b"IDAT", zlib.compress(b"".join(b"\0" + packed(row, bits) for row in rows))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in body)


def tiff(
    samples: Samples,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    planar: bool = False,
    compression: int = 1,
    predictor: bool = False,
    fill_order: int = 1,
    extra: Sequence[int] = (),
    tile: tuple[int, int] | None = None,
    rows_per_strip: int = 5,
    tags: Sequence[tuple[int, str, Sequence[int]]] = (),
) -> bytes:
    """Encode a TIFF (revision 6.0) of one page.

    Args:
        samples: As many a pixel as the photometric interpretation and the extra samples ask for.
        bits: Of a sample.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 Lab.
        order: Of the bytes, ``<`` or ``>``.
        planar: Whether each kind of sample has a plane of its own.
        compression: 1 none, 8 deflate, 32773 PackBits.
        predictor: Whether differences of neighbours are stored.
        fill_order: 1, or 2 for bytes whose lowest bit is first.
        extra: Kinds of the extra samples: 0 unspecified, 1 associated alpha, 2 unassociated alpha.
        tile: Height and width of the tiles; strips without.
        rows_per_strip: Rows in a strip.
        tags: Number, type (``H`` or ``I``) and values of further tags.
    """
    height, width, count = samples.shape
    planes = [samples[..., index : index + 1] for index in range(count)] if planar else [samples]
    blocks = []
    for plane in planes:
        if tile is None:
            blocks += [plane[top : top + rows_per_strip] for top in range(0, height, rows_per_strip)]
            continue
        padding = [(0, -height % tile[0]), (0, -width % tile[1]), (0, 0)]
        padded = np.pad(plane, padding)
        blocks += [
            padded[top : top + tile[0], left : left + tile[1]]
            for top in range(0, height, tile[0])
            for left in range(0, width, tile[1])
        ]
    stored = []
    for block in blocks:
        if predictor:
            block = np.concatenate([block[:, :1], (block[:, 1:] - block[:, :-1]) % 2**bits], axis=1)
        content = packed(block, bits, order)
        if compression == 32773:
            length = len(content) // len(block)
            rows = (content[start : start + length] for start in range(0, len(content), length))
            content = b"".join(map(packbits, rows))
        elif compression == 8:
            content = zlib.compress(content)
        if fill_order == 2:
            content = bytes(int(f"{byte:08b}"[::-1], 2) for byte in content)
        stored.append(content)
    kind = 3 if samples.dtype.kind == "f" else 1
    offsets = np.cumsum([8, *(len(content) + len(content) % 2 for content in stored)])[:-1].tolist()
    sizes = [len(content) for content in stored]
    entries = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * count),
        (259, "H", [compression]),
        (262, "H", [photometric]),
        (266, "H", [fill_order]),
        (277, "H", [count]),
        (284, "H", [2 if planar else 1]),
        (317, "H", [2 if predictor else 1]),
        (339, "H", [kind] * count),
        *([(338, "H", list(extra))] if extra else []),
        *(
            [(273, "I", offsets), (278, "I", [rows_per_strip]), (279, "I", sizes)]
            if tile is None
            else [(322, "I", [tile[1]]), (323, "I", [tile[0]]), (324, "I", offsets), (325, "I", sizes)]
        ),
        *tags,
    ]
    pixels = b"".join(content + b"\0" * (len(content) % 2) for content in stored)
    directory_at = 8 + len(pixels)
    beyond_at = directory_at + 2 + 12 * len(entries) + 4
    directory, beyond = struct.pack(order + "H", len(entries)), b""
    for tag, letter, values in sorted(entries):
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[letter], len(values))
        if len(body) <= 4:
            directory += body.ljust(4, b"\0")
        else:
            directory += struct.pack(order + "I", beyond_at + len(beyond))
            beyond += body + b"\0" * (len(body) % 2)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, directory_at)
    return head + pixels + directory + bytes(4) + beyond


def bmp(
    samples: Samples,
    bits: int,
    *,
    header: int = 40,
    palette: npt.NDArray[Any] | None = None,
    masks: Sequence[int] = (),
    top_down: bool = False,
) -> bytes:
    """Encode an uncompressed BMP.

    Args:
        samples: Entries of the palette, or whole pixels as the masks cut them; one sample a pixel.
        bits: Of a pixel.
        header: Bytes of the information header: 12 (OS/2), 40, 56, 108 or 124.
        palette: RGB, 0 to 255, one row an entry.
        masks: Bits of red, green, blue and alpha.
        top_down: Whether the upper row is first.
    """
    height, width, _ = samples.shape
    if bits <= 8:
        rows = [packed(row[None], bits) for row in samples]
    else:
        rows = [row.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes() for row in samples[..., 0]]
    body = b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    colours = np.zeros((0, 3), np.int64) if palette is None else palette
    reserved = b"" if header == 12 else b"\0"
    table = b"".join(bytes(colour[::-1].tolist()) + reserved for colour in colours)
    fields = struct.pack(f"<{len(masks)}I", *masks)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        size = (header, width, -height if top_down else height, 1, bits, 3 if masks else 0, len(body), 0, 0)
        used = len(colours) if len(colours) < 2**bits else 0
        info = struct.pack("<IiiHHIIiiII", *size, used, 0) + fields.ljust(header - 40, b"\0")
    start = 14 + len(info) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + table + body


def gif(
    screen: tuple[int, int],
    frame: npt.NDArray[Any],
    corner: tuple[int, int],
    table: npt.NDArray[Any],
    background: int = 0,
    transparent: int | None = None,
    local: npt.NDArray[Any] | None = None,
) -> bytes:
    """Encode a GIF89a of one frame, of 8-bit codes that are never compressed.

    Args:
        screen: Height and width of the whole.
        frame: Entries of a colour table.
        corner: Left and top of the frame.
        table: The global colour table, 256 rows of RGB.
        background: Entry of the background.
        transparent: Entry that is transparent.
        local: The frame's own colour table.
    """
    clear, end, codes = 256, 257, []
    for start in range(0, frame.size, 200):  # before codes of 10 bits would be needed
        codes += [clear, *frame.ravel()[start : start + 200].tolist()]
    number = sum(code << 9 * place for place, code in enumerate([*codes, end]))
    content = number.to_bytes((9 * len(codes) + 9 + 7) // 8, "little")
    blocks = b"".join(bytes([len(part)]) + part for part in (content[i : i + 255] for i in range(0, len(content), 255)))
    control = b"" if transparent is None else b"\x21\xf9\x04\x01\0\0" + bytes([transparent, 0])
    own = b"" if local is None else bytes(local.ravel().tolist())
    place = struct.pack("<HHHHB", *corner, frame.shape[1], frame.shape[0], 0 if local is None else 0x87)
    head = b"GIF89a" + struct.pack("<HHBBB", screen[1], screen[0], 0xF7, background, 0) + bytes(table.ravel().tolist())
    return head + control + b"\x2c" + place + own + b"\x08" + blocks + b"\0\x3b"
