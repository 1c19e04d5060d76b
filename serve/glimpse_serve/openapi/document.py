"""The description of the whole HTTP interface in OpenAPI 3.1, made from the routes themselves.

It is made anew for who asks, since the models and what they take may change. What no OpenAPI can say, such as that the
lengths of a tensor's axes and of its data belong together, its words say.
"""

from collections.abc import Mapping
from typing import Any

import glimpse
from glimpse_serve.gateway.authentication import OPEN
from glimpse_serve.http.bodies import PACKINGS
from glimpse_serve.http.request import Handler
from glimpse_serve.models.registry import Registry
from glimpse_serve.openapi import schemas
from glimpse_serve.openapi.operations import DESCRIBED, OPERATIONS, PLAIN, PROTOCOL, VERSION, errors, operations
from glimpse_serve.openapi.schemas import text
from glimpse_serve.routes import v2_tensors
from glimpse_serve.settings import Settings


def openapi_document(
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
    inputs = [name for card in cards for name in v2_tensors.wire_inputs(card)]
    outputs = [name for card in cards for name in v2_tensors.wire_outputs(card)]
    most = max((card.num_glimpses for card in cards), default=1)
    known = operations(settings, registry.names, most)
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


def _complete(operation: dict[str, Any], path: str, method: str, settings: Settings, wants_key: bool) -> dict[str, Any]:
    """An operation at a path: with what stands in the path, who may ask, and what the doors answer."""
    is_open = bool(OPEN.fullmatch(path)) or (path == "/metrics" and settings.open_metrics)
    doors = {} if is_open else errors(401, 429)
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
        "version": VERSION,
    }
    return [
        {"name": name, "in": "path", "required": True, "description": f"The model's {what}.", "schema": known[name]}
        for name, what in (("model", "name"), ("version", "version"))
        if f"{{{name}}}" in path
    ]


def _place(path: str) -> tuple[int, bool]:
    """Where a path stands in the description: what is asked for most comes first, and with a version later."""
    order = ("/v1/classify", "/v1/look", "/v1", "/v2/models", "/v2", "/metrics", "/docs", "/")
    return next(place for place, begin in enumerate(order) if path.startswith(begin)), "{version}" in path
