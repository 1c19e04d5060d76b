"""The environment ``Glimpse/Maze-v0``: look into the corridors of a maze, and find the exit."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from jaxtyping import Float32

from glimpse_envs.maze.drawing import draw_plan, write_plan
from glimpse_envs.maze.generator import DIRECTIONS, Junction, Maze, MazeState, corridor_view, draw_maze
from glimpse_envs.window import DisplayWindow, check_render_mode

MazeObservation = dict[str, Float32[np.ndarray, "..."]]

_UNKNOWN = 0.5


def optimal_return(num_junctions: int, num_looks: int, look_cost: float, candidates: int = len(DIRECTIONS)) -> float:
    """The largest expected return of any agent, exactly, by dynamic programming over the agent's information.

    The agent knows how many junctions are left, how many looks are left, and how many corridors of the current junction
    may be open; each of these is open with equal probability. A look into one of n such corridors finds the open one
    with probability 1/n, and otherwise leaves n - 1. Let V(k, b, n) be the value at the first of k junctions, with b
    looks left and n corridors that may be open, and let V(0, b, n) = 1. Then::

        V(k, b, n) = max(1/n V(k-1, b, 3),  -cost + 1/n V(k-1, b-1, 3) + (1 - 1/n) V(k, b-1, n-1))

    The first term takes one of the n corridors; the second one, for b > 0 and n > 1, looks into one. If looks are worth
    their cost and the budget is sufficient, the value of k junctions is ``1 - k * 5/3 * look_cost``: one look is enough
    with probability 1/3, and two otherwise.

    Args:
        num_junctions: Number of junctions left.
        num_looks: Number of looks left.
        look_cost: Cost of a look.
        candidates: Number of corridors of the current junction that may be open, 1 to 3.
    """
    following = np.ones(num_looks + 1)
    for left in range(num_junctions):
        values = following
        for count in range(2, (candidates if left == num_junctions - 1 else len(DIRECTIONS)) + 1):
            look_value = following[:-1] / count + (1 - 1 / count) * values[:-1] - look_cost
            values = following / count
            values[1:] = np.maximum(values[1:], look_value)
        following = values
    return float(following[-1])


class MazeEnv(gymnasium.Env[dict[str, Any], np.int64]):
    """A maze in which the agent observes only the corridor that it looks into.

    ## Description
    A minimal model of hard attention whose optimal return is known exactly. A maze is drawn anew for every episode. It
    consists of `num_junctions` junctions in a row. At each junction there are three corridors: to the left, ahead and
    to the right, from the view of the agent that arrives there. One corridor, drawn uniformly, is open and leads to the
    next junction, or from the last junction to the exit. The other two end at a wall, at a distance drawn uniformly
    from 1 to `sight` cells. The agent observes only the corridor that it looks into. The number of looks is limited,
    and each look has a small cost. Taking a corridor cannot be undone.

    With a sufficient budget, the optimal return for three junctions is 1 - 3 * 5/3 * `look_cost`, which is 0.9 with the
    default arguments. The optimal agent looks into one corridor; if it ends at a wall, it looks into a second one; if
    that ends at a wall too, it takes the third one without a look. The method `optimal_return()` returns the exact
    value for any arguments. The optimal policy needs no memory: if the agent looks in a fixed order, the latest look
    determines which corridors remain. An agent that never looks reaches the exit in 1 of 27 mazes.

    ## Action Space
    `Discrete(6)`. Looking and taking a corridor are one discrete choice, so that agents for a single discrete action,
    for instance DQN and tabular methods, can be used.

    | action | meaning |
    |---|---|
    | 0, 1, 2 | look into the corridor to the left, ahead, to the right |
    | 3, 4, 5 | take the corridor to the left, ahead, to the right |

    ## Observation Space
    A `Dict` of float32 arrays with values in [0, 1]:

    | key | shape | description |
    |---|---|---|
    | `view` | `(sight, 3)` | the corridor that the agent looks into: 1 for floor, 0 for wall |
    | `direction` | `(4,)` | direction of the look, one-hot: left, ahead, right, or none at this junction yet |
    | `time` | `(1,)` | fraction of the budget of looks that has been used |
    | `progress` | `(1,)` | fraction of the junctions that have been passed |

    The *last* row of the view is the cell nearest to the junction. The middle column is the corridor, the outer columns
    are its side walls. All values are 0.5 until the agent has looked at the current junction. A corridor is open if all
    `sight` cells of its middle column are floor. The agent can see over the wall that ends a corridor, so the floor
    behind it is visible too, and no single cell shows whether the corridor is open.

    `info` contains `looks`, the number of looks used, `passed`, the number of junctions passed, and `is_success`,
    whether the agent has reached the exit.

    ## Rewards
    - each look: -`look_cost`
    - reaching the exit: 1
    - any other action, including the wrong corridor: 0

    ## Starting State
    The agent is at the first junction of a new maze and has not looked yet. `reset(options={"maze": [(0, 3, 1), ...]})`
    sets the maze: for each junction, the distances to the wall in the corridors to the left, ahead and to the right,
    with 0 for the open one.

    ## Episode End
    The episode terminates

    - when the agent reaches the exit,
    - when it takes a corridor that ends at a wall,
    - when it looks after the budget has been used; this look has no cost.

    With no looks left, the agent can still take corridors. The episode is never truncated.

    ## Arguments
    - `num_junctions`: number of junctions from the start to the exit, 3 by default
    - `sight`: length of the view into a corridor, in cells, 5 by default
    - `look_cost`: cost of a look, in [0, 1], 0.02 by default
    - `num_looks`: budget of looks for the episode; by default 3 for each junction, of which the optimal agent needs at
      most 2
    - `render_mode`: `human` (a window of pygame), `rgb_array` or `ansi`: the plan of the maze; cells that
      have not been observed are dark

    ```python
    gymnasium.make("glimpse_envs:Glimpse/Maze-v0", num_junctions=5, render_mode="human")
    ```

    ## Version History
    - v0: Initial version.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        num_junctions: int = 3,
        sight: int = 5,
        look_cost: float = 0.02,
        num_looks: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        counts: dict[str, Any] = {"num_junctions": num_junctions, "sight": sight, "num_looks": num_looks}
        for name, value in counts.items():
            if value is not None and (not isinstance(value, Integral) or value < 1):
                raise ValueError(f"expected {name} to be a whole number of at least 1, got {value!r}")
        cost: Any = look_cost
        if not isinstance(cost, Real) or not 0 <= look_cost <= 1:
            raise ValueError(f"expected a look_cost in [0, 1], got {look_cost!r}; a whole maze is worth 1")
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.num_junctions, self.sight, self.look_cost = num_junctions, sight, look_cost
        self.num_looks = len(DIRECTIONS) * num_junctions if num_looks is None else num_looks
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(2 * len(DIRECTIONS))
        shapes = {"view": (sight, 3), "direction": (len(DIRECTIONS) + 1,), "time": (1,), "progress": (1,)}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(0, 1, shape, np.float32) for name, shape in shapes.items()}
        )
        self._state: MazeState | None = None
        self._window = DisplayWindow(float(self.metadata["render_fps"]))

    def optimal_return(self) -> float:
        """The largest expected return of any agent with these arguments; see :func:`optimal_return`."""
        return optimal_return(self.num_junctions, self.num_looks, self.look_cost)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[MazeObservation, dict[str, Any]]:
        """Begin a new episode.

        Args:
            seed: Seeds the mazes of this episode and all following ones.
            options: ``maze`` sets the maze, as the class describes; by default it is drawn.

        Raises:
            ValueError: When an option is unknown, or the maze does not match the arguments of the environment.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(set(options) - {"maze"}):
            raise ValueError(f"expected no option but 'maze', got {unknown}; leave them out")
        if "maze" in options:
            maze = self._parse_maze(options["maze"])
        else:
            maze = draw_maze(self.num_junctions, self.sight, self.np_random)
        self._state = MazeState(maze, self.num_looks)
        if self.render_mode == "human":
            self.render()
        return self._observe(self._state), self._describe(self._state)

    def step(self, action: Any) -> tuple[MazeObservation, float, bool, bool, dict[str, Any]]:
        """Look into a corridor, or take one.

        Args:
            action: 0, 1, 2 to look left, ahead, right; 3, 4, 5 to take the corridor to the left, ahead, right.

        Raises:
            InvalidAction: When the action is not in the space.
            ResetNeeded: Before the first reset, and after the end of an episode.
        """
        if self._state is None or self._state.over:
            when = "before the first reset()" if self._state is None else "after the episode's end"
            raise ResetNeeded(
                f"expected an episode that has begun and not ended, got a step {when}; call reset() first"
            )
        if not self.action_space.contains(action):
            raise InvalidAction(
                f"expected an action from 0 to {2 * len(DIRECTIONS) - 1}, a whole number, got {action!r}; "
                "look left, ahead or right with 0, 1, 2, and take the corridor to the left, ahead or right with 3, 4, 5"
            )
        is_take, direction = divmod(int(action), len(DIRECTIONS))
        state = self._state.take(direction) if is_take else self._state.look(direction)
        cost = self.look_cost * (len(state.looks) - len(self._state.looks))
        self._state = state
        if self.render_mode == "human":
            self.render()
        return self._observe(state), float(state.at_exit) - cost, state.over, False, self._describe(state)

    def render(self) -> Any:
        """Render the plan of the maze.

        Returns:
            RGB of shape (height, width, 3), 0 to 255, in mode ``rgb_array``; a text in mode ``ansi``; None in mode
            ``human``, which shows every step in a window automatically.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(
                "expected a render_mode to render in, got none; make the environment with render_mode='rgb_array'"
            )
            return None
        if self._state is None:
            raise ResetNeeded("expected a maze to show, got render() before the first reset(); call reset() first")
        if self.render_mode == "ansi":
            return write_plan(self._state, self.sight)
        frame = np.array(draw_plan(self._state, self.sight))
        if self.render_mode == "rgb_array":
            return frame
        self._window.show(frame, "Glimpse/Maze-v0")
        return None

    def close(self) -> None:
        """Close the window."""
        self._window.close()

    def _parse_maze(self, maze: Any) -> Maze:
        """Convert the reset option ``maze``, after a check."""
        rows = maze if isinstance(maze, Sequence | np.ndarray) else ()
        junctions = [tuple(row) if isinstance(row, Sequence | np.ndarray) else () for row in rows]
        known = range(self.sight + 1)
        if len(junctions) != self.num_junctions or not all(
            len(walls) == len(DIRECTIONS) and walls.count(0) == 1 and all(wall in known for wall in walls)
            for walls in junctions
        ):
            raise ValueError(
                f"expected a maze of {self.num_junctions} junctions, each the cells to the wall in three corridors, "
                f"from 1 to {self.sight}, and 0 for the open one, got {maze!r}; correct it"
            )
        return tuple(Junction(*map(int, walls)) for walls in junctions)

    def _observe(self, state: MazeState) -> MazeObservation:
        """The observation in a state."""
        direction = np.zeros(len(DIRECTIONS) + 1, np.float32)
        direction[len(DIRECTIONS) if state.direction is None else state.direction] = 1
        if state.direction is None:
            view = np.full((self.sight, 3), _UNKNOWN, np.float32)
        else:
            view = corridor_view(state.maze[len(state.choices)][state.direction], self.sight)
        return {
            "view": view,
            "direction": direction,
            "time": np.array([len(state.looks) / self.num_looks], np.float32),
            "progress": np.array([state.junctions_passed / self.num_junctions], np.float32),
        }

    def _describe(self, state: MazeState) -> dict[str, Any]:
        """The info of a step."""
        return {"looks": len(state.looks), "passed": state.junctions_passed, "is_success": state.at_exit}
