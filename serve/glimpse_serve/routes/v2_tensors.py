"""Tensors on the wire: the Open Inference Protocol v2, in JSON and in the binary tensor data extension.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import (
    CONFIDENCE,
    FIRST_LOCATION,
    INPUT,
    LOCATION,
    MAX_GLIMPSES,
    STATE,
    TensorSpec,
    inputs_of,
    outputs_of,
)
from glimpse.runtime.graph import Arrays
from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.jobs import InferJob

DATATYPES: dict[str, Any] = {"UINT8": np.dtype("<u1"), "INT64": np.dtype("<i8"), "FP32": np.dtype("<f4")}
"""Those that our graphs have, little-endian."""
_DATATYPE_OF = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
HEADER_LENGTH = "inference-header-content-length"
WHOLE_PIXELS = 2**20
"""Pixels of a request for a model without a retina, at most: it computes on all of them, in many channels."""

MAX_JSON_BYTES = 2**22
"""Of the JSON of a request: numbers take ten times as much memory while they are read."""
MAX_NESTED = 2**17
"""Lists and objects in the JSON of a request, at most: each takes twenty times as much memory as it has letters."""
MAX_LOCATION = 1000
"""How far from an image's middle a glimpse may be asked for; what lies beyond would not fit a pixel's number."""


class Spec(NamedTuple):
    """What a tensor of a graph is."""

    datatype: str
    shape: tuple[int, ...]
    """-1 where it is free."""


class InferRequest(NamedTuple):
    """What a client asks of a graph."""

    id: str
    job: InferJob
    binary: frozenset[str]
    """Outputs that are wanted as bytes."""
    timeout_seconds: float | None
    """How long the client would wait."""


def wire_inputs(card: ModelCard) -> dict[str, Spec]:
    """List the inputs of a model's graph, those with a default included, as the protocol describes them.

    Args:
        card: The model's card.
    """
    return {name: _on_wire(tensor) for name, tensor in inputs_of(card).items()}


def wire_outputs(card: ModelCard) -> dict[str, Spec]:
    """List the outputs of a model's graph, as the protocol describes them.

    Args:
        card: The model's card.
    """
    return {name: _on_wire(tensor) for name, tensor in outputs_of(card).items()}


def _on_wire(tensor: TensorSpec) -> Spec:
    return Spec(_DATATYPE_OF[tensor.dtype], tuple(-1 if isinstance(axis, str) else axis for axis in tensor.shape))


def read(body: bytes, header_length: str | None, card: ModelCard, max_images: int, max_pixels: int) -> InferRequest:
    """Read a request for inference.

    Args:
        body: As it came, unpacked.
        header_length: What the client says of the length of the JSON before the binary tensors; None where all is JSON.
        card: The model's card.
        max_images: Images at most.
        max_pixels: Pixels at most, in all.

    Raises:
        Refusal: 400 when it is not what the protocol or the model wants, 413 when it is too much.
    """
    length = len(body) if header_length is None else _header_length(header_length, len(body))
    asked = _read_json(memoryview(body)[:length])
    raw = memoryview(body)[length:]
    given: Arrays = {}
    specs, at = wire_inputs(card), 0
    for entry in _objects(asked.get("inputs"), "inputs", least=1):
        name = entry.get("name")
        if not isinstance(name, str) or name not in specs:
            raise _wrong(f"expected inputs out of {', '.join(specs)}, got {_shown(name)}; leave it out")
        if name in given:
            raise _wrong(f"expected each input once, got {name!r} twice; leave one of them out")
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            given[name] = _from_json(name, entry, specs[name])
        else:
            given[name] = _from_bytes(name, entry, specs[name], raw[at:], size)
            at += size
    if at != len(raw):
        raise _wrong(f"expected {at} bytes of tensors behind the JSON, got {len(raw)}; check binary_data_size")
    _check(given, card, max_images, max_pixels)
    outputs, binary = _wanted(asked, card)
    identifier = asked.get("id", "")
    if not isinstance(identifier, str):
        raise _wrong(f"expected the id as a text, got {_shown(identifier)}")
    job = InferJob(given, outputs, _key(given, outputs, card), len(given[card.inputs[0]]))
    return InferRequest(identifier, job, binary, _timeout(_parameters(asked)))


def write(request: InferRequest, found: Arrays, card: ModelCard, name: str, version: int) -> tuple[bytes, int | None]:
    """Write an answer to a request for inference.

    Args:
        request: The request.
        found: What the graph answered.
        card: The model's card.
        name: The model's.
        version: The model's.

    Returns:
        The body, and the length of the JSON at its start where binary tensors follow, else None.
    """
    specs = wire_outputs(card)
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for output in request.job.outputs:
        array = np.ascontiguousarray(found[output], DATATYPES[specs[output].datatype])
        entry: dict[str, Any] = {"name": output, "datatype": specs[output].datatype, "shape": array.shape}
        if output in request.binary:
            raw.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = array.reshape(-1)
        outputs.append(entry)
    answer: dict[str, Any] = {"model_name": name, "model_version": str(version), "outputs": outputs}
    if request.id:
        answer["id"] = request.id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((head, *raw)), len(head)) if raw else (head, None)


def check_index_request(body: bytes) -> None:
    """Read a request for the index of the models, which changes nothing, since all that are listed are ready.

    Args:
        body: As it came, unpacked; may be empty.

    Raises:
        Refusal: 400 when it is not what the protocol wants.
    """
    if body:
        _flag(_read_json(memoryview(body)), "ready", False)


def _read_json(text: memoryview) -> Mapping[str, Any]:
    if len(text) > MAX_JSON_BYTES:
        raise HTTPError(
            413,
            f"expected at most {MAX_JSON_BYTES:,} bytes of JSON, got {len(text):,}; send tensors as bytes behind it "
            "(binary_data_size)",
            "size",
        )
    letters = bytes(text)
    nested = letters.count(b"[") + letters.count(b"{")
    if nested > MAX_NESTED:
        raise HTTPError(
            413,
            f"expected at most {MAX_NESTED:,} lists and objects in the JSON, got {nested:,}; give the data as one list",
            "size",
        )
    try:
        return _object(orjson.loads(letters), "the request")
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise _wrong(f"expected JSON, got something else ({error}); see the protocol's requests") from error


def _header_length(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) > most:
        raise _wrong(f"expected Inference-Header-Content-Length up to the body's {most} bytes, got {text!r:.40}")
    return int(text)


def _from_json(name: str, entry: Mapping[str, Any], spec: Spec) -> npt.NDArray[Any]:
    shape = _shape(name, entry, spec)
    data = entry.get("data")
    if not isinstance(data, list):
        raise _wrong(f"expected the data of {name!r} as a list, got {_shown(data)}; or as bytes with binary_data_size")
    flat = _flat(data, name)
    count = math.prod(shape)
    if len(flat) != count:
        raise _wrong(f"expected {count} numbers for {name!r} of shape {list(shape)}, got {len(flat)}")
    wanted = DATATYPES[spec.datatype]
    kinds = {type(value) for value in flat}
    if not kinds <= ({int, float} if spec.datatype == "FP32" else {int}):
        strange = next(
            value
            for value in flat
            if type(value) not in (int, float) or (spec.datatype != "FP32" and type(value) is float)
        )
        raise _wrong(f"expected numbers of {spec.datatype} for {name!r}, got {_shown(strange)}")
    try:
        if spec.datatype == "UINT8" and flat and not (min(flat) >= 0 and max(flat) <= 255):
            raise OverflowError
        with np.errstate(over="ignore"):  # what FP32 can't hold becomes infinite, and is refused as such
            array: npt.NDArray[Any] = np.array(flat, wanted)
    except OverflowError:
        raise _wrong(f"expected numbers that {spec.datatype} can hold for {name!r}, got larger ones") from None
    return array.reshape(shape)


def _from_bytes(name: str, entry: Mapping[str, Any], spec: Spec, raw: memoryview, size: object) -> npt.NDArray[Any]:
    shape = _shape(name, entry, spec)
    if "data" in entry:
        raise _wrong(
            f"expected the data of {name!r} as a list or as bytes, got both; leave 'data' or binary_data_size out"
        )
    wanted = DATATYPES[spec.datatype]
    expected = math.prod(shape) * wanted.itemsize
    if type(size) is not int or size != expected:
        raise _wrong(
            f"expected a binary_data_size of {expected} for {name!r} of shape {list(shape)}, got {_shown(size)}"
        )
    if len(raw) < size:
        raise _wrong(
            f"expected {size} bytes for {name!r}, got {len(raw)}: the body was cut short, or its header is longer"
        )
    array: npt.NDArray[Any] = np.frombuffer(raw[:size], wanted)
    return array.reshape(shape)


def _shape(name: str, entry: Mapping[str, Any], spec: Spec) -> tuple[int, ...]:
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if datatype != spec.datatype:
        raise _wrong(f"expected {name!r} as {spec.datatype}, got {_shown(datatype)}; convert it")
    if not isinstance(shape, list) or any(type(length) is not int or not 0 <= length < 2**31 for length in shape):
        raise _wrong(f"expected the shape of {name!r} as a list of whole numbers, got {_shown(shape)}")
    # Many clients can't write a tensor without axes.
    if not spec.shape and shape == [1]:
        return ()
    if len(shape) != len(spec.shape) or any(
        free not in (-1, length) or length == 0 for free, length in zip(spec.shape, shape, strict=True)
    ):
        raise _wrong(f"expected {name!r} of shape {list(spec.shape)} (-1: any, at least 1), got {_shown(shape)}")
    return tuple(shape)


def _check(given: Arrays, card: ModelCard, max_images: int, max_pixels: int) -> None:
    """Refuse what the graph would not survive, or would answer with nonsense."""
    for name in card.inputs:
        if name not in given:
            raise _wrong(f"expected the input {name!r}, which has no default, got {', '.join(given)}; add it")
    batch = len(given[card.inputs[0]])
    if batch > max_images:
        raise HTTPError(
            413, f"expected at most {max_images} images in a request, got {batch}; send them in several", "size"
        )
    for name, array in given.items():
        if name in (FIRST_LOCATION, STATE, LOCATION) and len(array) not in (1, batch):
            raise _wrong(f"expected {name!r} for 1 or {batch} images, got it for {len(array)}")
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise _wrong(f"expected finite numbers for {name!r}, got NaN or infinity")
        if name in (FIRST_LOCATION, LOCATION) and np.abs(array).max() > MAX_LOCATION:
            raise _wrong(
                f"expected locations within {MAX_LOCATION} of the middle, got {np.abs(array).max():g}; edges lie at 1"
            )
    for name in (STATE, LOCATION):
        if card.graph == "step" and len(given[name]) != batch:
            raise _wrong(f"expected {name!r} for {batch} glimpses, got it for {len(given[name])}")
    if INPUT in given:
        images = given[INPUT]
        pixels = batch * images.shape[2] * images.shape[3]
        own = batch * card.height * card.width
        most = max(own, max_pixels if card.has_retina else min(max_pixels, WHOLE_PIXELS))
        if pixels > most:
            raise HTTPError(
                413, f"expected at most {most:,} pixels in a request, got {pixels:,}; scale the images down", "size"
            )
        if images.dtype == np.float32 and (images.min() < 0 or images.max() > 1):
            raise _wrong(f"expected images in [0, 1], got {images.min():g} to {images.max():g}; scale them")
    if MAX_GLIMPSES in given and not 1 <= given[MAX_GLIMPSES] <= card.num_glimpses:
        raise _wrong(
            f"expected max_glimpses from 1 to {card.num_glimpses}, those that the model was trained to take, got "
            f"{given[MAX_GLIMPSES]}"
        )


def _wanted(asked: Mapping[str, Any], card: ModelCard) -> tuple[tuple[str, ...], frozenset[str]]:
    """Outputs that are wanted, and those of them that are wanted as bytes."""
    all_binary = _flag(_parameters(asked), "binary_data_output", False)
    if asked.get("outputs") in (None, []):
        return card.outputs, frozenset(card.outputs if all_binary else ())
    names: list[str] = []
    binary = set()
    for entry in _objects(asked["outputs"], "outputs", least=1):
        name, parameters = entry.get("name"), _parameters(entry)
        if not isinstance(name, str) or name not in card.outputs:
            raise _wrong(f"expected outputs out of {', '.join(card.outputs)}, got {_shown(name)}")
        if name in names:
            raise _wrong(f"expected each output once, got {name!r} twice")
        if parameters.get("classification"):
            raise _wrong(
                "the classification extension is not offered; take the last time of 'probabilities', and the classes "
                "of the card"
            )
        names.append(name)
        if _flag(parameters, "binary_data", all_binary):
            binary.add(name)
    return tuple(names), frozenset(binary)


def _key(given: Arrays, outputs: tuple[str, ...], card: ModelCard) -> Any:
    """What requests have in common that may be answered together; None for one that may not."""
    if card.inputs != (INPUT,) or not given.keys() <= {
        INPUT,
        CONFIDENCE,
        MAX_GLIMPSES,
    }:
        return None
    options = [float(given[name]) if name in given else None for name in (CONFIDENCE, MAX_GLIMPSES)]
    return (given[INPUT].shape[1:], *options, outputs)


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """Triton's timeout of a request, which is in microseconds; 0 is none."""
    timeout = parameters.get("timeout")
    if timeout is not None and (type(timeout) is not int or timeout < 0):
        raise _wrong(f"expected the timeout as a whole number of microseconds, got {_shown(timeout)}")
    return timeout / 1e6 if timeout else None


def _flat(data: Sequence[Any], name: str) -> list[Any]:
    """Numbers in lists of any depth, row by row."""
    level: list[Any] = list(data)
    for _ in range(8):
        if not any(isinstance(value, list) for value in level):
            return level
        if not all(isinstance(value, list) for value in level):
            break
        level = [value for row in level for value in row]
    raise _wrong(
        f"expected the data of {name!r} as one list, or as lists within lists for its axes, got another nesting"
    )


def _objects(value: object, what: str, least: int) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or len(value) < least:
        raise _wrong(f"expected '{what}' as a list of at least {least}, got {_shown(value)}")
    return [_object(entry, f"an entry of '{what}'") for entry in value]


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"expected {what} as a JSON object, got {_shown(value)}")
    return value


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    given = entry.get("parameters")
    return {} if given is None else _object(given, "'parameters'")


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(f"expected {name} as true or false, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """A value as it came, in short."""
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):
        text = str(type(value).__name__)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _wrong(sentence: str) -> HTTPError:
    return HTTPError(400, sentence, "tensor")
