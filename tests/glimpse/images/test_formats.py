import pytest
from PIL import Image

from glimpse.images.formats import IMAGE_SUFFIXES, advice_for
from glimpse.images.pixels import FORMATS


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_each_suffix_is_of_a_format_that_is_decoded(suffix):
    Image.init()
    aliases = {".pnm": "PPM", ".pbm": "PPM", ".pgm": "PPM"}
    assert aliases.get(suffix, Image.EXTENSION.get(suffix)) in FORMATS


def test_well_known_formats_that_are_not_read_come_with_advice():
    for suffix in (".heic", ".svg", ".cr2"):
        advice = advice_for(suffix)
        assert advice is not None
        assert ": " in advice
        assert suffix not in IMAGE_SUFFIXES
    assert advice_for(".txt") is None
