"""The OpenAPI 3.1 document of the HTTP interface, built from the routes.

It is built for every request, since the models and their tensors may change. Rules that OpenAPI can't express, such as
that a tensor's shape and the length of its data belong together, are in the descriptions.
"""

from collections.abc import Mapping
from typing import Any

import glimpse
from glimpse_serve.gateway.authentication import OPEN_PATHS
from glimpse_serve.http.bodies import ENCODINGS
from glimpse_serve.http.request import RequestHandler
from glimpse_serve.models.registry import Registry
from glimpse_serve.openapi import examples, schemas
from glimpse_serve.openapi.operations import DESCRIBED, OPERATIONS, PLAIN, PROTOCOL, VERSION, operations
from glimpse_serve.openapi.responses import errors
from glimpse_serve.openapi.schemas import string
from glimpse_serve.routes import v2_tensors
from glimpse_serve.settings import Settings


def openapi_document(
    routes: Mapping[str, Mapping[str, RequestHandler]], settings: Settings, registry: Registry, requires_key: bool
) -> dict[str, Any]:
    """Build the OpenAPI document.

    Args:
        routes: The handlers, by path template and method.
        settings: The limits.
        registry: The served models.
        requires_key: Whether requests need an API key.

    Returns:
        The document as JSON values.

    Raises:
        KeyError: When a route has no description.
    """
    cards = [loaded.model.card for loaded in registry]
    inputs = [name for card in cards for name in v2_tensors.wire_inputs(card)]
    outputs = [name for card in cards for name in v2_tensors.wire_outputs(card)]
    most = max((card.num_glimpses for card in cards), default=1)
    by_route = operations(settings, registry.names, most, examples.shown_for(list(registry)))
    paths: dict[str, dict[str, Any]] = {}
    for path, handlers in sorted(routes.items(), key=lambda route: _sort_key(route[0])):
        for method in handlers:
            operation = by_route[f"{method} {path.replace('/versions/{version}', '')}"]
            paths.setdefault(path, {})[method.lower()] = _at_path(operation, path, method, settings, requires_key)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Glimpse",
            "version": glimpse.__version__,
            "summary": "Image classifiers with visual attention: a few glimpses of an image, and where they were.",
            "description": _description(settings, requires_key),
        },
        "servers": [{"url": settings.path_prefix or "/"}],
        "tags": [
            {"name": PLAIN, "description": "Classify images: class, probabilities, and where the model looked."},
            {
                "name": PROTOCOL,
                "description": "Version 2 over REST, as KServe and Triton speak it, with the binary tensor extension. "
                "A path without a version uses the latest one.",
            },
            {"name": OPERATIONS, "description": "For the operators of the service."},
            {"name": DESCRIBED, "description": "This documentation."},
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


def _description(settings: Settings, requires_key: bool) -> str:
    key = (
        "Requests need an API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`; health checks need none."
        if requires_key
        else "No API key is needed."
    )
    rate = f" At most {settings.rate:g} requests a second are accepted, {settings.burst} at once." * (settings.rate > 0)
    return (
        f"{key}{rate}\n\n"
        f"A body holds up to {settings.max_bytes:,} bytes, decompressed, and may be compressed "
        f"(`Content-Encoding: {' or '.join(ENCODINGS)}`); larger responses are compressed if the request accepts it "
        f"(`Accept-Encoding`). An image has up to {settings.max_pixels:,} pixels, a request up to "
        f"{settings.max_images} images. A response takes up to {settings.deadline_seconds:g} seconds.\n\n"
        'Every error is `{"error": "..."}` with a message that states what was expected, what came, and what to do. '
        "Malformed HTTP gets 400, headers that arrive too slowly 408, headers that are too large 431. Every response "
        "has an `X-Request-ID`, which identifies it in the logs; one that the request sends is kept."
    )


def _at_path(
    operation: dict[str, Any], path: str, method: str, settings: Settings, requires_key: bool
) -> dict[str, Any]:
    """An operation at a path: with its path parameters, security, and the errors of authentication."""
    is_open = bool(OPEN_PATHS.fullmatch(path)) or (path == "/metrics" and settings.open_metrics)
    access_errors = {} if is_open else errors(401, 429)
    whole = {
        **operation,
        "parameters": [*_path_parameters(path), *operation.get("parameters", ())],
        "responses": dict(sorted({**operation["responses"], **access_errors}.items())),
        "security": [{"bearer": []}, {"key": []}] if requires_key and not is_open else [],
    }
    if "{version}" in path:
        whole["operationId"] += "_of_version"
        whole["summary"] += ", of a version"
    return whole


def _path_parameters(path: str) -> list[dict[str, Any]]:
    path_schemas = {
        "model": string("The name of a model.", pattern=schemas.NAME_PATTERN),
        "version": VERSION,
    }
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The model's {what}.",
            "schema": path_schemas[name],
        }
        for name, what in (("model", "name"), ("version", "version"))
        if f"{{{name}}}" in path
    ]


def _sort_key(path: str) -> tuple[int, bool]:
    """The order of the paths in the document: the most used first, paths with a version after those without."""
    order = ("/v1/classify", "/v1/look", "/v1", "/v2/models", "/v2", "/metrics", "/docs", "/")
    return next(place for place, begin in enumerate(order) if path.startswith(begin)), "{version}" in path
