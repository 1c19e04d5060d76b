"""Random mazes, the view into a corridor, and the state of an episode."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

DIRECTIONS = ("left", "ahead", "right")
"""The corridors of a junction, from the view of the agent that arrives there."""


class Junction(NamedTuple):
    """A junction of three corridors, exactly one of which is open; the others end at a wall.

    Attributes:
        left: Distance to the wall in the left corridor, in cells from 1; 0 if the corridor is open.
        ahead: Distance to the wall in the corridor ahead, in cells from 1; 0 if the corridor is open.
        right: Distance to the wall in the right corridor, in cells from 1; 0 if the corridor is open.
    """

    left: int
    ahead: int
    right: int

    @property
    def open_direction(self) -> int:
        """Index in ``DIRECTIONS`` of the open corridor."""
        return self.index(0)


Maze = tuple[Junction, ...]


def all_junctions(sight: int) -> Iterator[Junction]:
    """All possible junctions; :func:`draw_maze` draws from them uniformly.

    Args:
        sight: Length of the view into a corridor, the largest distance to a wall, in cells.
    """
    for open_direction, *walls in product(range(len(DIRECTIONS)), range(1, sight + 1), range(1, sight + 1)):
        walls.insert(open_direction, 0)
        yield Junction(*walls)


def draw_maze(num_junctions: int, sight: int, generator: np.random.Generator) -> Maze:
    """Draw a maze: for each junction, uniformly, the open corridor and the distances to the walls of the other two.

    Args:
        num_junctions: Number of junctions from the start to the exit.
        sight: Length of the view into a corridor, the largest distance to a wall, in cells.
        generator: Source of randomness.
    """
    open_directions = generator.integers(len(DIRECTIONS), size=num_junctions)
    walls = generator.integers(1, sight, size=(num_junctions, len(DIRECTIONS)), endpoint=True)
    walls[np.arange(num_junctions), open_directions] = 0
    return tuple(Junction(*row) for row in walls.tolist())


def corridor_view(wall: int, sight: int) -> Float32[np.ndarray, "sight 3"]:
    """The view into a corridor: 1 for floor, 0 for wall; the last row is the cell nearest to the junction.

    The agent can see over the wall that ends a corridor, so the floor behind it is visible too.

    Args:
        wall: Distance to the wall, in cells; 0 if the corridor is open.
        sight: Length of the view, in cells.
    """
    view = np.zeros((sight, 3), np.float32)
    view[:, 1] = 1
    if wall:
        view[sight - wall, 1] = 0
    return view


@dataclass(frozen=True)
class MazeState:
    """The state of an episode: the maze, and the actions so far.

    Attributes:
        maze: The maze.
        num_looks: The budget of looks for the whole episode.
        looks: Junction and direction of each look.
        choices: Direction of the corridor taken at each junction. Only the last one can be wrong.
        over_budget: Whether a look beyond the budget was requested.
    """

    maze: Maze
    num_looks: int
    looks: tuple[tuple[int, int], ...] = ()
    choices: tuple[int, ...] = ()
    over_budget: bool = False

    @property
    def at_dead_end(self) -> bool:
        """Whether the corridor taken last ends at a wall."""
        return bool(self.choices) and self.maze[len(self.choices) - 1].open_direction != self.choices[-1]

    @property
    def at_exit(self) -> bool:
        """Whether the agent is out of the maze."""
        return len(self.choices) == len(self.maze) and not self.at_dead_end

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.over_budget or self.at_exit or self.at_dead_end

    @property
    def junctions_passed(self) -> int:
        """Number of junctions that the agent has passed."""
        return len(self.choices) - self.at_dead_end

    @property
    def direction(self) -> int | None:
        """Direction of the latest look at this junction; None before the first one."""
        here = self.looks and self.looks[-1][0] == len(self.choices)
        return self.looks[-1][1] if here else None

    def look(self, direction: int) -> "MazeState":
        """The state after a look into a corridor; a look beyond the budget ends the episode."""
        if len(self.looks) == self.num_looks:
            return replace(self, over_budget=True)
        return replace(self, looks=(*self.looks, (len(self.choices), direction)))

    def take(self, direction: int) -> "MazeState":
        """The state after taking a corridor."""
        return replace(self, choices=(*self.choices, direction))
