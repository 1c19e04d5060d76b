"""What an agent may do, as Gymnasium's spaces, and what an action means: where to look next, and what it says.

``declare``
    A cell of a grid laid over the image, and one of the classes or "keep looking". Naming a class ends the search.
``joint``
    A cell and a class at every glimpse; the episode has a fixed length.
``box``
    The same with numbers: x and y of the location, and a score for each class.
``location``
    A location alone. What is seen is judged by a classifier outside.
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
"""What a class score of 1 in ``box`` mode means, in nats before the softmax."""


class Move(NamedTuple):
    """What an action means."""

    location: Float[Tensor, "batch 2"]
    """Where to look next, (x, y) in [-1, 1]."""
    answer: Int64[Tensor, " batch"] | None = None
    """The class that is named; the number of classes to keep looking; None where nothing can be said."""
    log_probability: Float[Tensor, "batch classes"] | None = None
    """How likely each class is held to be, nats; None where that can't be said."""


class Actions:
    """The actions of one mode.

    Args:
        mode: One of ``ACTION_MODES``.
        num_classes: How many classes there are.
        grid_cells: Cells along each side of the grid that the discrete modes choose from.
        relative: Whether an action is a saccade from the present fixation, or a fixation.
        largest_step: Of a saccade along each axis, in half images, in (0, 2].
        device: Where actions are.
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
        self._reach = largest_step if relative else 1.0
        self._cells = torch.tensor(grid(grid_cells**2), device=device) * self._reach
        self.discrete = mode in ("declare", "joint")
        if self.discrete:
            self._counts = np.array([grid_cells**2, num_classes + (mode == "declare")])
            self.space: gymnasium.Space[np.ndarray] = gymnasium.spaces.MultiDiscrete(self._counts)
            self._answers = torch.arange(int(self._counts[1]), device=device)
        else:
            self._counts = np.empty(2 + num_classes if mode == "box" else 2)
            self.space = gymnasium.spaces.Box(-1.0, 1.0, self._counts.shape, np.float32)

    def move(self, action: Shaped[Tensor, "batch numbers"], present: Float[Tensor, "batch 2"]) -> Move:
        """What actions mean.

        Args:
            action: Members of the space, one a row.
            present: The present fixations, (x, y) in [-1, 1].

        Raises:
            gymnasium.error.InvalidAction: On the CPU, when there is no such cell or class.
        """
        if self.discrete:
            place, answer = action.unbind(1)
            try:
                # The answers are looked up as well: that tells a wrong one at no cost to speak of.
                cell, answer = self._cells.index_select(0, place), self._answers.index_select(0, answer)
            except IndexError as error:
                raise self._wrong(action.numpy()) from error
            return Move((present + cell).clamp_(-1.0, 1.0) if self.relative else cell, answer)
        asked = action[:, :2] * self._reach
        location = (present + asked if self.relative else asked).clamp_(-1.0, 1.0)
        if self.mode == "location":
            return Move(location)
        scores = action[:, 2:]
        return Move(location, scores.argmax(1), (scores * LARGEST_LOGIT).log_softmax(1))

    def check(self, action: object, batch: int) -> Shaped[Tensor, "batch numbers"]:
        """Refuse what has no action's shape and type, and make a tensor of what has.

        Args:
            action: What agents handed in, one action a row.
            batch: How many agents there are.

        Raises:
            gymnasium.error.InvalidAction: When it has another shape or type than the space, or lies outside a ``Box``.
                Whole numbers outside the space :meth:`move` finds out.
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
            raise self._wrong(given)
        return torch.from_numpy(given)

    def _wrong(self, given: np.ndarray) -> gymnasium.error.InvalidAction:
        outside = next(row for row in np.asarray(given) if not self.space.contains(row))
        return gymnasium.error.InvalidAction(f"expected an action in {self.space}, got {outside.tolist()}")
