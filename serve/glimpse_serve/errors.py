"""The exception from which every error response is made."""

from collections.abc import Mapping
from typing import Any


class HTTPError(Exception):
    """A request ends with an error response instead of a result.

    Attributes:
        status: The HTTP status, 400 to 599.
        sentence: What was expected, what came, and what to do.
        kind: The label under which the metrics count it: a short word such as ``image`` or ``overload``.
        headers: Additional headers of the response.
    """

    def __init__(self, status: int, message: str, kind: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.headers = dict(headers or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all fields when pickled, as between a Ray replica and the service."""
        return HTTPError, (self.status, self.message, self.kind, self.headers)
