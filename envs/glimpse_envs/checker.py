"""A check that a vector environment is equivalent to single environments; Gymnasium has no such check.

It compares a vector environment with single environments on the same images, with the same first locations and actions,
in every autoreset mode. It also checks spaces, types, seeds, masks, and the infos at the end of an episode.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

_Observation = dict[str, np.ndarray]


class VectorEnvError(Exception):
    """A vector environment that is not equivalent to single environments."""


def check_vector_env(env_id: str, num_envs: int = 5, steps: int = 40, seed: int = 0, **options: Any) -> None:
    """Check the vector environment of an id in every autoreset mode.

    Args:
        env_id: Id of the environment, registered for ``gymnasium.make`` and ``gymnasium.make_vec``. Values are compared
            if its ``info`` contains ``image``, that is, unless canvases are drawn anew for every episode.
        num_envs: Number of environments.
        steps: Steps in each mode; should be enough for several episodes.
        seed: Seeds the actions and the images.
        options: Further arguments of the environment.

    Raises:
        VectorEnvError: When it is not equivalent to single environments.
    """
    for mode in AutoresetMode:
        envs = gymnasium.make_vec(
            env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", autoreset_mode=mode, **options
        )
        singles = [gymnasium.make(env_id, disable_env_checker=True, **options) for _ in range(num_envs)]
        try:
            _check_spaces(envs, singles[0])
            _check_seeds(envs, seed)
            _check_episodes(envs, singles, mode, steps, seed)
        finally:
            envs.close()
            for single in singles:
                single.close()


def _expect(right: Any, sentence: str) -> None:
    if not right:
        raise VectorEnvError(sentence)


def _check_spaces(envs: VectorEnv[Any, Any, Any], single: gymnasium.Env[Any, Any]) -> None:
    for name in ("observation_space", "action_space"):
        one, each, batch = getattr(single, name), getattr(envs, f"single_{name}"), getattr(envs, name)
        _expect(each == one, f"expected single_{name} to be the single environment's {one}, got {each}")
        wanted = gymnasium.vector.utils.batch_space(one, envs.num_envs)
        _expect(batch == wanted, f"expected {name} to be {wanted}, got {batch}")


def _check_seeds(envs: VectorEnv[Any, Any, Any], seed: int) -> None:
    envs.action_space.seed(seed)
    actions = envs.action_space.sample()
    runs = []
    for start in (seed, seed, seed + 1):
        first, _ = envs.reset(seed=start)
        runs.append((first, *envs.step(actions)[:2]))
    _expect(_same(runs[0], runs[1]), f"expected the same episodes again after reset(seed={seed}), got others")
    _expect(not _same(runs[0], runs[2]), f"expected other episodes under seed {seed + 1} than under {seed}")
    ahead, _ = envs.reset()
    _expect(not _same(ahead, runs[0][0]), "expected a reset without a seed to go on with new episodes, got the same")


def _check_episodes(
    envs: VectorEnv[Any, Any, Any],
    singles: list[gymnasium.Env[Any, Any]],
    mode: AutoresetMode,
    steps: int,
    seed: int,
) -> None:
    """Step the vector environment and the single ones together, and compare them."""
    rows = range(envs.num_envs)
    observation, infos = envs.reset(seed=seed)
    _check_types(envs, observation)
    comparable = "image" in infos
    for row in rows if comparable else ():
        _align(singles[row], observation, infos, row)
    ended = np.zeros(envs.num_envs, dtype=np.bool_)
    for _ in range(steps):
        before = observation
        actions = envs.action_space.sample()
        if mode is AutoresetMode.DISABLED and ended.any():
            observation, infos = envs.reset(options={"reset_mask": ended})
            _expect(
                bool((infos["_label"] == ended).all()), f"expected infos of the environments {ended} alone, got others"
            )
            for row in np.flatnonzero(~ended).tolist():
                kept = _same(_row(observation, row), _row(before, row))
                _expect(kept, f"expected reset_mask to leave environment {row} as it was, got another observation")
            for row in np.flatnonzero(ended).tolist() if comparable else ():
                _align(singles[row], observation, infos, row)
            ended = np.zeros_like(ended)
            continue
        observation, rewards, terminated, truncated, infos = envs.step(actions)
        _check_types(envs, observation)
        _check_outcome(envs, rewards, terminated, truncated)
        passed_over = ended if mode is AutoresetMode.NEXT_STEP else np.zeros_like(ended)
        _check_final_infos(infos, terminated | truncated, mode)
        for row in rows if comparable else ():
            if passed_over[row]:
                _expect(
                    rewards[row] == 0 and not terminated[row],
                    f"expected environment {row} to begin anew, without "
                    f"a reward; got {rewards[row]} and terminated={terminated[row]}",
                )
                _align(singles[row], observation, infos, row)
                continue
            alone, reward, over, _, info = singles[row].step(actions[row])
            close = abs(float(rewards[row]) - float(reward)) < 1e-5
            _expect(close, f"expected environment {row} to earn {reward}, as alone, got {rewards[row]}")
            _expect(terminated[row] == over, f"expected terminated={over} in environment {row}, got {terminated[row]}")
            if over and mode is AutoresetMode.SAME_STEP:
                last = infos["final_obs"][row]
                _expect(_same(last, alone), f"expected final_obs of environment {row} to be what it saw last, got else")
                final = {name: infos["final_info"][name][row] for name in info}
                _expect(_same(final, info), f"expected final_info {info} of environment {row}, got {final}")
                _align(singles[row], observation, infos, row)
            else:
                _expect(_same(_row(observation, row), alone), f"expected environment {row} to see what it sees alone")
        ended = terminated | truncated


def _align(single: gymnasium.Env[Any, Any], observation: _Observation, infos: dict[str, Any], row: int) -> None:
    """Reset a single environment to the image and location of a row that has just been reset, and compare them."""
    options = {"image": int(infos["image"][row]), "location": observation["location"][row]}
    alone, info = single.reset(options=options)
    _expect(_same(_row(observation, row), alone), f"expected environment {row} to begin as it does alone, got else")
    batched = {name: infos[name][row] for name in info}
    _expect(_same(batched, info), f"expected the info {info} of environment {row}, got {batched}")


def _check_types(envs: VectorEnv[Any, Any, Any], observation: _Observation) -> None:
    inside = envs.observation_space.contains(observation)
    _expect(
        inside,
        f"expected an observation in {envs.observation_space}, got "
        f"{ {name: (value.dtype, value.shape) for name, value in observation.items()} }",
    )


def _check_outcome(
    envs: VectorEnv[Any, Any, Any], rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray
) -> None:
    for name, values, kind in (
        ("rewards", rewards, np.float64),
        ("terminations", terminated, np.bool_),
        ("truncations", truncated, np.bool_),
    ):
        right = values.dtype == kind and values.shape == (envs.num_envs,)
        _expect(right, f"expected {name} as {kind.__name__} ({envs.num_envs},), got {values.dtype} {values.shape}")


def _check_final_infos(infos: dict[str, Any], ended: np.ndarray, mode: AutoresetMode) -> None:
    if mode is not AutoresetMode.SAME_STEP:
        _expect("final_obs" not in infos, f"expected no final_obs under {mode.value}, got one")
        return
    _expect(("final_obs" in infos) == bool(ended.any()), "expected final_obs exactly where an episode has ended")
    if ended.any():
        for name in ("final_obs", "final_info"):
            mask = infos[f"_{name}"]
            _expect(bool((mask == ended).all()), f"expected the mask of {name} to be {ended}, got {mask}")
        present = [value is not None for value in infos["final_obs"]]
        _expect(present == ended.tolist(), f"expected final_obs for the environments {ended} alone, got {present}")


def _row(observation: _Observation, row: int) -> _Observation:
    return {name: values[row] for name, values in observation.items()}


def _same(one: Any, other: Any) -> bool:
    """Whether two values, or (nested) tuples and dicts of them, agree within 1e-6."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.allclose(one, other, rtol=0, atol=1e-6))
