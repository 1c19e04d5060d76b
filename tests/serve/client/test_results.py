import base64

import numpy as np
import pytest

from glimpse_serve.client.results import read_classification, read_error, read_glimpse

GLIMPSE = {"time": 0, "class": "cat", "confidence": 0.75}
IMAGE = {
    "class": "cat",
    "confidence": 0.75,
    "probabilities": {"cat": 0.75, "dog": 0.25},
    "glimpses": [GLIMPSE],
    "reason": "budget",
    "width": 30,
    "height": 20,
}


def test_a_classification_is_read_with_its_glimpses_and_its_picture():
    picture = f"data:image/png;base64,{base64.b64encode(b'png').decode()}"
    found = read_classification({**IMAGE, "picture": picture}, {"name": "digits", "version": "2"})
    assert (found.label, found.confidence, found.reason) == ("cat", 0.75, "budget")
    assert (found.width, found.height, found.model, found.version) == (30, 20, "digits", "2")
    assert found.picture == b"png"
    assert found.glimpses == (read_glimpse(GLIMPSE),)


def test_what_a_glimpse_lacks_is_none():
    glimpse = read_glimpse(GLIMPSE)
    assert (glimpse.location, glimpse.boxes, glimpse.map, glimpse.milliseconds) == (None, None, None, None)
    located = read_glimpse({**GLIMPSE, "location": [0.5, -0.5], "boxes": [[0, 0, 8, 8]], "map": [[1.0]]})
    assert located.location == (0.5, -0.5)
    np.testing.assert_array_equal(located.boxes, [[0, 0, 8, 8]])
    np.testing.assert_array_equal(located.map, [[1.0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"error": "no"}', "no"), (b"<html>", "got HTTP status 502"), (b"[]", "got HTTP status 502")],
)
def test_an_error_response_is_read(content, message):
    error = read_error(502, content)
    assert error.status == 502
    assert message in error.message
    assert str(error) == f"{error.message} (502)"
