"""The operations of the interface, one by one: what each is for, what it takes, and every answer that it may give."""

from collections.abc import Mapping
from typing import Any

from glimpse.images.pixels import FORMATS
from glimpse_serve.http.request import JSON
from glimpse_serve.openapi import examples, schemas
from glimpse_serve.openapi.schemas import Schema, ref
from glimpse_serve.routes import v2_tensors
from glimpse_serve.routes.streaming import LOOK_QUERY
from glimpse_serve.routes.v1 import CLASSIFY_QUERY, EXPLAIN, MODEL_QUERY
from glimpse_serve.settings import Settings

PLAIN, PROTOCOL, OPERATIONS, DESCRIBED = "Plain", "Open Inference Protocol", "Operations", "Description"
BYTES = "application/octet-stream"
HTML = "text/html; charset=utf-8"
_INFERENCE_TITLE = v2_tensors.HEADER_LENGTH.title()
VERSION: Schema = {"type": "string", "pattern": schemas.VERSION_PATTERN, "examples": ["1"]}
_CONVERSATION = """\
A conversation over a WebSocket, for images that are too large to send; JSON, but for the pixels. The client begins \
with `{"width": 40000, "height": 30000, "channels": 3}`, and with `confidence` and `max_glimpses` if it likes.

The service says `{"type": "ask", "time": 0, "box": [left, top, right, bottom]}`, whole pixels inside the image. The \
client sends these as one binary message: uint8, row by row, or as an image file of the box's size. After each the \
service says `{"type": "glimpse", ...}` with the entries of `Glimpse`, and in the end `{"type": "answer", ...}` with \
those of `Classified`, and closes. What goes wrong it says as `{"type": "error", "status": 422, "error": "..."}`.

OpenAPI has no words for such conversations; `glimpse_serve.client` holds them."""
_BODY = (400, 408, 413, 415)
"""What may be wrong with any body."""
_HEADERS = {
    "X-Request-ID": {
        "description": "Under which the logs tell of the request.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    }
}
_AGAIN = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_STATUSES: dict[int, tuple[str, dict[str, Any]]] = {
    400: ("A parameter, the body or a tensor is not what it should be.", {}),
    401: (
        "An API key is wanted, and none came, or one that is not known.",
        {"WWW-Authenticate": {"description": "How to send it.", "required": True, "schema": {"const": "Bearer"}}},
    ),
    403: ("A page of another origin asked, which is not allowed.", {}),
    404: ("There is no such model, or no such version of it.", {}),
    408: ("The body came too slowly, or an image took too long to decode.", {}),
    413: ("The body is too large, or has too many images or pixels.", {}),
    415: ("The body is of a kind, or is compressed in a way, that is not taken.", {}),
    422: ("The image can't be read, or none of the images.", {}),
    426: (
        "A plain request came where a WebSocket was expected.",
        {"Upgrade": {"description": "What is expected.", "required": True, "schema": {"const": "websocket"}}},
    ),
    429: ("Too many requests came in too short a time.", _AGAIN),
    500: ("The service failed, which is its fault.", {}),
    503: ("The service is overloaded, not ready yet, or about to stop.", _AGAIN),
    504: ("The answer was not there in time.", {}),
}
"""What each status of an error means, with the headers that it brings."""


def operations(settings: Settings, names: list[str], most: int) -> dict[str, dict[str, Any]]:
    """Tell every operation by its method and path, without what stands in the path and what the doors answer.

    Args:
        settings: The limits.
        names: Of the models that are served.
        most: Glimpses that any of them takes.
    """
    said = examples.answers()
    protocol = "the [protocol](https://github.com/kserve/open-inference-protocol)"
    limits = _classify_parameters(names, most)
    return {
        "POST /v1/classify": {
            "operationId": "classify",
            "tags": [PLAIN],
            "summary": "Classify an image, or many",
            "description": f"The body is an image file as it is ({', '.join(FORMATS)}), or a form with "
            "several of them, which are answered in their order.",
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
                                    "description": "The files. Their field may be called anything.",
                                }
                            },
                            "required": ["image"],
                        }
                    },
                },
            },
            "responses": {
                "200": _json(
                    "What the model believes. `Classified` to an image, `ClassifiedImages` to a form.",
                    {"anyOf": [ref("Classified"), ref("ClassifiedImages")]},
                    {name: said[name] for name in ("classified", "explained", "several")},
                ),
                **errors(*_BODY, 404, 422, 504, of_images=True),
            },
        },
        "GET /v1/look": {
            "operationId": "look",
            "tags": [PLAIN],
            "summary": "Look at an image that stays where it is",
            "description": _CONVERSATION,
            "parameters": [limits[name] for name in LOOK_QUERY],
            "responses": {
                "101": {"description": "The conversation begins.", "headers": _HEADERS},
                **errors(400, 403, 404, 426),
            },
        },
        "GET /v1/models": {
            "operationId": "list_models",
            "tags": [PLAIN],
            "summary": "List the models",
            "responses": {"200": _json("The models.", ref("Models"), {"models": said["models"]}), **errors(400)},
        },
        "GET /v1/models/{model}": {
            "operationId": "describe_model",
            "tags": [PLAIN],
            "summary": "Tell all that a model says of itself",
            "parameters": [limits[name] for name in MODEL_QUERY],
            "responses": {
                "200": _json("The model, with its card.", ref("ModelDetails"), {"model": said["model"]}),
                **errors(400, 404),
            },
        },
        "POST /v2/models/{model}/infer": {
            "operationId": "infer",
            "tags": [PROTOCOL],
            "summary": "Run a model's graph on tensors",
            "description": f"See {protocol}. Images are NCHW. Tensors may be lists in the JSON, or bytes behind it "
            f"(little-endian, row by row) with `{_INFERENCE_TITLE}` as the length of the JSON and `binary_data_size` "
            "as that of each tensor. An output comes as bytes if `binary_data` or `binary_data_output` says so.",
            "parameters": [
                {
                    "name": _INFERENCE_TITLE,
                    "in": "header",
                    "description": "Length of the JSON at the beginning of the body, where bytes follow it.",
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
                        "The outputs.", ref("InferenceAnswer"), {"inferred": said["inferred"]}, {BYTES: {"schema": {}}}
                    ),
                    "headers": {
                        **_HEADERS,
                        _INFERENCE_TITLE: {
                            "description": "Length of the JSON, where bytes follow it.",
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
            "summary": "Tell whether a model takes requests",
            "responses": {
                "200": _json("It does.", ref("ModelReady"), {"ready": said["model_ready"]}),
                **errors(404),
            },
        },
        "GET /v2/models/{model}": {
            "operationId": "model_metadata",
            "tags": [PROTOCOL],
            "summary": "Tell a model's inputs and outputs",
            "responses": {
                "200": _json("Its tensors.", ref("ModelMetadata"), {"metadata": said["metadata"]}),
                **errors(400, 404),
            },
        },
        "GET /v2/health/live": {
            "operationId": "live",
            "tags": [PROTOCOL],
            "summary": "Tell that the server lives",
            "responses": {"200": _json("It does.", ref("Live"), {"live": said["live"]}), **errors()},
        },
        "GET /v2/health/ready": {
            "operationId": "ready",
            "tags": [PROTOCOL],
            "summary": "Tell whether the server takes requests",
            "description": "It does not while its models are being loaded, nor when it is about to stop.",
            "responses": {"200": _json("It does.", ref("Ready"), {"ready": said["ready"]}), **errors()},
        },
        "POST /v2/repository/index": {
            "operationId": "repository_index",
            "tags": [PROTOCOL],
            "summary": "List every version of every model",
            "description": "Triton's extension of the protocol.",
            "requestBody": {"required": False, "content": {JSON: {"schema": ref("RepositoryIndexRequest")}}},
            "responses": {
                "200": _json("The list.", ref("RepositoryIndex"), {"index": said["index"]}),
                **errors(*_BODY),
            },
        },
        "GET /v2": {
            "operationId": "server_metadata",
            "tags": [PROTOCOL],
            "summary": "Tell what the server is",
            "responses": {
                "200": _json("What it is.", ref("ServerMetadata"), {"server": said["server"]}),
                **errors(400),
            },
        },
        "GET /metrics": {
            "operationId": "metrics",
            "tags": [OPERATIONS],
            "summary": "Counts and times for Prometheus",
            "responses": {
                "200": _content(
                    "In Prometheus' own form, or OpenMetrics.", "text/plain", "application/openmetrics-text"
                ),
                **errors(),
            },
        },
        "GET /openapi.json": {
            "operationId": "openapi",
            "tags": [DESCRIBED],
            "summary": "This description, for machines",
            "responses": {
                "200": _json("OpenAPI 3.1.", {"type": "object", "required": ["openapi"]}, {}),
                **errors(400),
            },
        },
        "GET /docs": {
            "operationId": "docs",
            "tags": [DESCRIBED],
            "summary": "This description, for people",
            "responses": {"200": _content("A page.", "text/html"), **errors(400)},
        },
        "GET /": {
            "operationId": "home",
            "tags": [DESCRIBED],
            "summary": "The way to `/docs`",
            "responses": {
                "307": {
                    **_json("The page is at `/docs`.", {"type": "object"}, {}),
                    "headers": {
                        **_HEADERS,
                        "Location": {"description": "Of the page.", "required": True, "schema": {"const": "/docs"}},
                    },
                },
                **errors(400),
            },
        },
    }


def _classify_parameters(names: list[str], most: int) -> dict[str, dict[str, Any]]:
    """The query parameters of the plain interface, by name."""
    told: dict[str, tuple[str, Schema]] = {
        "model": (
            "Which model is asked; the first unless said.",
            {"type": "string", "pattern": schemas.NAME_PATTERN, "examples": names},
        ),
        "version": ("Which version of it; the latest unless said.", VERSION),
        "confidence": (
            "The model stops looking when it gives a class this probability; it takes all its glimpses unless said.",
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        ),
        "max_glimpses": (
            "Glimpses at most; as many as the model was trained to take unless said, which is the most.",
            {"type": "integer", "minimum": 1, "maximum": most},
        ),
        "explain": (
            "Adds a picture, and each glimpse's time: `path` for a model that looks through a retina, `attention` for "
            "one that spreads its attention over a map, which comes, too.",
            {"type": "string", "enum": list(EXPLAIN)},
        ),
    }
    return {
        name: {"name": name, "in": "query", "description": what, "schema": schema}
        for name, (what, schema) in told.items()
    }


def errors(*statuses: int, of_images: bool = False) -> dict[str, Any]:
    """Describe the answers that any operation may give instead of its own, and these.

    Args:
        statuses: Of those that this one may give besides.
        of_images: Whether it takes images, so that the examples of all errors fit it.
    """
    found: dict[str, Any] = {}
    for status in sorted({*statuses, 500, 503}):
        what, headers = _STATUSES[status]
        example = examples.answers().get(str(status)) if of_images or status == 404 else None
        found[str(status)] = {
            **_json(what, ref("Error"), {} if example is None else {"refused": example}),
            "headers": {**_HEADERS, **headers},
        }
    return found


def _json(
    what: str, schema: Schema, shown: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An answer in JSON."""
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
    """An answer in something else than JSON."""
    return {
        "description": what,
        "content": {media_type: {"schema": {"type": "string"}} for media_type in media_types},
        "headers": _HEADERS,
    }
