"""What a caller of ``reset`` may force: which images, and where to look first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from glimpse_envs.task import TaskError

KNOWN = ("image", "location", "reset_mask")


def forced_images(options: Mapping[str, Any], batch: int, count: int) -> Int64[Tensor, " batch"] | None:
    """Numbers of the images that are forced, if any.

    Args:
        options: Those of ``reset``.
        batch: How many episodes begin.
        count: How many images there are.

    Raises:
        TaskError: When an option is unknown, or there are no such images.
    """
    unknown = [name for name in options if name not in KNOWN]
    if unknown:
        raise TaskError(f"expected reset options out of {', '.join(KNOWN)}; got {unknown[0]!r}")
    if options.get("image") is None:
        return None
    given = np.asarray(options["image"])
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
    given = np.asarray(options["location"], dtype=np.float32)
    if given.size != 2 * batch or not (np.abs(given) <= 1).all():
        raise TaskError(f"expected location to be {batch} (x, y) in [-1, 1], got {options['location']!r}")
    return torch.tensor(given.reshape(batch, 2))
