import copy
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from glimpse.nn.retina import extract_glimpse
from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.single import GlimpseEnv
from glimpse_envs.classification.task import TaskError

IMAGES = torch.randint(0, 256, (5, 1, 16, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PICTURES = Pictures(IMAGES, torch.tensor([0, 1, 2, 0, 1]), ("ant", "bee", "cow"))
KEEP = 3


def env_of(**options: Any) -> GlimpseEnv:
    given: dict[str, Any] = {"dataset": PICTURES, "glimpse_size": 4, "num_scales": 2, "num_glimpses": 3} | options
    return GlimpseEnv(**given)


def test_an_episode_from_its_first_glimpse_to_its_answer():
    env = env_of(glimpse_cost=0.25)
    seen, info = env.reset(seed=1, options={"image": 4, "location": (0.5, -0.5)})
    assert info == {"label": 1, "image": 4}
    exact = extract_glimpse(IMAGES[4:5], torch.tensor([[0.5, -0.5]]), 4, 2, 2)[0]
    np.testing.assert_allclose(seen["glimpse"], exact.numpy(), atol=0.51 / 255)
    assert seen["location"].tolist() == [0.5, -0.5]
    seen, reward, terminated, truncated, info = env.step([24, KEEP])
    assert (reward, terminated, truncated) == (-0.25, False, False)
    assert info == {"label": 1, "image": 4}
    np.testing.assert_allclose(seen["location"], [0.8, 0.8], atol=1e-6)
    last, reward, terminated, truncated, info = env.step(np.array([0, 1]))
    assert (reward, terminated, truncated) == (0.75, True, False)
    assert info == {"label": 1, "glimpses": 2, "image": 4, "correct": True, "right": 1}
    np.testing.assert_array_equal(last["glimpse"], seen["glimpse"])
    np.testing.assert_array_equal(last["location"], seen["location"])


def test_a_used_up_budget_is_terminated_never_truncated():
    env = env_of()
    env.reset(seed=0)
    told = [env.step([0, KEEP])[2:4] for _ in range(3)]
    assert told == [(False, False), (False, False), (True, False)]


def test_steps_out_of_turn_are_refused():
    env = env_of()
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset before this step, as there has been none"):
        env.step([0, 0])
    env.reset()
    env.step([0, 0])
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset before this step, as the episode has end"):
        env.step([0, 0])


def test_a_wrong_action_changes_nothing():
    env = env_of()
    env.reset(seed=0, options={"image": 1})
    with pytest.raises(gymnasium.error.InvalidAction, match=r"expected an action in MultiDiscrete.* got \[25, 0\]"):
        env.step([25, 0])
    assert env.step([0, 1])[1] == 1.0


def test_the_same_seed_begins_the_same_episodes():
    env = env_of(first_location="random")
    starts = []
    for seed in (3, None, 3, None):
        seen, info = env.reset(seed=seed)
        starts.append((info["image"], seen["location"].tolist()))
    assert starts[:2] == starts[2:]
    assert starts[0] != starts[1]


def test_what_a_reset_cannot_begin_with_is_refused():
    env = env_of()
    with pytest.raises(TaskError, match="expected image to be 1 whole number from 0 to 4"):
        env.reset(options={"image": 5})
    with pytest.raises(TaskError, match="expected reset options out of image, location; got 'picture'"):
        env.reset(options={"picture": 1})


def test_observations_are_ones_own():
    env = env_of()
    first, _ = env.reset(seed=0)
    kept = {name: value.copy() for name, value in first.items()}
    env.step([0, KEEP])
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_what_an_agent_does_to_them_changes_nothing():
    env = env_of(relative=True, grid_cells=3)
    seen, _ = env.reset(seed=0)
    seen["location"][:] = 0.9
    seen["glimpse"][:] = 7
    seen, *_ = env.step([4, KEEP])
    assert seen["location"].tolist() == [0, 0]
    assert seen["glimpse"].max() <= 1


def test_an_environment_can_be_copied_and_pickled(monkeypatch):
    monkeypatch.setattr("glimpse_envs.classification.scenes.PREFILTER_LIMIT", 0)
    pictures = Pictures(IMAGES, torch.tensor([0, 1, 2, 0, 1]))
    env = env_of(dataset=pictures)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    assert twin.core.scenes is env.core.scenes
    twin.step([0, 0])
    assert env.step([0, KEEP])[2] is False
    again = pickle.loads(pickle.dumps(env_of(dataset=pictures)))  # noqa: S301
    np.testing.assert_array_equal(again.reset(seed=1)[0]["glimpse"], env.reset(seed=1)[0]["glimpse"])


def test_it_is_drawn_in_every_render_mode(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pytest.importorskip("pygame")
    frames = env_of(render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset before anything can be drawn"):
        frames.render()
    frames.reset(seed=0)
    first = frames.render()
    frames.step([3, KEEP])
    second = frames.render()
    assert first.shape == second.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    text = env_of(render_mode="ansi")
    text.reset(seed=0)
    assert text.render().startswith("glimpse 1 of 3")
    window = env_of(render_mode="human")
    window.reset(seed=0)
    window.step([3, KEEP])
    assert window.render() is None
    window.close()


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(gymnasium.error.UnsupportedMode, match="expected render_mode out of rgb_array, human, ansi"):
        env_of(render_mode="film")
