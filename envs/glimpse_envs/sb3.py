"""The batched environment as Stable-Baselines3 wants it: a ``VecEnv`` in one step, without a loop over environments."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from glimpse_envs.classification.task import TaskError
from glimpse_envs.classification.vector import Arrays
from glimpse_envs.evaluation import Agent, batch_of

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise gymnasium.error.DependencyNotInstalled(
        "expected Stable-Baselines3, which glimpse_envs.sb3 adapts the environments to, found none; "
        "run pip install stable-baselines3"
    ) from error

Indices = Iterable[int] | int | None


class GlimpseVecEnv(VecEnv):
    """A :class:`GlimpseVectorEnv` as a ``VecEnv`` of Stable-Baselines3.

    ``GlimpseVecEnv(gymnasium.make_vec("glimpse_envs:Glimpse/Digits-v0", num_envs=64))`` makes it, and
    ``PPO("MultiInputPolicy", ...)`` takes it. Infos have what those of single environments have, and of an episode that
    has ended also ``terminal_observation``, ``is_success``, and ``episode`` with return, length and time, so that no
    ``VecMonitor`` is needed for the figures of a log.

    The environments share one random generator, which the first of the seeds that :meth:`seed` hands out fixes. What
    :meth:`get_attr` finds is that of the batch as a whole, and so the same for every environment.

    Args:
        envs: The environments. They must begin anew by themselves (``autoreset_mode`` is ``SameStep``, the default).

    Raises:
        TaskError: When these are other environments.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        bare = batch_of(envs)
        if bare is not envs:
            raise TaskError(
                f"expected a GlimpseVectorEnv without a wrapper, got {type(envs).__name__}; wrap what comes out of "
                "GlimpseVecEnv instead"
            )
        if bare.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            raise TaskError("expected autoreset_mode 'SameStep', which Stable-Baselines3 builds upon; leave it out")
        self.envs = bare
        super().__init__(bare.num_envs, bare.single_observation_space, bare.single_action_space)
        self._began = time.time()
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._actions = np.empty(0)

    def reset(self) -> Arrays:
        """Begin new episodes, with the seeds and the options that were set before."""
        observation: Arrays
        observation, infos = self.envs.reset(seed=self._seeds[0], options=self._gathered())
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        self.reset_infos = self._split(infos)
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Arrays, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Act in every environment.

        Returns:
            Observations, rewards, whether episodes have ended, and infos; an observation that follows an end is the
            first of the next episode.
        """
        observation, rewards, ended, _, infos = self.envs.step(self._actions)
        told = self._split(infos)
        self._returns += rewards
        self._lengths += 1
        if ended.any():
            self._tell_last(told, infos, ended)
        return observation, rewards.astype(np.float32), ended, told

    def _tell_last(self, told: list[dict[str, Any]], infos: dict[str, Any], ended: np.ndarray) -> None:
        """Say of episodes that have ended what single environments say, in place of what begins."""
        seen = infos["final_obs"]
        rows = ended.nonzero()[0]
        final = self._split({name: values[rows] for name, values in infos["final_info"].items()})
        returns, lengths = self._returns[rows].tolist(), self._lengths[rows].tolist()
        elapsed = round(time.time() - self._began, 6)
        for place, row in enumerate(rows.tolist()):
            told[row] = final[place] | {
                "terminal_observation": seen[row],
                "is_success": final[place]["correct"],
                "episode": {"r": returns[place], "l": lengths[place], "t": elapsed},
            }
        self._returns[rows] = 0
        self._lengths[rows] = 0

    def _split(self, infos: dict[str, Any]) -> list[dict[str, Any]]:
        """The infos of each environment."""
        listed = {name: list(infos[name]) if infos[name].ndim > 1 else infos[name].tolist() for name in _named(infos)}
        return [
            dict(zip(listed, values, strict=True)) | {"TimeLimit.truncated": False}
            for values in zip(*listed.values(), strict=True)
        ]

    def _gathered(self) -> dict[str, Any] | None:
        """The options of all environments as those of the batch."""
        names = {name for options in self._options for name in options}
        for name in names:
            if not all(name in options for options in self._options):
                raise TaskError(f"expected the reset option {name!r} for every environment or for none; set it for all")
        return {name: [options[name] for options in self._options] for name in names} or None

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of every episode so far; :meth:`render` puts them side by side."""
        return list(self.envs.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of the batch as a whole, once for each environment; spaces are those of one."""
        name = f"single_{attr_name}" if attr_name in ("observation_space", "action_space") else attr_name
        return [getattr(self.envs, name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the batch as a whole.

        Raises:
            TaskError: When it is to be that of some environments alone.
        """
        self._check_all(attr_name, indices)
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch as a whole, once; what it returns stands for every environment.

        Raises:
            TaskError: When it is to be that of some environments alone.
        """
        self._check_all(method_name, indices)
        return [getattr(self.envs, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Whether environments have a wrapper: they never do."""
        return [False for _ in self._get_indices(indices)]

    def _check_all(self, name: str, indices: Indices) -> None:
        if list(self._get_indices(indices)) != list(range(self.num_envs)):
            raise TaskError(
                f"expected {name!r} for all {self.num_envs} environments, which are one batch, got indices {indices}; "
                "leave them out"
            )


def _named(infos: dict[str, Any]) -> list[str]:
    """What infos tell of each environment, less what they tell of the last episode."""
    return [name for name in infos if not name.startswith(("_", "final_"))]


def agent_of(model: BaseAlgorithm, deterministic: bool = True) -> Agent:
    """A trained model of Stable-Baselines3 or sb3-contrib as an agent for :func:`glimpse_envs.evaluation.evaluate`.

    Args:
        model: The model, recurrent or not.
        deterministic: Whether it takes its best action, rather than draw one.
    """
    memory: tuple[np.ndarray, ...] | None = None

    def act(observation: Arrays, first: np.ndarray) -> np.ndarray:
        nonlocal memory
        actions, memory = model.predict(observation, memory, first, deterministic)
        return actions

    return act
