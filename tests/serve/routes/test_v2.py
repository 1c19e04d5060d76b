"""Conformance to the Open Inference Protocol, judged by NVIDIA's client of it."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import glimpse
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.settings import Settings
from tests.support import toys
from tests.support.service import Running, running, toy_files
from tests.support.toys import noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    step = f"step={toys.write_toy(folder / 'step.onnx', toys.STEP)}"
    with running(Settings(models=(*toy_files(folder), step), max_images=40)) as made:
        yield made


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{service.host}:{service.port}", concurrency=8) as made:
        yield made


@pytest.fixture(scope="module")
def session(service: Running, folder: Path) -> GlimpseSession:
    return GlimpseSession(folder / "adaptive.onnx")


def images(count: int = 1, seed: int = 0, height: int = 20, width: int = 30) -> Any:
    return np.ascontiguousarray(noise(count, height, width, 1, seed=seed).transpose(0, 3, 1, 2))


def given(binary: bool = True, /, **arrays: Any) -> list[triton.InferInput]:
    names = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64"}
    found = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), names[str(array.dtype)])
        tensor.set_data_from_numpy(array, binary_data=binary)
        found.append(tensor)
    return found


def same(result: triton.InferResult, expected: dict[str, Any], binary: bool = True) -> None:
    for name, array in expected.items():
        found = result.as_numpy(name)
        np.testing.assert_allclose(found, array, atol=1e-5, err_msg=name)
        assert ("data" in result.get_output(name)) is not binary


def test_the_server_and_its_models_are_described(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata() == {
        "name": "glimpse",
        "version": glimpse.__version__,
        "extensions": ["binary_tensor_data"],
    }
    assert client.is_model_ready("adaptive")
    assert client.is_model_ready("adaptive", "1")
    assert not client.is_model_ready("dog")
    assert not client.is_model_ready("adaptive", "2")
    assert [(model["name"], model["state"]) for model in client.get_model_repository_index()] == [
        ("adaptive", "READY"),
        ("episode", "READY"),
        ("step", "READY"),
    ]


@pytest.mark.parametrize("version", ["", "1"])
def test_the_metadata_are_those_of_the_graph(client, session, version):
    reported = client.get_model_metadata("adaptive", version)
    assert (reported["name"], reported["versions"], reported["platform"]) == ("adaptive", ["1"], "onnxruntime_onnx")
    assert reported["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, 1, -1, -1]},
        {"name": "first_location", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "confidence", "datatype": "FP32", "shape": []},
        {"name": "max_glimpses", "datatype": "INT64", "shape": []},
        {"name": "state", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "frame", "datatype": "FP32", "shape": [4]},
    ]
    assert [output["name"] for output in reported["outputs"]] == list(session.card.outputs)
    kinds = {"float32": "FP32", "int64": "INT64"}
    for output, array in zip(
        reported["outputs"], session.infer({"images": images()}, session.card.outputs).values(), strict=True
    ):
        assert output["datatype"] == kinds[str(array.dtype)]
        assert len(output["shape"]) == array.ndim
        assert all(length in (-1, real) for length, real in zip(output["shape"], array.shape, strict=True))


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize(("count", "height", "width"), [(1, 20, 30), (3, 20, 30), (2, 33, 47)])
def test_tensors_go_both_ways_in_both_forms(client, session, binary_in, binary_out, count, height, width):
    batch = images(count, 0, height, width)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in session.card.outputs]
    result = client.infer("adaptive", given(binary_in, images=batch), outputs=wanted, request_id="mine")
    same(result, session.infer({"images": batch}, session.card.outputs), binary_out)
    reported = result.get_response()
    assert (reported["model_name"], reported["model_version"], reported["id"]) == ("adaptive", "1", "mine")


def test_without_outputs_all_come_as_the_client_likes_them(client, session):
    result = client.infer("adaptive", given(images=images()), model_version="1")
    same(result, session.infer({"images": images()}, session.card.outputs))


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
def test_both_ways_can_be_compressed(client, session, packed):
    batch = images(16)
    result = client.infer(
        "adaptive", given(images=batch), request_compression_algorithm=packed, response_compression_algorithm=packed
    )
    same(result, session.infer({"images": batch}, session.card.outputs))


def test_compressed_responses_have_the_header(service):
    body = {
        "inputs": [{"name": "images", "shape": [8, 1, 20, 30], "datatype": "UINT8", "data": images(8).ravel().tolist()}]
    }
    request = json.dumps(body).encode()
    for encoding in ("gzip", "deflate"):
        response = service.request("POST", "/v2/models/adaptive/infer", request, Accept_Encoding=encoding)
        assert (response.status, response.headers["content-encoding"], response.headers["vary"]) == (
            200,
            encoding,
            "Accept-Encoding",
        )
        content = gzip.decompress(response.body) if encoding == "gzip" else zlib.decompress(response.body)
        assert json.loads(content)["model_name"] == "adaptive"
    assert "content-encoding" not in service.request("POST", "/v2/models/adaptive/infer", request).headers


def test_inputs_with_a_default_can_be_given(client, session):
    batch = images(2)
    more = {
        "confidence": np.array(0.5, np.float32),
        "max_glimpses": np.array(3, np.int64),
        "first_location": np.array([[0.3, -0.4]], np.float32),
        "state": np.array([[0.1, 0.2, 0.3], [0.0, -0.1, 0.4]], np.float32),
        "frame": np.array([5, 6, 60, 50], np.float32),
    }
    for names in (["confidence"], ["max_glimpses"], ["confidence", "max_glimpses"], list(more)):
        some = {name: more[name] for name in names}
        result = client.infer("adaptive", given(images=batch, **some))
        same(result, session.infer({"images": batch, **some}, session.card.outputs))


def test_a_number_may_come_as_a_list_of_one(service, session):
    content = {
        "inputs": [
            {"name": "images", "shape": [1, 1, 20, 30], "datatype": "UINT8", "data": images()[0, 0].tolist()},
            {"name": "max_glimpses", "shape": [1], "datatype": "INT64", "data": [2]},
        ]
    }
    response = service.request("POST", "/v2/models/adaptive/infer", json.dumps(content).encode())
    found = {output["name"]: output for output in response.json["outputs"]}
    assert found["probabilities"]["shape"] == [1, 2, 3]


def test_a_step_is_taken_by_its_caller(client, folder):
    step = GlimpseSession(folder / "step.onnx")
    chance = np.random.default_rng(0)
    inputs = {
        "glimpse": chance.random((2, 2, 1, 4, 4), np.float32),
        "location": np.zeros((2, 2), np.float32),
        "state": np.zeros((2, 3), np.float32),
    }
    same(client.infer("step", given(**inputs)), step.infer(inputs, step.card.outputs))


def test_many_requests_at_once_give_the_outputs_of_each_alone(service, client, session):
    def request(start: int) -> int:
        # No thread may use another's client.
        with triton.InferenceServerClient(f"{service.host}:{service.port}") as own:
            for seed in range(start, start + 15):
                batch = images(1 + seed % 4, seed)
                more = {"confidence": np.array(0.45, np.float32)} if seed % 3 == 0 else {}
                expected = session.infer({"images": batch, **more}, session.card.outputs)
                same(own.infer("adaptive", given(images=batch, **more)), expected)
        return start

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(request, range(0, 120, 15))) == list(range(0, 120, 15))
    pending = [client.async_infer("adaptive", given(images=images(1, seed))) for seed in range(20)]
    for seed, one in enumerate(pending):
        same(one.get_result(), session.infer({"images": images(1, seed)}, session.card.outputs))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.infer("dog", given(images=images())), "a model out of 'adaptive', 'episode', 'step', got 'dog'"),
        (
            lambda c: c.infer("adaptive", given(images=images()), model_version="7"),
            "a version of the model 'adaptive' out of 1",
        ),
        (lambda c: c.infer("adaptive", given(pictures=images())), "inputs out of images, first_location"),
        (lambda c: c.infer("adaptive", given(images=images().astype(np.float32))), "'images' as UINT8, got \"FP32\""),
        (lambda c: c.infer("adaptive", given(images=images()[0])), r"'images' of shape \[-1, 1, -1, -1\]"),
        (lambda c: c.infer("adaptive", given(images=images(41))), "at most 40 images in a request, got 41"),
        (lambda c: c.infer("adaptive", given(images=images(), max_glimpses=np.array(99))), "max_glimpses from 1 to 5"),
        (
            lambda c: c.infer("adaptive", given(images=images()), outputs=[triton.InferRequestedOutput("x")]),
            "outputs out of",
        ),
        (
            lambda c: c.infer(
                "adaptive", given(images=images()), outputs=[triton.InferRequestedOutput("logits", class_count=2)]
            ),
            "classification extension",
        ),
        (lambda c: c.get_model_metadata("dog"), "got 'dog'"),
        (lambda c: c.get_model_config("adaptive"), "there is nothing at"),
    ],
)
def test_errors_are_raised_with_our_message(client, call, message):
    with pytest.raises(InferenceServerException, match=message):
        call(client)


def test_a_raw_body_is_answered_as_binary_tensors(service, session):
    batch = images()
    raw = {"Inference_Header_Content_Length": "0", "Content_Type": "application/octet-stream"}
    for sent, encoding in ((batch.tobytes(), {}), (gzip.compress(batch.tobytes()), {"Content_Encoding": "gzip"})):
        response = service.request("POST", "/v2/models/adaptive/infer", sent, **raw, **encoding)
        assert (response.status, response.headers["content-type"]) == (200, "application/octet-stream")
        length = int(response.headers["inference-header-content-length"])
        result = triton.InferenceServerClient.parse_response_body(response.body, header_length=length)
        same(result, session.infer({"images": batch}, session.card.outputs))
    assert service.request("POST", "/v2/models/adaptive/versions/1/infer", batch.tobytes(), **raw).status == 200
    assert "expected 600 bytes" in service.request("POST", "/v2/models/episode/infer", bytes(601), **raw).error
    assert service.request("POST", "/v2/models/step/infer", bytes(600), **raw).status == 400


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("name", "value"), [("state", 3.4e38), ("state", -3e38), ("glimpse", 3.4e38)])
def test_tensors_that_lead_to_nan_are_an_error_of_the_client(service, client, name, value, binary):
    tensors: dict[str, Any] = {"images": images(), "state": np.zeros((1, 3), np.float32)}
    if name == "glimpse":
        tensors = {"glimpse": np.zeros((1, 2, 1, 4, 4), np.float32), "location": np.zeros((1, 2), np.float32)} | {
            "state": tensors["state"]
        }
    tensors[name] = np.full_like(tensors[name], value)
    with pytest.raises(InferenceServerException, match=f"values of .*'{name}'.* finite.*; send smaller ones") as error:
        client.infer("step" if name == "glimpse" else "adaptive", given(binary, **tensors))
    assert error.value.status() == "422"


def test_a_short_timeout_is_an_error(client, service, monkeypatch):
    real = GlimpseSession.infer

    def slowly(self: GlimpseSession, *args: Any) -> Any:
        time.sleep(0.3)
        return real(self, *args)

    monkeypatch.setattr(GlimpseSession, "infer", slowly)
    with pytest.raises(InferenceServerException, match="deadline") as error:
        client.infer("adaptive", given(images=images(30)), timeout=100_000)
    assert error.value.status() == "504"
