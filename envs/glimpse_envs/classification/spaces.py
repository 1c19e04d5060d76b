"""Observations as a Gymnasium space and as arrays."""

from typing import Any

import gymnasium
import numpy as np

from glimpse_envs.classification.core import ClassificationCore, Observation

DictObservation = dict[str, np.ndarray]
"""Observations by name; in vector environments each array has a row for each environment."""


def observation_space(core: ClassificationCore) -> gymnasium.Space[Any]:
    """The space of one observation: ``glimpse``, ``location``, ``time``, and ``read`` if an image has several targets.

    Args:
        core: The core of the environment.
    """
    channels, retina = core.scenes.image_shape[0], core.retina
    spaces: dict[str, gymnasium.Space[Any]] = {
        "glimpse": gymnasium.spaces.Box(0.0, 1.0, (retina.num_scales, channels, retina.size, retina.size), np.float32),
        "location": gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32),
        "time": gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32),
    }
    if core.scenes.num_targets > 1:
        spaces["read"] = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    return gymnasium.spaces.Dict(spaces)


def to_arrays(observation: Observation) -> DictObservation:
    """Convert a batch of observations to arrays that the caller may keep.

    Args:
        observation: On the CPU.
    """
    arrays = {name: value.numpy() for name, value in observation._asdict().items() if value is not None}
    # The location shares its memory with the state of the episodes.
    return arrays | {"location": arrays["location"].copy()}
