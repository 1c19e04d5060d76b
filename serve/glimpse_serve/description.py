"""The description of the whole HTTP interface in OpenAPI 3.1, made from the routes themselves.

It is made anew for who asks, since the models and what they take may change. What no OpenAPI can say, such as that the
lengths of a tensor's axes and of its data belong together, its words say.
"""

from collections.abc import Mapping
from typing import Any

import glimpse
from glimpse.pixels import FORMATS
from glimpse_serve import examples, schemas, tensors
from glimpse_serve.asked import JSON, Handler
from glimpse_serve.doorkeeper import OPEN
from glimpse_serve.intake import PACKINGS
from glimpse_serve.plain import CLASSIFY_QUERY, EXPLAIN, MODEL_QUERY
from glimpse_serve.registry import Registry
from glimpse_serve.schemas import Schema, ref, text
from glimpse_serve.settings import Settings

PLAIN, PROTOCOL, OPERATIONS, DESCRIBED = "Plain", "Open Inference Protocol", "Operations", "Description"
BYTES = "application/octet-stream"
HTML = "text/html; charset=utf-8"
_INFERENCE_TITLE = tensors.HEADER_LENGTH.title()


def describe(
    routes: Mapping[str, Mapping[str, Handler]], settings: Settings, registry: Registry, wants_key: bool
) -> dict[str, Any]:
    """Describe the service.

    Args:
        routes: Its handlers, by the templates of their paths and by method.
        settings: Its limits.
        registry: The models that are served now.
        wants_key: Whether requests need an API key.

    Returns:
        The description, in JSON's values.

    Raises:
        KeyError: When there is a route that nobody has described.
    """
    cards = [entry.model.card for entry in registry]
    inputs = [name for card in cards for name in tensors.inputs_of(card)]
    outputs = [name for card in cards for name in tensors.outputs_of(card)]
    most = max((card.num_glimpses for card in cards), default=1)
    known = _operations(settings, registry.names, most)
    paths: dict[str, dict[str, Any]] = {}
    for path, handlers in sorted(routes.items(), key=lambda route: _place(route[0])):
        for method in handlers:
            operation = known[f"{method} {path.replace('/versions/{version}', '')}"]
            paths.setdefault(path, {})[method.lower()] = _complete(operation, path, method, settings, wants_key)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Glimpse",
            "version": glimpse.__version__,
            "summary": "Image classifiers that look: a few glimpses at a time, and with the path of their gaze.",
            "description": _about(settings, wants_key),
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": PLAIN, "description": "An image in; what it shows, how sure, and where the model looked."},
            {
                "name": PROTOCOL,
                "description": "Version 2 over REST, as KServe and Triton speak it, with the binary tensor extension. "
                "A path with a version asks that one, a path without asks the latest.",
            },
            {"name": OPERATIONS, "description": "For those who run the service."},
            {"name": DESCRIBED, "description": "What you are reading."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.components(inputs, outputs),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
            },
        },
    }


def _about(settings: Settings, wants_key: bool) -> str:
    key = (
        "Requests need an API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`; health needs none."
        if wants_key
        else "No API key is needed."
    )
    rate = f" At most {settings.rate:g} requests a second are taken, {settings.burst} at once." * (settings.rate > 0)
    return (
        f"{key}{rate}\n\n"
        f"A body holds up to {settings.max_bytes:,} bytes, unpacked, and may be compressed "
        f"(`Content-Encoding: {' or '.join(PACKINGS)}`); larger answers are, for those who say `Accept-Encoding`. An "
        f"image has up to {settings.max_pixels:,} pixels, a request up to {settings.max_images} images, and "
        f"{settings.deadline_seconds:g} seconds.\n\n"
        'Every error is `{"error": "..."}` with one sentence that says what was expected, what came, and what to do. '
        "Whatever is no HTTP is answered 400, headers that are too slow 408 and too long 431. Every answer carries an "
        "`X-Request-ID`, which is the request's own if it sent one, and under which the logs tell of it."
    )


def _operations(settings: Settings, names: list[str], most: int) -> dict[str, dict[str, Any]]:
    """Every operation by its method and path, without the statuses and parameters that many share."""
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
                **_errors(*_BODY, 404, 422, 504),
            },
        },
        "GET /v1/models": {
            "operationId": "list_models",
            "tags": [PLAIN],
            "summary": "List the models",
            "responses": {"200": _json("The models.", ref("Models"), {"models": said["models"]}), **_errors(400)},
        },
        "GET /v1/models/{model}": {
            "operationId": "describe_model",
            "tags": [PLAIN],
            "summary": "Tell all that a model says of itself",
            "parameters": [limits[name] for name in MODEL_QUERY],
            "responses": {
                "200": _json("The model, with its card.", ref("ModelDetails"), {"model": said["model"]}),
                **_errors(400, 404),
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
                **_errors(*_BODY, 404, 504),
            },
        },
        "GET /v2/models/{model}/ready": {
            "operationId": "model_ready",
            "tags": [PROTOCOL],
            "summary": "Tell whether a model takes requests",
            "responses": {
                "200": _json("It does.", ref("ModelReady"), {"ready": said["model_ready"]}),
                **_errors(404),
            },
        },
        "GET /v2/models/{model}": {
            "operationId": "model_metadata",
            "tags": [PROTOCOL],
            "summary": "Tell a model's inputs and outputs",
            "responses": {
                "200": _json("Its tensors.", ref("ModelMetadata"), {"metadata": said["metadata"]}),
                **_errors(400, 404),
            },
        },
        "GET /v2/health/live": {
            "operationId": "live",
            "tags": [PROTOCOL],
            "summary": "Tell that the server lives",
            "responses": {"200": _json("It does.", ref("Live"), {"live": said["live"]}), **_errors()},
        },
        "GET /v2/health/ready": {
            "operationId": "ready",
            "tags": [PROTOCOL],
            "summary": "Tell whether the server takes requests",
            "description": "It does not while its models are being loaded, nor when it is about to stop.",
            "responses": {"200": _json("It does.", ref("Ready"), {"ready": said["ready"]}), **_errors()},
        },
        "POST /v2/repository/index": {
            "operationId": "repository_index",
            "tags": [PROTOCOL],
            "summary": "List every version of every model",
            "description": "Triton's extension of the protocol.",
            "requestBody": {"required": False, "content": {JSON: {"schema": ref("RepositoryIndexRequest")}}},
            "responses": {
                "200": _json("The list.", ref("RepositoryIndex"), {"index": said["index"]}),
                **_errors(*_BODY),
            },
        },
        "GET /v2": {
            "operationId": "server_metadata",
            "tags": [PROTOCOL],
            "summary": "Tell what the server is",
            "responses": {
                "200": _json("What it is.", ref("ServerMetadata"), {"server": said["server"]}),
                **_errors(400),
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
                **_errors(),
            },
        },
        "GET /openapi.json": {
            "operationId": "openapi",
            "tags": [DESCRIBED],
            "summary": "This description, for machines",
            "responses": {
                "200": _json("OpenAPI 3.1.", {"type": "object", "required": ["openapi"]}, {}),
                **_errors(400),
            },
        },
        "GET /docs": {
            "operationId": "docs",
            "tags": [DESCRIBED],
            "summary": "This description, for people",
            "responses": {"200": _content("A page.", "text/html"), **_errors(400)},
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
                **_errors(400),
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
        "version": ("Which version of it; the latest unless said.", _VERSION),
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


def _complete(operation: dict[str, Any], path: str, method: str, settings: Settings, wants_key: bool) -> dict[str, Any]:
    """An operation at a path: with what stands in the path, who may ask, and what the doors answer."""
    is_open = bool(OPEN.fullmatch(path)) or (path == "/metrics" and settings.open_metrics)
    doors = {} if is_open else _errors(401, 429)
    whole = {
        **operation,
        "parameters": [*_path_parameters(path), *operation.get("parameters", ())],
        "responses": dict(sorted({**operation["responses"], **doors}.items())),
        "security": [{"bearer": []}, {"key": []}] if wants_key and not is_open else [],
    }
    if "{version}" in path:
        whole["operationId"] += "_of_version"
        whole["summary"] += ", of a version"
    return whole


def _path_parameters(path: str) -> list[dict[str, Any]]:
    known = {
        "model": text("The name of a model.", pattern=schemas.NAME_PATTERN),
        "version": _VERSION,
    }
    return [
        {"name": name, "in": "path", "required": True, "description": f"The model's {what}.", "schema": known[name]}
        for name, what in (("model", "name"), ("version", "version"))
        if f"{{{name}}}" in path
    ]


def _place(path: str) -> tuple[int, str]:
    """Where a path stands in the description: what is asked for most comes first."""
    order = ("/v1/classify", "/v1", "/v2/models", "/v2", "/metrics", "/docs", "/")
    return next(place for place, begin in enumerate(order) if path.startswith(begin)), path


_VERSION: Schema = {"type": "string", "pattern": schemas.VERSION_PATTERN, "examples": ["1"]}
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
    404: ("There is no such model, or no such version of it.", {}),
    408: ("The body came too slowly, or an image took too long to decode.", {}),
    413: ("The body is too large, or has too many images or pixels.", {}),
    415: ("The body is of a kind, or is compressed in a way, that is not taken.", {}),
    422: ("The image can't be read, or none of the images.", {}),
    429: ("Too many requests came in too short a time.", _AGAIN),
    500: ("The service failed, which is its fault.", {}),
    503: ("The service is overloaded, not ready yet, or about to stop.", _AGAIN),
    504: ("The answer was not there in time.", {}),
}
"""What each status of an error means, with the headers that it brings."""


def _errors(*statuses: int) -> dict[str, Any]:
    """Answers that any operation may give instead, and these."""
    found: dict[str, Any] = {}
    for status in sorted({*statuses, 500, 503}):
        what, headers = _STATUSES[status]
        example = examples.answers().get(str(status))
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
    return {"value": value} | ({"summary": sample.summary} if sample and sample.summary else {})


def _content(what: str, *media_types: str) -> dict[str, Any]:
    """An answer in something else than JSON."""
    return {
        "description": what,
        "content": {media_type: {"schema": {"type": "string"}} for media_type in media_types},
        "headers": _HEADERS,
    }
