"""Many images side by side, as a ``gymnasium.vector.VectorEnv``: one batched step, no loop over environments."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from glimpse.errors import Argument
from glimpse_envs.classification.core import Observation, State
from glimpse_envs.classification.rendering import EpisodeRecorder, picture
from glimpse_envs.classification.spaces import check_options, forced_images, forced_locations, observation_space
from glimpse_envs.classification.task import Task, TaskError
from glimpse_envs.classification.tensor import Last, TensorEnv
from glimpse_envs.window import check_render_mode

Arrays = dict[str, np.ndarray]


class GlimpseVectorEnv(VectorEnv[Arrays, np.ndarray, np.ndarray]):
    """The environment :class:`glimpse_envs.classification.single.GlimpseEnv`, many times over, in one batched step.

    ``gymnasium.make_vec(id, num_envs=64)`` makes it. Observations, rewards and infos have the form that Gymnasium's own
    vector environments give them, and the numbers are those of single environments.

    All that is random comes from one generator, which ``reset(seed=...)`` seeds. The options of ``reset`` are ``image``
    and ``location`` for each environment, and ``reset_mask``, which environments to begin anew.

    Args:
        num_envs: How many environments.
        autoreset_mode: What follows the end of an episode, a ``gymnasium.vector.AutoresetMode`` or its value.
            ``SameStep`` (the default): the observation is the first of the next episode, ``infos`` has ``final_obs``
            and ``final_info``; Gymnasium's wrappers of observations want one of the other two. ``NextStep``: the next
            step passes its action over and begins the next episode. ``Disabled``: the caller resets by ``reset_mask``.
        render_mode: ``rgb_array`` or nothing.
        options: As for the single environment.

    Raises:
        TaskError: When an option is unknown, out of its range, or does not go with another.
        DataError: When the data are not there.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own form
        "render_modes": ["rgb_array"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        try:
            mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            known = ", ".join(mode.value for mode in AutoresetMode)
            raise TaskError(
                "expected ", Argument("autoreset_mode"), f" out of {known}; got {autoreset_mode!r}"
            ) from error
        if num_envs < 1:
            raise TaskError("expected ", Argument("num_envs"), f" of at least 1, got {num_envs}; raise it")
        self.task = Task.of(**options)
        self.num_envs = num_envs
        self.render_mode = check_render_mode(render_mode, self.metadata["render_modes"])
        self.metadata = {**self.metadata, "autoreset_mode": mode}
        self.autoreset_mode = mode  # where TorchRL looks for it
        self.looking = self.task.looking()
        self.classes = self.looking.scenes.classes
        self.single_observation_space = observation_space(self.looking)
        self.single_action_space = self.looking.actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.tensors = TensorEnv(self.looking, num_envs, mode)
        self._read: Arrays = {}
        self._read_of: torch.Tensor | None = None
        self._courses = [EpisodeRecorder(self.looking) for _ in range(num_envs)] if render_mode else []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Begin new episodes, see the class.

        Raises:
            TaskError: When there are no such images, places or environments.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.tensors.seed(int(self.np_random.integers(2**63)))
        forced = check_options(options, ("image", "location", "reset_mask"))
        mask = self._mask(forced)
        rows = None if mask is None else torch.from_numpy(mask).nonzero().squeeze(1)
        count = self.num_envs if rows is None else len(rows)
        images = forced_images(forced, count, len(self.looking.scenes))
        observation = self.tensors.reset(images, forced_locations(forced, count), rows)
        for row, course in enumerate(self._courses):
            if mask is None or mask[row]:
                course.begin(self._state, row)
        return arrays(observation), self._infos(np.ones(self.num_envs, np.bool_) if mask is None else mask.copy())

    def step(self, actions: Any) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Act in every environment.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset, and after an end where nothing begins anew by itself.
            gymnasium.error.InvalidAction: When the actions are not in the space.
        """
        given = self.looking.actions.check(actions, self.num_envs)
        before = self.tensors.state
        observation, reward, terminated, last = self.tensors.step(given)
        ended = terminated.numpy().copy()
        infos = self._infos(np.ones(self.num_envs, np.bool_))
        if last is not None:
            self._tell_last(infos, last, ended)
        if self._courses and before is not None:
            self._follow(given, before, ended)
        return arrays(observation), reward.numpy().astype(np.float64), ended, np.zeros(self.num_envs, np.bool_), infos

    def _follow(self, actions: torch.Tensor, before: State, ended: np.ndarray) -> None:
        """Note what happened in every episode, for :meth:`render`."""
        move = self.looking.actions.move(actions, before.location)
        for row, course in enumerate(self._courses):
            mode = self.tensors.autoreset_mode
            begun = ended[row] if mode is AutoresetMode.SAME_STEP else course.over
            if begun:
                course.begin(self._state, row)
            else:
                course.add(move, self._state, bool(ended[row]), row)

    def _tell_last(self, infos: dict[str, Any], last: Last, ended: np.ndarray) -> None:
        """Add what is told of episodes that have ended, as Gymnasium's vector environments do."""
        rows, right = last.rows.numpy(), last.right.numpy()
        found = {
            "glimpses": last.glimpses.numpy(),
            "correct": right == self.looking.scenes.num_targets,
            "right": right.astype(np.int64),
        }
        same_step = self.tensors.autoreset_mode is AutoresetMode.SAME_STEP
        told: dict[str, Any] = {}
        for name, values in (found | _told(last) if same_step else found).items():
            told[name] = np.zeros((self.num_envs, *values.shape[1:]), values.dtype)
            told[name][rows] = values
            told[f"_{name}"] = ended
        if not same_step:
            infos |= told
            return
        final = np.full(self.num_envs, None, dtype=object)
        seen = arrays(last.observation)
        parts = zip(*[list(values) for values in seen.values()], strict=True)
        final[rows] = [dict(zip(seen, part, strict=False)) for part in parts]
        infos |= {"final_obs": final, "_final_obs": ended, "final_info": told, "_final_info": ended}

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        state = self._state
        # Labels are another tensor as soon as an episode has begun anew; until then they are read once.
        if state.labels is not self._read_of:
            self._read_of, self._read = state.labels, _told(state)
        infos: dict[str, Any] = {}
        for name, values in self._read.items():
            infos[name], infos[f"_{name}"] = values.copy(), mask
        return infos

    @property
    def _state(self) -> State:
        """The episodes, whether they have ended or not."""
        if self.tensors.state is None:
            raise gymnasium.error.ResetNeeded("expected a reset before anything else, got none; call reset first")
        return self.tensors.state

    def _mask(self, options: Mapping[str, Any]) -> np.ndarray | None:
        mask = options.get("reset_mask")
        if mask is None:
            return None
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise TaskError(
                f"expected reset_mask to be {self.num_envs} booleans, at least one of them true, got {mask.dtype} "
                f"{mask.tolist()}"
            )
        return mask

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Show every episode so far: a picture each, uint8 (height, width, 3); None without a render mode.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        if not self._courses:
            return None
        if self.tensors.state is None:
            raise gymnasium.error.ResetNeeded("expected a reset before anything can be drawn, got none; call reset")
        return tuple(np.asarray(picture(course)) for course in self._courses)


def arrays(observation: Observation) -> Arrays:
    """What agents see, as arrays of their own."""
    seen = {
        "glimpse": observation.glimpse.numpy(),
        "location": observation.location.numpy().copy(),  # the state's own
        "time": observation.time.numpy(),
    }
    return seen if observation.read is None else seen | {"read": observation.read.numpy()}


def _told(episodes: State | Last) -> Arrays:
    """Labels, and the numbers of the images where canvases are not drawn anew; the arrays share the tensors' memory."""
    labels: np.ndarray = episodes.labels.numpy()
    told = {"label": labels[:, 0] if labels.shape[1] == 1 else labels}
    if episodes.scene.ndim == 1:
        told["image"] = episodes.scene.numpy()
    return told
