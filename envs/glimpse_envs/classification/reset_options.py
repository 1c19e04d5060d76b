"""The options of ``reset`` in the classification environments: checking and conversion to tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from glimpse_envs.classification.task import TaskError


def check_reset_options(options: Mapping[str, Any] | None, known: Sequence[str]) -> Mapping[str, Any]:
    """Return the options, or none if there are none, after a check of their names.

    Args:
        options: The options that ``reset`` was called with.
        known: Names of the options that exist.

    Raises:
        TaskError: When an option does not exist.
    """
    for name in options or {}:
        if name not in known:
            raise TaskError(f"expected reset options out of {', '.join(known)}; got {name!r}")
    return options or {}


def parse_image_indices(options: Mapping[str, Any], batch: int, count: int) -> Int64[Tensor, " batch"] | None:
    """The option ``image``: indices of the images that the episodes begin with; None if it is not given.

    Args:
        options: The options of ``reset``.
        batch: Number of episodes that begin.
        count: Number of images in the split.

    Raises:
        TaskError: When these are not indices of images, one for each episode.
    """
    if options.get("image") is None:
        return None
    given = _array(options["image"])
    if given.dtype.kind not in "iu" or given.size != batch or given.min() < 0 or given.max() >= count:
        raise TaskError(
            f"expected image to be {batch} whole number{'s' * (batch > 1)} from 0 to {count - 1}, the images of the "
            f"split, got {options['image']!r}"
        )
    return torch.as_tensor(given.reshape(batch).astype(np.int64))


def parse_locations(options: Mapping[str, Any], batch: int) -> Float[Tensor, "batch 2"] | None:
    """The option ``location``: the first fixations, (x, y) in [-1, 1]; None if it is not given.

    Args:
        options: The options of ``reset``.
        batch: Number of episodes that begin.

    Raises:
        TaskError: When these are not locations, one for each episode.
    """
    if options.get("location") is None:
        return None
    given = _array(options["location"])
    if given.dtype.kind not in "iuf" or given.size != 2 * batch or not (np.abs(given) <= 1).all():
        raise TaskError(f"expected location to be {batch} (x, y) in [-1, 1], got {options['location']!r}")
    return torch.tensor(given.reshape(batch, 2), dtype=torch.float32)


def _array(given: Any) -> np.ndarray:
    """A value as an array; an empty array if it can't be converted."""
    try:
        return np.asarray(given)
    except ValueError:
        return np.empty(0, object)
