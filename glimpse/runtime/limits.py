"""When a model stops looking: after so many glimpses, when it is sure, or when time is up."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from glimpse.errors import Argument, ArgumentError


class LimitError(ArgumentError):
    """A limit of the look that makes no sense, or that a graph can't keep."""


class Limits(NamedTuple):
    """When a model stops looking at an image. It takes at least one glimpse."""

    max_glimpses: int
    """Glimpses at most."""
    confidence: float | None = None
    """Probability of a class at which an image is told; None for never."""
    seconds: float | None = None
    """After this time no further glimpse is begun; None for any time."""

    def told(self, probabilities: Float[np.ndarray, "*axes classes"]) -> Bool[np.ndarray, "*axes"]:
        """Say which beliefs have the confidence that was asked for, compared in float32, as a graph does."""
        if self.confidence is None:
            return np.zeros(probabilities.shape[:-1], bool)
        return np.asarray(probabilities.max(-1) >= np.float32(self.confidence))


def check_limits(most: int, max_glimpses: int | None, confidence: float | None, seconds: float | None) -> Limits:
    """Check when somebody wants a model to stop.

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
            f" from 1 to {most}, the number that the model was trained to take, got {_shown(max_glimpses)}; choose one "
            f"of those, or leave it out to take {most}",
        )
    if confidence is not None and not (_is_real(confidence) and 0 < confidence <= 1 and np.float32(confidence) > 0):
        raise LimitError(
            "expected a ",
            Argument("confidence"),
            f" above 0 and up to 1, got {_shown(confidence)}; it is the probability, in float32, at which the model "
            "stops, leave it out to take every glimpse",
        )
    if seconds is not None and not (_is_real(seconds) and seconds > 0):
        raise LimitError(
            "expected more than 0 ",
            Argument("seconds"),
            f", got {_shown(seconds)}; one glimpse is taken in any case, leave it out to take as long as it needs",
        )
    return Limits(
        most if max_glimpses is None else int(max_glimpses), None if confidence is None else float(confidence), seconds
    )


def is_whole(value: object) -> bool:
    """Say whether something is a whole number, of Python or of numpy; a truth value is none.

    Args:
        value: Whatever came.
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """A limit as it came; with its type where that is not a number's."""
    return str(value) if _is_real(value) else f"{value!r:.60} ({type(value).__name__})"
