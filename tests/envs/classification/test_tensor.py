from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode

import glimpse_envs  # noqa: F401 - makes the ids known
from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.task import Task
from glimpse_envs.classification.tensor import TensorEnv

IMAGES = torch.randint(0, 256, (50, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PICTURES = Pictures(IMAGES, torch.arange(50) % 3)
KEEP, WRONG = 3, 99


def env_of(mode: AutoresetMode = AutoresetMode.SAME_STEP, num_envs: int = 4, **options: Any) -> TensorEnv:
    given = {"dataset": PICTURES, "glimpse_size": 4, "num_scales": 2, "num_glimpses": 3, "grid_cells": 3} | options
    env = TensorEnv(Task.of(**given).core(), num_envs, mode)
    env.seed(0)
    return env


def acts(*answers: int) -> torch.Tensor:
    return torch.stack([torch.arange(len(answers)) % 9, torch.tensor(answers)], 1)


def test_under_same_step_a_new_episode_begins_at_once_and_the_last_glimpse_is_told():
    env = env_of()
    first = env.reset(torch.tensor([0, 1, 2, 3]))
    told = env.step(acts(0, KEEP, 1, KEEP))
    assert told.terminated.tolist() == [True, False, True, False]
    assert told.reward.tolist() == [1, 0, 0, 0]
    assert told.final is not None
    assert told.final.rows.tolist() == [0, 2]
    assert torch.equal(told.final.observation.glimpse, first.glimpse[[0, 2]])
    assert told.final.labels.flatten().tolist() == [0, 2]
    assert told.final.num_correct.tolist() == [1, 0]
    assert told.final.glimpses_taken.tolist() == [1, 1]
    torch.testing.assert_close(told.observation.time.flatten(), torch.tensor([1.0, 2.0, 1.0, 2.0]) / 3)
    assert told.observation.location[[0, 2]].tolist() == [[0, 0], [0, 0]]


def test_under_next_step_the_next_action_is_passed_over():
    env = env_of(AutoresetMode.NEXT_STEP)
    first = env.reset(torch.tensor([0, 1, 2, 3]))
    ended = env.step(acts(0, KEEP, KEEP, KEEP))
    assert ended.terminated.tolist() == [True, False, False, False]
    assert torch.equal(ended.observation.glimpse[0], first.glimpse[0])
    after = env.step(acts(0, KEEP, KEEP, KEEP))
    assert after.terminated.tolist() == [False] * 4
    assert after.reward[0] == 0
    torch.testing.assert_close(after.observation.time.flatten(), torch.tensor([1.0, 3.0, 3.0, 3.0]) / 3)


def test_disabled_nothing_begins_by_itself():
    env = env_of(AutoresetMode.DISABLED)
    first = env.reset(torch.tensor([0, 1, 2, 3]))
    ended = env.step(acts(0, KEEP, 1, KEEP))
    assert torch.equal(ended.observation.glimpse[[0, 2]], first.glimpse[[0, 2]])
    with pytest.raises(
        gymnasium.error.ResetNeeded, match=r"expected a reset of the environments.* they are 0, 2; call"
    ):
        env.step(acts(KEEP, KEEP, KEEP, KEEP))
    before = ended.observation.location.clone()
    again = env.reset(torch.tensor([7, 8]), rows=torch.tensor([0, 2]))
    assert torch.equal(ended.observation.location, before), "what was handed out before must stay as it was"
    assert torch.equal(again.glimpse[1], ended.observation.glimpse[1])
    torch.testing.assert_close(again.time.flatten(), torch.tensor([1.0, 2.0, 1.0, 2.0]) / 3)
    assert env.current_state().labels[[0, 2], 0].tolist() == [1, 2]
    env.step(acts(KEEP, KEEP, KEEP, KEEP))


def test_a_step_before_a_reset_is_refused():
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset before the first step, got none"):
        env_of().step(acts(KEEP, KEEP, KEEP, KEEP))
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset of all environments before one of some"):
        env_of().reset(rows=torch.tensor([1]))
    with pytest.raises(ValueError, match="expected at least 1 environment, got num_envs=0; raise it"):
        env_of(num_envs=0)


def test_a_seed_fixes_everything():
    runs = []
    for seed in (5, 5, 6):
        env = env_of(first_location="random")
        env.seed(seed)
        seen = [env.reset()]
        for _ in range(8):
            seen.append(env.step(acts(KEEP, 0, KEEP, 1)).observation)
        runs.append(torch.cat([part.glimpse.flatten() for part in seen] + [part.location.flatten() for part in seen]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_what_a_caller_holds_is_never_written_to():
    env = env_of(action_mode="location", num_glimpses=2)
    env.reset()
    location = torch.tensor([[0.5, 0.5], [0.1, 0.2], [-0.5, 0.0], [0.0, 1.0]])
    kept = location.clone()
    told = env.advance(Move(location))
    assert told.terminated.all()
    assert told.final is not None
    assert torch.equal(told.final.observation.location, kept)
    assert torch.equal(location, kept)
    assert told.observation.location.tolist() == [[0, 0]] * 4


def test_an_id_is_had_as_tensors_too():
    env = TensorEnv.of("Glimpse/Digits-v0", 5, split="test", action_mode="joint")
    assert env.reset().glimpse.shape == (5, 3, 1, 12, 12)
    assert env.core.rule.num_glimpses == 4
    with pytest.raises(gymnasium.error.NameNotFound):
        TensorEnv.of("Glimpse/Digit-v0", 5)


def test_a_move_beyond_the_image_ends_at_its_edge():
    env = env_of(action_mode="location")
    env.reset()
    told = env.advance(Move(torch.tensor([[1.5, -2.0]] * 4)))
    assert told.observation.location.tolist() == [[1.0, -1.0]] * 4


def test_canvases_are_drawn_anew_for_every_episode():
    task = Task(dataset="digits", canvas_height=40, canvas_width=40, num_pieces=2, glimpse_size=40, num_scales=1)
    env = TensorEnv(task.core(), 3)
    env.seed(1)
    first = env.reset(torch.tensor([4, 4, 4]))
    assert not torch.equal(first.glimpse[0], first.glimpse[1])
    told = env.step(torch.tensor([[12, 0], [12, 10], [12, 10]]))
    assert not torch.equal(told.observation.glimpse[0], first.glimpse[0])
    assert torch.equal(told.observation.glimpse[1], first.glimpse[1])
