"""One image at a time, as a ``gymnasium.Env``."""

from typing import Any

import gymnasium
import numpy as np
import torch

from glimpse_envs.classification.core import Observation, State
from glimpse_envs.classification.rendering import EpisodeRecorder, ansi, picture
from glimpse_envs.classification.spaces import check_options, forced_images, forced_locations, observation_space
from glimpse_envs.classification.task import Task
from glimpse_envs.window import Window, check_render_mode

Arrays = dict[str, np.ndarray]


class GlimpseEnv(gymnasium.Env[Arrays, np.ndarray]):
    """An image that is never seen whole.

    ## Description
    An agent moves a small multi-scale retina over an image, one glimpse after another, and says which class the image
    is of (Mnih et al., Recurrent Models of Visual Attention, NIPS 2014). Glimpses are few, and each may have its price,
    so that an agent has to learn where to look, and when it has seen enough.

    ## Action Space
    `action_mode` chooses one of four. A location is (x, y) in [-1, 1]: the image's centre is (0, 0), x grows to the
    right and y downwards, and the image's edges lie at -1 and 1.

    - `declare` (the default): `MultiDiscrete([grid_cells**2, K + 1])`, the cell whose middle is looked at next,
      numbered row by row from the upper left, and a class, or `K` to keep looking. Naming a class ends the episode.
    - `joint`: `MultiDiscrete([grid_cells**2, K])`, the cell and a class, at every glimpse. The last class counts.
    - `box`: `Box(-1, 1, (2 + K,))`, the location, and a score for each class. A score of 1 means 5 nats before the
      softmax, and the highest one is the answer.
    - `location`: `Box(-1, 1, (2,))`, the location alone, for a classifier outside.

    With `relative=True` a cell or a location is a saccade from the present fixation instead: what would be a location
    counts `largest_step` half images at its edges, along each axis. Where a saccade would leave the image, it ends at
    the edge. The location that comes
    with the final answer is never looked at.

    ## Observation Space
    A `Dict`:

    - `glimpse`: `Box(0, 1, (num_scales, channels, glimpse_size, glimpse_size))`, what the retina sees, finest scale
      first; black beyond the image's edge.
    - `location`: `Box(-1, 1, (2,))`, where it was seen.
    - `time`: `Box(0, 1, (1,))`, the share of the budget of glimpses that is used up.
    - `read`: `Box(0, 1, (1,))`, of sequences alone, the share of the targets that have been told.

    ## Rewards
    - `terminal`: 1 for a right answer that counts; of a sequence, each of its targets earns its share of 1.
    - `dense`: each glimpse's share of 1 for a right answer after it. In `declare` mode an answer stands for all the
      glimpses that are left, so that an early one earns more.
    - `improvement`: what each glimpse adds to the log-probability of the true class, nats, beginning with that of a
      uniform guess. In `box` mode the agent says it itself; in `location` mode a classifier does.

    From all of them `glimpse_cost` is taken at every step. In `location` mode each action earns what the glimpse does
    that it leads to, so that the first glimpse, which no action chose, neither earns nor costs anything; without a
    classifier there is nothing but the cost.

    ## Starting State
    An image of the split, each as likely as any other, on a canvas that is drawn anew for training; the first glimpse
    is at the centre, or with `first_location="random"` anywhere. `reset(options={"image": 7, "location": (0.0, 0.5)})`
    forces either.

    ## Episode End
    The episode is `terminated` by the answer: the class that is declared (of a sequence, the last of them), or the one
    that is named with the budget's last glimpse. To ask for a glimpse beyond the budget ends it as well, without an
    answer. In `location` mode the budget's last glimpse ends it. It is never truncated.

    `info` has the `label`, and, unless canvases are drawn anew, the number of the `image` in its split; at the end the
    number of `glimpses`, how many targets were told `right`, and whether that is all of them, `correct`.

    ## Arguments
    ```python
    import gymnasium

    env = gymnasium.make("glimpse_envs:Glimpse/Digits-v0", split="test", action_mode="declare", glimpse_cost=0.02)
    envs = gymnasium.make_vec("glimpse_envs:Glimpse/Digits-v0", num_envs=64)
    ```
    The arguments are those of :class:`glimpse_envs.classification.task.Task`, and `render_mode`: `rgb_array`, `human`
    or `ansi`.

    ## Version History
    - v0: the first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human", "ansi"], "render_fps": 2}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        self.task = Task.of(**options)
        self.render_mode = check_render_mode(render_mode, self.metadata["render_modes"])
        self.looking = self.task.looking()
        self.classes = self.looking.scenes.classes
        self.observation_space = observation_space(self.looking)
        self.action_space = self.looking.actions.space
        self._generator = torch.Generator()
        self._generator.seed()
        self._state: State | None = None
        self._over = False
        self._course = EpisodeRecorder(self.looking) if render_mode else None
        self._window: Window | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Fixes this episode and all that follow.
            options: ``image``, the number of the image in the split, and ``location``, where to look first, (x, y) in
                [-1, 1]; both are chosen as the environment's arguments say when left out.

        Raises:
            TaskError: When there is no such image or place.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._generator.manual_seed(int(self.np_random.integers(2**63)))
        forced = check_options(options, ("image", "location"))
        images = forced_images(forced, 1, len(self.looking.scenes))
        self._state = self.looking.begin(1, self._generator, images, forced_locations(forced, 1))
        self._over = False
        if self._course:
            self._course.begin(self._state)
            self._show()
        return arrays(self.looking.observe(self._state)), self._info(self._state)

    def step(self, action: Any) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Take an action.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset, and after the end of an episode.
            gymnasium.error.InvalidAction: When the action is not in the space.
        """
        if self._state is None or self._over:
            happened = "the episode has ended" if self._over else "there has been none yet"
            raise gymnasium.error.ResetNeeded(f"expected a reset before this step, as {happened}; call reset first")
        before = self._state
        move = self.looking.actions.move(self.looking.actions.check([action], 1), before.location)
        after, reward, terminated, right = self.looking.step(before, move)
        self._over = bool(terminated)
        if self._over:
            after = self.looking.closed(before, after)
        self._state = after
        info = self._info(after)
        if self._over:
            info["glimpses"] = int(after.taken)
            info["correct"] = float(right) == self.looking.scenes.num_targets
            info["right"] = int(right)
        if self._course:
            self._course.add(move, after, self._over)
            self._show()
        return arrays(self.looking.observe(after)), float(reward), self._over, False, info

    def render(self) -> Any:
        """Show the episode so far, see the class.

        Returns:
            For ``rgb_array`` a picture, uint8 (height, width, 3); for ``ansi`` a text; else None.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        if self._course is None:
            gymnasium.logger.warn("nothing is drawn without a render_mode; give one to gymnasium.make")
            return None
        if self._state is None:
            raise gymnasium.error.ResetNeeded("expected a reset before anything can be drawn, got none; call reset")
        if self.render_mode == "rgb_array":
            return np.asarray(picture(self._course))
        return ansi(self._course) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window:
            self._window.close()
            self._window = None

    def _info(self, state: State) -> dict[str, Any]:
        labels = state.labels[0].tolist()
        info: dict[str, Any] = {"label": labels[0] if len(labels) == 1 else np.array(labels)}
        if state.scene.ndim == 1:
            info["image"] = int(state.scene)
        return info

    def _show(self) -> None:
        if self.render_mode == "human" and self._course:
            self._window = self._window or Window(float(self.metadata["render_fps"]))
            self._window.show(np.asarray(picture(self._course)), "Glimpse")


def arrays(observation: Observation) -> Arrays:
    """What the only agent sees, as arrays of its own."""
    seen = {name: value.numpy()[0] for name, value in observation._asdict().items() if value is not None}
    # The location is the state's own.
    return seen | {"location": seen["location"].copy()}
