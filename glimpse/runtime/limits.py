"""When a model takes no further glimpse: after a number of glimpses, at a confidence, or after a time."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from glimpse.errors import Argument, ArgumentError


class LimitError(ArgumentError):
    """A limit of the glimpses, the confidence or the time that is out of its range, or that a graph can't keep."""


class Limits(NamedTuple):
    """When a model takes no further glimpse of an image. It takes at least one."""

    max_glimpses: int
    """Glimpses at most."""
    confidence: float | None = None
    """Probability of a class at which the model stops; None for never."""
    seconds: float | None = None
    """After this time no further glimpse is begun; None for no limit of time."""

    def early_exit(self, probabilities: Float[np.ndarray, "*axes classes"]) -> Bool[np.ndarray, "*axes"]:
        """Return where the most probable class has the requested confidence, compared in float32, as a graph does.

        Args:
            probabilities: In [0, 1].
        """
        if self.confidence is None:
            return np.zeros(probabilities.shape[:-1], bool)
        return np.asarray(probabilities.max(-1) >= np.float32(self.confidence))


def check_limits(most: int, max_glimpses: int | None, confidence: float | None, seconds: float | None) -> Limits:
    """Check the limits that a caller gave.

    Args:
        most: Glimpses that the model was trained to take.
        max_glimpses: A whole number from 1 to ``most``; that by default.
        confidence: In (0, 1], and above 0 in float32, in which it is compared.
        seconds: Above 0.

    Raises:
        LimitError: When one of them is of another type, or out of its range.
    """
    if max_glimpses is not None and not (is_whole(max_glimpses) and 1 <= max_glimpses <= most):
        raise LimitError(
            "expected ",
            Argument("max_glimpses"),
            f" from 1 to {most}, the number that the model was trained to take, got {_quoted(max_glimpses)}; choose "
            f"one of those, or leave it out to take {most}",
        )
    if confidence is not None and not (_is_real(confidence) and 0 < confidence <= 1 and np.float32(confidence) > 0):
        raise LimitError(
            "expected a ",
            Argument("confidence"),
            f" above 0 and up to 1, got {_quoted(confidence)}; it is the probability, in float32, at which the model "
            "stops, leave it out to take every glimpse",
        )
    if seconds is not None and not (_is_real(seconds) and seconds > 0):
        raise LimitError(
            "expected more than 0 ",
            Argument("seconds"),
            f", got {_quoted(seconds)}; one glimpse is taken in any case, leave it out to take as long as it needs",
        )
    return Limits(
        most if max_glimpses is None else int(max_glimpses), None if confidence is None else float(confidence), seconds
    )


def is_whole(value: object) -> bool:
    """Return whether something is a whole number, of Python or of numpy; a bool is none.

    Args:
        value: Of any type.
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _quoted(value: Any) -> str:
    """Text of a limit for an error: the number, or another value with its type."""
    return str(value) if _is_real(value) else f"{value!r:.60} ({type(value).__name__})"
