"""The benchmark of learning in the environment: what it reports must be what happened."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.envs import agents, learning
from benchmarks.envs.agents import BUDGET, CELLS, CENTRE, CLASSES
from benchmarks.envs.learning import AS_IT_IS, NARROW, Recipe
from glimpse_envs.classification.spaces import DictObservation
from glimpse_envs.evaluation import Agent, evaluate
from glimpse_envs.sb3 import GlimpseVecEnv

TINY: dict[str, Any] = {"steps": 128, "num_envs": 8, "n_steps": 4, "batch_size": 16, "hidden": 8, "every": 64}


def waiting(patience: int, cell: int = 3) -> Agent:
    """Looks so often, always at one cell, and then says 7."""

    def act(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        enough = observation["time"][:, 0] * BUDGET > patience - 0.5
        return np.stack([np.full(len(first), cell), np.where(enough, 7, CLASSES)], 1)

    return act


@pytest.mark.parametrize("recipe", [AS_IT_IS, NARROW])
def test_the_environment_is_what_the_constants_say(recipe):
    envs: Any = learning.made(recipe, "validation", 2)
    assert envs.single_action_space.nvec.tolist() == [CELLS, CLASSES + 1]
    core = envs.unwrapped.core
    assert core.rule.num_glimpses == BUDGET
    assert len(core.scenes) == 200
    assert CENTRE == 12


def test_replaced_places_are_looked_at_and_answers_stay():
    envs = learning.made(AS_IT_IS, "validation", 40)
    seen: list[np.ndarray] = []

    def watch(agent: Agent) -> Agent:
        def act(observation: DictObservation, first: np.ndarray) -> np.ndarray:
            seen.append(observation["location"][~first])
            return agent(observation, first)

        return act

    inner = waiting(2)
    own = evaluate(inner, envs)
    centre = evaluate(watch(agents.looking_at(inner, lambda _: CENTRE)), envs)
    assert np.abs(np.concatenate(seen)).max() < 1e-6
    assert own.answers.tolist() == centre.answers.tolist()
    assert own.glimpses.tolist() == centre.glimpses.tolist() == [2] * 200
    generator = np.random.default_rng(0)
    seen.clear()
    evaluate(watch(agents.looking_at(inner, lambda count: generator.integers(CELLS, size=count))), envs)
    assert len(np.unique(np.concatenate(seen), axis=0)) == CELLS


def test_a_random_agent_is_right_as_often_as_chance_has_it():
    found = evaluate(agents.guessing(0), learning.made(AS_IT_IS, "test", 100))
    assert 0.05 < found.accuracy < 0.15
    assert 1 < found.mean_glimpses < 1.3


@pytest.fixture(scope="module")
def learnt() -> tuple[Any, dict[str, Any]]:
    return learning.learn(replace(AS_IT_IS, **TINY), 0)


def test_a_run_is_described(learnt):
    model, how = learnt
    assert how["steps"] == model.num_timesteps == 128
    assert [row["steps"] for row in how["validation"]] == [0, 64, 128]
    assert how["seconds_to_goal"] is how["steps_to_goal"] is None
    assert how["wall_seconds"] >= 0
    assert isinstance(model.get_env().unwrapped, GlimpseVecEnv)
    # The last rollout began half way.
    assert model.ent_coef < AS_IT_IS.entropy


@pytest.mark.parametrize("glimpses", range(1, BUDGET + 1))
def test_a_model_can_be_made_to_answer_after_so_many_glimpses(learnt, glimpses):
    model, _ = learnt
    found = evaluate(agents.answering_after(model, glimpses), learning.made(AS_IT_IS, "validation", 50))
    assert found.glimpses.tolist() == [glimpses] * 200
    assert found.answers.min() >= 0


def test_a_model_made_to_answer_at_once_names_its_likeliest_class(learnt):
    model, _ = learnt
    envs = learning.made(AS_IT_IS, "validation", 200)
    found = evaluate(agents.answering_after(model, 1), envs)
    observation, _ = envs.reset(options={"image": np.arange(200)})
    with torch.no_grad():
        seen, _ = model.policy.obs_to_tensor(observation)
        logits = model.policy.get_distribution(seen).distribution[1].logits
    assert found.answers.tolist() == logits[:, :CLASSES].argmax(1).tolist()


@pytest.mark.slow
def test_figures_and_curves_are_written(tmp_path, capsys):
    file = tmp_path / "learning.json"
    assert learning.main(["--quick", "--output", str(file)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["command"] == "python -m benchmarks.envs.learning --quick"
    assert [task["recipe"]["name"] for task in result["tasks"]] == ["as it is", "narrow view"]
    assert result["machine"]["versions"]["stable-baselines3"]
    for task in result["tasks"]:
        test = task["runs"][0]["test"]
        assert test["images"] == 500
        assert sum(test["share_by_glimpses"]) == pytest.approx(1)
        mean = sum((place + 1) * share for place, share in enumerate(test["share_by_glimpses"]))
        assert mean == pytest.approx(test["glimpses"])
        assert sum(test["right_by_glimpses"]) == pytest.approx(500 * test["accuracy"])
        assert test["agents"]["own"]["accuracy"] == test["accuracy"]
        assert len(test["accuracy_after_each_glimpse"]) == BUDGET
    said = capsys.readouterr().out
    assert "the last model on every test image, deterministic" in said
    assert "never" in said
    with Image.open(file.with_suffix(".png")) as picture:
        assert picture.width > 1000


def test_right_answers_are_counted_over_the_seeds():
    def test(*shares: float) -> dict[str, Any]:
        return {"images": 500, "share_by_glimpses": shares, "right_by_glimpses": [100, 20, 0]}

    tests = [test(0.3, 0.1, 0.0), test(0.2, 0.1, 0.0)]
    assert [learning._right_of_those(tests, place) for place in range(3)] == ["80.0%", "40.0%", "none"]


@pytest.mark.slow
def test_ppo_learns_within_seconds():
    recipe: Recipe = replace(AS_IT_IS, steps=40_960, learning_rate=2e-3)
    _, how = learning.learn(recipe, 0)
    assert how["validation"][-1]["accuracy"] > 0.8
