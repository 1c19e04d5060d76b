"""The operations of the OpenAPI document: purpose, parameters, bodies, and all responses of each."""

from collections.abc import Mapping
from typing import Any

from glimpse.images.pixels import FORMATS
from glimpse_serve.http.request import JSON
from glimpse_serve.http.tensor_format import HEADER_LENGTH
from glimpse_serve.openapi import examples, schemas
from glimpse_serve.openapi.schemas import Schema, ref
from glimpse_serve.routes.streaming import STREAMING_QUERY
from glimpse_serve.routes.v1 import CLASSIFY_QUERY, EXPLAIN, MODEL_QUERY
from glimpse_serve.settings import Settings

PLAIN, PROTOCOL, OPERATIONS, DESCRIBED = "Plain", "Open Inference Protocol", "Operations", "Description"
BYTES = "application/octet-stream"
HTML = "text/html; charset=utf-8"
VERSION: Schema = {"type": "string", "pattern": schemas.VERSION_PATTERN, "examples": ["1"]}
_CONVERSATION = """\
A streaming session over a WebSocket, for images that are too large to send. All messages are JSON, except the pixels. \
The client starts with `{"width": 40000, "height": 30000, "channels": 3}`, and optionally `confidence` and \
`max_glimpses`.

The service sends `{"type": "ask", "time": 0, "box": [left, top, right, bottom]}`, a box of whole pixels inside the \
image. The client sends its pixels as one binary message: uint8, row by row, or an image file of the box's size. After \
each glimpse the service sends `{"type": "glimpse", ...}` with the fields of `Glimpse`, at the end \
`{"type": "answer", ...}` with the fields of `Classified`, and closes the connection. An error is sent as \
`{"type": "error", "status": 422, "error": "..."}`.

OpenAPI can't describe WebSocket messages; `glimpse_serve.client` implements them."""
_BODY = (400, 408, 413, 415)
"""Statuses of errors of any request with a body."""
_HEADERS = {
    "X-Request-ID": {
        "description": "Identifies the request in the logs.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    }
}
_AGAIN = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_STATUSES: dict[int, tuple[str, dict[str, Any]]] = {
    400: ("A parameter, the body or a tensor is invalid.", {}),
    401: (
        "The API key is missing or unknown.",
        {"WWW-Authenticate": {"description": "How to send it.", "required": True, "schema": {"const": "Bearer"}}},
    ),
    403: ("The page's origin is not allowed.", {}),
    404: ("There is no such model, or no such version of it.", {}),
    408: ("The body arrived too slowly, or an image took too long to decode.", {}),
    413: ("The body is too large, or has too many images or pixels.", {}),
    415: ("The media type or the compression of the body is not supported.", {}),
    422: ("The image can't be read, or none of the images.", {}),
    426: (
        "A WebSocket is expected here, not a plain request.",
        {"Upgrade": {"description": "What is expected.", "required": True, "schema": {"const": "websocket"}}},
    ),
    429: ("The rate limit is exceeded.", _AGAIN),
    500: ("The service failed.", {}),
    503: ("The service is overloaded, not ready yet, or about to stop.", _AGAIN),
    504: ("The deadline has passed.", {}),
}
"""Descriptions of the error statuses, and their headers."""


def operations(settings: Settings, names: list[str], max_glimpses: int) -> dict[str, dict[str, Any]]:
    """Describe every operation, by method and path, without path parameters and the errors of authentication.

    Args:
        settings: The limits.
        names: Names of the served models.
        max_glimpses: Largest number of glimpses of any of them.
    """
    samples = examples.responses()
    protocol = "the [protocol](https://github.com/kserve/open-inference-protocol)"
    limits = _classify_parameters(names, max_glimpses)
    return {
        "POST /v1/classify": {
            "operationId": "classify",
            "tags": [PLAIN],
            "summary": "Classify an image, or many",
            "description": f"The body is an image file ({', '.join(FORMATS)}), or a form with several; "
            "the results are in the order of the files.",
            "parameters": [limits[name] for name in CLASSIFY_QUERY],
            "requestBody": {
                "required": True,
                "content": {
                    "image/png": {"schema": {}},
                    "image/*": {"schema": {}},
                    BYTES: {"schema": {}},
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "image": {
                                    "type": "array",
                                    "items": {"type": "string", "contentMediaType": BYTES},
                                    "minItems": 1,
                                    "maxItems": settings.max_images,
                                    "description": "The files. The field may have any name.",
                                }
                            },
                            "required": ["image"],
                        }
                    },
                },
            },
            "responses": {
                "200": _json(
                    "The prediction: `Classified` for an image, `ClassifiedImages` for a form.",
                    {"anyOf": [ref("Classified"), ref("ClassifiedImages")]},
                    {name: samples[name] for name in ("classified", "explained", "several")},
                ),
                **errors(*_BODY, 404, 422, 504, of_images=True),
            },
        },
        "GET /v1/look": {
            "operationId": "look",
            "tags": [PLAIN],
            "summary": "Classify an image without sending all of it",
            "description": _CONVERSATION,
            "parameters": [limits[name] for name in STREAMING_QUERY],
            "responses": {
                "101": {"description": "The streaming session starts.", "headers": _HEADERS},
                **errors(400, 403, 404, 426),
            },
        },
        "GET /v1/models": {
            "operationId": "list_models",
            "tags": [PLAIN],
            "summary": "List the models",
            "responses": {"200": _json("The models.", ref("Models"), {"models": samples["models"]}), **errors(400)},
        },
        "GET /v1/models/{model}": {
            "operationId": "describe_model",
            "tags": [PLAIN],
            "summary": "Describe a model",
            "parameters": [limits[name] for name in MODEL_QUERY],
            "responses": {
                "200": _json("The model, with its card.", ref("ModelDetails"), {"model": samples["model"]}),
                **errors(400, 404),
            },
        },
        "POST /v2/models/{model}/infer": {
            "operationId": "infer",
            "tags": [PROTOCOL],
            "summary": "Run a model's graph on tensors",
            "description": f"See {protocol}. Images are NCHW. Tensors are lists in the JSON, or binary data after it "
            f"(little-endian, row by row); then `{HEADER_LENGTH}` is the length of the JSON, and `binary_data_size` "
            "the length of each tensor. `binary_data` and `binary_data_output` request outputs as binary data.",
            "parameters": [
                {
                    "name": HEADER_LENGTH,
                    "in": "header",
                    "description": "Length of the JSON at the start of the body, if binary data follows.",
                    "schema": {"type": "integer", "minimum": 0, "maximum": settings.max_bytes},
                }
            ],
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {
                        "schema": ref("InferenceRequest"),
                        "examples": {"inferred": {"value": examples.INFERENCE}},
                    },
                    BYTES: {"schema": {}},
                },
            },
            "responses": {
                "200": {
                    **_json(
                        "The outputs.",
                        ref("InferenceAnswer"),
                        {"inferred": samples["inferred"]},
                        {BYTES: {"schema": {}}},
                    ),
                    "headers": {
                        **_HEADERS,
                        HEADER_LENGTH: {
                            "description": "Length of the JSON, if binary data follows.",
                            "schema": {"type": "integer", "minimum": 2},
                        },
                    },
                },
                **errors(*_BODY, 404, 504),
            },
        },
        "GET /v2/models/{model}/ready": {
            "operationId": "model_ready",
            "tags": [PROTOCOL],
            "summary": "Report whether a model takes requests",
            "responses": {
                "200": _json("It does.", ref("ModelReady"), {"ready": samples["model_ready"]}),
                **errors(404),
            },
        },
        "GET /v2/models/{model}": {
            "operationId": "model_metadata",
            "tags": [PROTOCOL],
            "summary": "Describe a model's inputs and outputs",
            "responses": {
                "200": _json("Its tensors.", ref("ModelMetadata"), {"metadata": samples["metadata"]}),
                **errors(400, 404),
            },
        },
        "GET /v2/health/live": {
            "operationId": "live",
            "tags": [PROTOCOL],
            "summary": "Report that the server runs",
            "responses": {"200": _json("It runs.", ref("Live"), {"live": samples["live"]}), **errors()},
        },
        "GET /v2/health/ready": {
            "operationId": "ready",
            "tags": [PROTOCOL],
            "summary": "Report whether the server takes requests",
            "description": "It does not while it loads its models or shuts down.",
            "responses": {"200": _json("It does.", ref("Ready"), {"ready": samples["ready"]}), **errors()},
        },
        "POST /v2/repository/index": {
            "operationId": "repository_index",
            "tags": [PROTOCOL],
            "summary": "List every version of every model",
            "description": "Triton's extension of the protocol.",
            "requestBody": {"required": False, "content": {JSON: {"schema": ref("RepositoryIndexRequest")}}},
            "responses": {
                "200": _json("The list.", ref("RepositoryIndex"), {"index": samples["index"]}),
                **errors(*_BODY),
            },
        },
        "GET /v2": {
            "operationId": "server_metadata",
            "tags": [PROTOCOL],
            "summary": "Describe the server",
            "responses": {
                "200": _json("Name, version and extensions.", ref("ServerMetadata"), {"server": samples["server"]}),
                **errors(400),
            },
        },
        "GET /metrics": {
            "operationId": "metrics",
            "tags": [OPERATIONS],
            "summary": "Metrics for Prometheus",
            "responses": {
                "200": _content(
                    "Prometheus' text format, or OpenMetrics.", "text/plain", "application/openmetrics-text"
                ),
                **errors(),
            },
        },
        "GET /openapi.json": {
            "operationId": "openapi",
            "tags": [DESCRIBED],
            "summary": "The OpenAPI document",
            "responses": {
                "200": _json("OpenAPI 3.1.", {"type": "object", "required": ["openapi"]}, {}),
                **errors(400),
            },
        },
        "GET /docs": {
            "operationId": "docs",
            "tags": [DESCRIBED],
            "summary": "The documentation page",
            "responses": {"200": _content("A page.", "text/html"), **errors(400)},
        },
        "GET /": {
            "operationId": "home",
            "tags": [DESCRIBED],
            "summary": "Redirect to `/docs`",
            "responses": {
                "307": {
                    **_json("The page is at `/docs`.", {"type": "object"}, {}),
                    "headers": {
                        **_HEADERS,
                        "Location": {"description": "URL of the page.", "required": True, "schema": {"const": "/docs"}},
                    },
                },
                **errors(400),
            },
        },
    }


def _classify_parameters(names: list[str], max_glimpses: int) -> dict[str, dict[str, Any]]:
    """The query parameters of version 1, by name."""
    parameters: dict[str, tuple[str, Schema]] = {
        "model": (
            "Name of the model; the first by default.",
            {"type": "string", "pattern": schemas.NAME_PATTERN, "examples": names},
        ),
        "version": ("Version of the model; the latest by default.", VERSION),
        "confidence": (
            "The model stops when a class has this probability; by default it takes all glimpses.",
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        ),
        "max_glimpses": (
            "Largest number of glimpses; by default, and at most, the number that the model was trained for.",
            {"type": "integer", "minimum": 1, "maximum": max_glimpses},
        ),
        "explain": (
            "Adds a picture and the time of each glimpse: `path` for a model with a retina, `attention` for a model "
            "with attention maps, which are returned as well.",
            {"type": "string", "enum": list(EXPLAIN)},
        ),
    }
    return {
        name: {"name": name, "in": "query", "description": what, "schema": schema}
        for name, (what, schema) in parameters.items()
    }


def errors(*statuses: int, of_images: bool = False) -> dict[str, Any]:
    """Describe the error responses of an operation: those that any operation may return, and further ones.

    Args:
        statuses: HTTP statuses of the further errors.
        of_images: Whether the operation takes images, so that the recorded examples of errors fit it.
    """
    found: dict[str, Any] = {}
    for status in sorted({*statuses, 500, 503}):
        what, headers = _STATUSES[status]
        example = examples.responses().get(str(status)) if of_images or status == 404 else None
        found[str(status)] = {
            **_json(what, ref("Error"), {} if example is None else {"refused": example}),
            "headers": {**_HEADERS, **headers},
        }
    return found


def _json(
    what: str, schema: Schema, shown: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A JSON response."""
    content: dict[str, Any] = {"schema": schema}
    if shown:
        content["examples"] = {name: _example(name, value) for name, value in shown.items()}
    return {"description": what, "content": {JSON: content, **(others or {})}, "headers": _HEADERS}


def _example(name: str, value: Any) -> dict[str, Any]:
    sample = examples.SAMPLES.get(name)
    if "picture" in value:
        value = {**value, "picture": f"{value['picture'][:60]}..."}
    return {"value": value} | ({"summary": sample.summary} if sample and sample.summary else {})


def _content(what: str, *media_types: str) -> dict[str, Any]:
    """A response of other media types."""
    return {
        "description": what,
        "content": {media_type: {"schema": {"type": "string"}} for media_type in media_types},
        "headers": _HEADERS,
    }
