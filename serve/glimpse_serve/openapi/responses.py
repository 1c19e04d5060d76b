"""The responses of the OpenAPI document: headers, media types, examples, and the errors by status."""

from collections.abc import Mapping
from typing import Any

from glimpse_serve.http.request import JSON
from glimpse_serve.openapi import examples
from glimpse_serve.openapi.schemas import Schema, ref

HEADERS = {
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
    422: ("The image can't be read, or none of the images; or tensors lead to results that are not finite.", {}),
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


def errors(*statuses: int, of_images: bool = False, shown: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Describe the error responses of an operation: those that any operation may return, and further ones.

    Args:
        statuses: HTTP statuses of the further errors.
        of_images: Whether the operation takes images, so that the recorded examples of errors fit it.
        shown: The examples, by the names of the samples or by status; all recorded ones by default.
    """
    shown = examples.responses() if shown is None else shown
    found: dict[str, Any] = {}
    for status in sorted({*statuses, 500, 503}):
        what, headers = _STATUSES[status]
        example = shown.get(str(status)) if of_images or status == 404 else None
        found[str(status)] = {
            **json_body(what, ref("Error"), {} if example is None else {"refused": example}),
            "headers": {**HEADERS, **headers},
        }
    return found


def json_body(
    what: str, schema: Schema, shown: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe a JSON response.

    Args:
        what: What it holds.
        schema: Its schema.
        shown: Examples, by the names of the samples.
        others: Descriptions of further media types, by media type.
    """
    content: dict[str, Any] = {"schema": schema}
    content |= json_examples(shown)
    return {"description": what, "content": {JSON: content, **(others or {})}, "headers": HEADERS}


def json_examples(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the examples of a body; empty where there are none.

    Args:
        shown: The examples, by the names of the samples.
    """
    return {"examples": {name: _example(name, value) for name, value in shown.items()}} if shown else {}


def _example(name: str, value: Any) -> dict[str, Any]:
    sample = examples.SAMPLES.get(name)
    if "picture" in value:
        value = {**value, "picture": f"{value['picture'][:60]}..."}
    return {"value": value} | ({"summary": sample.summary} if sample and sample.summary else {})


def text_body(what: str, *media_types: str) -> dict[str, Any]:
    """Describe a response of text.

    Args:
        what: What it holds.
        media_types: Its media types.
    """
    return {
        "description": what,
        "content": {media_type: {"schema": {"type": "string"}} for media_type in media_types},
        "headers": HEADERS,
    }
