"""Reading the JSON of the Open Inference Protocol v2: size limits, and values of the expected type or an error."""

from collections.abc import Mapping
from typing import Any

import orjson

from glimpse_serve.errors import HTTPError

MAX_JSON_BYTES = 2**22
"""Largest JSON of a request: parsed numbers take ten times as much memory."""
MAX_NESTED = 2**17
"""Largest number of lists and objects in the JSON of a request: each takes twenty times the memory of its text."""


def read_json(text: memoryview) -> Mapping[str, Any]:
    """Parse the JSON object of a request.

    Args:
        text: The JSON text, in UTF-8.

    Raises:
        HTTPError: 400 when it is no JSON object, 413 when it is too large.
    """
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
        return json_object(orjson.loads(letters), "the request")
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise invalid(f"expected JSON, got something else ({error}); see the protocol's requests") from error


def json_objects(value: object, what: str, least: int) -> list[Mapping[str, Any]]:
    """Check that a value is a list of objects.

    Args:
        value: The value.
        what: Its name in error messages.
        least: Smallest length of the list.

    Raises:
        HTTPError: 400 when it is not.
    """
    if not isinstance(value, list) or len(value) < least:
        raise invalid(f"expected '{what}' as a list of at least {least}, got {quoted(value)}")
    return [json_object(entry, f"an entry of '{what}'") for entry in value]


def json_object(value: object, what: str) -> Mapping[str, Any]:
    """Check that a value is an object.

    Args:
        value: The value.
        what: Its name in error messages.

    Raises:
        HTTPError: 400 when it is not.
    """
    if not isinstance(value, dict):
        raise invalid(f"expected {what} as a JSON object, got {quoted(value)}")
    return value


def parameters_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the ``parameters`` of an object of the protocol; empty when they are missing.

    Args:
        entry: The object.

    Raises:
        HTTPError: 400 when they are no object.
    """
    parameters = entry.get("parameters")
    return {} if parameters is None else json_object(parameters, "'parameters'")


def flag_of(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a boolean parameter.

    Args:
        parameters: The parameters.
        name: Name of the parameter.
        default: Its value when it is missing.

    Raises:
        HTTPError: 400 when it is no boolean.
    """
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"expected {name} as true or false, got {quoted(value)}")
    return value


def quoted(value: object) -> str:
    """A value as JSON for an error message, cut to 60 characters.

    Args:
        value: Any value.
    """
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):
        text = str(type(value).__name__)
    return text if len(text) <= 60 else f"{text[:57]}..."


def invalid(message: str) -> HTTPError:
    """Make the error for a request that does not match the protocol or the model: 400.

    Args:
        message: What was expected, what came, and what to do.
    """
    return HTTPError(400, message, "tensor")
