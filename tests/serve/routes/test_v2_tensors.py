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


def make_request(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def images(**changes: Any) -> dict[str, Any]:
    return {"name": "images", "shape": [1, 1, 20, 30], "datatype": "UINT8", "data": PIXELS, **changes}


def option(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def read_request(body: bytes, header: str | None = None, card: Any = toys.ADAPTIVE) -> v2_tensors.InferRequest:
    return v2_tensors.read_request(body, header, card, 8, 10_000)


def test_a_request_is_read_with_all_its_parts():
    confidence, glimpses = option("confidence", "FP32", [], [0.5]), option("max_glimpses", "INT64", [1], [2])
    request = read_request(
        make_request(
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
    assert {name: (str(array.dtype), array.shape) for name, array in request.job.inputs.items()} == {
        "images": ("uint8", (1, 1, 20, 30)),
        "confidence": ("float32", ()),
        "max_glimpses": ("int64", ()),
    }
    assert request.job.size == 1


def test_data_may_lie_flat_or_in_lists_of_lists():
    plane = np.arange(600).reshape(20, 30) % 256
    flat = read_request(make_request(images(data=plane.ravel().tolist()))).job.inputs["images"]
    nested = read_request(make_request(images(data=[[plane.tolist()]]))).job.inputs["images"]
    np.testing.assert_array_equal(flat, nested)
    np.testing.assert_array_equal(flat[0, 0], plane)


def test_bytes_lie_behind_the_json_in_its_order():
    pixels, place = np.arange(600, dtype=np.uint8), np.array([0.5, -0.25], "<f4")
    head = make_request(
        {"name": "first_location", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "images", "shape": [1, 1, 20, 30], "datatype": "UINT8", "parameters": {"binary_data_size": 600}},
        option("max_glimpses", "INT64", [], [3]),
    )
    found = read_request(head + place.tobytes() + pixels.tobytes(), str(len(head))).job.inputs
    np.testing.assert_array_equal(found["first_location"], [[0.5, -0.25]])
    np.testing.assert_array_equal(found["images"].ravel(), pixels)
    assert found["max_glimpses"] == 3


def test_requests_that_the_graph_can_run_together_share_a_key():
    keys = [
        read_request(make_request(*inputs)).job.key
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
    assert read_request(make_request(images(), option("first_location", "FP32", [1, 2], [0, 0]))).job.key is None
    assert read_request(make_request(images(), outputs=[{"name": "logits"}])).job.key != keys[0]


WRONG: list[tuple[bytes, str | None, int, str]] = [
    (b"", None, 400, "expected JSON"),
    (b"{", None, 400, "expected JSON"),
    (b"\xff\xfe", None, 400, "expected JSON"),
    (b"[]", None, 400, r"the request as a JSON object, got \[\]"),
    (b"{}", None, 400, "'inputs' as a list of at least 1, got null"),
    (b"[" * 100_000, None, 400, "expected JSON"),
    (make_request(), None, 400, "'inputs' as a list of at least 1"),
    (make_request("x"), None, 400, "an entry of 'inputs' as a JSON object"),  # type: ignore[arg-type]
    (make_request(images(name=None)), None, 400, "inputs out of images, first_location.*got null"),
    (make_request(images(name=["images"])), None, 400, "inputs out of images"),
    (make_request(images(), images()), None, 400, "each input once, got 'images' twice"),
    (make_request(option("confidence", "FP32", [], [0.5])), None, 400, "the input 'images', which has no default"),
    (make_request(images(datatype="FP32")), None, 400, "'images' as UINT8, got \"FP32\""),
    (make_request(images(datatype=8)), None, 400, "'images' as UINT8, got 8"),
    (make_request(images(shape=[1, 20, 30])), None, 400, r"'images' of shape \[-1, 1, -1, -1\]"),
    (make_request(images(shape=[1, 3, 20, 10])), None, 400, "'images' of shape"),
    (make_request(images(shape=[0, 1, 20, 30], data=[])), None, 400, "any, at least 1"),
    (make_request(images(shape=[1, 1, -20, -30])), None, 400, "as a list of whole numbers"),
    (make_request(images(shape=[1, 1, 20.0, 30])), None, 400, "as a list of whole numbers"),
    (make_request(images(shape=[True, 1, 20, 30])), None, 400, "as a list of whole numbers"),
    (make_request(images(shape=[2**40, 1, 20, 30])), None, 400, "as a list of whole numbers"),
    (make_request(images(shape=600)), None, 400, "as a list of whole numbers"),
    (make_request(images(shape=[2**20, 1, 2**10, 2**10])), None, 400, "numbers for 'images'"),
    (make_request(images(data=None)), None, 400, "the data of 'images' as a list, got null"),
    (make_request(images(data="AAAA")), None, 400, "the data of 'images' as a list"),
    (make_request(images(data=PIXELS[:-1])), None, 400, "expected 600 numbers for 'images'.*got 599"),
    (make_request(images(data=[*PIXELS[:-1], 256])), None, 400, "numbers that UINT8 can hold"),
    (make_request(images(data=[*PIXELS[:-1], -1])), None, 400, "numbers that UINT8 can hold"),
    (make_request(images(data=[*PIXELS[:-1], 0.5])), None, 400, "numbers of UINT8 for 'images', got 0.5"),
    (make_request(images(data=[*PIXELS[:-1], "1"])), None, 400, "numbers of UINT8 for 'images', got \"1\""),
    (make_request(images(data=[*PIXELS[:-1], None])), None, 400, "got null"),
    (make_request(images(data=[*PIXELS[:-1], True])), None, 400, "got true"),
    (make_request(images(data=[*PIXELS[:-1], [1]])), None, 400, "another nesting"),
    (make_request(images(data=[[[[[[[[[[1]]]]]]]]]])), None, 400, "another nesting"),
    (make_request(images(), option("max_glimpses", "INT64", [], [0])), None, 400, "max_glimpses from 1 to 5"),
    (make_request(images(), option("max_glimpses", "INT64", [], [6])), None, 400, "max_glimpses from 1 to 5"),
    (make_request(images(), option("max_glimpses", "INT64", [], [2**63 - 1])), None, 400, "max_glimpses from 1 to 5"),
    (make_request(images(), option("max_glimpses", "INT64", [], [2**64])), None, 400, "expected"),
    (make_request(images(), option("max_glimpses", "INT64", [2], [1, 1])), None, 400, r"'max_glimpses' of shape \[\]"),
    (make_request(images(), option("confidence", "FP32", [], [1e300])), None, 400, "finite numbers for 'confidence'"),
    (make_request(images(), option("first_location", "FP32", [1, 2], [1e9, 0])), None, 400, "locations within 1000"),
    (
        make_request(images(), option("first_location", "FP32", [3, 2], [0] * 6)),
        None,
        400,
        "'first_location' for 1 or 1 images",
    ),
    (make_request(images(), option("state", "FP32", [1, 2], [0, 0])), None, 400, r"'state' of shape \[-1, 3\]"),
    (make_request(images(shape=[9, 1, 20, 30], data=PIXELS * 9)), None, 413, "at most 8 images in a request, got 9"),
    (make_request(images(shape=[1, 1, 200, 300], data=[0] * 60_000)), None, 413, "at most 10,000 pixels in a request"),
    (make_request(images(), outputs=[{"name": "x"}]), None, 400, "outputs out of logits"),
    (make_request(images(), outputs=[{}]), None, 400, "outputs out of logits"),
    (make_request(images(), outputs="logits"), None, 400, "'outputs' as a list"),
    (make_request(images(), outputs=[{"name": "logits"}] * 2), None, 400, "each output once"),
    (
        make_request(images(), outputs=[{"name": "logits", "parameters": {"classification": 3}}]),
        None,
        400,
        "classification",
    ),
    (make_request(images(), outputs=[{"name": "logits", "parameters": 3}]), None, 400, "'parameters' as a JSON object"),
    (make_request(images(), id=7), None, 400, "the id as a text"),
    (make_request(images(), parameters={"timeout": "soon"}), None, 400, "the timeout as a whole number"),
    (make_request(images(), parameters={"timeout": -1}), None, 400, "the timeout as a whole number"),
    (make_request(images()), "x", 400, "Inference-Header-Content-Length"),
    (make_request(images()), "-1", 400, "Inference-Header-Content-Length"),
    (make_request(images()), "99999999", 400, "Inference-Header-Content-Length"),
    (make_request(images()), "5", 400, "expected JSON"),
    (
        make_request(images()) + b"more",
        str(len(make_request(images()))),
        400,
        "0 bytes of tensors behind the JSON, got 4",
    ),
    (make_request(images(parameters={"binary_data_size": 600})), None, 400, "as a list or as bytes, got both"),
    (
        make_request({k: v for k, v in images(parameters={"binary_data_size": 600}).items() if k != "data"}),
        None,
        400,
        "cut short",
    ),
    (
        make_request({k: v for k, v in images(parameters={"binary_data_size": 5}).items() if k != "data"}),
        None,
        400,
        "binary_data_size of 600",
    ),
    (
        make_request({k: v for k, v in images(parameters={"binary_data_size": "600"}).items() if k != "data"}),
        None,
        400,
        "binary_data_size of 600",
    ),
]


@pytest.mark.parametrize(("body", "header", "status", "message"), WRONG, ids=range(len(WRONG)))
def test_invalid_requests_are_rejected_with_a_message(body, header, status, message):
    with pytest.raises(HTTPError, match=message) as error:
        read_request(body, header)
    assert error.value.status == status
    assert len(error.value.message) < 400


def test_nan_in_bytes_and_floats_that_are_no_pixels_are_rejected():
    head = make_request(
        {"name": "confidence", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}, images()
    )
    with pytest.raises(HTTPError, match="finite numbers"):
        read_request(head + np.array([math.nan], "<f4").tobytes(), str(len(head)))
    floats = replace(toys.ADAPTIVE, input_type="float32")
    with pytest.raises(HTTPError, match=r"images in \[0, 1\], got 0 to 2"):
        read_request(make_request(images(datatype="FP32", data=[*PIXELS[:-1], 2.0])), card=floats)


FLOATS = replace(toys.ADAPTIVE, input_type="float32")
COLOUR = replace(toys.EPISODE, channels=3, any_size=False)


@pytest.mark.parametrize(
    ("card", "dtype"), [(toys.ADAPTIVE, "u1"), (toys.EPISODE, "u1"), (COLOUR, "u1"), (FLOATS, "<f4")]
)
@pytest.mark.parametrize("header", ["0", "000"])
def test_a_raw_body_is_one_image_of_the_models_size(card, dtype, header):
    pixels = (np.arange(card.channels * 600) % 2).astype(dtype)
    request = read_request(pixels.tobytes(), header, card)
    np.testing.assert_array_equal(request.job.inputs["images"], pixels.reshape(1, card.channels, 20, 30))
    assert request.job.outputs == card.outputs
    assert request.binary == set(card.outputs)
    assert (request.id, request.timeout_seconds, request.job.size) == ("", None, 1)


def test_a_raw_body_shares_batches_with_the_same_request_in_json():
    outputs = [{"name": name} for name in toys.ADAPTIVE.outputs]
    assert read_request(bytes(600), "0").job.key == read_request(make_request(images(), outputs=outputs)).job.key


@pytest.mark.parametrize(
    ("body", "card", "message"),
    [
        (b"", toys.ADAPTIVE, r"expected 600 bytes, UINT8 of shape \[1, 1, 20, 30\].*got 0; send other sizes"),
        (bytes(599), toys.ADAPTIVE, "got 599"),
        (bytes(1200), toys.ADAPTIVE, "got 1200; send other sizes and several images with JSON before them"),
        (bytes(600), COLOUR, "expected 1800 bytes"),
        (bytes(600), FLOATS, r"expected 2400 bytes, FP32 of shape"),
        (np.full(600, np.nan, "<f4").tobytes(), FLOATS, "finite numbers for 'images'"),
        (np.full(600, -np.inf, "<f4").tobytes(), FLOATS, "finite numbers for 'images'"),
        (np.full(600, 255, "<f4").tobytes(), FLOATS, r"images in \[0, 1\], got 255 to 255"),
        (make_request(images()), toys.ADAPTIVE, "got 1"),
        (bytes(128), toys.STEP, "the model has the inputs glimpse, location, state and a raw binary request has one"),
    ],
)
def test_a_raw_body_that_does_not_fit_is_rejected(body, card, message):
    with pytest.raises(HTTPError, match=message) as error:
        read_request(body, "0", card)
    assert error.value.status == 400


@pytest.mark.parametrize("value", [1e38, -1.7e7, 2**25])
def test_a_frame_beyond_whole_numbers_is_rejected(value):
    with pytest.raises(HTTPError, match="a frame of at most 16,777,216 pixels"):
        read_request(make_request(images(), option("frame", "FP32", [4], [0, value, 30, 20])))


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e400", "9" * 4000, "[" * 2000 + "]" * 2000])
@pytest.mark.parametrize("name", ["state", "confidence", "images"])
def test_json_of_no_finite_number_is_rejected(text, name):
    tensors = {
        "state": option("state", "FP32", [1, 3], [0, "X", 0]),
        "confidence": option("confidence", "FP32", [], ["X"]),
    }
    tensors["images"] = images(data=["X", *PIXELS[1:]])
    body = make_request(*{"images": images(), name: tensors[name]}.values()).replace(b'"X"', text.encode())
    with pytest.raises(HTTPError, match="expected JSON") as error:
        read_request(body)
    assert error.value.status == 400


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "FP16", "BF16", "INT8", "UINT64", "uint8", ""])
def test_other_data_types_are_rejected_by_name(datatype):
    with pytest.raises(HTTPError, match=f"expected 'images' as UINT8, got \"{datatype}\""):
        read_request(make_request(images(datatype=datatype)))


def test_a_model_that_takes_images_in_as_a_whole_takes_no_huge_ones():
    big = make_request(images(shape=[1, 1, 1100, 1000], data=[0] * 1_100_000))
    with pytest.raises(HTTPError, match="at most 1,048,576 pixels") as error:
        v2_tensors.read_request(big, None, SOFT, 8, 2**24)
    assert error.value.status == 413
    assert v2_tensors.read_request(big, None, toys.EPISODE, 8, 2**24).job.size == 1


def test_a_models_own_size_is_always_taken():
    assert v2_tensors.read_request(make_request(images()), None, toys.ADAPTIVE, 8, 1).job.size == 1


@pytest.mark.parametrize("binary", [True, False])
def test_a_response_can_be_read_again(binary):
    outputs = [{"name": name, "parameters": {"binary_data": binary}} for name in ("probabilities", "glimpses")]
    request = read_request(make_request(images(), id="x", outputs=outputs))
    found = {"probabilities": np.array([[[0.25, 0.5, 0.25]]], np.float32), "glimpses": np.array([1])}
    body, length = v2_tensors.write_response(request, found, toys.ADAPTIVE, "owl", 3)
    reported = json.loads(body[:length])
    assert (reported["model_name"], reported["model_version"], reported["id"]) == ("owl", "3", "x")
    assert [(each["name"], each["datatype"], each["shape"]) for each in reported["outputs"]] == [
        ("probabilities", "FP32", [1, 1, 3]),
        ("glimpses", "INT64", [1]),
    ]
    if binary:
        assert length is not None
        assert [each["parameters"]["binary_data_size"] for each in reported["outputs"]] == [12, 8]
        np.testing.assert_array_equal(np.frombuffer(body[length : length + 12], "<f4"), [0.25, 0.5, 0.25])
    else:
        assert length is None
        assert [each["data"] for each in reported["outputs"]] == [[0.25, 0.5, 0.25], [1]]


def test_ten_thousand_malformed_requests_are_read_or_rejected():
    chance = random.Random(0)
    whole = make_request(
        images(data=PIXELS[:0], shape=[1, 1, 2, 3]),
        option("confidence", "FP32", [], [0.5]),
        outputs=[{"name": "logits", "parameters": {"binary_data": True}}],
        parameters={"timeout": 5},
        id="i",
    )
    whole = whole.replace(b'"data": []', b'"data": [1, 2, 3, 4, 5, 6]')
    assert read_request(whole).job.size == 1
    pieces = [b"null", b"-1", b"1e999", b"[]", b"{}", b'"x"', b"true", b"99999999999999999999", b"\0", b"\\ud800", b","]
    error = 0
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
            read_request(bytes(bent))
        except HTTPError as refusal:
            error += refusal.status in (400, 413)
    assert error > 8000


def test_json_of_nothing_but_brackets_is_rejected_before_parsing():
    with pytest.raises(HTTPError, match="lists and objects in the JSON, got 200,0") as error:
        read_request(b'{"inputs":[' + b"[]," * 200_000 + b"[]]}")
    assert error.value.status == 413


def test_an_endless_shape_is_cut_in_the_message():
    with pytest.raises(HTTPError, match=r"of shape .* got ") as error:
        read_request(make_request(images(shape=[1] * 10_000)))
    assert len(error.value.message) < 300


def test_long_json_is_rejected_in_favour_of_binary_data():
    with pytest.raises(HTTPError, match=r"at most 4,194,304 bytes of JSON, got 6,000,") as error:
        read_request(make_request(images(data=[1.5] * 1_200_000)))
    assert error.value.status == 413
