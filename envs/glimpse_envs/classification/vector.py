"""The vector environment, a ``gymnasium.vector.VectorEnv`` whose step is one batched computation."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from glimpse.errors import Argument
from glimpse_envs.classification.core import EpisodeState
from glimpse_envs.classification.rendering import EpisodeRecorder, draw_episode
from glimpse_envs.classification.reset_options import check_reset_options, parse_image_indices, parse_locations
from glimpse_envs.classification.spaces import DictObservation, observation_space, to_arrays
from glimpse_envs.classification.task import Task, TaskError
from glimpse_envs.classification.tensor import FinalStep, TensorEnv
from glimpse_envs.window import check_render_mode


class GlimpseVectorEnv(VectorEnv[DictObservation, np.ndarray, np.ndarray]):
    """A batch of :class:`glimpse_envs.classification.single.GlimpseEnv`, stepped in one batched computation.

    Create it with ``gymnasium.make_vec(id, num_envs=64)``. Observations, rewards and infos have the structure of
    Gymnasium's own vector environments, and their values equal those of single environments.

    All environments share one random generator, which ``reset(seed=...)`` seeds. The options of ``reset`` are ``image``
    and ``location``, one for each environment, and ``reset_mask``, the environments to reset.

    Args:
        num_envs: Number of environments.
        autoreset_mode: What happens when an episode ends, a ``gymnasium.vector.AutoresetMode`` or its value.
            ``SameStep`` (the default): the observation is the first one of the next episode, and ``infos`` contains
            ``final_obs`` and ``final_info``; Gymnasium's observation wrappers need one of the other two modes.
            ``NextStep``: the next step ignores its action and begins the next episode. ``Disabled``: the caller resets
            the environments with ``reset_mask``.
        render_mode: ``rgb_array`` or None.
        options: The arguments of :class:`glimpse_envs.classification.task.Task`, as for the single environment.

    Raises:
        TaskError: When an option is unknown, out of its range, or incompatible with another one.
        DataError: When the data set is not found.
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
        self.core = self.task.core()
        self.classes = self.core.scenes.classes
        self.single_observation_space = observation_space(self.core)
        self.single_action_space = self.core.actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.tensors = TensorEnv(self.core, num_envs, mode)
        self._label_infos: DictObservation = {}
        self._labels_read: torch.Tensor | None = None
        self._recorders = [EpisodeRecorder(self.core) for _ in range(num_envs)] if render_mode else []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[DictObservation, dict[str, Any]]:
        """Begin new episodes in all environments, or in those of ``reset_mask``.

        Args:
            seed: Seeds this episode and all following ones, of all environments.
            options: ``image``, indices of images in the split; ``location``, first fixations, (x, y) in [-1, 1]; both
                with one row for each environment that is reset. ``reset_mask``, booleans (num_envs,).

        Raises:
            TaskError: When an image or a location does not exist, the mask is invalid, or an option is unknown.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.tensors.seed(int(self.np_random.integers(2**63)))
        given = check_reset_options(options, ("image", "location", "reset_mask"))
        mask = self._mask(given)
        rows = None if mask is None else torch.from_numpy(mask).nonzero().squeeze(1)
        count = self.num_envs if rows is None else len(rows)
        images = parse_image_indices(given, count, len(self.core.scenes))
        observation = self.tensors.reset(images, parse_locations(given, count), rows)
        for row, recorder in enumerate(self._recorders):
            if mask is None or mask[row]:
                recorder.reset(self._state, row)
        return to_arrays(observation), self._infos(np.ones(self.num_envs, np.bool_) if mask is None else mask.copy())

    def step(self, actions: Any) -> tuple[DictObservation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one step in every environment.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset, and after the end of an episode if autoreset is
            disabled. gymnasium.error.InvalidAction: When the actions are not in the space.
        """
        given = self.core.actions.check(actions, self.num_envs)
        before = self.tensors.state
        observation, reward, terminated, final = self.tensors.step(given)
        ended = terminated.numpy().copy()
        infos = self._infos(np.ones(self.num_envs, np.bool_))
        if final is not None:
            self._add_final_infos(infos, final, ended)
        if self._recorders and before is not None:
            self._record(given, before, ended)
        return (
            to_arrays(observation),
            reward.numpy().astype(np.float64),
            ended,
            np.zeros(self.num_envs, np.bool_),
            infos,
        )

    def _record(self, actions: torch.Tensor, before: EpisodeState, ended: np.ndarray) -> None:
        """Record the step of every episode for :meth:`render`."""
        move = self.core.actions.decode(actions, before.location)
        for row, recorder in enumerate(self._recorders):
            mode = self.tensors.autoreset_mode
            was_reset = ended[row] if mode is AutoresetMode.SAME_STEP else recorder.over
            if was_reset:
                recorder.reset(self._state, row)
            else:
                recorder.add(move, self._state, bool(ended[row]), row)

    def _add_final_infos(self, infos: dict[str, Any], step: FinalStep, ended: np.ndarray) -> None:
        """Add the infos of episodes that have ended, in the structure of Gymnasium's vector environments."""
        rows, num_correct = step.rows.numpy(), step.num_correct.numpy()
        results = {
            "glimpses": step.glimpses_taken.numpy(),
            "correct": num_correct == self.core.scenes.num_targets,
            "right": num_correct.astype(np.int64),
        }
        same_step = self.tensors.autoreset_mode is AutoresetMode.SAME_STEP
        values_by_name: dict[str, Any] = {}
        for name, values in (results | _label_info(step) if same_step else results).items():
            values_by_name[name] = np.zeros((self.num_envs, *values.shape[1:]), values.dtype)
            values_by_name[name][rows] = values
            values_by_name[f"_{name}"] = ended
        if not same_step:
            infos |= values_by_name
            return
        final = np.full(self.num_envs, None, dtype=object)
        observation = to_arrays(step.observation)
        parts = zip(*[list(values) for values in observation.values()], strict=True)
        final[rows] = [dict(zip(observation, part, strict=False)) for part in parts]
        infos |= {"final_obs": final, "_final_obs": ended, "final_info": values_by_name, "_final_info": ended}

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        state = self._state
        # The labels are a new tensor after each reset; between two resets they are converted once.
        if state.labels is not self._labels_read:
            self._labels_read, self._label_infos = state.labels, _label_info(state)
        infos: dict[str, Any] = {}
        for name, values in self._label_infos.items():
            infos[name], infos[f"_{name}"] = values.copy(), mask
        return infos

    @property
    def _state(self) -> EpisodeState:
        """The state of the episodes, whether they have ended or not."""
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
        """Render every episode so far: one image each, uint8 (height, width, 3); None without a render mode.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        if not self._recorders:
            return None
        if self.tensors.state is None:
            raise gymnasium.error.ResetNeeded("expected a reset before anything can be drawn, got none; call reset")
        return tuple(np.asarray(draw_episode(recorder)) for recorder in self._recorders)


def _label_info(episodes: EpisodeState | FinalStep) -> dict[str, np.ndarray]:
    """The infos ``label`` and, for fixed images, ``image``; the arrays share the memory of the tensors."""
    labels: np.ndarray = episodes.labels.numpy()
    infos = {"label": labels[:, 0] if labels.shape[1] == 1 else labels}
    if episodes.scene.ndim == 1:
        infos["image"] = episodes.scene.numpy()
    return infos
