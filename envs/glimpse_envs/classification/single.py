"""The single environment, a ``gymnasium.Env``."""

from typing import Any

import gymnasium
import numpy as np
import torch

from glimpse_envs.classification.core import EpisodeState
from glimpse_envs.classification.rendering import EpisodeRecorder, draw_episode, write_episode
from glimpse_envs.classification.reset_options import check_reset_options, parse_image_indices, parse_locations
from glimpse_envs.classification.spaces import DictObservation, observation_space, to_arrays
from glimpse_envs.classification.task import Task
from glimpse_envs.window import DisplayWindow, check_render_mode


class GlimpseEnv(gymnasium.Env[DictObservation, np.ndarray]):
    """Image classification from a sequence of glimpses.

    ## Description
    An agent classifies an image that it never observes as a whole. It moves a small multi-scale retina over the image,
    one glimpse after another, and names the class (Mnih et al., Recurrent Models of Visual Attention, NIPS 2014). The
    number of glimpses is limited, and each one may have a cost. The agent therefore has to learn where to look, and
    when it has enough information to answer.

    ## Action Space
    `action_mode` selects one of four action spaces. `K` is the number of classes. A location is (x, y) in [-1, 1]: the
    centre of the image is (0, 0), x increases to the right and y downwards, and the edges of the image are at -1 and 1.

    - `declare` (the default): `MultiDiscrete([grid_cells**2, K + 1])`. The first number is the grid cell whose centre
      is the next fixation, counted row by row from the upper left. The second number is a class, or `K` to keep
      looking. Naming a class ends the episode.
    - `joint`: `MultiDiscrete([grid_cells**2, K])`, a grid cell and a class at every glimpse. The last class is the
      answer. With several targets, the budget is divided equally among them, and the last class of each part is the
      answer for that target.
    - `box`: `Box(-1, 1, (2 + K,))`, a location and a score for each class. A score of 1 is a logit of 5 nats. The class
      with the highest score is named, and counts as in `joint` mode.
    - `location`: `Box(-1, 1, (2,))`, only a location. A separate `classifier` classifies the glimpses.

    With `relative=True`, a cell or a location is a saccade relative to the current fixation: the values -1 and 1 stand
    for `largest_step` half images along each axis. A saccade that would leave the image ends at its edge. No glimpse is
    taken at the location of the action that ends the episode, except in `location` mode.

    ## Observation Space
    A `Dict` of float32 arrays:

    - `glimpse`: `Box(0, 1, (num_scales, channels, glimpse_size, glimpse_size))`, the output of the retina, finest scale
      first; black outside the image.
    - `location`: `Box(-1, 1, (2,))`, the current fixation, the centre of the glimpse.
    - `time`: `Box(0, 1, (1,))`, the fraction of the glimpse budget that has been used.
    - `read`: `Box(0, 1, (1,))`, the fraction of the targets that have been classified; only with several targets.

    `info` contains `label`, the true class, and `image`, the index of the image in its split (not if canvases are drawn
    anew for every episode). At the end of an episode it also contains `glimpses`, the number of glimpses taken,
    `right`, the number of targets that were classified correctly, and `correct`, whether all of them were.

    ## Rewards
    `reward` selects one of three rewards:

    - `terminal`: 1 for a correct answer. With several targets, each one is worth an equal fraction of 1, which is paid
      with its answer.
    - `dense`: after each glimpse, `1 / num_glimpses` for a correct answer. In `declare` mode an answer counts for all
      remaining glimpses as well, so that an early correct answer has the highest return.
    - `improvement`: after each glimpse, the increase of the log-probability of the true class in nats, starting from a
      uniform distribution. The probabilities are those of the agent in `box` mode, and those of the classifier in
      `location` mode. The other modes do not have this reward.

    `glimpse_cost` is subtracted at every step. In `location` mode, the reward of an action is that of the glimpse which
    it leads to; the first glimpse has neither reward nor cost. Without a classifier, the reward is only the cost.

    ## Starting State
    An image is drawn uniformly from the split; in the training split, its canvas is drawn anew for every episode. The
    first glimpse is taken at the centre, or at a random location with `first_location="random"`.
    `reset(options={"image": 7, "location": (0.0, 0.5)})` sets the image and the first location.

    ## Episode End
    The episode terminates

    - in `declare` mode, when the agent names a class (with several targets, when it names the last one), or when it
      asks for a glimpse beyond the budget, which counts as no answer;
    - in `joint` and `box` mode, at the action that follows the last glimpse of the budget;
    - in `location` mode, with the last glimpse of the budget.

    The episode is never truncated.

    ## Arguments
    ```python
    import gymnasium

    env = gymnasium.make("glimpse_envs:Glimpse/Digits-v0", split="test", action_mode="declare", glimpse_cost=0.02)
    envs = gymnasium.make_vec("glimpse_envs:Glimpse/Digits-v0", num_envs=64)
    ```
    `render_mode` is `rgb_array`, `human` (a window of pygame) or `ansi`. All frames of an environment have one size
    with even sides, so that `gymnasium.wrappers.RecordVideo` can record them (`pip install moviepy`). The other
    arguments are those of :class:`glimpse_envs.classification.task.Task`.

    ## Version History
    - v0: Initial version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human", "ansi"], "render_fps": 2}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        self.task = Task.of(**options)
        self.render_mode = check_render_mode(render_mode, self.metadata["render_modes"])
        self.core = self.task.core()
        self.classes = self.core.scenes.classes
        self.observation_space = observation_space(self.core)
        self.action_space = self.core.actions.space
        self._generator = torch.Generator()
        self._generator.seed()
        self._state: EpisodeState | None = None
        self._over = False
        self._recorder = EpisodeRecorder(self.core) if render_mode else None
        self._window: DisplayWindow | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[DictObservation, dict[str, Any]]:
        """Begin a new episode.

        Args:
            seed: Seeds this episode and all following ones.
            options: ``image``, the index of the image in the split, and ``location``, the first fixation, (x, y) in
                [-1, 1]. By default the image is drawn at random, and the location follows ``first_location``.

        Raises:
            TaskError: When the image or the location does not exist, or an option is unknown.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._generator.manual_seed(int(self.np_random.integers(2**63)))
        given = check_reset_options(options, ("image", "location"))
        images = parse_image_indices(given, 1, len(self.core.scenes))
        self._state = self.core.reset(1, self._generator, images, parse_locations(given, 1))
        self._over = False
        if self._recorder:
            self._recorder.reset(self._state)
            self._show_window()
        return self._observe(self._state), self._info(self._state)

    def step(self, action: Any) -> tuple[DictObservation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset, and after the end of an episode.
            gymnasium.error.InvalidAction: When the action is not in the space.
        """
        if self._state is None or self._over:
            happened = "the episode has ended" if self._over else "there has been none yet"
            raise gymnasium.error.ResetNeeded(f"expected a reset before this step, as {happened}; call reset first")
        before = self._state
        move = self.core.actions.decode(self.core.actions.check([action], 1), before.location)
        after, reward, terminated, num_correct = self.core.step(before, move)
        self._over = bool(terminated)
        if self._over:
            after = self.core.final_state(before, after)
        self._state = after
        info = self._info(after)
        if self._over:
            info["glimpses"] = int(after.glimpses_taken)
            info["correct"] = float(num_correct) == self.core.scenes.num_targets
            info["right"] = int(num_correct)
        if self._recorder:
            self._recorder.add(move, after, self._over)
            self._show_window()
        return self._observe(after), float(reward), self._over, False, info

    def render(self) -> Any:
        """Render the episode so far.

        Returns:
            For ``rgb_array`` an image, uint8 (height, width, 3); for ``ansi`` a text; otherwise None.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        if self._recorder is None:
            gymnasium.logger.warn("nothing is drawn without a render_mode; give one to gymnasium.make")
            return None
        if self._state is None:
            raise gymnasium.error.ResetNeeded("expected a reset before anything can be drawn, got none; call reset")
        if self.render_mode == "rgb_array":
            return np.asarray(draw_episode(self._recorder))
        return write_episode(self._recorder) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Close the window if one is open."""
        if self._window:
            self._window.close()
            self._window = None

    def _observe(self, state: EpisodeState) -> DictObservation:
        return {name: values[0] for name, values in to_arrays(self.core.observe(state)).items()}

    def _info(self, state: EpisodeState) -> dict[str, Any]:
        labels = state.labels[0].tolist()
        info: dict[str, Any] = {"label": labels[0] if len(labels) == 1 else np.array(labels)}
        if state.scene.ndim == 1:
            info["image"] = int(state.scene)
        return info

    def _show_window(self) -> None:
        if self.render_mode == "human" and self._recorder:
            self._window = self._window or DisplayWindow(float(self.metadata["render_fps"]))
            self._window.show(np.asarray(draw_episode(self._recorder)), "Glimpse")
