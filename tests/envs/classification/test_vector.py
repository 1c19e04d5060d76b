from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.task import TaskError
from glimpse_envs.classification.vector import GlimpseVectorEnv

IMAGES = torch.randint(0, 256, (30, 1, 16, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PICTURES = Pictures(IMAGES, torch.arange(30) % 3, ("ant", "bee", "cow"))
KEEP = 3


def envs_of(num_envs: int = 4, **options: Any) -> GlimpseVectorEnv:
    given: dict[str, Any] = {"dataset": PICTURES, "glimpse_size": 4, "num_scales": 2, "num_glimpses": 3} | options
    return GlimpseVectorEnv(num_envs, **given)


def acts(*answers: int) -> np.ndarray:
    return np.stack([np.arange(len(answers)), np.array(answers)], 1)


def test_same_step_tells_of_the_end_as_gymnasium_does():
    envs = envs_of()
    first, infos = envs.reset(seed=1, options={"image": [0, 1, 2, 3]})
    assert infos["label"].tolist() == [0, 1, 2, 0]
    assert infos["image"].tolist() == [0, 1, 2, 3]
    assert infos["_label"].tolist() == [True] * 4
    seen, rewards, terminated, truncated, infos = envs.step(acts(0, KEEP, 0, KEEP))
    assert rewards.tolist() == [1, 0, 0, 0]
    assert terminated.tolist() == [True, False, True, False]
    assert not truncated.any()
    assert infos["_final_obs"].tolist() == terminated.tolist()
    np.testing.assert_array_equal(infos["final_obs"][0]["glimpse"], first["glimpse"][0])
    assert infos["final_obs"][1] is None
    final = infos["final_info"]
    assert final["label"][[0, 2]].tolist() == [0, 2]
    assert final["image"][[0, 2]].tolist() == [0, 2]
    assert final["correct"][[0, 2]].tolist() == [True, False]
    assert final["_correct"].tolist() == terminated.tolist()
    assert final["glimpses"][[0, 2]].tolist() == [1, 1]
    assert seen["time"].dtype == np.float32


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_otherwise_the_end_is_told_beside_the_last_glimpse(mode):
    envs = envs_of(autoreset_mode=mode)
    first, _ = envs.reset(seed=1, options={"image": [0, 1, 2, 3]})
    seen, *_, infos = envs.step(acts(0, KEEP, 0, KEEP))
    assert "final_obs" not in infos
    assert infos["correct"][[0, 2]].tolist() == [True, False]
    assert infos["_correct"].tolist() == [True, False, True, False]
    np.testing.assert_array_equal(seen["glimpse"][0], first["glimpse"][0])


def test_only_the_masked_environments_begin_anew():
    envs = envs_of(autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=1)
    before, _, terminated, *_ = envs.step(acts(0, KEEP, 0, KEEP))
    options = {"reset_mask": terminated, "image": [8, 9], "location": [(0.5, 0.5), (0.0, -1.0)]}
    after, infos = envs.reset(options=options)
    assert infos["_label"].tolist() == terminated.tolist()
    assert infos["image"][[0, 2]].tolist() == [8, 9]
    assert after["location"][[0, 2]].tolist() == [[0.5, 0.5], [0.0, -1.0]]
    np.testing.assert_array_equal(after["glimpse"][[1, 3]], before["glimpse"][[1, 3]])
    with pytest.raises(TaskError, match=r"expected reset_mask to be 4 booleans, at least one of them true"):
        envs.reset(options={"reset_mask": np.zeros(4, bool)})
    with pytest.raises(TaskError, match="expected reset_mask to be 4 booleans"):
        envs.reset(options={"reset_mask": np.ones(3, bool)})


def test_what_is_handed_out_stays_as_it_was():
    envs = envs_of()
    held, copies = [], []
    seen, infos = envs.reset(seed=0)
    for step in range(8):
        held.append((seen, infos["label"], infos["image"]))
        copies.append(({name: value.copy() for name, value in seen.items()}, *(part.copy() for part in held[-1][1:])))
        seen, *_, infos = envs.step(acts(KEEP, step % 3, KEEP, 0))
    for (seen, *parts), (copied, *copied_parts) in zip(held, copies, strict=True):
        for name in copied:
            np.testing.assert_array_equal(seen[name], copied[name])
        for part, kept in zip(parts, copied_parts, strict=True):
            np.testing.assert_array_equal(part, kept)


def test_an_agent_may_do_as_it_likes_with_what_it_was_given():
    runs = []
    for spoilt in (False, True):
        envs = envs_of(relative=True, grid_cells=3)
        seen, infos = envs.reset(seed=3)
        recorder = []
        for step in range(7):
            recorder.append([*(part.copy() for part in seen.values()), infos["label"].copy()])
            if spoilt:
                for part in (*seen.values(), infos["label"], infos["_label"], infos["image"]):
                    part[:] = 0
            seen, rewards, *_, infos = envs.step(np.array([[step, 0], [8, KEEP], [1, 1], [2, KEEP]]))
            recorder[-1].append(rewards)
            if "final_obs" in infos:
                recorder[-1] += [end["glimpse"] for end in infos["final_obs"] if end]
        runs.append(recorder)
    for one, other in zip(*runs, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


def test_gymnasiums_own_wrapper_counts_episodes():
    envs = RecordEpisodeStatistics(envs_of(2))
    envs.reset(seed=0, options={"image": [0, 1]})
    envs.step(acts(KEEP, KEEP))
    *_, infos = envs.step(acts(0, KEEP))
    assert infos["episode"]["r"][0] == 1
    assert infos["episode"]["l"].tolist()[0] == 2
    assert infos["_episode"].tolist() == [True, False]


def test_what_makes_no_vector_environment_is_refused():
    with pytest.raises(TaskError, match="expected num_envs of at least 1, got 0; raise it"):
        envs_of(0)
    with pytest.raises(TaskError, match="expected autoreset_mode out of NextStep, SameStep, Disabled; got 'never'"):
        envs_of(autoreset_mode="never")
    with pytest.raises(gymnasium.error.UnsupportedMode, match="expected render_mode out of rgb_array, or none; got"):
        envs_of(render_mode="human")
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset before the first step"):
        envs_of().step(acts(0, 0, 0, 0))
    envs = envs_of()
    envs.reset()
    with pytest.raises(gymnasium.error.InvalidAction, match=r"got int64 of shape \(3, 2\)"):
        envs.step(acts(0, 0, 0))


def test_every_environment_is_drawn():
    envs = envs_of(3, render_mode="rgb_array")
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a reset before anything can be drawn, got none"):
        envs.render()
    envs.reset(seed=0)
    first = envs.render()
    assert first is not None
    envs.step(np.array([[0, KEEP], [0, 1], [3, KEEP]]))
    second = envs.render()
    assert second is not None
    assert len(second) == 3
    assert {frame.shape for frame in (*first, *second)} == {first[0].shape}
    assert envs_of().render() is None
