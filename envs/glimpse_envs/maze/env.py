"""The environment ``Glimpse/Maze-v0``: find the way out of a maze by looking along a way before taking it."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from jaxtyping import Float32

from glimpse_envs.maze.drawing import draw_plan, write_plan
from glimpse_envs.maze.generator import WAYS, Junction, Maze, Walk, draw_maze, look_along
from glimpse_envs.window import Window, check_render_mode

Observation = dict[str, Float32[np.ndarray, "..."]]

_UNSEEN = 0.5


def optimum(num_junctions: int, num_looks: int, look_cost: float, ways: int = len(WAYS)) -> float:
    """The greatest return that an agent can expect, exactly, by dynamic programming over what it can know.

    What it knows is how many junctions are left, how many looks it has left, and which ways may still lead on; of those
    each is as likely. A look along one of n such ways finds the open way with probability 1/n, and else leaves n - 1.
    With V(k, b, n) for the value at the first of k junctions with b looks left and n ways that may lead on, and
    V(0, b, n) = 1::

        V(k, b, n) = max(1/n V(k-1, b, 3),  -cost + 1/n V(k-1, b-1, 3) + (1 - 1/n) V(k, b-1, n-1))

    where the first is to take one of the ways, and the second, for b > 0 and n > 1, to look along one. When looks are
    worth their cost and the budget is never short, k junctions are worth ``1 - k * 5/3 * look_cost``: the first look
    settles it in one case of three, and the second in all others.

    Args:
        num_junctions: How many are left.
        num_looks: How many looks are left.
        look_cost: What a look costs.
        ways: How many ways may lead on from the junction where the agent is; below 3 it has seen the others to be
            blind, and at 1 it knows the way.
    """
    following = np.ones(num_looks + 1)
    for left in range(num_junctions):
        values = following
        for count in range(2, (ways if left == num_junctions - 1 else len(WAYS)) + 1):
            looking = following[:-1] / count + (1 - 1 / count) * values[:-1] - look_cost
            values = following / count
            values[1:] = np.maximum(values[1:], looking)
        following = values
    return float(following[-1])


class MazeEnv(gymnasium.Env[dict[str, Any], np.int64]):
    """An agent in a maze sees only the way it chooses to look along, and must commit itself to one.

    ## Description
    The textbook picture of hard attention, small enough to be solved exactly. A maze is drawn anew for every episode:
    `num_junctions` junctions one after another. From each, three ways lead on: to the left, ahead and to the right, as
    seen by the agent coming to it. Exactly one of them, each as likely, leads to the next junction, and from the last
    one to the exit. The other two end blind, at a wall 1 to `sight` cells away, each distance as likely. The agent sees
    nothing but the strip along the way that it looks at. It may look as often as its budget allows, and each look
    costs a little. Taking a way can't be undone.

    Three junctions with enough looks are worth 1 - 3 * 5/3 * `look_cost` to the best of agents, 0.9 as it comes: it
    looks along one way; if that is blind, along another; and if that is blind as well, it takes the third unseen.
    `optimal_return()` gives the exact figure for any other arguments. No memory is needed to reach it, since an agent
    that always looks along the ways in the same order knows from the last look which ones are left. An agent that
    never looks finds the way out of 1 maze in 27.

    ## Action Space
    `Discrete(6)`. Looking and taking a way are one choice, not two independent ones, so that agents for plain discrete
    actions, DQN and tables among them, can make it.

    | action | what it does |
    |---|---|
    | 0, 1, 2 | look along the way to the left, ahead, to the right |
    | 3, 4, 5 | take the way to the left, ahead, to the right |

    ## Observation Space
    A `Dict` of float32 arrays, each in [0, 1]:

    | key | shape | what it is |
    |---|---|---|
    | `view` | `(sight, 3)` | what lies along the way: 1 floor, 0 wall |
    | `direction` | `(4,)` | which way is looked along, one-hot: left, ahead, right, or none yet at this junction |
    | `time` | `(1,)` | share of the budget of looks that is used |
    | `progress` | `(1,)` | share of the junctions that lie behind |

    The *last* row of the view is the cell nearest to the junction, its middle column the way itself, and the outer ones
    the walls on either side. It is 0.5 all over as long as the agent hasn't looked from where it stands. A way leads on
    when all `sight` cells along its middle are floor. The walls are low enough to look over, so that the floor behind a
    blind end shows as well, and no single cell of the view gives the way away.

    The info has `looks` (how many were used), `passed` (how many junctions lie behind) and `is_success` (whether the
    agent is out).

    ## Rewards
    - each look: -`look_cost`
    - coming out of the maze: 1
    - everything else, a wrong way included: 0

    ## Starting State
    At the first junction of a new maze, nothing seen yet. `reset(options={"maze": [(0, 3, 1), ...]})` sets the maze
    instead: for each junction how many cells away the wall stands in the way to the left, ahead and to the right, 0
    where the way leads on.

    ## Episode End
    The episode terminates when the agent is out, when it takes a blind way, and when it asks for a look after the
    budget is used up (that look shows nothing and costs nothing; the last junctions can still be passed without one).
    It is never truncated.

    ## Arguments
    - `num_junctions`: junctions from the start to the exit, 3
    - `sight`: cells that the agent sees along a way, 5
    - `look_cost`: what a look costs, in [0, 1], 0.02
    - `num_looks`: the budget of looks for the whole maze; by default 3 for each junction, of which the best of agents
      needs at most 2
    - `render_mode`: `human` (a window, by pygame), `rgb_array` or `ansi`: the plan of the maze, in which whatever was
      never looked at is dark

    ```python
    gymnasium.make("glimpse_envs:Glimpse/Maze-v0", num_junctions=5, render_mode="human")
    ```

    ## Version History
    - v0: first version
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
        self.num_looks = len(WAYS) * num_junctions if num_looks is None else num_looks
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(2 * len(WAYS))
        shapes = {"view": (sight, 3), "direction": (len(WAYS) + 1,), "time": (1,), "progress": (1,)}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(0, 1, shape, np.float32) for name, shape in shapes.items()}
        )
        self._walk: Walk | None = None
        self._window = Window(float(self.metadata["render_fps"]))

    def optimal_return(self) -> float:
        """The return of the best of agents on average over all mazes; see :func:`optimum`."""
        return optimum(self.num_junctions, self.num_looks, self.look_cost)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin in another maze.

        Args:
            seed: Of all mazes from here on.
            options: ``maze`` sets the maze, as the class describes; nothing is drawn then.

        Raises:
            ValueError: When there is no such option, or the maze is none for these arguments.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(set(options) - {"maze"}):
            raise ValueError(f"expected no option but 'maze', got {unknown}; leave them out")
        if "maze" in options:
            maze = self._checked(options["maze"])
        else:
            maze = draw_maze(self.num_junctions, self.sight, self.np_random)
        self._walk = Walk(maze, self.num_looks)
        if self.render_mode == "human":
            self.render()
        return self._observe(self._walk), self._describe(self._walk)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Look along a way, or take one.

        Args:
            action: A whole number; below 3 look, from 3 on take: left, ahead, right.

        Raises:
            InvalidAction: When there is no such action.
            ResetNeeded: Before the first reset, and after an episode's end.
        """
        if self._walk is None or self._walk.over:
            when = "before the first reset()" if self._walk is None else "after the episode's end"
            raise ResetNeeded(f"expected a maze to be in, got a step {when}; call reset() first")
        if not self.action_space.contains(action):
            raise InvalidAction(
                f"expected an action from 0 to {2 * len(WAYS) - 1}, a whole number, got {action!r}; "
                "look left, ahead or right with 0, 1, 2, and take the way to the left, ahead or right with 3, 4, 5"
            )
        taking, way = divmod(int(action), len(WAYS))
        walk = self._walk.take(way) if taking else self._walk.look(way)
        cost = self.look_cost * (len(walk.looked) - len(self._walk.looked))
        self._walk = walk
        if self.render_mode == "human":
            self.render()
        return self._observe(walk), float(walk.escaped) - cost, walk.over, False, self._describe(walk)

    def render(self) -> Any:
        """Show the plan of the maze.

        Returns:
            RGB of shape (height, width, 3), 0 to 255, in mode ``rgb_array``; a text in mode ``ansi``; None in mode
            ``human``, whose window shows each step without being asked.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(
                "expected a render_mode to render in, got none; make the environment with render_mode='rgb_array'"
            )
            return None
        if self._walk is None:
            raise ResetNeeded("expected a maze to show, got render() before the first reset(); call reset() first")
        if self.render_mode == "ansi":
            return write_plan(self._walk, self.sight)
        frame = np.array(draw_plan(self._walk, self.sight))
        if self.render_mode == "rgb_array":
            return frame
        self._window.show(frame, "Glimpse/Maze-v0")
        return None

    def close(self) -> None:
        """Close the window."""
        self._window.close()

    def _checked(self, maze: Any) -> Maze:
        """Turn what a caller describes into a maze."""
        rows = maze if isinstance(maze, Sequence | np.ndarray) else ()
        junctions = [tuple(row) if isinstance(row, Sequence | np.ndarray) else () for row in rows]
        known = range(self.sight + 1)
        if len(junctions) != self.num_junctions or not all(
            len(walls) == len(WAYS) and walls.count(0) == 1 and all(wall in known for wall in walls)
            for walls in junctions
        ):
            raise ValueError(
                f"expected a maze of {self.num_junctions} junctions, each the cells to the wall in its three ways, "
                f"from 1 to {self.sight}, and 0 for the one that leads on, got {maze!r}; correct it"
            )
        return tuple(Junction(*map(int, walls)) for walls in junctions)

    def _observe(self, walk: Walk) -> Observation:
        """What the agent sees now, and what it knows of its budget and its way."""
        direction = np.zeros(len(WAYS) + 1, np.float32)
        direction[len(WAYS) if walk.direction is None else walk.direction] = 1
        if walk.direction is None:
            view = np.full((self.sight, 3), _UNSEEN, np.float32)
        else:
            view = look_along(walk.maze[len(walk.taken)][walk.direction], self.sight)
        return {
            "view": view,
            "direction": direction,
            "time": np.array([len(walk.looked) / self.num_looks], np.float32),
            "progress": np.array([walk.passed / self.num_junctions], np.float32),
        }

    def _describe(self, walk: Walk) -> dict[str, Any]:
        """The info of a step."""
        return {"looks": len(walk.looked), "passed": walk.passed, "is_success": walk.escaped}
