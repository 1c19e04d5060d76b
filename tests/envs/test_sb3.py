"""The adapter to Stable-Baselines3: what its own vector environment of single environments would say, in one step."""

import importlib
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import glimpse_envs.sb3
from glimpse_envs.classification.task import TaskError
from glimpse_envs.classification.vector import GlimpseVectorEnv
from glimpse_envs.evaluation import evaluate
from glimpse_envs.sb3 import GlimpseVecEnv, agent_of

ID = "glimpse_envs:Glimpse/Digits-v0"
HELD_OUT: dict[str, Any] = {"split": "validation", "glimpse_cost": 0.1}
ENVS = 6


def made(num_envs: int = ENVS, **options: Any) -> Any:
    return GlimpseVecEnv(gymnasium.make_vec(ID, num_envs=num_envs, **options))


def assert_alike(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6, err_msg=name)
        assert one[name].dtype == other[name].dtype


def starts(envs: Any) -> Any:
    """Begin at given images and places."""
    envs.set_options([{"image": 3 * row, "location": (0.1 * row, -0.2)} for row in range(ENVS)])
    return envs.reset()


def test_it_says_what_single_environments_say():
    batch = made(**HELD_OUT)
    singles: Any = DummyVecEnv([lambda: gymnasium.make(ID, **HELD_OUT)] * ENVS)
    assert batch.observation_space == singles.observation_space
    assert batch.action_space == singles.action_space
    assert_alike(starts(batch), starts(singles))
    labels = [info["label"] for info in batch.reset_infos]
    assert labels == [info["label"] for info in singles.reset_infos]
    ended = np.zeros(ENVS, np.bool_)
    for step in range(4):
        # One answers rightly at once, one wrongly, one after two glimpses, and the others never.
        said = np.full(ENVS, 10)
        said[0], said[1] = labels[0], (labels[1] + 1) % 10
        said[2] = labels[2] if step == 1 else 10
        actions = np.stack([(5 * step + np.arange(ENVS)) % 25, said], 1)
        mine, theirs = batch.step(actions), singles.step(actions)
        for row in (~ended).nonzero()[0].tolist():
            ends = step == (0, 0, 1, 3, 3, 3)[row]
            assert bool(mine[2][row]) == bool(theirs[2][row]) == ends
            assert mine[1][row] == pytest.approx(theirs[1][row])
            told, expected = mine[3][row], theirs[3][row]
            assert told["TimeLimit.truncated"] == expected["TimeLimit.truncated"] is False
            assert told["label"] == expected["label"]
            if ends:
                assert_alike(told["terminal_observation"], expected["terminal_observation"])
                assert told["correct"] == expected["correct"] == told["is_success"] == (row in (0, 2))
                assert told["right"] == expected["right"]
                assert told["glimpses"] == expected["glimpses"]
            else:
                assert "terminal_observation" not in told
                here = {name: values[row] for name, values in mine[0].items()}
                assert_alike(here, {name: values[row] for name, values in theirs[0].items()})
        assert mine[1].dtype == theirs[1].dtype
        assert mine[2].dtype == theirs[2].dtype
        ended |= mine[2]
    assert ended.all()
    singles.close()


def test_a_new_episode_begins_where_one_has_ended():
    envs = made()
    envs.seed(3)
    before = envs.reset()
    observation, _, ended, infos = envs.step(np.array([[0, 10], [0, 1]] * (ENVS // 2)))
    assert ended.tolist() == [False, True] * (ENVS // 2)
    np.testing.assert_allclose(observation["time"][:, 0], [0.5, 0.25] * (ENVS // 2))
    for row in range(1, ENVS, 2):
        assert (infos[row]["terminal_observation"]["glimpse"] == before["glimpse"][row]).all()
        assert (observation["glimpse"][row] != before["glimpse"][row]).any()


def test_an_episode_is_summed_up():
    envs = made(2, glimpse_cost=0.1)
    envs.reset()
    keep, say = [4, 10], [4, 0]
    assert "episode" not in envs.step(np.array([keep, keep]))[3][0]
    infos = envs.step(np.array([keep, say]))[3]
    assert "episode" not in infos[0]
    assert infos[1]["episode"]["l"] == 2
    assert infos[1]["episode"]["r"] == pytest.approx(infos[1]["correct"] - 0.2)
    assert infos[1]["episode"]["t"] >= 0
    infos = envs.step(np.array([say, say]))[3]
    assert [info["episode"]["l"] for info in infos] == [3, 1]
    assert infos[1]["episode"]["r"] == pytest.approx(infos[1]["correct"] - 0.1)
    envs.step(np.array([keep, keep]))
    envs.reset()
    assert envs.step(np.array([say, say]))[3][0]["episode"]["l"] == 1


def test_its_own_monitor_finds_the_same(tmp_path):
    file = tmp_path / "monitor.csv"
    envs = VecMonitor(made(), str(file), info_keywords=("is_success",))
    envs.reset()
    infos = envs.step(np.array([[4, 0]] * ENVS))[3]
    for info in infos:
        assert info["episode"]["l"] == 1
        assert info["episode"]["r"] == info["correct"] == info["episode"]["is_success"]
    envs.close()
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2 + ENVS


def test_a_seed_fixes_everything():
    def recorder(seed: int) -> list[np.ndarray]:
        envs = made()
        envs.seed(seed)
        seen = [envs.reset()]
        for step in range(5):
            seen.append(envs.step(np.stack([np.full(ENVS, 7), (np.arange(ENVS) + step) % 11], 1))[0])
        return [part for observation in seen for part in observation.values()]

    assert all((one == other).all() for one, other in zip(recorder(1), recorder(1), strict=True))
    assert any((one != other).any() for one, other in zip(recorder(1), recorder(2), strict=True))


def test_seeds_and_options_hold_for_one_reset():
    envs = made(split="validation")
    envs.set_options({"image": 5})
    alike = envs.reset()["glimpse"]
    assert (alike == alike[:1]).all()
    assert (envs.reset()["glimpse"] != alike).any()
    envs.set_options([{"image": 5}] + [{}] * (ENVS - 1))
    with pytest.raises(TaskError, match="expected the reset option 'image' for every environment or for none"):
        envs.reset()


def test_sequences_tell_all_their_labels():
    envs: Any = GlimpseVecEnv(gymnasium.make_vec("Glimpse/Sequence-v0", num_envs=2))
    envs.reset()
    assert envs.reset_infos[0]["label"].shape == (3,)
    for _ in range(3):
        infos = envs.step(np.array([[0, 1], [0, 10]]))[3]
    assert infos[0]["label"].shape == (3,)
    assert "read" in infos[0]["terminal_observation"]
    assert infos[1]["label"].shape == (3,)


def test_what_the_batch_has_each_environment_has():
    envs = made()
    assert envs.get_attr("classes") == [tuple("0123456789")] * ENVS
    assert envs.get_attr("num_envs", [0, 2]) == [ENVS] * 2
    assert envs.get_attr("action_space", 0) == [envs.action_space]
    assert envs.has_attr("task")
    assert not envs.has_attr("nonsense")
    envs.set_attr("note", 5)
    assert envs.get_attr("note", 1) == [5]
    with pytest.raises(TaskError, match="expected 'note' for all 6 environments, which are one batch, got indices 1"):
        envs.set_attr("note", 5, 1)
    assert envs.env_method("close") == [None] * ENVS
    with pytest.raises(TaskError, match="expected 'close' for all 6 environments"):
        envs.env_method("close", indices=[0])
    assert envs.env_is_wrapped(Monitor) == [False] * ENVS
    assert envs.env_is_wrapped(Monitor, 2) == [False]


def test_pictures_are_put_side_by_side():
    envs = made(4, render_mode="rgb_array")
    envs.reset()
    assert envs.render_mode == "rgb_array"
    pictures = envs.get_images()
    whole = envs.render()
    assert whole is not None
    assert pictures[0] is not None
    assert whole.shape == (2 * pictures[0].shape[0], 2 * pictures[0].shape[1], 3)
    blind = made(2)
    assert blind.render_mode is None
    assert list(blind.get_images()) == [None, None]


def test_ppo_runs_on_it_and_counts_episodes():
    envs = made(16, glimpse_cost=0.05)
    model = PPO("MultiInputPolicy", envs, n_steps=4, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(128)
    assert model.ep_info_buffer
    assert model.ep_success_buffer is not None
    assert len(model.ep_success_buffer) > 16
    held_out = gymnasium.make_vec(ID, num_envs=64, split="validation")
    one, other = (evaluate(agent_of(model), held_out) for _ in range(2))
    assert one.answers.tolist() == other.answers.tolist()
    drawn = evaluate(agent_of(model, deterministic=False), held_out)
    assert drawn.answers.tolist() != one.answers.tolist()


def test_recurrent_ppo_runs_on_it_and_forgets_from_image_to_image():
    envs = made(4)
    model = RecurrentPPO(
        "MultiInputLstmPolicy",
        envs,
        n_steps=8,
        batch_size=16,
        n_epochs=1,
        seed=0,
        device="cpu",
        policy_kwargs={"lstm_hidden_size": 8},
    )
    model.learn(32)
    few, many = (
        evaluate(agent_of(model), gymnasium.make_vec(ID, num_envs=count, split="validation")) for count in (50, 200)
    )
    assert few.glimpses.tolist() == many.glimpses.tolist()
    assert few.answers.tolist() == many.answers.tolist()


def test_other_environments_are_refused():
    envs = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(TaskError, match="expected a GlimpseVectorEnv"):
        GlimpseVecEnv(envs)
    envs.close()
    with pytest.raises(TaskError, match="expected autoreset_mode 'SameStep', which Stable-Baselines3 builds upon"):
        made(autoreset_mode="NextStep")
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(GlimpseVectorEnv(2, **HELD_OUT))
    with pytest.raises(TaskError, match="without a wrapper, got RecordEpisodeStatistics; wrap what comes out"):
        GlimpseVecEnv(wrapped)


def test_without_stable_baselines_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.base_class", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="run pip install stable-baselines3"):
        importlib.reload(glimpse_envs.sb3)
