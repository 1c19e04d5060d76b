"""JSON schemas of what goes into the service and comes out of it, near to the code that they speak of.

What the code knows is taken from it: the entries of a card from its class, data types and names of tensors from the
protocol's codec, reasons and kinds of explanations from those who make them.
"""

import inspect
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from glimpse.contract import card
from glimpse.contract.card import Budget, ModelCard
from glimpse.runtime.prediction import REASONS
from glimpse_serve.models.names import NAME
from glimpse_serve.routes import v2_tensors
from glimpse_serve.routes.v1 import EXPLAIN

Schema = dict[str, Any]

NAME_PATTERN = f"^{NAME.pattern}$"
VERSION_PATTERN = "^[0-9]{1,18}$"
_PRIMITIVES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def number(what: str, **limits: Any) -> Schema:
    """A number.

    Args:
        what: It says, with its unit.
        limits: Further keywords of JSON schema.
    """
    return {"type": "number", "description": what, **limits}


def whole(what: str, **limits: Any) -> Schema:
    """A whole number; see :func:`number`."""
    return {"type": "integer", "description": what, **limits}


def text(what: str, **limits: Any) -> Schema:
    """A text; see :func:`number`."""
    return {"type": "string", "description": what, **limits}


def listed(items: Schema, what: str, **limits: Any) -> Schema:
    """A list; see :func:`number`."""
    return {"type": "array", "items": items, "description": what, **limits}


def record(properties: Mapping[str, Schema], optional: Iterable[str] = (), **more: Any) -> Schema:
    """An object that has these entries and no others.

    Args:
        properties: The entries.
        optional: Names of those that may be missing.
        more: Further keywords of JSON schema.
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
    """Point at one of :func:`components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def of_dataclass(kind: Any) -> Schema:
    """The schema of what :func:`dataclasses.asdict` makes of a dataclass, in the words of its docstring.

    Args:
        kind: The dataclass.
    """
    hints, told = get_type_hints(kind), _attributes(inspect.getdoc(kind) or "")
    properties = {field.name: _of_type(hints[field.name]) | told.get(field.name, {}) for field in fields(kind)}
    return record(properties)


def components(inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, Schema]:
    """All schemas by their names.

    Args:
        inputs: Names of the tensors that the models which are served take.
        outputs: Names of the tensors that they give.
    """
    return {**_ERROR, **_plain(), **_protocol(sorted(set(inputs)), sorted(set(outputs)))}


_ERROR: dict[str, Schema] = {
    "Error": record(
        {"error": text("One sentence: what was expected, what came, and what to do about it.", minLength=1)},
        description="Every error has this form, whatever its status.",
    )
}
_PIXELS = {"minimum": 1}
_SHARE = {"minimum": 0, "maximum": 1}
_POINT = listed(
    {"type": "number"}, "(x, y): -1 is the left or upper edge, 1 the right or lower one.", minItems=2, maxItems=2
)


def _plain() -> dict[str, Schema]:
    """Those of the plain interface."""
    glimpse = record(
        {
            "time": whole("Its place in the order, from 0.", minimum=0),
            "class": text("What the model believed after it."),
            "confidence": number("The probability of that class.", **_SHARE),
            "location": {**_POINT, "description": f"Where it looked, {_POINT['description']}"},
            "boxes": listed(
                listed({"type": "number"}, "(left, top, right, bottom), pixels.", minItems=4, maxItems=4),
                "The windows that it saw, finest first, in pixels of the image as it came; they may reach beyond it.",
            ),
            "milliseconds": number("From the beginning of the first glimpse to the belief after this one.", minimum=0),
            "map": listed(
                listed({"type": "number", **_SHARE}, "A row of cells, from left to right."),
                "How much attention each cell of the model's canvas got, row by row; they sum to one.",
            ),
        },
        optional=("location", "boxes", "milliseconds", "map"),
        description="One look at a part of the image. Milliseconds and map come with `explain`.",
    )
    seen = {
        "class": text("What the model believes in the end."),
        "confidence": number("The probability of that class.", **_SHARE),
        "probabilities": {
            "type": "object",
            "additionalProperties": {"type": "number", **_SHARE},
            "description": "Each class with its probability.",
        },
        "width": whole("Of the image as it came, pixels.", **_PIXELS),
        "height": whole("Of the image as it came, pixels.", **_PIXELS),
        "reason": text("Why it stopped looking: sure enough, or all glimpses taken.", enum=list(REASONS)),
        "glimpses": listed(ref("Glimpse"), "In the order in which they were taken.", minItems=1),
        "milliseconds": number("That the model took, for this image or for the batch that it was in.", minimum=0),
        "picture": text(
            "A PNG in a `data:` address that shows where the model looked; with `explain`.",
            pattern="^data:image/png;base64,",
        ),
    }
    called = record(
        {
            "name": text("By which it is called.", pattern=NAME_PATTERN),
            "version": text("Of it.", pattern=VERSION_PATTERN),
        },
        description="The model that answered.",
    )
    name = text("The name of the file, or of its field.")
    summary = {
        "name": text("By which requests call it.", pattern=NAME_PATTERN),
        "versions": listed(text("A version.", pattern=VERSION_PATTERN), "Those that are served, ascending."),
        "family": text("The kind of model, such as `hard` or `soft`."),
        "classes": listed({"type": "string"}, "What it tells apart."),
        "width": whole("Of its canvas, pixels; other images are fitted onto it.", **_PIXELS),
        "height": whole("Of its canvas, pixels.", **_PIXELS),
        "channels": whole("Of its images: 1 (grey) or 3 (RGB)."),
        "num_glimpses": whole("That it takes at most.", minimum=1),
        "explain": listed(text("A kind.", enum=list(EXPLAIN)), "What `explain` may ask of it."),
        "data": text("What it was trained on, in words."),
        "test_error": {"type": ["number", "null"], "description": "Share of test images that it got wrong.", **_SHARE},
        "license": {"type": ["string", "null"], "description": "Under which it may be used."},
        "sha256": text("Of its file.", pattern="^[0-9a-f]{64}$"),
        "loaded_at": number("When it took over, seconds since 1970.", minimum=0),
    }
    version = text("The one that is described.", pattern=VERSION_PATTERN)
    return {
        "Glimpse": glimpse,
        "ModelReference": called,
        "Classified": record({"model": ref("ModelReference"), **seen}, optional=("picture",)),
        "ClassifiedImage": record({"name": name, **seen}, optional=("picture",)),
        "UnreadImage": record(
            {"name": name, **_ERROR["Error"]["properties"]}, description="An image that can't be read."
        ),
        "ClassifiedImages": record(
            {
                "model": ref("ModelReference"),
                "images": listed(
                    {"anyOf": [ref("ClassifiedImage"), ref("UnreadImage")]},
                    "In the order in which they came. One that can't be read has an error in place of its answer.",
                    minItems=1,
                ),
            }
        ),
        "Model": record(summary),
        "Models": record(
            {
                "models": listed(ref("Model"), "Those that are served."),
                "refused": listed(
                    record({"file": text("Its path."), "error": text("Why it was.")}), "Files that were refused."
                ),
            }
        ),
        "Budget": of_dataclass(Budget),
        "ModelCard": of_dataclass(ModelCard),
        "ModelDetails": record({**summary, "version": version, "card": ref("ModelCard")}),
    }


def _protocol(inputs: list[str], outputs: list[str]) -> dict[str, Schema]:
    """Those of the Open Inference Protocol."""
    datatype = text("Of its elements.", enum=list(v2_tensors.DATATYPES))
    size = whole("How many of the bytes behind the JSON are this tensor's.", minimum=0)
    shape = listed({"type": "integer", "minimum": 0}, "Lengths of its axes.")
    data = {
        "type": "array",
        "items": {"type": ["number", "array"]},
        "description": "Its elements in one list, row by row, or in lists within lists. Left out where they are bytes.",
    }
    spec = {"datatype": datatype, "shape": listed({"type": "integer", "minimum": -1}, "Its axes; -1 for any length.")}
    name = text("Of the model.", pattern=NAME_PATTERN)
    answered = {"name": _named("Of the output.", outputs), "datatype": datatype, "shape": shape}
    wanted = {"binary_data": {"type": "boolean", "description": "Whether it is wanted as bytes."}}
    asked = {
        "timeout": whole("How long the answer is of use, microseconds; 0 for no limit.", minimum=0),
        "binary_data_output": {"type": "boolean", "description": "Whether outputs are wanted as bytes unless said."},
    }
    return {
        "ServerMetadata": record(
            {
                "name": text("Of the server."),
                "version": text("Of the server."),
                "extensions": listed({"type": "string"}, "Of the protocol, that it offers."),
            }
        ),
        "Live": record({"live": {"const": True}}),
        "Ready": record({"ready": {"const": True}}),
        "ModelReady": record({"name": name, "ready": {"const": True}}),
        "TensorSpec": record({"name": _named("Of the tensor.", sorted({*inputs, *outputs})), **spec}),
        "ModelMetadata": record(
            {
                "name": name,
                "versions": listed(text("A version.", pattern=VERSION_PATTERN), "Those that are served."),
                "platform": text("What runs it."),
                "inputs": listed(
                    ref("TensorSpec"), "What it takes; all but those its kind of graph needs may be left out."
                ),
                "outputs": listed(ref("TensorSpec"), "What it gives."),
            }
        ),
        "RepositoryIndex": listed(
            record(
                {
                    "name": name,
                    "version": text("Of the model.", pattern=VERSION_PATTERN),
                    "state": {"const": "READY"},
                    "reason": {"type": "string"},
                }
            ),
            "Every version of every model.",
        ),
        "RepositoryIndexRequest": {
            "type": "object",
            "properties": {
                "ready": {"type": "boolean", "description": "Whether to list models that are ready only; all are."}
            },
        },
        "InferenceRequest": {
            "type": "object",
            "properties": {
                "id": text("Comes back with the answer."),
                "parameters": {"type": "object", "properties": asked},
                "inputs": listed(ref("RequestInput"), "The tensors; each once.", minItems=1),
                "outputs": listed(ref("RequestOutput"), "Those that are wanted; all unless said."),
            },
            "required": ["inputs"],
        },
        "RequestInput": {
            "type": "object",
            "properties": {
                "name": _named("Of the input.", inputs),
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
                "name": _named("Of the output.", outputs),
                "parameters": {"type": "object", "properties": wanted},
            },
            "required": ["name"],
        },
        "InferenceAnswer": record(
            {
                "model_name": name,
                "model_version": text("Of the model.", pattern=VERSION_PATTERN),
                "id": text("That of the request, if it had one."),
                "outputs": listed(
                    record(
                        {
                            **answered,
                            "data": listed({"type": "number"}, "Its elements, row by row."),
                            "parameters": record({"binary_data_size": size}),
                        },
                        optional=("data", "parameters"),
                    ),
                    "In the order in which they were asked for.",
                ),
            },
            optional=("id",),
        ),
    }


def _named(what: str, names: list[str]) -> Schema:
    """One of some names, which are not known while no model is served."""
    return text(what, enum=names) if names else text(what)


def _of_type(hint: Any) -> Schema:
    """The schema of a type hint: of JSON's values, of tuples and unions of them, and of dataclasses that have one."""
    if hint in _PRIMITIVES:
        return {"type": _PRIMITIVES[hint]}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"type": [_PRIMITIVES[argument] for argument in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _of_type(arguments[0])}
    if origin is dict:
        return {"type": "object"}
    return ref(hint.__name__)


def _attributes(docstring: str) -> dict[str, Schema]:
    """Descriptions of what a docstring in Google's style tells under ``Attributes:``."""
    _, _, told = docstring.partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n      +.+)*)", told, re.MULTILINE)
    return {name: {"description": _in_json(what)} for name, what in found}


def _in_json(what: str) -> str:
    """A docstring's words for readers of JSON: names of the contract's lists are spelt out."""
    spelt = re.sub(r"``([A-Z_]+)``", lambda name: ", ".join(f"`{each}`" for each in getattr(card, name[1])), what)
    return re.sub(r"\s+", " ", spelt).replace("``", "`").replace("None", "null")
