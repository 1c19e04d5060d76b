"""Tensors on the wire: the Open Inference Protocol v2, in JSON and in the binary tensor data extension.

A raw binary request of that extension (a header length of 0) has no JSON: its body is the data of one image, of the
size that the model's card states, since a body's length alone tells no width and height. All outputs are returned as
binary data.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import (
    CONFIDENCE,
    FIRST_LOCATION,
    FRAME,
    INPUT,
    LOCATION,
    MAX_GLIMPSES,
    STATE,
    TensorSpec,
)
from glimpse.runtime.graph import Arrays
from glimpse_serve.errors import HTTPError
from glimpse_serve.http.tensor_format import DATATYPES, HEADER_LENGTH
from glimpse_serve.inference.jobs import InferJob
from glimpse_serve.routes.v2_json import flag_of, invalid, json_objects, parameters_of, quoted, read_json

_DATATYPE_OF = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
WHOLE_PIXELS = 2**20
"""Pixels of a request for a model without a retina, at most: it computes on all of them, in many channels."""

MAX_LOCATION = 1000
"""Largest coordinate of a location, in half sides from the centre; beyond it pixel indices would overflow."""
MAX_FRAME = 2**24
"""Largest place and size of a frame, pixels: up to it float32 holds every whole number."""


class Spec(NamedTuple):
    """What a tensor of a graph is."""

    datatype: str
    shape: tuple[int, ...]
    """-1 where it is free."""


class InferRequest(NamedTuple):
    """A parsed inference request."""

    id: str
    job: InferJob
    binary: frozenset[str]
    """Outputs that are requested as binary data."""
    timeout_seconds: float | None
    """The client's time limit; None for none."""


def wire_inputs(card: ModelCard) -> dict[str, Spec]:
    """List the inputs of a model's graph, those with a default included, as the protocol describes them.

    Args:
        card: The model's card.
    """
    return _wire_specs(tuple(card.input_tensors.values()))


def wire_outputs(card: ModelCard) -> dict[str, Spec]:
    """List the outputs of a model's graph, as the protocol describes them.

    Args:
        card: The model's card.
    """
    return _wire_specs(tuple(card.output_tensors.values()))


@lru_cache(maxsize=256)
def _wire_specs(tensors: tuple[TensorSpec, ...]) -> dict[str, Spec]:
    """Tensors in the protocol's form; kept, since every request needs those of its model."""
    return {tensor.name: _on_wire(tensor) for tensor in tensors}


def _on_wire(tensor: TensorSpec) -> Spec:
    return Spec(_DATATYPE_OF[tensor.dtype], tuple(-1 if isinstance(axis, str) else axis for axis in tensor.shape))


def read_request(
    body: bytes, header_length: str | None, card: ModelCard, max_images: int, max_pixels: int
) -> InferRequest:
    """Parse an inference request.

    Args:
        body: The body, decompressed.
        header_length: Value of the header that gives the length of the JSON before the binary tensors; None when the
            whole body is JSON.
        card: The model's card.
        max_images: Largest number of images.
        max_pixels: Largest number of pixels, of all images together.

    Raises:
        HTTPError: 400 when it does not match the protocol or the model's tensors, 413 when it is too large.
    """
    length = len(body) if header_length is None else _header_length(header_length, len(body))
    if header_length is not None and length == 0:
        return _read_raw_request(body, card)
    content = read_json(memoryview(body)[:length])
    tail = memoryview(body)[length:]
    inputs: Arrays = {}
    specs, at = wire_inputs(card), 0
    for tensor in json_objects(content.get("inputs"), "inputs", least=1):
        name = tensor.get("name")
        if not isinstance(name, str) or name not in specs:
            raise invalid(f"expected inputs out of {', '.join(specs)}, got {quoted(name)}; leave it out")
        if name in inputs:
            raise invalid(f"expected each input once, got {name!r} twice; leave one of them out")
        size = parameters_of(tensor).get("binary_data_size")
        if size is None:
            inputs[name] = _from_json(name, tensor, specs[name])
        else:
            inputs[name] = _from_bytes(name, tensor, specs[name], tail[at:], size)
            at += size
    if at != len(tail):
        raise invalid(f"expected {at} bytes of tensors behind the JSON, got {len(tail)}; check binary_data_size")
    _check_inputs(inputs, card, max_images, max_pixels)
    outputs, binary = _requested_outputs(content, card)
    identifier = content.get("id", "")
    if not isinstance(identifier, str):
        raise invalid(f"expected the id as a text, got {quoted(identifier)}")
    job = InferJob(inputs, outputs, _batch_key(inputs, outputs, card), len(inputs[card.inputs[0]]))
    return InferRequest(identifier, job, binary, _timeout(parameters_of(content)))


def _read_raw_request(body: bytes, card: ModelCard) -> InferRequest:
    """Parse a raw binary request: the only input without a default, for one image of the card's own size."""
    if card.inputs != (INPUT,):
        raise invalid(
            f"expected JSON before the tensors, since the model has the inputs {', '.join(card.inputs)} and a raw "
            f"binary request has one, got {HEADER_LENGTH}: 0; give the length of the JSON"
        )
    datatype, (_, channels, *_) = wire_inputs(card)[INPUT]
    wanted, shape = DATATYPES[datatype], (1, channels, card.height, card.width)
    size = math.prod(shape) * wanted.itemsize
    if len(body) != size:
        raise invalid(
            f"expected {size} bytes, {datatype} of shape {list(shape)}, as the body of a raw binary request "
            f"({HEADER_LENGTH}: 0), got {len(body)}; send other sizes and several images with JSON before them, "
            "and its length in that header"
        )
    inputs: Arrays = {INPUT: np.frombuffer(body, wanted).reshape(shape)}
    _check_values(inputs, card)
    job = InferJob(inputs, card.outputs, _batch_key(inputs, card.outputs, card), 1)
    return InferRequest("", job, frozenset(card.outputs), None)


def write_response(
    request: InferRequest, arrays: Arrays, card: ModelCard, name: str, version: int
) -> tuple[bytes, int | None]:
    """Write the response to an inference request.

    Args:
        request: The request.
        arrays: The outputs of the graph.
        card: The model's card.
        name: The model's name.
        version: The model's version.

    Returns:
        The body, and the length of the JSON at its start if binary tensors follow, else None.
    """
    specs = wire_outputs(card)
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in request.job.outputs:
        array = np.ascontiguousarray(arrays[output], DATATYPES[specs[output].datatype])
        tensor: dict[str, Any] = {"name": output, "datatype": specs[output].datatype, "shape": array.shape}
        if output in request.binary:
            binary.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = array.reshape(-1)
        outputs.append(tensor)
    response: dict[str, Any] = {"model_name": name, "model_version": str(version), "outputs": outputs}
    if request.id:
        response["id"] = request.id
    head = orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((head, *binary)), len(head)) if binary else (head, None)


def check_index_request(body: bytes) -> None:
    """Check a request for the index of the models. Its ``ready`` flag has no effect, since all listed models are ready.

    Args:
        body: The body, decompressed; may be empty.

    Raises:
        HTTPError: 400 when it does not match the protocol.
    """
    if body:
        flag_of(read_json(memoryview(body)), "ready", False)


def _header_length(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) > most:
        raise invalid(f"expected Inference-Header-Content-Length up to the body's {most} bytes, got {text!r:.40}")
    return int(text)


def _from_json(name: str, tensor: Mapping[str, Any], spec: Spec) -> npt.NDArray[Any]:
    shape = _shape(name, tensor, spec)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise invalid(f"expected the data of {name!r} as a list, got {quoted(data)}; or as bytes with binary_data_size")
    flat = _flatten(data, name)
    count = math.prod(shape)
    if len(flat) != count:
        raise invalid(f"expected {count} numbers for {name!r} of shape {list(shape)}, got {len(flat)}")
    wanted = DATATYPES[spec.datatype]
    kinds = {type(value) for value in flat}
    if not kinds <= ({int, float} if spec.datatype == "FP32" else {int}):
        wrong = next(
            value
            for value in flat
            if type(value) not in (int, float) or (spec.datatype != "FP32" and type(value) is float)
        )
        raise invalid(f"expected numbers of {spec.datatype} for {name!r}, got {quoted(wrong)}")
    try:
        if spec.datatype == "UINT8" and flat and not (min(flat) >= 0 and max(flat) <= 255):
            raise OverflowError
        with np.errstate(over="ignore"):  # a number beyond FP32 becomes infinite, and is rejected as such
            array: npt.NDArray[Any] = np.array(flat, wanted)
    except OverflowError:
        raise invalid(f"expected numbers that {spec.datatype} can hold for {name!r}, got larger ones") from None
    return array.reshape(shape)


def _from_bytes(name: str, tensor: Mapping[str, Any], spec: Spec, binary: memoryview, size: object) -> npt.NDArray[Any]:
    shape = _shape(name, tensor, spec)
    if "data" in tensor:
        raise invalid(
            f"expected the data of {name!r} as a list or as bytes, got both; leave 'data' or binary_data_size out"
        )
    wanted = DATATYPES[spec.datatype]
    expected = math.prod(shape) * wanted.itemsize
    if type(size) is not int or size != expected:
        raise invalid(
            f"expected a binary_data_size of {expected} for {name!r} of shape {list(shape)}, got {quoted(size)}"
        )
    if len(binary) < size:
        raise invalid(
            f"expected {size} bytes for {name!r}, got {len(binary)}: the body was cut short, or its header is longer"
        )
    array: npt.NDArray[Any] = np.frombuffer(binary[:size], wanted)
    return array.reshape(shape)


def _shape(name: str, tensor: Mapping[str, Any], spec: Spec) -> tuple[int, ...]:
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if datatype != spec.datatype:
        raise invalid(f"expected {name!r} as {spec.datatype}, got {quoted(datatype)}; convert it")
    if not isinstance(shape, list) or any(type(length) is not int or not 0 <= length < 2**31 for length in shape):
        raise invalid(f"expected the shape of {name!r} as a list of whole numbers, got {quoted(shape)}")
    # Many clients can't send a tensor of rank 0.
    if not spec.shape and shape == [1]:
        return ()
    if len(shape) != len(spec.shape) or any(
        free not in (-1, length) or length == 0 for free, length in zip(spec.shape, shape, strict=True)
    ):
        raise invalid(f"expected {name!r} of shape {list(spec.shape)} (-1: any, at least 1), got {quoted(shape)}")
    return tuple(shape)


def _check_inputs(inputs: Arrays, card: ModelCard, max_images: int, max_pixels: int) -> None:
    """Reject inputs for which the graph would fail or return meaningless outputs."""
    for name in card.inputs:
        if name not in inputs:
            raise invalid(f"expected the input {name!r}, which has no default, got {', '.join(inputs)}; add it")
    batch = len(inputs[card.inputs[0]])
    if batch > max_images:
        raise HTTPError(
            413, f"expected at most {max_images} images in a request, got {batch}; send them in several", "size"
        )
    for name, array in inputs.items():
        if name in (FIRST_LOCATION, STATE, LOCATION) and len(array) not in (1, batch):
            raise invalid(f"expected {name!r} for 1 or {batch} images, got it for {len(array)}")
    for name in (STATE, LOCATION):
        if card.graph == "step" and len(inputs[name]) != batch:
            raise invalid(f"expected {name!r} for {batch} glimpses, got it for {len(inputs[name])}")
    if INPUT in inputs:
        images = inputs[INPUT]
        pixels = batch * images.shape[2] * images.shape[3]
        own = batch * card.height * card.width
        most = max(own, max_pixels if card.has_retina else min(max_pixels, WHOLE_PIXELS))
        if pixels > most:
            raise HTTPError(
                413, f"expected at most {most:,} pixels in a request, got {pixels:,}; scale the images down", "size"
            )
    _check_values(inputs, card)


def _check_values(inputs: Arrays, card: ModelCard) -> None:
    """Reject values for which the graph would fail or return meaningless outputs."""
    for name, array in inputs.items():
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise invalid(f"expected finite numbers for {name!r}, got NaN or infinity; send finite ones")
        if name in (FIRST_LOCATION, LOCATION) and np.abs(array).max() > MAX_LOCATION:
            raise invalid(
                f"expected locations within {MAX_LOCATION} of the middle, got {np.abs(array).max():g}; edges lie at 1"
            )
        if name == FRAME and np.abs(array).max() > MAX_FRAME:
            raise invalid(
                f"expected a frame of at most {MAX_FRAME:,} pixels, got {np.abs(array).max():g}; scale the image down"
            )
        if name == INPUT and array.dtype == np.float32 and (array.min() < 0 or array.max() > 1):
            raise invalid(f"expected images in [0, 1], got {array.min():g} to {array.max():g}; scale them")
    if MAX_GLIMPSES in inputs and not 1 <= inputs[MAX_GLIMPSES] <= card.num_glimpses:
        raise invalid(
            f"expected max_glimpses from 1 to {card.num_glimpses}, those that the model was trained to take, got "
            f"{inputs[MAX_GLIMPSES]}"
        )


def _requested_outputs(content: Mapping[str, Any], card: ModelCard) -> tuple[tuple[str, ...], frozenset[str]]:
    """The requested outputs, and those of them that are requested as binary data."""
    all_binary = flag_of(parameters_of(content), "binary_data_output", False)
    if content.get("outputs") in (None, []):
        return card.outputs, frozenset(card.outputs if all_binary else ())
    names: list[str] = []
    binary = set()
    for tensor in json_objects(content["outputs"], "outputs", least=1):
        name, parameters = tensor.get("name"), parameters_of(tensor)
        if not isinstance(name, str) or name not in card.outputs:
            raise invalid(f"expected outputs out of {', '.join(card.outputs)}, got {quoted(name)}")
        if name in names:
            raise invalid(f"expected each output once, got {name!r} twice")
        if parameters.get("classification"):
            raise invalid(
                "the classification extension is not offered; take the last time of 'probabilities', and the classes "
                "of the card"
            )
        names.append(name)
        if flag_of(parameters, "binary_data", all_binary):
            binary.add(name)
    return tuple(names), frozenset(binary)


def _batch_key(inputs: Arrays, outputs: tuple[str, ...], card: ModelCard) -> Any:
    """The batch key: requests with equal keys may run in one batch; None for a request that runs alone."""
    if card.inputs != (INPUT,) or not inputs.keys() <= {
        INPUT,
        CONFIDENCE,
        MAX_GLIMPSES,
    }:
        return None
    options = [float(inputs[name]) if name in inputs else None for name in (CONFIDENCE, MAX_GLIMPSES)]
    return (inputs[INPUT].shape[1:], *options, outputs)


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """Triton's timeout parameter, converted from microseconds to seconds; None when it is missing or 0."""
    timeout = parameters.get("timeout")
    if timeout is not None and (type(timeout) is not int or timeout < 0):
        raise invalid(f"expected the timeout as a whole number of microseconds, got {quoted(timeout)}")
    return timeout / 1e6 if timeout else None


def _flatten(data: Sequence[Any], name: str) -> list[Any]:
    """Flatten nested lists of numbers, row by row."""
    level: list[Any] = list(data)
    for _ in range(8):
        if not any(isinstance(value, list) for value in level):
            return level
        if not all(isinstance(value, list) for value in level):
            break
        level = [value for row in level for value in row]
    raise invalid(
        f"expected the data of {name!r} as one list, or as lists within lists for its axes, got another nesting"
    )
