"""What an agent is given, as a Gymnasium space."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from glimpse_envs.classification.core import ClassificationCore
from glimpse_envs.classification.task import TaskError


def observation_space(looking: ClassificationCore) -> gymnasium.Space[Any]:
    """The space of one observation: glimpse, location, time, and for sequences how much has been read.

    Args:
        looking: The core of the environment.
    """
    channels, retina = looking.scenes.image_shape[0], looking.retina
    spaces: dict[str, gymnasium.Space[Any]] = {
        "glimpse": gymnasium.spaces.Box(0.0, 1.0, (retina.num_scales, channels, retina.size, retina.size), np.float32),
        "location": gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32),
        "time": gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32),
    }
    if looking.scenes.num_targets > 1:
        spaces["read"] = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    return gymnasium.spaces.Dict(spaces)


def check_options(options: Mapping[str, Any] | None, known: Sequence[str]) -> Mapping[str, Any]:
    """Refuse options that ``reset`` doesn't know.

    Args:
        options: What was handed in.
        known: Those that it knows.

    Raises:
        TaskError: When one is unknown.
    """
    for name in options or {}:
        if name not in known:
            raise TaskError(f"expected reset options out of {', '.join(known)}; got {name!r}")
    return options or {}


def forced_images(options: Mapping[str, Any], batch: int, count: int) -> Int64[Tensor, " batch"] | None:
    """Numbers of the images that are forced, if any.

    Args:
        options: Those of ``reset``.
        batch: How many episodes begin.
        count: How many images there are.

    Raises:
        TaskError: When there are no such images.
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


def forced_locations(options: Mapping[str, Any], batch: int) -> Float[Tensor, "batch 2"] | None:
    """Where to look first, if it is forced.

    Args:
        options: Those of ``reset``.
        batch: How many episodes begin.

    Raises:
        TaskError: When these are no locations.
    """
    if options.get("location") is None:
        return None
    given = _array(options["location"])
    if given.dtype.kind not in "iuf" or given.size != 2 * batch or not (np.abs(given) <= 1).all():
        raise TaskError(f"expected location to be {batch} (x, y) in [-1, 1], got {options['location']!r}")
    return torch.tensor(given.reshape(batch, 2), dtype=torch.float32)


def _array(given: Any) -> np.ndarray:
    """What was handed in as an array; an empty one of nothing where it is none."""
    try:
        return np.asarray(given)
    except ValueError:
        return np.empty(0, object)
