"""The operations of the OpenAPI document: purpose, parameters, bodies, and all responses of each."""

from collections.abc import Mapping
from typing import Any

from glimpse.images.pixels import FORMATS
from glimpse_serve.http.request import JSON
from glimpse_serve.http.tensor_format import HEADER_LENGTH
from glimpse_serve.openapi import examples, responses, schemas
from glimpse_serve.openapi.responses import HEADERS, json_body, json_examples, text_body
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
The client starts with `{"width": 40000, "height": 30000, "channels": 3}`, and optionally `confidence`, \
`max_glimpses` and `first_location`, `[x, y]`.

The service sends `{"type": "ask", "time": 0, "box": [left, top, right, bottom]}`, a box of whole pixels inside the \
image. The client sends its pixels as one binary message: uint8, row by row, or an image file of the box's size. After \
each glimpse the service sends `{"type": "glimpse", ...}` with the fields of `Glimpse`, at the end \
`{"type": "answer", ...}` with the fields of `Classified`, and closes the connection. An error is sent as \
`{"type": "error", "status": 422, "error": "..."}`.

OpenAPI can't describe WebSocket messages; `glimpse_serve.client` implements them."""
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_LOCATION_PATTERN = f"^{_NUMBER},{_NUMBER}$"
_BODY = (400, 408, 413, 415)
"""Statuses of errors of any request with a body."""


def operations(
    settings: Settings, names: list[str], max_glimpses: int, shown: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Describe every operation, by method and path, without path parameters and the errors of authentication.

    Args:
        settings: The limits.
        names: Names of the served models.
        max_glimpses: Largest number of glimpses of any of them.
        shown: The examples, as :func:`glimpse_serve.openapi.examples.shown_for` returns them; all recorded ones by
            default.
    """
    shown = examples.recorded() if shown is None else shown

    def samples(*kinds: str) -> dict[str, Any]:
        return {kind: shown[kind] for kind in kinds if kind in shown}

    def errors(*statuses: int, of_images: bool = False) -> dict[str, Any]:
        return responses.errors(*statuses, of_images=of_images, shown=shown)

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
                "200": json_body(
                    "The prediction: `Classified` for an image, `ClassifiedImages` for a form.",
                    {"anyOf": [ref("Classified"), ref("ClassifiedImages")]},
                    samples("classified", "explained", "several"),
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
                "101": {"description": "The streaming session starts.", "headers": HEADERS},
                **errors(400, 403, 404, 426),
            },
        },
        "GET /v1/models": {
            "operationId": "list_models",
            "tags": [PLAIN],
            "summary": "List the models",
            "responses": {"200": json_body("The models.", ref("Models"), samples("models")), **errors(400)},
        },
        "GET /v1/models/{model}": {
            "operationId": "describe_model",
            "tags": [PLAIN],
            "summary": "Describe a model",
            "parameters": [limits[name] for name in MODEL_QUERY],
            "responses": {
                "200": json_body("The model, with its card.", ref("ModelDetails"), samples("model")),
                **errors(400, 404),
            },
        },
        "POST /v2/models/{model}/infer": {
            "operationId": "infer",
            "tags": [PROTOCOL],
            "summary": "Run a model's graph on tensors",
            "description": f"See {protocol}. Images are NCHW. Tensors are lists in the JSON, or binary data after it "
            f"(little-endian, row by row); then `{HEADER_LENGTH}` is the length of the JSON, and `binary_data_size` "
            "the length of each tensor. `binary_data` and `binary_data_output` request outputs as binary data.\n\nWith "
            "a length of 0 the body is a raw binary request: the data of one image, of the size that the model's card "
            "states, without JSON. All outputs are returned as binary data then.",
            "parameters": [
                {
                    "name": HEADER_LENGTH,
                    "in": "header",
                    "description": "Length of the JSON before the binary data; 0 for a body without JSON.",
                    "schema": {"type": "integer", "minimum": 0, "maximum": settings.max_bytes},
                }
            ],
            "requestBody": {
                "required": True,
                "content": {
                    JSON: {
                        "schema": ref("InferenceRequest"),
                        **json_examples(samples(examples.REQUEST)),
                    },
                    BYTES: {"schema": {}},
                },
            },
            "responses": {
                "200": {
                    **json_body(
                        "The outputs.",
                        ref("InferenceAnswer"),
                        samples("inferred"),
                        {BYTES: {"schema": {}}},
                    ),
                    "headers": {
                        **HEADERS,
                        HEADER_LENGTH: {
                            "description": "Length of the JSON, if binary data follows.",
                            "schema": {"type": "integer", "minimum": 2},
                        },
                    },
                },
                **errors(*_BODY, 404, 422, 504),
            },
        },
        "GET /v2/models/{model}/ready": {
            "operationId": "model_ready",
            "tags": [PROTOCOL],
            "summary": "Report whether a model takes requests",
            "responses": {
                "200": json_body("It does.", ref("ModelReady"), samples("model_ready")),
                **errors(404),
            },
        },
        "GET /v2/models/{model}": {
            "operationId": "model_metadata",
            "tags": [PROTOCOL],
            "summary": "Describe a model's inputs and outputs",
            "responses": {
                "200": json_body("Its tensors.", ref("ModelMetadata"), samples("metadata")),
                **errors(400, 404),
            },
        },
        "GET /v2/health/live": {
            "operationId": "live",
            "tags": [PROTOCOL],
            "summary": "Report that the server runs",
            "responses": {"200": json_body("It runs.", ref("Live"), samples("live")), **errors()},
        },
        "GET /v2/health/ready": {
            "operationId": "ready",
            "tags": [PROTOCOL],
            "summary": "Report whether the server takes requests",
            "description": "It does not while it loads its models or shuts down.",
            "responses": {"200": json_body("It does.", ref("Ready"), samples("ready")), **errors()},
        },
        "POST /v2/repository/index": {
            "operationId": "repository_index",
            "tags": [PROTOCOL],
            "summary": "List every version of every model",
            "description": "Triton's extension of the protocol.",
            "requestBody": {"required": False, "content": {JSON: {"schema": ref("RepositoryIndexRequest")}}},
            "responses": {
                "200": json_body("The list.", ref("RepositoryIndex"), samples("index")),
                **errors(*_BODY),
            },
        },
        "GET /v2": {
            "operationId": "server_metadata",
            "tags": [PROTOCOL],
            "summary": "Describe the server",
            "responses": {
                "200": json_body("Name, version and extensions.", ref("ServerMetadata"), samples("server")),
                **errors(400),
            },
        },
        "GET /metrics": {
            "operationId": "metrics",
            "tags": [OPERATIONS],
            "summary": "Metrics for Prometheus",
            "responses": {
                "200": text_body(
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
                "200": json_body("OpenAPI 3.1.", {"type": "object", "required": ["openapi"]}, {}),
                **errors(400),
            },
        },
        "GET /docs": {
            "operationId": "docs",
            "tags": [DESCRIBED],
            "summary": "The documentation page",
            "responses": {"200": text_body("A page.", "text/html"), **errors(400)},
        },
        "GET /": {
            "operationId": "home",
            "tags": [DESCRIBED],
            "summary": "Redirect to `/docs`",
            "responses": {
                "307": {
                    **json_body("The page is at `/docs`.", {"type": "object"}, {}),
                    "headers": {
                        **HEADERS,
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
        "first_location": (
            "Where a model with a retina takes the first glimpse: `x,y`, both in [-1, 1] of the image; its centre by "
            "default.",
            {"type": "string", "pattern": _LOCATION_PATTERN, "examples": ["0.5,-0.25"]},
        ),
        "explain": (
            "Adds a picture and the time of each glimpse: `path` for a model with a retina or windows, `attention` for "
            "a model with attention maps, which are returned as well.",
            {"type": "string", "enum": list(EXPLAIN)},
        ),
    }
    return {
        name: {"name": name, "in": "query", "description": what, "schema": schema}
        for name, (what, schema) in parameters.items()
    }
