import contextlib
import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.serving.faults.rich_files import jpeg, rich_files
from glimpse.images.directories import StructureError
from glimpse.images.pixels import FORMATS, ImageError, TooCostlyError, decode
from glimpse.images.structure import check_exif, count_scans, examine
from tests.support.costly_images import (
    chunk,
    encode,
    jpeg_with_scans,
    png_with,
    segment,
    tiff_of_jpeg,
    tiff_with_fields,
    tiff_with_strips,
)


def scans(data: bytes) -> int:
    return examine(io.BytesIO(data)).scans


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_scans_of_ordinary_jpegs_are_counted(mode):
    picture = Image.new(mode, (40, 30), 7)
    assert scans(encode(picture, "JPEG")) == 1
    assert scans(encode(picture, "JPEG", progressive=True)) == {"L": 6, "RGB": 10, "CMYK": 18}[mode]
    assert scans(encode(picture, "JPEG", restart_marker_blocks=1)) == 1


def test_marks_within_segments_and_data_are_no_scans():
    """A thumbnail in the metadata is a JPEG of its own."""
    thumbnail = encode(Image.new("RGB", (16, 16)), "JPEG", progressive=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encode(picture, "JPEG", quality=100)
    assert scans(data[:2] + segment(0xE1, b"Exif\0\0" + thumbnail) + data[2:]) == 1
    assert scans(data + thumbnail) == 1  # behind the end of the image, as in an MPO


@pytest.mark.parametrize("extra", [1, 50, 94])
def test_a_jpeg_with_some_more_scans_is_decoded(extra):
    data = jpeg_with_scans(64, extra)
    assert scans(data) == 6 + extra
    np.testing.assert_array_equal(decode(data), decode(jpeg_with_scans(64, 0)))


@pytest.mark.parametrize("extra", [95, 4000])
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: tiff_of_jpeg(data, 64)])
def test_a_jpeg_with_very_many_scans_is_refused_alone_and_within_a_tiff(extra, wrap):
    with pytest.raises(ImageError, match="more than 100 scans, each of which is decoded over all pixels"):
        decode(wrap(jpeg_with_scans(64, extra)), "a.jpg")


def test_many_scans_of_many_pixels_are_refused(monkeypatch):
    data = jpeg_with_scans(256, 60)
    decode(data)
    monkeypatch.setattr("glimpse.images.pixels.MAX_PIXEL_SCANS", 256 * 256 * 65)
    with pytest.raises(ImageError, match=r"'a\.jpg' announces 66 scans of 256 x 256 pixels"):
        decode(data, "a.jpg", max_pixels=256 * 256 * 3)


def plain_ppm(comments: int) -> bytes:
    return b"P2 2 2 255\n" + b"#\n" * comments + b"1 2 3 4\n"


def gif_with_blocks(blocks: int) -> bytes:
    data = encode(Image.new("P", (4, 4)), "GIF")
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    return data[:place] + b"!\xfe" + b"\x01a" * blocks + b"\0" + data[place:]


JPEG = encode(Image.new("RGB", (8, 8)), "JPEG")
PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20 - 1)))
TEXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 1)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (JPEG[:2] + segment(0xFE, b"") * 10_001 + JPEG[2:], "marker segments"),
        (JPEG[:2] + segment(0xE1, b"Exif\0\0" + bytes(1600)) * 9900 + JPEG[2:], "64 segments of EXIF"),
        (JPEG[:2] + segment(0xE1, b"Exif\0\0") * 65 + JPEG[2:], "64 segments of EXIF"),
        (JPEG[:2] + segment(0xED, b"Photoshop 3.0\0" + bytes(60_000)) * 200 + JPEG[2:], "64 segments of EXIF"),
        (JPEG[:2] + b"\xff" * 70_000 + JPEG[2:], "bytes between them"),
        (JPEG[:2] + b"\xff\x00" * 40_000 + JPEG[2:], "bytes between them"),
        (JPEG[:2] + b"\xff\xd9" * 20_000 + JPEG[2:], "marker segments"),
        (JPEG[:2] + bytes(70_000), "bytes between them"),
        (JPEG[:-2] + b"\xff" * 150_000 + JPEG[-2:], "bytes between them"),
        (JPEG[:-2] + (b"\xff" * 100 + b"\0") * 1500, "bytes between them"),
        (JPEG[:2] + segment(0xDB, (b"\0" + bytes(64)) * 500) * 21 + JPEG[2:], "marker segments and tables"),
        (JPEG[:2] + segment(0xE2, b"MPF\0") * 65 + JPEG[2:], "lists of images"),
        (JPEG[:2] + (b"\xff\xf3\xff\xff" + segment(0xE1, b"Exif\0\0") * 33) * 2 + JPEG[2:], "64 segments of EXIF"),
        (png_with(before=chunk(b"vpAg", b"") * 65_600), "65,536 chunks"),
        (png_with(behind=chunk(b"vpAg", b"") * 65_600), "65,536 chunks"),
        (png_with(before=PROFILE * 33), "compressed texts or profiles"),
        (png_with(behind=TEXT * 33), "compressed texts or profiles"),
        (png_with(before=PROFILE * 16, behind=TEXT * 17), "compressed texts or profiles"),
        (gif_with_blocks(70_000), "65,536 blocks"),
        (plain_ppm(1001), "1,000 comments"),
        (plain_ppm(50_000), "1,000 comments"),
        (b"P6 #" + b" " * 70_000 + b"\n2 2 255 " + bytes(12), "header of more"),
        (b"P5" + b"\n" * 70_000 + b"2 2 255 " + bytes(4), "header of more"),
        (b"P4 2" + b" " * 70_000 + b"2 " + bytes(2), "header of more"),
        (tiff_with_fields(1001), "1,000 fields"),
        (tiff_with_fields(70_000, large=True), "1,000 fields"),
        (tiff_with_strips(2**17 + 1), "strips or tiles"),
    ],
)
def test_files_whose_marks_cost_more_than_their_pixels_are_refused(data, message):
    with pytest.raises(StructureError, match=message):
        examine(io.BytesIO(data))
    with pytest.raises(ImageError, match=message):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:-2] + b"\xff" * 60_000 + JPEG[-2:],
        JPEG + b"\xff" * 200_000,
        JPEG[:2] + segment(0xDB, (b"\0" + bytes(range(1, 65))) * 100) * 50 + JPEG[2:],
        JPEG[:2] + segment(0xE2, bytes(65_000)) * 255 + segment(0xFE, b"by hand") * 1000 + b"\xff" * 99 + JPEG[2:],
        JPEG[:2] + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 12 + segment(0xED, b"Photoshop 3.0\0") * 9 + JPEG[2:],
        JPEG[:2] + segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) * 200 + JPEG[2:],
        png_with(before=PROFILE, behind=TEXT * 20 + chunk(b"tEXt", b"a\0b") * 10_000),
        gif_with_blocks(60_000),
        plain_ppm(500),
        b"P4 600 900\n" + b" " * (75 * 900),
        b"P5 300 300 255\n" + b"#" * 90_000,
        b"P1 300 300\n" + b"1" * 90_000,
        tiff_with_strips(3000),
    ],
)
def test_rich_files_are_decoded(data):
    assert decode(data).size > 0


def test_the_first_page_and_the_first_frame_alone_are_looked_at():
    pages = [Image.new("RGB", (9, 9), (index, 0, 0)) for index in range(60)]
    for form in ("TIFF", "GIF", "PNG", "WEBP"):
        data = encode(pages[0], form, save_all=True, append_images=pages[1:])
        found = examine(io.BytesIO(data))
        assert (found.scans, found.inflated) == (1, 0)
        if form != "PNG":  # of which all chunks are read
            assert found.parts <= 1 + examine(io.BytesIO(encode(pages[0], form))).parts
        assert decode(data).shape == (9, 9, 3)


def test_overlapping_strips_of_a_tiff_are_refused():
    with pytest.raises(StructureError, match="overlap"):
        examine(io.BytesIO(tiff_of_jpeg(jpeg_with_scans(64, 50), 64, overlapping=200)))


@pytest.mark.parametrize("form", [*FORMATS, "progressive"])
def test_a_damaged_file_is_left_to_the_decoder(form):
    options: dict[str, Any] = {"progressive": True} if form == "progressive" else {}
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 20, 3), np.uint8))
    data = encode(picture, "JPEG" if form == "progressive" else form, **options)
    choose = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data[: choose.randrange(len(data))] if choose.random() < 0.5 else data)
        for _ in range(choose.randrange(4)):
            if damaged:
                damaged[choose.randrange(len(damaged))] = choose.choice((0, 0xFF, 0xDA, choose.randrange(256)))
        stream = io.BytesIO(bytes(damaged))
        with contextlib.suppress(StructureError):  # a number of strips that was damaged, for one
            assert examine(stream).scans >= 1
        assert stream.tell() == 0


def test_a_stream_without_a_mark_has_no_scan():
    assert count_scans(b"") == 0
    assert count_scans(b"\xff" * 60_000 + b"\0") == 0
    assert count_scans(struct.pack(">HH", 0xFFD8, 0xFFD9)) == 0


MEASURED = {
    "JPEG, comments": 0.028,
    "JPEG, restart markers": 0.011,
    "TIFF, field 258 of type 3": 0.052,
    "TIFF, directory 34665 of type 3": 0.044,
    "TIFF, directory 34853 of type 3": 0.043,
    "TIFF, strips": 1.09,
    "PNG, empty chunks": 0.3,
    "PNG, texts": 0.156,
    "PNG, compressed texts": 0.077,
    "GIF, blocks": 0.02,
    "WebP, EXIF of type 3": 0.001,
    "PPM, white space": 0.001,
}
"""Seconds of processor time that files of a megabyte took on a core of about 3 GHz."""
FILES = {size: rich_files(size) for size in (60_000, 1_000_000, 5_000_000)}


@pytest.mark.parametrize("name", MEASURED)
def test_metadata_that_is_read_is_in_the_estimate(name):
    estimate = 0.0
    for _ in range(2):
        with pytest.raises(TooCostlyError) as error:
            decode(FILES[1_000_000][name](), max_seconds=estimate)
        estimate = error.value.seconds
    assert estimate > MEASURED[name] / 2


FRACTIONS = ("of type 5", "of type 10", "of fractions")
SMALL = ("field 40000 of type 7", "of type 7", "one chunk", "bytes behind")


@pytest.mark.parametrize("name", [name for name in FILES[60_000] if name.endswith(FRACTIONS) or "overlap" in name])
@pytest.mark.parametrize("size", [60_000, 1_000_000])
def test_fractions_and_overlapping_fields_are_refused_at_any_size(name, size):
    with pytest.raises(ImageError, match="1,000 fractions or 524,288 numbers in them, or fields that overlap"):
        decode(FILES[size][name]())


@pytest.mark.parametrize("name", FILES[5_000_000])
def test_no_file_of_many_bytes_costs_more_than_it_is_estimated(name):
    """Each is refused by its marks, or its parts are charged; what has neither is bytes that are passed over."""
    data = FILES[5_000_000][name]()
    try:
        parts = examine(io.BytesIO(data)).parts
    except StructureError:
        return
    known = parts >= 1000 or name in MEASURED or name.endswith(SMALL)
    assert known or name.startswith(("WebP, EXIF", "PNG, EXIF"))  # which are checked where they are read
    if not known:
        with pytest.raises(ImageError, match="1,000 fields"):
            decode(data)


def test_a_block_of_exif_is_checked_with_and_without_the_word_before_it():
    block = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 282, 5, 1001, 30) + bytes(9000)
    for before in (b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"):
        with pytest.raises(StructureError, match="1,000 fractions"):
            check_exif(before + block)
    pieces = [segment(0xE1, b"Exif\0\0" + block[at : at + 3000]) for at in range(0, len(block), 3000)]
    with pytest.raises(StructureError, match="1,000 fractions"):
        examine(io.BytesIO(jpeg(b"".join(pieces))))
    check_exif(b"Exif\0\0")
    check_exif(b"")
    check_exif(b"no EXIF at all")
