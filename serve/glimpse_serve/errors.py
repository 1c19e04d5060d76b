"""The one way in which the service says no."""

from collections.abc import Mapping
from typing import Any


class HTTPError(Exception):
    """A request that is not answered, with the HTTP status and the sentence that its sender gets.

    Attributes:
        status: The HTTP status, 400 to 599.
        sentence: What was expected, what came, and what to do.
        kind: By which it is counted: one of a few short words, such as ``image`` or ``overload``.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, sentence: str, kind: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.kind = kind
        self.headers = dict(headers or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process whole, as from a replica of Ray's to the service."""
        return HTTPError, (self.status, self.sentence, self.kind, self.headers)
