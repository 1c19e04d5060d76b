"""Mazes of junctions one after another, and the walk of an agent that looks along the ways before it takes one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

WAYS = ("left", "ahead", "right")


class Junction(NamedTuple):
    """Where three ways begin, of which one leads on. For each way, where the wall stands that closes it.

    Attributes:
        left: Cells from the junction to the wall across the way to the left, from 1; 0 when the way leads on.
        ahead: The same for the way ahead.
        right: The same for the way to the right.
    """

    left: int
    ahead: int
    right: int

    @property
    def open_way(self) -> int:
        """The way that leads on, as a place in ``WAYS``."""
        return self.index(0)


Maze = tuple[Junction, ...]


def all_junctions(sight: int) -> Iterator[Junction]:
    """All junctions that there are, each as likely as any other.

    Args:
        sight: Cells within which a blind way ends.
    """
    for open_way, *walls in product(range(len(WAYS)), range(1, sight + 1), range(1, sight + 1)):
        walls.insert(open_way, 0)
        yield Junction(*walls)


def draw_maze(num_junctions: int, sight: int, generator: np.random.Generator) -> Maze:
    """Draw a maze: at each junction a way that leads on, and how far the other two go, all of them as likely.

    Args:
        num_junctions: How many there are between the start and the exit.
        sight: Cells within which a blind way ends.
        generator: Draws it.
    """
    open_ways = generator.integers(len(WAYS), size=num_junctions)
    walls = generator.integers(1, sight, size=(num_junctions, len(WAYS)), endpoint=True)
    walls[np.arange(num_junctions), open_ways] = 0
    return tuple(Junction(*row) for row in walls.tolist())


def look_along(wall: int, sight: int) -> Float32[np.ndarray, "sight 3"]:
    """See what lies along a way: 1 floor, 0 wall; the cell nearest to the junction in the last row.

    The walls are low enough to look over, so that the floor behind a blind end shows as well.

    Args:
        wall: Cells from the junction to the wall across the way; 0 when the way leads on.
        sight: How many cells are seen.
    """
    view = np.zeros((sight, 3), np.float32)
    view[:, 1] = 1
    if wall:
        view[sight - wall, 1] = 0
    return view


@dataclass(frozen=True)
class Walk:
    """What an agent has done in a maze so far. It stands at a junction, at the exit or at a blind end.

    Attributes:
        maze: What it walks through.
        num_looks: The budget of looks for the whole walk.
        looked: Each look: at which junction, and along which way.
        taken: The way taken at each junction. Only the last one can be wrong.
        exhausted: Whether it asked for a look beyond the budget.
    """

    maze: Maze
    num_looks: int
    looked: tuple[tuple[int, int], ...] = ()
    taken: tuple[int, ...] = ()
    exhausted: bool = False

    @property
    def lost(self) -> bool:
        """Whether the way taken last is blind."""
        return bool(self.taken) and self.maze[len(self.taken) - 1].open_way != self.taken[-1]

    @property
    def escaped(self) -> bool:
        """Whether the agent is out of the maze."""
        return len(self.taken) == len(self.maze) and not self.lost

    @property
    def over(self) -> bool:
        """Whether nothing can be done any more."""
        return self.exhausted or self.escaped or self.lost

    @property
    def passed(self) -> int:
        """How many junctions lie behind."""
        return len(self.taken) - self.lost

    @property
    def direction(self) -> int | None:
        """The way looked along last at this junction; None before the first look."""
        here = self.looked and self.looked[-1][0] == len(self.taken)
        return self.looked[-1][1] if here else None

    def look(self, way: int) -> "Walk":
        """Look along a way. It ends the walk when the budget is used up."""
        if len(self.looked) == self.num_looks:
            return replace(self, exhausted=True)
        return replace(self, looked=(*self.looked, (len(self.taken), way)))

    def take(self, way: int) -> "Walk":
        """Take a way, wherever it leads."""
        return replace(self, taken=(*self.taken, way))
