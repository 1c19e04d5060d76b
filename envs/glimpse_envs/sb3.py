"""The vector environment as a ``VecEnv`` of Stable-Baselines3, with one batched step."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from glimpse_envs.classification.spaces import DictObservation
from glimpse_envs.classification.task import TaskError
from glimpse_envs.evaluation import Agent, unwrap_vector_env

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

    Create it with ``GlimpseVecEnv(gymnasium.make_vec("glimpse_envs:Glimpse/Digits-v0", num_envs=64))`` and train on it
    with ``PPO("MultiInputPolicy", ...)``. The infos contain those of single environments. At the end of an episode they
    also contain ``terminal_observation``, ``is_success``, and ``episode`` with return, length and time, so that
    statistics are logged without a ``VecMonitor``.

    The environments share one random generator, which is seeded by the first of the seeds that :meth:`seed` sets.
    Attributes are those of the batch as a whole, so :meth:`get_attr` returns the same value for every environment.

    Args:
        envs: The environments, with ``autoreset_mode`` ``SameStep``, the default.

    Raises:
        TaskError: When ``envs`` is another or a wrapped environment, or has another autoreset mode.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        bare = unwrap_vector_env(envs)
        if bare is not envs:
            raise TaskError(
                f"expected a GlimpseVectorEnv without a wrapper, got {type(envs).__name__}; wrap what comes out of "
                "GlimpseVecEnv instead"
            )
        if bare.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            raise TaskError("expected autoreset_mode 'SameStep', which Stable-Baselines3 builds upon; leave it out")
        self.envs = bare
        super().__init__(bare.num_envs, bare.single_observation_space, bare.single_action_space)
        self._start_time = time.time()
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._actions = np.empty(0)

    def reset(self) -> DictObservation:
        """Begin new episodes, with the seeds and the options that were set before the call."""
        observation: DictObservation
        observation, infos = self.envs.reset(seed=self._seeds[0], options=self._merged_options())
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        self.reset_infos = self._split(infos)
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[DictObservation, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Take one step in every environment.

        Returns:
            Observations, rewards, whether episodes have ended, and infos. After the end of an episode, the observation
            is the first one of the next episode.
        """
        observation, rewards, ended, _, infos = self.envs.step(self._actions)
        listed = self._split(infos)
        self._returns += rewards
        self._lengths += 1
        if ended.any():
            self._add_final_infos(listed, infos, ended)
        return observation, rewards.astype(np.float32), ended, listed

    def _add_final_infos(self, listed: list[dict[str, Any]], infos: dict[str, Any], ended: np.ndarray) -> None:
        """Replace the infos of episodes that have ended by their final ones."""
        observations = infos["final_obs"]
        rows = ended.nonzero()[0]
        final = self._split({name: values[rows] for name, values in infos["final_info"].items()})
        returns, lengths = self._returns[rows].tolist(), self._lengths[rows].tolist()
        elapsed = round(time.time() - self._start_time, 6)
        for place, row in enumerate(rows.tolist()):
            listed[row] = final[place] | {
                "terminal_observation": observations[row],
                "is_success": final[place]["correct"],
                "episode": {"r": returns[place], "l": lengths[place], "t": elapsed},
            }
        self._returns[rows] = 0
        self._lengths[rows] = 0

    def _split(self, infos: dict[str, Any]) -> list[dict[str, Any]]:
        """Split the infos of the batch into one dict for each environment."""
        listed = {
            name: list(infos[name]) if infos[name].ndim > 1 else infos[name].tolist() for name in _episode_keys(infos)
        }
        return [
            dict(zip(listed, values, strict=True)) | {"TimeLimit.truncated": False}
            for values in zip(*listed.values(), strict=True)
        ]

    def _merged_options(self) -> dict[str, Any] | None:
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
        """An attribute of the batch, once for each environment; the spaces are those of a single environment."""
        name = f"single_{attr_name}" if attr_name in ("observation_space", "action_space") else attr_name
        return [getattr(self.envs, name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the batch.

        Raises:
            TaskError: When ``indices`` are not all environments.
        """
        self._check_all(attr_name, indices)
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch once, and return its result for every environment.

        Raises:
            TaskError: When ``indices`` are not all environments.
        """
        self._check_all(method_name, indices)
        return [getattr(self.envs, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Whether environments have a wrapper; always False."""
        return [False for _ in self._get_indices(indices)]

    def _check_all(self, name: str, indices: Indices) -> None:
        if list(self._get_indices(indices)) != list(range(self.num_envs)):
            raise TaskError(
                f"expected {name!r} for all {self.num_envs} environments, which are one batch, got indices {indices}; "
                "leave them out"
            )


def _episode_keys(infos: dict[str, Any]) -> list[str]:
    """Names of the infos of the current episodes, without masks and final infos."""
    return [name for name in infos if not name.startswith(("_", "final_"))]


def agent_of(model: BaseAlgorithm, deterministic: bool = True) -> Agent:
    """A trained model of Stable-Baselines3 or sb3-contrib as an agent for :func:`glimpse_envs.evaluation.evaluate`.

    Args:
        model: The model, recurrent or not.
        deterministic: Whether it takes its most probable action, rather than sample one.
    """
    memory: tuple[np.ndarray, ...] | None = None

    def act(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        nonlocal memory
        actions, memory = model.predict(observation, memory, first, deterministic)
        return actions

    return act
