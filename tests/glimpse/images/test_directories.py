import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from benchmarks.serving.faults.rich_files import directory, jpeg_with_exif, nested, overlapping, tiff, values
from glimpse.images.directories import MAX_FIELDS, MAX_FRACTIONS, MAX_NUMBERS, Directories, StructureError
from glimpse.images.pixels import decode
from tests.support.costly_images import encode

TOO_MUCH = "1,000 fields, 1,000 fractions or 524,288 numbers"
EXIF, INTEROPERABILITY = 0x8769, 0xA005


def read(data: bytes, nested: bool = True) -> Directories:
    return Directories(io.BytesIO(data), nested)


def big(entries: list[tuple[int, int, int, int]], order: str = "<") -> bytes:
    """A BigTIFF that is nothing but a directory, whose values fit in or lie at its beginning."""
    mark = b"II+\0" if order == "<" else b"MM\0+"
    fields = b"".join(struct.pack(f"{order}HHQQ", *entry) for entry in entries)
    return mark + struct.pack(f"{order}HHQQ", 8, 0, 16, len(entries)) + fields + bytes(8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_numbers_of_a_field_are_read(order):
    data = directory([(300, 3, 3, b"\1\0\2\0\3\0"), (301, 4, 1, 70_000), (302, 7, 2, 5), (303, 16, 1, 9)])
    page = read(data)
    assert page.numbers(300) == (1, 2, 3)
    assert page.numbers(301) == (70_000,)
    assert page.numbers(302) == page.numbers(299) == ()
    assert read(big([(300, 4, 1, 7)], order)).numbers(300)[-1:] == (7 if order == "<" else 0,)


def test_what_a_picture_has_is_read_as_pillow_reads_it():
    data = encode(Image.new("RGB", (40, 30)), "TIFF", compression="tiff_lzw", dpi=(72, 72))
    page = read(data)
    with Image.open(io.BytesIO(data)) as picture:
        assert isinstance(picture, TiffImagePlugin.TiffImageFile)
        tags = dict(picture.tag_v2)
    assert page.numbers(256) == (40,)
    assert page.numbers(258) == tags[258]
    assert page.pieces(273) == tags[273]


@pytest.mark.parametrize("kind", [1, 2, 7])
def test_bytes_may_be_as_many_as_there_are(kind):
    assert read(directory([values(37_500, kind, 2_000_000)])).parts == 3


@pytest.mark.parametrize(
    ("kind", "allowed"), [(3, MAX_NUMBERS), (11, MAX_NUMBERS), (9, MAX_NUMBERS), (5, MAX_FRACTIONS)]
)
def test_numbers_and_fractions_are_bounded_and_counted(kind, allowed):
    size = {3: 2, 5: 8, 9: 4, 11: 4}[kind]
    content = bytes(size * (allowed + 1))
    assert read(directory([(40_000, kind, allowed, content)])).parts >= allowed // 12
    with pytest.raises(StructureError, match=TOO_MUCH):
        read(directory([(40_000, kind, allowed + 1, content)]))
    half = (kind, allowed // 2 + 1, content)
    with pytest.raises(StructureError, match=TOO_MUCH):
        read(directory([(40_000, *half), (40_001, *half)]))


def test_fields_are_bounded_with_those_of_the_nested_directories():
    fields = [(300 + field, 7, 1, 7) for field in range(MAX_FIELDS)]
    assert read(directory(list(fields))).parts == 3 * MAX_FIELDS
    with pytest.raises(StructureError, match=TOO_MUCH):
        read(directory([*fields, (2000, 4, 1, 7)]))
    for tag in (34_665, 34_853):
        with pytest.raises(StructureError, match=TOO_MUCH):
            read(nested(tag, 10, 100_000))
        assert read(nested(tag, 10, 100_000), nested=False).parts < 50


def test_a_directory_within_that_of_exif_is_read_and_one_that_is_its_own_ends():
    inner = directory([values(40_000, 5, 80_000)])
    at = 8 + len(inner)
    middle = struct.pack("<HHHII", 1, INTEROPERABILITY, 4, 1, 8 + int.from_bytes(inner[4:8], "little")) + bytes(4)
    moved = inner[:-8] + struct.pack("<I", 16) + inner[-4:]
    with pytest.raises(StructureError, match=TOO_MUCH):
        read(directory([(EXIF, 4, 1, at)], moved + middle))
    itself = directory([(EXIF, 4, 1, 8)])
    assert read(itself).parts == 3


def test_fields_that_share_their_values_are_refused_when_they_are_many():
    shared = [(300 + field, 7, 9000, 8) for field in range(2)]
    assert read(directory(list(shared), bytes(9000))).parts == 6
    with pytest.raises(StructureError, match="fields that overlap"):
        read(overlapping(100_000, 20))


def test_what_lies_outside_the_file_counts_nothing():
    assert (
        read(directory([(40_000, 5, 2**31, 8), (40_001, 12, 2**32 - 1, 2**32 - 1), (40_002, 99, 2**30, 8)])).parts == 9
    )
    page = directory([(300, 3, 3, b"\1\0\2\0\3\0")])
    for length in range(len(page)):
        read(page[:length])


def test_a_big_tiff_that_pillow_takes_for_another_is_read_in_both_ways():
    hidden = directory([values(282, 5, 80_000)])
    for mark in (b"MM\0+", b"MM\0*", b"MM*\0"):
        turned = mark + int.from_bytes(hidden[4:8], "little").to_bytes(4, "big") + hidden[8:]
        place = int.from_bytes(hidden[4:8], "little")
        field = struct.pack(">HHHII", 1, 282, 5, 10_000, 8) + bytes(4)
        with pytest.raises(StructureError, match=TOO_MUCH):
            read(turned[:place] + field)


def test_ordinary_metadata_is_no_hindrance():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    place = exif.get_ifd(0x8825)
    place[2] = (52.0, 30.0, 1.5)
    own = exif.get_ifd(EXIF)
    own[0x927C] = bytes(60_000)
    own[0x829A] = 0.01
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    for form in ("PNG", "TIFF", "WEBP", "JPEG"):
        assert decode(encode(picture, form, exif=exif)).shape[:2] == (4, 3)


def test_some_hundred_numbers_and_fractions_are_no_hindrance():
    block = directory([(274, 3, 1, 6), values(40_000, 5, 4000)])
    assert decode(jpeg_with_exif(block)).shape == (8, 8, 3)
    assert decode(tiff(values(40_000, 3, 4000))).shape == (8, 8, 1)
