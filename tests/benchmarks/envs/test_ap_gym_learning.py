"""ap_gym's tasks as our loop plays them: its rules, its rewards, and what learns from them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("ap_gym")

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from benchmarks.envs import ap_gym_learning
from benchmarks.envs.ap_gym_agents import Played, anywhere, contrasted, learner, measure, nowhere, play
from benchmarks.envs.ap_gym_learning import Recipe, main, objective
from benchmarks.envs.ap_gym_tasks import Images, circle_square, environment, registered
from glimpse.data.datasets import Split
from glimpse.rollout import mode_of, sample_from

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ap_gym.envs.image_classification import ImageClassificationVectorEnv

BATCH, TEMPERATURE = 6, 0.7


class Watched:
    """An environment whose every step is noted down."""

    def __init__(self, env: ImageClassificationVectorEnv) -> None:
        self.env = env
        self.observations: list[Mapping[str, Any]] = []
        self.steps: list[Mapping[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self) -> Any:
        observation, info = self.env.reset()
        self.observations.append(observation)
        return observation, info

    def step(self, action: Mapping[str, Any]) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.observations.append(observation)
        self.steps.append({"reward": reward, "over": terminated | truncated, "info": info, **action})
        return observation, reward, terminated, truncated, info


@pytest.fixture
def watched() -> Watched:
    task = circle_square()
    return Watched(environment(task, task.fitting, BATCH, 0))


@pytest.fixture
def model() -> Any:
    model = learner(circle_square(), 12, 0)
    torch.nn.init.normal_(model.get_parameter("policy.scores.weight"), std=1.0)
    return model


@pytest.fixture
def played(model: Any, watched: Any) -> Played:
    return play(model, watched, sample_from(model.policy, TEMPERATURE, torch.Generator().manual_seed(1)))


def test_the_tasks_are_as_they_are_registered(watched: Watched) -> None:
    for name in ("CircleSquare", "MNIST"):
        config = registered(name)
        assert (config.sensor_size, config.step_limit, config.max_step_length) == ((5, 5), 16, 0.2)
    assert len(watched.config.dataset) == 1568


def test_an_episode_ends_with_its_last_prediction(watched: Watched, played: Played) -> None:
    assert [step["over"].all() for step in watched.steps] == [False] * 15 + [True]
    assert [step["over"].any() for step in watched.steps] == [False] * 15 + [True]
    assert played.trace.logits.shape == (BATCH, 16, 2)
    for step, logits in zip(watched.steps, played.trace.logits.unbind(1), strict=True):
        assert np.array_equal(step["prediction"], logits.detach().numpy())


def test_the_actions_sent_are_those_whose_log_probability_is_used(model: Any, watched: Watched, played: Played) -> None:
    generator = torch.Generator().manual_seed(1)
    state = model.initial_state(BATCH)
    for time, seen in enumerate(watched.observations[:15]):
        glimpse = contrasted(torch.from_numpy(seen["glimpse"]).permute(0, 3, 1, 2))
        position = torch.from_numpy(seen["glimpse_pos"])
        step = model(glimpse, position, state)
        state = step.state
        scores = step.policy / TEMPERATURE
        cell = torch.multinomial(scores.softmax(1).detach(), 1, generator=generator)
        rows, columns = cell // 7, cell % 7
        place = (2 * torch.cat([columns, rows], dim=1) + 1) / 7 - 1
        density = scores.log_softmax(1).gather(1, cell).squeeze(1)
        move = (place - position) / 0.2
        move = move / move.norm(dim=1, keepdim=True).clamp_min(1)
        assert torch.allclose(torch.from_numpy(watched.steps[time]["action"]), move, atol=1e-5)
        assert torch.allclose(played.actions[:, time], move, atol=1e-5)
        assert torch.allclose(played.trace.log_prob[:, time + 1], density, atol=1e-4)


def test_moves_may_be_chosen_outright(model: Any, watched: Watched) -> None:
    played = play(model, watched, sample_from(model.policy, TEMPERATURE, torch.Generator().manual_seed(1)), "move")
    assert torch.equal(played.actions[:, :-1], played.trace.locations[:, 1:])
    assert played.actions.abs().max() == pytest.approx(6 / 7)


def test_the_last_action_is_none_and_earns_nothing(watched: Watched, played: Played) -> None:
    assert not watched.steps[-1]["action"].any()
    assert not watched.steps[-1]["info"]["base_reward"].any()
    assert played.trace.log_prob.shape == (BATCH, 16)
    assert not played.trace.log_prob[:, 0].any()


def test_rewards_are_the_environments_booked_with_the_glimpse_that_earned_them(
    watched: Watched, played: Played
) -> None:
    paid = np.stack([step["reward"] for step in watched.steps], 1)
    assert np.allclose(played.rewards.numpy(), paid)
    cost = -1e-3 * played.actions.norm(dim=2)
    logits = played.trace.logits.flatten(0, 1)
    labels = played.labels.repeat_interleave(16)
    loss = functional.cross_entropy(logits, labels, reduction="none").unflatten(0, (-1, 16))
    assert torch.allclose(played.rewards, cost - loss / math.log(2), atol=1e-5)
    assert torch.allclose(played.earned[:, 1:], cost[:, :-1] - loss[:, 1:] / math.log(2), atol=1e-5)
    assert torch.allclose(played.earned.sum(1), played.rewards.sum(1), atol=1e-4)


def test_each_choice_learns_from_what_it_earned(model: Any, played: Played) -> None:
    recipe = Recipe(1, discount=0.9, entropy_weight=0.0)
    trace, earned = played.trace, played.earned
    assert trace.value is not None
    returns = torch.zeros(BATCH, 15)
    for time in range(15):
        for later in range(time + 1, 16):
            returns[:, time] += 0.9 ** (later - time - 1) * earned[:, later]
    advantages = (returns - trace.value[:, :15]).detach()
    expected = -(trace.log_prob[:, 1:] * advantages / advantages.square().mean().sqrt()).sum(1).mean()
    weight = model.policy.scores.weight
    (found,) = torch.autograd.grad(objective(played, recipe), weight, retain_graph=True)
    assert torch.allclose(found, torch.autograd.grad(expected, weight)[0], atol=1e-4)


def test_entropy_is_rewarded(played: Played) -> None:
    entropy = played.trace.entropy[:, 1:].sum(1).mean()
    assert 0 < entropy <= 15 * math.log(49)
    rewarded, plain = (objective(played, Recipe(1, entropy_weight=weight)) for weight in (0.5, 0.0))
    assert torch.allclose(plain - rewarded, 0.5 * entropy, atol=1e-4)


def test_the_policys_loss_stays_out_of_what_the_classifier_reads(model: Any, played: Played) -> None:
    heavy = objective(played, Recipe(1, policy_weight=100.0))
    light = objective(played, Recipe(1, policy_weight=0.0))
    weight = model.encoder.what[0].weight
    (first,) = torch.autograd.grad(heavy, weight, retain_graph=True)
    assert torch.equal(first, torch.autograd.grad(light, weight)[0])


def test_the_ways_to_be_led_astray(model: Any, watched: Watched) -> None:
    still = play(model, watched, nowhere, "move")
    assert not still.actions.any()
    assert all(
        np.array_equal(seen["glimpse_pos"], watched.observations[0]["glimpse_pos"]) for seen in watched.observations
    )
    moved = play(model, watched, anywhere(BATCH, torch.Generator().manual_seed(0)), "move").actions[:, :-1]
    assert moved.min() < -0.9
    assert moved.max() > 0.9


def test_measuring_is_repeatable_and_starts_anew(model: Any) -> None:
    task = circle_square()
    first, second, other = (
        measure(model, environment(task, task.held_out, BATCH, seed), 12, mode_of(model.policy), "place")
        for seed in (3, 3, 4)
    )
    assert first == second
    assert first["return"] != other["return"]
    assert first["final"] == pytest.approx(first["each"][-1], abs=1e-4)


def test_images_are_handed_over_as_they_are() -> None:
    pixels = torch.arange(2 * 28 * 28).reshape(2, 1, 28, 28).to(torch.uint8)
    images = Images(Split(pixels, torch.tensor([7, 3])), 10)
    shown, labels = images[np.array([1, 0])]
    assert np.allclose(shown[..., 0] * 255, pixels[[1, 0], 0].numpy())
    assert labels.tolist() == [3, 7]
    assert images.num_classes == 10


def test_a_quick_run(
    tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLIMPSE_DATA", str(mnist_root))
    output = tmp_path / "found.json"
    assert main(["--quick", "--output", str(output)]) == 0
    result = json.loads(output.read_text(encoding="utf-8"))
    assert [study["task"] for study in result["studies"]] == [study.task for study in ap_gym_learning.STUDIES]
    for study in result["studies"]:
        for each in study["runs"]:
            assert each["env_steps"] == 2 * 8 * 16
            assert len(each["curve"]) == 2
    shown = capsys.readouterr().out
    assert "PPO, transformer *" in shown
    assert "the figures mean nothing" in shown
    with Image.open(output.with_suffix(".png")) as picture:
        assert picture.width > picture.height
