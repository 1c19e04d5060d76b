import json

import numpy as np
import pytest

from glimpse.images.pixels import ImageError
from glimpse_serve.errors import HTTPError
from glimpse_serve.routes.streaming_messages import (
    MAX_START_CHARACTERS,
    StreamStart,
    closing_error,
    pixels_of,
    read_start,
)
from tests.support.service import png
from tests.support.toys import noise

START = {"width": 40, "height": 30, "channels": 3}


def test_the_first_message_gives_the_size_and_the_limits():
    assert read_start(json.dumps(START), 5) == StreamStart(40, 30, 3, None, None)
    limited = {**START, "confidence": 1, "max_glimpses": 2}
    assert read_start(json.dumps(limited), 5) == StreamStart(40, 30, 3, 1.0, 2)
    placed = {**START, "first_location": [0.5, -1]}
    assert read_start(json.dumps(placed), 5) == StreamStart(40, 30, 3, None, None, (0.5, -1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "as the first message"),
        ("{", "as the first message"),
        (json.dumps(START) + " " * MAX_START_CHARACTERS, "as the first message"),
        (json.dumps({**START, "width": True}), "the width in whole pixels"),
        (json.dumps({**START, "channels": 1.0}), "channels, got 1.0"),
        (json.dumps({**START, "first_location": "0,0"}), r"first_location as \[x, y\], got '0,0'"),
        (json.dumps({**START, "first_location": [0]}), r"first_location as \[x, y\], got \[0\]"),
        (json.dumps({**START, "first_location": [0, True]}), r"first_location as \[x, y\], got \[0, True\]"),
        (json.dumps({**START, "confidence": 2}), "a confidence above 0 and up to 1"),
    ],
)
def test_a_malformed_first_message_is_rejected(text, message):
    with pytest.raises(HTTPError, match=message) as error:
        read_start(text, 5)
    assert error.value.status == 400


def test_pixels_are_raw_or_an_image_file():
    image = noise(4, 6, 3)
    box = (10, 20, 16, 24)
    np.testing.assert_array_equal(pixels_of(image.tobytes(), box, 3), image)
    np.testing.assert_array_equal(pixels_of(png(image), box, 3), image)
    for content in (b"", image.tobytes()[:-1], png(noise(4, 5, 3))):
        with pytest.raises(ImageError, match="expected 72 bytes of raw pixels"):
            pixels_of(content, box, 3)


@pytest.mark.parametrize(("code", "status"), [(1012, 503), (1009, 413), (1000, 499), (None, 499)])
def test_a_close_code_gives_the_error(code, status):
    assert closing_error(code).status == status
