from typing import Any

import numpy as np

from glimpse_envs.classification.spaces import observation_space
from glimpse_envs.classification.task import Task


def test_an_observation_has_its_parts_in_their_ranges():
    space: Any = observation_space(Task(dataset="digits", canvas_height=30, canvas_width=40, glimpse_size=6).core())
    assert list(space) == ["glimpse", "location", "time"]
    assert space["glimpse"].shape == (3, 1, 6, 6)
    assert space["location"].shape == (2,)
    assert (space["time"].low.item(), space["time"].high.item()) == (0.0, 1.0)
    assert {part.dtype for part in space.values()} == {np.dtype(np.float32)}


def test_a_sequence_tells_how_much_has_been_read():
    task = Task(dataset="digits", canvas_height=30, canvas_width=30, num_targets=2)
    space: Any = observation_space(task.core())
    assert list(space) == ["glimpse", "location", "read", "time"]
