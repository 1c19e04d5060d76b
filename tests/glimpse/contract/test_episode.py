import math

import numpy as np
import pytest
import torch

from glimpse.contract.episode import EpisodeRule


def test_an_improvement_is_what_a_glimpse_adds_to_the_log_probability():
    beliefs = torch.tensor([[0.25, 0.5, 0.4], [0.1, 0.1, 0.9]]).log()
    rewards = EpisodeRule(3, "improvement").rewards(beliefs, torch.zeros(2, 3), 4)
    expected = torch.tensor([[1.0, 2.0, 0.8], [0.4, 1.0, 9.0]]).log()
    torch.testing.assert_close(rewards, expected)
    torch.testing.assert_close(rewards.sum(1), beliefs[:, -1] + math.log(4))


def test_the_terminal_reward_is_the_last_answers():
    correct = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    rewards = EpisodeRule(3, "terminal").rewards(torch.randn(2, 3), correct, 10)
    assert rewards.tolist() == [[0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("reward", ["improvement", "terminal"])
def test_arrays_and_tensors_earn_the_same_and_are_left_as_they_were(reward):
    generator = torch.Generator().manual_seed(0)
    beliefs = torch.rand(5, 4, generator=generator).log()
    correct = (torch.rand(5, 4, generator=generator) > 0.5).float()
    before = beliefs.clone(), correct.clone()
    rule = EpisodeRule(4, reward)
    by_tensor = rule.rewards(beliefs, correct, 7)
    by_array = rule.rewards(beliefs.numpy(), correct.numpy(), 7)
    np.testing.assert_allclose(by_tensor.numpy(), by_array, atol=1e-6)
    assert torch.equal(beliefs, before[0])
    assert torch.equal(correct, before[1])


def test_the_episode_ends_with_the_budget():
    rule = EpisodeRule(3)
    assert [bool(rule.terminated(taken)) for taken in range(5)] == [False, False, False, True, True]
    assert rule.terminated(np.array([2, 3])).tolist() == [False, True]


def test_an_empty_budget_and_an_unknown_reward_are_refused():
    with pytest.raises(ValueError, match="budget of at least 1 glimpse, got num_glimpses=0; raise it"):
        EpisodeRule(0)
    with pytest.raises(
        ValueError, match=r"reward out of .'improvement', 'terminal', 'dense'., got 'praise'; choose one"
    ):
        EpisodeRule(2, "praise")
