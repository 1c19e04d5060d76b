import pytest
from PIL import Image

from glimpse.images.formats import IMAGE_SUFFIXES, advice_for, advice_for_content
from glimpse.images.pixels import FORMATS, ImageError, decode


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_each_suffix_is_of_a_format_that_is_decoded(suffix):
    Image.init()
    aliases = {".pnm": "PPM", ".pbm": "PPM", ".pgm": "PPM"}
    assert aliases.get(suffix, Image.EXTENSION.get(suffix)) in FORMATS


def test_well_known_formats_that_are_not_read_come_with_advice():
    for suffix in (".heic", ".avif", ".svg", ".cr2"):
        advice = advice_for(suffix)
        assert advice is not None
        assert ": " in advice
        assert suffix not in IMAGE_SUFFIXES
    assert advice_for(".txt") is None


@pytest.mark.parametrize(
    ("brand", "advice"),
    [
        (b"heic", "a HEIC photograph: convert it to JPEG (the package pillow-heif reads it)"),
        (b"heix", "a HEIC photograph: convert it to JPEG (the package pillow-heif reads it)"),
        (b"mif1", "a HEIF photograph: convert it to JPEG (the package pillow-heif reads it)"),
        (b"avif", "an AVIF image: convert it to PNG or JPEG (Pillow reads it from 11.3 on)"),
    ],
)
def test_a_format_is_known_by_its_content_whatever_the_name(brand, advice):
    content = b"\0\0\0\x18ftyp" + brand + bytes(60)
    assert advice_for_content(content) == advice
    with pytest.raises(ImageError, match=r"expected a PNG, .* file, got 'photo\.jpg', a") as refused:
        decode(content, "photo.jpg")
    assert advice in str(refused.value)


def test_other_content_has_no_advice():
    assert advice_for_content(b"") is None
    assert advice_for_content(b"\0\0\0\x18ftypmp42") is None
    assert advice_for_content(b"GIF89a......heic") is None
