"""The rule of an episode: how many glimpses, what they earn. One rule for training, environments and evaluation.

Its functions use only arithmetic that numpy arrays and torch tensors share.
"""

import math
from dataclasses import dataclass
from typing import Any

REWARDS = ("improvement", "terminal")


@dataclass(frozen=True)
class EpisodeRule:
    """Budget and reward of an episode.

    Attributes:
        num_glimpses: The budget; the episode ends with the last of them.
        reward: ``improvement``: each glimpse earns what it adds to the log-probability of the true class, the belief
            before the first being uniform. ``terminal``: the last glimpse earns 1 when the answer is right, as in Mnih
            et al. 2014, section 3.2; nothing else earns anything.

    Raises:
        ValueError: When the budget is below 1 or the reward is unknown.
    """

    num_glimpses: int
    reward: str = "improvement"

    def __post_init__(self) -> None:
        if self.num_glimpses < 1:
            raise ValueError(f"expected a budget of at least 1 glimpse, got num_glimpses={self.num_glimpses}; raise it")
        if self.reward not in REWARDS:
            raise ValueError(f"expected a reward out of {REWARDS}, got {self.reward!r}; choose one of them")

    def rewards(self, true_log_probability: Any, correct: Any, num_classes: int) -> Any:
        """What each glimpse earns.

        Args:
            true_log_probability: Log-probability of the true class after each glimpse, nats, (batch, time). It must
                carry no gradient: a reward is a number, not a way to train the classifier.
            correct: Whether the answer after each glimpse is right, 0 or 1, (batch, time), floating point.
            num_classes: How many classes there are.

        Returns:
            Rewards of shape (batch, time).
        """
        if self.reward == "improvement":
            rewards = true_log_probability + 0.0
            rewards[:, 1:] -= true_log_probability[:, :-1]
            rewards[:, 0] += math.log(num_classes)
            return rewards
        rewards = correct * 0.0
        rewards[:, -1] = correct[:, -1]
        return rewards

    def terminated(self, glimpses_taken: Any) -> Any:
        """Whether the budget is used up; a whole number or an array of them."""
        return glimpses_taken >= self.num_glimpses
