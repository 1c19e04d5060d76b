import json
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.routes import v2_tensors
from tests.support import toys

SOFT = replace(toys.EPISODE, model="soft", glimpse_size=None, num_scales=None, zoom=None, has_maps=True)
PIXELS = [0] * 600


def asked(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def images(**changes: Any) -> dict[str, Any]:
    return {"name": "images", "shape": [1, 1, 20, 30], "datatype": "UINT8", "data": PIXELS, **changes}


def option(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def read(body: bytes, header: str | None = None, card: Any = toys.ADAPTIVE) -> v2_tensors.InferRequest:
    return v2_tensors.read(body, header, card, 8, 10_000)


def test_a_request_is_read_with_all_its_parts():
    confidence, glimpses = option("confidence", "FP32", [], [0.5]), option("max_glimpses", "INT64", [1], [2])
    request = read(
        asked(
            images(),
            confidence,
            glimpses,
            id="7",
            parameters={"timeout": 1500},
            outputs=[{"name": "logits"}, {"name": "boxes", "parameters": {"binary_data": True}}],
        )
    )
    assert (request.id, request.timeout_seconds) == ("7", 0.0015)
    assert request.binary == {"boxes"}
    assert request.job.outputs == ("logits", "boxes")
    assert {name: (str(array.dtype), array.shape) for name, array in request.job.given.items()} == {
        "images": ("uint8", (1, 1, 20, 30)),
        "confidence": ("float32", ()),
        "max_glimpses": ("int64", ()),
    }
    assert request.job.size == 1


def test_data_may_lie_flat_or_in_lists_of_lists():
    plane = np.arange(600).reshape(20, 30) % 256
    flat = read(asked(images(data=plane.ravel().tolist()))).job.given["images"]
    nested = read(asked(images(data=[[plane.tolist()]]))).job.given["images"]
    np.testing.assert_array_equal(flat, nested)
    np.testing.assert_array_equal(flat[0, 0], plane)


def test_bytes_lie_behind_the_json_in_its_order():
    pixels, place = np.arange(600, dtype=np.uint8), np.array([0.5, -0.25], "<f4")
    head = asked(
        {"name": "first_location", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "images", "shape": [1, 1, 20, 30], "datatype": "UINT8", "parameters": {"binary_data_size": 600}},
        option("max_glimpses", "INT64", [], [3]),
    )
    found = read(head + place.tobytes() + pixels.tobytes(), str(len(head))).job.given
    np.testing.assert_array_equal(found["first_location"], [[0.5, -0.25]])
    np.testing.assert_array_equal(found["images"].ravel(), pixels)
    assert found["max_glimpses"] == 3


def test_requests_go_together_that_the_graph_can_answer_together():
    keys = [
        read(asked(*inputs)).job.key
        for inputs in (
            [images()],
            [images()],
            [images(shape=[1, 1, 10, 60])],
            [images(), option("confidence", "FP32", [], [0.5])],
            [images(), option("max_glimpses", "INT64", [], [2])],
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert read(asked(images(), option("first_location", "FP32", [1, 2], [0, 0]))).job.key is None
    assert read(asked(images(), outputs=[{"name": "logits"}])).job.key != keys[0]


WRONG: list[tuple[bytes, str | None, int, str]] = [
    (b"", None, 400, "expected JSON"),
    (b"{", None, 400, "expected JSON"),
    (b"\xff\xfe", None, 400, "expected JSON"),
    (b"[]", None, 400, r"the request as a JSON object, got \[\]"),
    (b"{}", None, 400, "'inputs' as a list of at least 1, got null"),
    (b"[" * 100_000, None, 400, "expected JSON"),
    (asked(), None, 400, "'inputs' as a list of at least 1"),
    (asked("x"), None, 400, "an entry of 'inputs' as a JSON object"),  # type: ignore[arg-type]
    (asked(images(name=None)), None, 400, "inputs out of images, first_location.*got null"),
    (asked(images(name=["images"])), None, 400, "inputs out of images"),
    (asked(images(), images()), None, 400, "each input once, got 'images' twice"),
    (asked(option("confidence", "FP32", [], [0.5])), None, 400, "the input 'images', which has no default"),
    (asked(images(datatype="FP32")), None, 400, "'images' as UINT8, got \"FP32\""),
    (asked(images(datatype=8)), None, 400, "'images' as UINT8, got 8"),
    (asked(images(shape=[1, 20, 30])), None, 400, r"'images' of shape \[-1, 1, -1, -1\]"),
    (asked(images(shape=[1, 3, 20, 10])), None, 400, "'images' of shape"),
    (asked(images(shape=[0, 1, 20, 30], data=[])), None, 400, "any, at least 1"),
    (asked(images(shape=[1, 1, -20, -30])), None, 400, "as a list of whole numbers"),
    (asked(images(shape=[1, 1, 20.0, 30])), None, 400, "as a list of whole numbers"),
    (asked(images(shape=[True, 1, 20, 30])), None, 400, "as a list of whole numbers"),
    (asked(images(shape=[2**40, 1, 20, 30])), None, 400, "as a list of whole numbers"),
    (asked(images(shape=600)), None, 400, "as a list of whole numbers"),
    (asked(images(shape=[2**20, 1, 2**10, 2**10])), None, 400, "numbers for 'images'"),
    (asked(images(data=None)), None, 400, "the data of 'images' as a list, got null"),
    (asked(images(data="AAAA")), None, 400, "the data of 'images' as a list"),
    (asked(images(data=PIXELS[:-1])), None, 400, "expected 600 numbers for 'images'.*got 599"),
    (asked(images(data=[*PIXELS[:-1], 256])), None, 400, "numbers that UINT8 can hold"),
    (asked(images(data=[*PIXELS[:-1], -1])), None, 400, "numbers that UINT8 can hold"),
    (asked(images(data=[*PIXELS[:-1], 0.5])), None, 400, "numbers of UINT8 for 'images', got 0.5"),
    (asked(images(data=[*PIXELS[:-1], "1"])), None, 400, "numbers of UINT8 for 'images', got \"1\""),
    (asked(images(data=[*PIXELS[:-1], None])), None, 400, "got null"),
    (asked(images(data=[*PIXELS[:-1], True])), None, 400, "got true"),
    (asked(images(data=[*PIXELS[:-1], [1]])), None, 400, "another nesting"),
    (asked(images(data=[[[[[[[[[[1]]]]]]]]]])), None, 400, "another nesting"),
    (asked(images(), option("max_glimpses", "INT64", [], [0])), None, 400, "max_glimpses from 1 to 5"),
    (asked(images(), option("max_glimpses", "INT64", [], [6])), None, 400, "max_glimpses from 1 to 5"),
    (asked(images(), option("max_glimpses", "INT64", [], [2**63 - 1])), None, 400, "max_glimpses from 1 to 5"),
    (asked(images(), option("max_glimpses", "INT64", [], [2**64])), None, 400, "expected"),
    (asked(images(), option("max_glimpses", "INT64", [2], [1, 1])), None, 400, r"'max_glimpses' of shape \[\]"),
    (asked(images(), option("confidence", "FP32", [], [1e300])), None, 400, "finite numbers for 'confidence'"),
    (asked(images(), option("first_location", "FP32", [1, 2], [1e9, 0])), None, 400, "locations within 1000"),
    (
        asked(images(), option("first_location", "FP32", [3, 2], [0] * 6)),
        None,
        400,
        "'first_location' for 1 or 1 images",
    ),
    (asked(images(), option("state", "FP32", [1, 2], [0, 0])), None, 400, r"'state' of shape \[-1, 3\]"),
    (asked(images(shape=[9, 1, 20, 30], data=PIXELS * 9)), None, 413, "at most 8 images in a request, got 9"),
    (asked(images(shape=[1, 1, 200, 300], data=[0] * 60_000)), None, 413, "at most 10,000 pixels in a request"),
    (asked(images(), outputs=[{"name": "x"}]), None, 400, "outputs out of logits"),
    (asked(images(), outputs=[{}]), None, 400, "outputs out of logits"),
    (asked(images(), outputs="logits"), None, 400, "'outputs' as a list"),
    (asked(images(), outputs=[{"name": "logits"}] * 2), None, 400, "each output once"),
    (asked(images(), outputs=[{"name": "logits", "parameters": {"classification": 3}}]), None, 400, "classification"),
    (asked(images(), outputs=[{"name": "logits", "parameters": 3}]), None, 400, "'parameters' as a JSON object"),
    (asked(images(), id=7), None, 400, "the id as a text"),
    (asked(images(), parameters={"timeout": "soon"}), None, 400, "the timeout as a whole number"),
    (asked(images(), parameters={"timeout": -1}), None, 400, "the timeout as a whole number"),
    (asked(images()), "x", 400, "Inference-Header-Content-Length"),
    (asked(images()), "-1", 400, "Inference-Header-Content-Length"),
    (asked(images()), "99999999", 400, "Inference-Header-Content-Length"),
    (asked(images()), "5", 400, "expected JSON"),
    (asked(images()) + b"more", str(len(asked(images()))), 400, "0 bytes of tensors behind the JSON, got 4"),
    (asked(images(parameters={"binary_data_size": 600})), None, 400, "as a list or as bytes, got both"),
    (
        asked({k: v for k, v in images(parameters={"binary_data_size": 600}).items() if k != "data"}),
        None,
        400,
        "cut short",
    ),
    (
        asked({k: v for k, v in images(parameters={"binary_data_size": 5}).items() if k != "data"}),
        None,
        400,
        "binary_data_size of 600",
    ),
    (
        asked({k: v for k, v in images(parameters={"binary_data_size": "600"}).items() if k != "data"}),
        None,
        400,
        "binary_data_size of 600",
    ),
]


@pytest.mark.parametrize(("body", "header", "status", "sentence"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_told_in_a_sentence(body, header, status, sentence):
    with pytest.raises(HTTPError, match=sentence) as refused:
        read(body, header)
    assert refused.value.status == status
    assert len(refused.value.sentence) < 400


def test_nan_in_bytes_and_floats_that_are_no_pixels_are_refused():
    head = asked(
        {"name": "confidence", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}, images()
    )
    with pytest.raises(HTTPError, match="finite numbers"):
        read(head + np.array([math.nan], "<f4").tobytes(), str(len(head)))
    floats = replace(toys.ADAPTIVE, input_type="float32")
    with pytest.raises(HTTPError, match=r"images in \[0, 1\], got 0 to 2"):
        read(asked(images(datatype="FP32", data=[*PIXELS[:-1], 2.0])), card=floats)


def test_a_model_that_takes_images_in_as_a_whole_takes_no_huge_ones():
    big = asked(images(shape=[1, 1, 1100, 1000], data=[0] * 1_100_000))
    with pytest.raises(HTTPError, match="at most 1,048,576 pixels") as refused:
        v2_tensors.read(big, None, SOFT, 8, 2**24)
    assert refused.value.status == 413
    assert v2_tensors.read(big, None, toys.EPISODE, 8, 2**24).job.size == 1


def test_a_models_own_size_is_always_taken():
    assert v2_tensors.read(asked(images()), None, toys.ADAPTIVE, 8, 1).job.size == 1


@pytest.mark.parametrize("binary", [True, False])
def test_an_answer_is_written_as_it_can_be_read_again(binary):
    outputs = [{"name": name, "parameters": {"binary_data": binary}} for name in ("probabilities", "glimpses")]
    request = read(asked(images(), id="x", outputs=outputs))
    found = {"probabilities": np.array([[[0.25, 0.5, 0.25]]], np.float32), "glimpses": np.array([1])}
    body, length = v2_tensors.write(request, found, toys.ADAPTIVE, "owl", 3)
    told = json.loads(body[:length])
    assert (told["model_name"], told["model_version"], told["id"]) == ("owl", "3", "x")
    assert [(each["name"], each["datatype"], each["shape"]) for each in told["outputs"]] == [
        ("probabilities", "FP32", [1, 1, 3]),
        ("glimpses", "INT64", [1]),
    ]
    if binary:
        assert length is not None
        assert [each["parameters"]["binary_data_size"] for each in told["outputs"]] == [12, 8]
        np.testing.assert_array_equal(np.frombuffer(body[length : length + 12], "<f4"), [0.25, 0.5, 0.25])
    else:
        assert length is None
        assert [each["data"] for each in told["outputs"]] == [[0.25, 0.5, 0.25], [1]]


def test_ten_thousand_bent_requests_are_read_or_refused():
    chance = random.Random(0)
    whole = asked(
        images(data=PIXELS[:0], shape=[1, 1, 2, 3]),
        option("confidence", "FP32", [], [0.5]),
        outputs=[{"name": "logits", "parameters": {"binary_data": True}}],
        parameters={"timeout": 5},
        id="i",
    )
    whole = whole.replace(b'"data": []', b'"data": [1, 2, 3, 4, 5, 6]')
    assert read(whole).job.size == 1
    pieces = [b"null", b"-1", b"1e999", b"[]", b"{}", b'"x"', b"true", b"99999999999999999999", b"\0", b"\\ud800", b","]
    refused = 0
    for _ in range(10_000):
        bent = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 5))):
            place = chance.randrange(len(bent))
            kind = chance.randrange(4)
            if kind == 0:
                bent[place] = chance.randrange(256)
            elif kind == 1:
                del bent[place : place + chance.randrange(1, 12)]
            elif kind == 2:
                bent[place:place] = chance.choice(pieces)
            else:
                bent[place : place + chance.randrange(1, 8)] = chance.choice(pieces)
            if not bent:
                bent = bytearray(b"0")
        try:
            read(bytes(bent))
        except HTTPError as refusal:
            refused += refusal.status in (400, 413)
    assert refused > 8000


def test_json_of_nothing_but_brackets_is_refused_before_it_is_read():
    with pytest.raises(HTTPError, match="lists and objects in the JSON, got 200,0") as refused:
        read(b'{"inputs":[' + b"[]," * 200_000 + b"[]]}")
    assert refused.value.status == 413


def test_a_shape_without_end_is_told_in_short():
    with pytest.raises(HTTPError, match=r"of shape .* got ") as refused:
        read(asked(images(shape=[1] * 10_000)))
    assert len(refused.value.sentence) < 300


def test_numbers_without_end_are_to_come_as_bytes():
    with pytest.raises(HTTPError, match=r"at most 4,194,304 bytes of JSON, got 6,000,") as refused:
        read(asked(images(data=[1.5] * 1_200_000)))
    assert refused.value.status == 413
