"""Evaluation: every image of a split once, whatever the number of environments."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import glimpse_envs  # noqa: F401 - makes the ids known
from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.spaces import DictObservation
from glimpse_envs.classification.task import TaskError
from glimpse_envs.evaluation import NO_ANSWER, Agent, AgentEvaluation, evaluate

MIDDLE = 12  # the cell
COUNT = 7  # images


def shades(labels: torch.Tensor, classes: int = 3) -> Pictures:
    """Images whose grey level is their number: an agent that knows the labels by heart can tell them."""
    images = torch.arange(1, len(labels) + 1, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 9, 9)
    return Pictures(images.contiguous(), labels, tuple(map(str, range(classes))))


LABELS = np.array([2, 0, 1, 1, 2, 0, 1])
PICTURES = shades(torch.from_numpy(LABELS))


def numbers(observation: DictObservation) -> np.ndarray:
    """Which image each agent looks at."""
    middle: np.ndarray = observation["glimpse"][:, 0, 0, 2, 2]
    return (middle * 255).round().astype(int) - 1


def made(num_envs: int, pictures: Pictures = PICTURES, **options: Any) -> gymnasium.vector.VectorEnv:
    options = {"glimpse_size": 4, "num_scales": 1, "num_glimpses": 3, "glimpse_cost": 0.25} | options
    return gymnasium.make_vec("Glimpse/ImageFolder-v0", num_envs=num_envs, dataset=pictures, **options)


def patient(patience: np.ndarray, answers: np.ndarray) -> Agent:
    """Looks at image i ``patience[i]`` times, then gives ``answers[i]``."""

    def act(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        images = numbers(observation)
        enough = observation["time"][:, 0] * 3 > patience[images] - 0.5
        return np.stack([np.full(len(first), MIDDLE), np.where(enough, answers[images], 3)], 1)

    return act


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
@pytest.mark.parametrize("num_envs", [1, 3, 7, 10, 64])
def test_every_image_is_looked_at_once(num_envs, mode):
    patience = np.array([1, 2, 3, 1, 2, 3, 1])
    answers = np.array([2, 0, 1, 0, 0, 2, 1])
    found = evaluate(patient(patience, answers), made(num_envs, autoreset_mode=mode))
    assert isinstance(found, AgentEvaluation)
    assert found.labels.tolist() == LABELS.tolist()
    assert found.answers.tolist() == answers.tolist()
    assert found.glimpses.tolist() == patience.tolist()
    right = np.array([1, 1, 1, 0, 0, 0, 1])
    assert found.right.tolist() == right.tolist()
    np.testing.assert_allclose(found.returns, right - 0.25 * patience)
    assert found.accuracy == pytest.approx(4 / 7)
    assert found.mean_glimpses == pytest.approx(13 / 7)
    assert found.mean_return == pytest.approx(found.returns.mean())


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_an_agent_is_told_where_an_episode_begins(mode):
    inner = patient(np.array([1, 2, 3, 1, 2, 3, 1]), np.zeros(COUNT, int))
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def act(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        seen.append((first, observation["time"][:, 0] < 0.5))
        return inner(observation, first)

    evaluate(act, made(COUNT, autoreset_mode=mode))
    assert seen[0][0].all()
    for step, (first, short) in enumerate(seen):
        # Under NextStep an episode that took one glimpse is seen once more, as it ended.
        assert not first[~short].any()
        assert mode == "NextStep" or first.tolist() == short.tolist()
        assert step == 0 or not first.all()


def test_who_says_nothing_is_never_right():
    found = evaluate(patient(np.full(COUNT, 9), np.zeros(COUNT, int)), made(4))
    assert found.answers.tolist() == [NO_ANSWER] * COUNT
    assert found.glimpses.tolist() == [3] * COUNT
    assert found.accuracy == 0
    np.testing.assert_allclose(found.returns, -0.75)


def test_the_last_class_of_a_joint_episode_counts():
    def wavering(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        last = observation["time"][:, 0] > 0.99
        classes = np.where(last, LABELS[numbers(observation)], 0)
        return np.stack([np.full(len(first), MIDDLE), classes], 1)

    found = evaluate(wavering, made(4, action_mode="joint"))
    assert found.answers.tolist() == LABELS.tolist()
    assert found.accuracy == 1
    assert found.mean_glimpses == 3


def test_without_a_word_nothing_is_answered():
    found = evaluate(lambda seen, first: np.zeros((len(first), 2), np.float32), made(4, action_mode="location"))
    assert found.answers.tolist() == [NO_ANSWER] * COUNT
    assert found.mean_glimpses == 3
    assert found.right.tolist() == [0] * COUNT


def test_of_sequences_each_target_counts():
    labels = torch.tensor([[0, 1], [1, 2], [2, 2]])

    def half(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        known = labels.numpy()[numbers(observation)]
        said = np.where(observation["read"][:, 0] > 0, known[:, 1], (known[:, 0] + 1) % 3)
        return np.stack([np.full(len(first), MIDDLE), said], 1)

    found = evaluate(half, made(2, shades(labels)))
    assert found.right.tolist() == [1, 1, 1]
    assert found.accuracy == 0.5
    assert found.answers.tolist() == labels[:, 1].tolist()
    assert found.labels.tolist() == labels.tolist()


def test_held_out_canvases_give_the_same_figures_whatever_the_seed_and_the_number():
    def dull(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        ink = observation["glimpse"].sum((1, 2, 3, 4))
        return np.stack(
            [np.full(len(first), 3), np.where(observation["time"][:, 0] < 0.4, 10, ink.astype(int) % 10)], 1
        )

    def envs(num_envs: int) -> gymnasium.vector.VectorEnv:
        return gymnasium.make_vec("Glimpse/Digits-v0", num_envs=num_envs, split="validation")

    one, other = evaluate(dull, envs(200)), evaluate(dull, envs(33), seed=5)
    assert one.answers.tolist() == other.answers.tolist()
    assert one.accuracy == other.accuracy
    assert len(one.answers) == 200
    assert one.mean_glimpses == 2


def test_wrappers_stay_on():
    class Blind(gymnasium.vector.VectorObservationWrapper):
        def observations(self, observations: DictObservation) -> DictObservation:
            return observations | {"glimpse": observations["glimpse"] * 0}

    seen = []

    def watch(observation: DictObservation, first: np.ndarray) -> np.ndarray:
        seen.append(float(observation["glimpse"].max()))
        return np.stack([np.zeros(len(first), int)] * 2, 1)

    evaluate(watch, Blind(made(4, autoreset_mode="NextStep")))
    assert seen
    assert max(seen) == 0


def test_other_environments_are_refused():
    others = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(TaskError, match=r"expected a GlimpseVectorEnv, got [A-Za-z]*; make one with gymnasium"):
        evaluate(lambda seen, first: first, others)
    others.close()
    with pytest.raises(TaskError, match=r"that reset themselves, got autoreset_mode 'Disabled'; leave it out"):
        evaluate(lambda seen, first: first, made(2, autoreset_mode="Disabled"))
