"""JSON schemas of the requests and responses.

They are derived from the code where possible: the fields of a card from its class, data types from the tensor format,
reasons and kinds of explanations from the modules that define them.
"""

import inspect
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from glimpse.contract import card
from glimpse.contract.card import SIZE_POLICIES, Budget, ModelCard
from glimpse.runtime.prediction import REASONS
from glimpse_serve.http.tensor_format import DATATYPES
from glimpse_serve.models.names import NAME
from glimpse_serve.routes.v1 import EXPLAIN

Schema = dict[str, Any]

NAME_PATTERN = f"^{NAME.pattern}$"
VERSION_PATTERN = "^[0-9]{1,18}$"
_PRIMITIVES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def number(what: str, **limits: Any) -> Schema:
    """The schema of a number.

    Args:
        what: Its description, with the unit.
        limits: Further keywords of JSON Schema.
    """
    return {"type": "number", "description": what, **limits}


def integer(what: str, **limits: Any) -> Schema:
    """The schema of an integer; see :func:`number`."""
    return {"type": "integer", "description": what, **limits}


def string(what: str, **limits: Any) -> Schema:
    """The schema of a string; see :func:`number`."""
    return {"type": "string", "description": what, **limits}


def array(items: Schema, what: str, **limits: Any) -> Schema:
    """The schema of an array; see :func:`number`."""
    return {"type": "array", "items": items, "description": what, **limits}


def object_schema(properties: Mapping[str, Schema], optional: Iterable[str] = (), **more: Any) -> Schema:
    """The schema of an object with these properties and no others.

    Args:
        properties: The properties.
        optional: Names of the properties that may be missing.
        more: Further keywords of JSON Schema.
    """
    required = [name for name in properties if name not in set(optional)]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
        **more,
    }


def ref(name: str) -> Schema:
    """A reference to one of :func:`components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def dataclass_schema(kind: Any) -> Schema:
    """The schema of a dataclass as :func:`dataclasses.asdict` returns it, with the descriptions of its docstring.

    Args:
        kind: The dataclass.
    """
    hints, descriptions = get_type_hints(kind), _attributes(inspect.getdoc(kind) or "")
    properties = {
        field.name: _type_schema(hints[field.name]) | descriptions.get(field.name, {}) for field in fields(kind)
    }
    return object_schema(properties)


def components(inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, Schema]:
    """All schemas, by name.

    Args:
        inputs: Names of the input tensors of the served models.
        outputs: Names of their output tensors.
    """
    return {**_ERROR, **_v1_schemas(), **_v2_schemas(sorted(set(inputs)), sorted(set(outputs)))}


_ERROR: dict[str, Schema] = {
    "Error": object_schema(
        {"error": string("What was expected, what came, and what to do about it.", minLength=1)},
        description="Every error has this form, whatever its status.",
    )
}
_PIXELS = {"minimum": 1}
_UNIT_INTERVAL = {"minimum": 0, "maximum": 1}
_POINT = array(
    {"type": "number"}, "(x, y): -1 is the left or upper edge, 1 the right or lower one.", minItems=2, maxItems=2
)


def _v1_schemas() -> dict[str, Schema]:
    """The schemas of version 1."""
    glimpse = object_schema(
        {
            "time": integer("Index of the glimpse, from 0.", minimum=0),
            "class": string("The predicted class after this glimpse."),
            "confidence": number("The probability of that class.", **_UNIT_INTERVAL),
            "location": {**_POINT, "description": f"Where it looked, {_POINT['description']}"},
            "boxes": array(
                array({"type": "number"}, "(left, top, right, bottom), pixels.", minItems=4, maxItems=4),
                "The windows of the retina, finest first, in pixels of the original image; they may extend beyond it.",
            ),
            "milliseconds": number("From the start of the first glimpse to the prediction after this one.", minimum=0),
            "map": array(
                array({"type": "number", **_UNIT_INTERVAL}, "A row of cells, from left to right."),
                "Attention weights of the cells of the model's canvas, row by row; they sum to one.",
            ),
        },
        optional=("location", "boxes", "milliseconds", "map"),
        description="One glimpse. `milliseconds` and `map` are returned with `explain`.",
    )
    classification = {
        "class": string("The predicted class."),
        "confidence": number("The probability of that class.", **_UNIT_INTERVAL),
        "probabilities": {
            "type": "object",
            "additionalProperties": {"type": "number", **_UNIT_INTERVAL},
            "description": "Probability of each class.",
        },
        "width": integer("Width of the original image, pixels.", **_PIXELS),
        "height": integer("Height of the original image, pixels.", **_PIXELS),
        "reason": string("Why the model stopped: confident, or all glimpses taken.", enum=list(REASONS)),
        "glimpses": array(ref("Glimpse"), "The glimpses, in the order in which they were taken.", minItems=1),
        "milliseconds": number("Time of the model, for this image or for the batch that it was in.", minimum=0),
        "picture": string(
            "A PNG in a `data:` URL that shows where the model looked; with `explain`.",
            pattern="^data:image/png;base64,",
        ),
    }
    reference = object_schema(
        {
            "name": string("Name of the model.", pattern=NAME_PATTERN),
            "version": string("Version of the model.", pattern=VERSION_PATTERN),
        },
        description="The model that was used.",
    )
    name = string("The name of the file, or of its field.")
    summary = {
        "name": string("Name of the model in requests.", pattern=NAME_PATTERN),
        "versions": array(string("A version.", pattern=VERSION_PATTERN), "The served versions, ascending."),
        "family": string("The kind of model, such as `hard` or `soft`."),
        "classes": array({"type": "string"}, "Names of the classes."),
        "width": integer("Width of its canvas, pixels; images of other sizes are brought onto it.", **_PIXELS),
        "height": integer("Height of its canvas, pixels.", **_PIXELS),
        "size_policy": string(
            "How images of other sizes are brought onto its canvas: `fit` keeps their proportions, in the middle of "
            "black; `squash` scales them to its width and height.",
            enum=list(SIZE_POLICIES),
        ),
        "channels": integer("Channels of its images: 1 (grey) or 3 (RGB)."),
        "num_glimpses": integer("Largest number of glimpses.", minimum=1),
        "explain": array(string("A kind.", enum=list(EXPLAIN)), "Values of `explain` that it supports."),
        "data": string("The training data, in words."),
        "test_error": {
            "type": ["number", "null"],
            "description": "Error rate on the test images.",
            **_UNIT_INTERVAL,
        },
        "license": {"type": ["string", "null"], "description": "License of the model."},
        "sha256": string("SHA-256 of its file.", pattern="^[0-9a-f]{64}$"),
        "loaded_at": number("When it was loaded, seconds since 1970.", minimum=0),
    }
    version = string("The described version.", pattern=VERSION_PATTERN)
    return {
        "Glimpse": glimpse,
        "ModelReference": reference,
        "Classified": object_schema({"model": ref("ModelReference"), **classification}, optional=("picture",)),
        "ClassifiedImage": object_schema({"name": name, **classification}, optional=("picture",)),
        "UnreadImage": object_schema(
            {"name": name, **_ERROR["Error"]["properties"]}, description="An image that can't be read."
        ),
        "ClassifiedImages": object_schema(
            {
                "model": ref("ModelReference"),
                "images": array(
                    {"anyOf": [ref("ClassifiedImage"), ref("UnreadImage")]},
                    "In the order of the request. An image that can't be read has an error in place of its result.",
                    minItems=1,
                ),
            }
        ),
        "Model": object_schema(summary),
        "Models": object_schema(
            {
                "models": array(ref("Model"), "The served models."),
                "refused": array(
                    object_schema({"file": string("Name of the file."), "error": string("Why it was rejected.")}),
                    "Files that were rejected.",
                ),
            }
        ),
        "Budget": dataclass_schema(Budget),
        "ModelCard": dataclass_schema(ModelCard),
        "ModelDetails": object_schema({**summary, "version": version, "card": ref("ModelCard")}),
    }


def _v2_schemas(inputs: list[str], outputs: list[str]) -> dict[str, Schema]:
    """The schemas of the Open Inference Protocol."""
    datatype = string("Data type of the elements.", enum=list(DATATYPES))
    size = integer("Length of this tensor in the binary data after the JSON, bytes.", minimum=0)
    shape = array({"type": "integer", "minimum": 0}, "Lengths of the axes.")
    data = {
        "type": "array",
        "items": {"type": ["number", "array"]},
        "description": "The elements, row by row, in one list or in nested lists; missing if they are binary data.",
    }
    spec = {
        "datatype": datatype,
        "shape": array({"type": "integer", "minimum": -1}, "Lengths of the axes; -1 for any length."),
    }
    name = string("Name of the model.", pattern=NAME_PATTERN)
    output = {"name": _one_of("Name of the output.", outputs), "datatype": datatype, "shape": shape}
    output_parameters = {"binary_data": {"type": "boolean", "description": "Whether to return it as binary data."}}
    parameters = {
        "timeout": integer("Longest time to wait for the response, microseconds; 0 for no limit.", minimum=0),
        "binary_data_output": {
            "type": "boolean",
            "description": "Whether to return outputs as binary data by default.",
        },
    }
    return {
        "ServerMetadata": object_schema(
            {
                "name": string("Name of the server."),
                "version": string("Version of the server."),
                "extensions": array({"type": "string"}, "Supported extensions of the protocol."),
            }
        ),
        "Live": object_schema({"live": {"const": True}}),
        "Ready": object_schema({"ready": {"const": True}}),
        "ModelReady": object_schema({"name": name, "ready": {"const": True}}),
        "TensorSpec": object_schema({"name": _one_of("Name of the tensor.", sorted({*inputs, *outputs})), **spec}),
        "ModelMetadata": object_schema(
            {
                "name": name,
                "versions": array(string("A version.", pattern=VERSION_PATTERN), "The served versions."),
                "platform": string("The runtime."),
                "inputs": array(ref("TensorSpec"), "The inputs; those with a default may be left out."),
                "outputs": array(ref("TensorSpec"), "The outputs."),
            }
        ),
        "RepositoryIndex": array(
            object_schema(
                {
                    "name": name,
                    "version": string("Version of the model.", pattern=VERSION_PATTERN),
                    "state": {"const": "READY"},
                    "reason": {"type": "string"},
                }
            ),
            "Every version of every model.",
        ),
        "RepositoryIndexRequest": {
            "type": "object",
            "properties": {
                "ready": {"type": "boolean", "description": "Whether to list only models that are ready; all are."}
            },
        },
        "InferenceRequest": {
            "type": "object",
            "properties": {
                "id": string("Returned with the response."),
                "parameters": {"type": "object", "properties": parameters},
                "inputs": array(ref("RequestInput"), "The input tensors; each once.", minItems=1),
                "outputs": array(ref("RequestOutput"), "The requested outputs; all by default."),
            },
            "required": ["inputs"],
        },
        "RequestInput": {
            "type": "object",
            "properties": {
                "name": _one_of("Name of the input.", inputs),
                "datatype": datatype,
                "shape": shape,
                "parameters": {"type": "object", "properties": {"binary_data_size": size}},
                "data": data,
            },
            "required": ["name", "datatype", "shape"],
        },
        "RequestOutput": {
            "type": "object",
            "properties": {
                "name": _one_of("Name of the output.", outputs),
                "parameters": {"type": "object", "properties": output_parameters},
            },
            "required": ["name"],
        },
        "InferenceAnswer": object_schema(
            {
                "model_name": name,
                "model_version": string("Version of the model.", pattern=VERSION_PATTERN),
                "id": string("The id of the request, if it had one."),
                "outputs": array(
                    object_schema(
                        {
                            **output,
                            "data": array({"type": "number"}, "The elements, row by row."),
                            "parameters": object_schema({"binary_data_size": size}),
                        },
                        optional=("data", "parameters"),
                    ),
                    "In the requested order.",
                ),
            },
            optional=("id",),
        ),
    }


def _one_of(what: str, names: list[str]) -> Schema:
    """The schema of a name out of a list, which is empty while no model is served."""
    return string(what, enum=names) if names else string(what)


def _type_schema(hint: Any) -> Schema:
    """The schema of a type hint: a JSON type, a tuple or union of them, or a dataclass with a schema of its own."""
    if hint in _PRIMITIVES:
        return {"type": _PRIMITIVES[hint]}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"type": [_PRIMITIVES[argument] for argument in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _type_schema(arguments[0])}
    if origin is dict:
        return {"type": "object"}
    return ref(hint.__name__)


def _attributes(docstring: str) -> dict[str, Schema]:
    """Descriptions in the ``Attributes:`` section of a Google-style docstring."""
    _, _, descriptions = docstring.partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n      +.+)*)", descriptions, re.MULTILINE)
    return {name: {"description": _json_words(what)} for name, what in found}


def _json_words(what: str) -> str:
    """A docstring's description in terms of JSON; names of constants of the contract are replaced by their values."""
    spelt = re.sub(r"``([A-Z_]+)``", lambda name: ", ".join(f"`{each}`" for each in getattr(card, name[1])), what)
    return re.sub(r"\s+", " ", spelt).replace("``", "`").replace("None", "null")
