"""The action modes: the Gymnasium space of each, and the decoding of an action into a location and an answer.

``declare``
    A cell of a grid over the image, and a class or "keep looking". Naming a class ends the episode.
``joint``
    A cell and a class at every glimpse; the episode has a fixed length.
``box``
    Continuous: x and y of the location, and a score for each class.
``location``
    Only a location. A separate classifier classifies the glimpses.
"""

from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from glimpse.images.geometry import grid

ACTION_MODES = ("declare", "joint", "box", "location")
LARGEST_LOGIT = 5.0
"""The logit, in nats, that a class score of 1 in ``box`` mode stands for."""


class Move(NamedTuple):
    """A decoded action."""

    location: Float[Tensor, "batch 2"]
    """The next fixation, (x, y) in [-1, 1]."""
    answer: Int64[Tensor, " batch"] | None = None
    """The class that is named, or the number of classes to keep looking; None in ``location`` mode."""
    log_probability: Float[Tensor, "batch classes"] | None = None
    """Log-probability of each class, nats; None except in ``box`` mode."""


class Actions:
    """The action space of one mode, and the decoding of its actions.

    Args:
        mode: One of ``ACTION_MODES``.
        num_classes: Number of classes.
        grid_cells: Cells along each side of the grid of locations, in the discrete modes.
        relative: Whether an action is a saccade relative to the current fixation, rather than a fixation.
        largest_step: Longest saccade along each axis, in half images, in (0, 2].
        device: Device of the actions.
    """

    def __init__(
        self,
        mode: str,
        num_classes: int,
        grid_cells: int,
        relative: bool,
        largest_step: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.mode = mode
        self.relative = relative
        self._max_offset = largest_step if relative else 1.0
        self._cells = torch.tensor(grid(grid_cells**2), device=device) * self._max_offset
        self.discrete = mode in ("declare", "joint")
        if self.discrete:
            self._counts = np.array([grid_cells**2, num_classes + (mode == "declare")])
            self.space: gymnasium.Space[np.ndarray] = gymnasium.spaces.MultiDiscrete(self._counts)
            self._answers = torch.arange(int(self._counts[1]), device=device)
        else:
            self._counts = np.empty(2 + num_classes if mode == "box" else 2)
            self.space = gymnasium.spaces.Box(-1.0, 1.0, self._counts.shape, np.float32)

    def decode(self, action: Shaped[Tensor, "batch numbers"], current: Float[Tensor, "batch 2"]) -> Move:
        """Decode a batch of actions.

        Args:
            action: Elements of the space, one in each row.
            current: The current fixations, (x, y) in [-1, 1].

        Raises:
            gymnasium.error.InvalidAction: On the CPU, when a cell or a class does not exist.
        """
        if self.discrete:
            cell, answer = action.unbind(1)
            try:
                # The answers are looked up as well, which detects an invalid one at almost no cost.
                offset, answer = self._cells.index_select(0, cell), self._answers.index_select(0, answer)
            except IndexError as error:
                raise self._invalid(action.numpy()) from error
            return Move((current + offset).clamp_(-1.0, 1.0) if self.relative else offset, answer)
        offset = action[:, :2] * self._max_offset
        location = (current + offset if self.relative else offset).clamp_(-1.0, 1.0)
        if self.mode == "location":
            return Move(location)
        scores = action[:, 2:]
        return Move(location, scores.argmax(1), (scores * LARGEST_LOGIT).log_softmax(1))

    def check(self, action: object, batch: int) -> Shaped[Tensor, "batch numbers"]:
        """Check the shape and the type of a batch of actions, and convert it to a tensor.

        Args:
            action: The actions of all agents, one in each row; anything that numpy converts to an array.
            batch: Number of agents.

        Raises:
            gymnasium.error.InvalidAction: When the shape or the type does not match the space, or a value lies outside
                a ``Box``. :meth:`decode` checks the range of whole numbers.
        """
        given = np.asarray(action)
        if given.dtype.kind not in ("iu" if self.discrete else "fiu") or given.shape != (batch, len(self._counts)):
            kind = "whole" if self.discrete else "floating-point"
            shape = self._counts.shape if batch == 1 else (batch, *self._counts.shape)
            found = given.shape[1:] if batch == 1 and given.shape[:1] == (1,) else given.shape
            raise gymnasium.error.InvalidAction(
                f"expected {kind} numbers of shape {shape}, a member of {self.space} for each agent; got {given.dtype} "
                f"of shape {found}"
            )
        given = np.ascontiguousarray(given, np.int64 if self.discrete else np.float32)
        if not self.discrete and not np.abs(given).max() <= 1:
            raise self._invalid(given)
        return torch.from_numpy(given)

    def _invalid(self, given: np.ndarray) -> gymnasium.error.InvalidAction:
        outside = next(row for row in np.asarray(given) if not self.space.contains(row))
        return gymnasium.error.InvalidAction(f"expected an action in {self.space}, got {outside.tolist()}")
