"""What an agent is given, as a Gymnasium space."""

from typing import Any

import gymnasium
import numpy as np

from glimpse_envs.looking import Looking


def observation_space(looking: Looking) -> gymnasium.Space[Any]:
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
