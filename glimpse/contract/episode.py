"""The rule of an episode: how many glimpses, what they earn. One rule for training, environments and evaluation.

Its functions use only arithmetic that numpy arrays and torch tensors share.
"""

import math
from dataclasses import dataclass
from typing import Any

REWARDS = ("improvement", "terminal", "dense")
FIRST_LOCATIONS = ("centre", "random")
"""Where an episode's first glimpse is taken: at the image's centre, or at a uniformly random location."""


@dataclass(frozen=True)
class EpisodeRule:
    """Budget and reward of an episode.

    Attributes:
        num_glimpses: The budget; the episode ends with the last of them.
        reward: ``improvement``: each glimpse earns what it adds to the log-probability of the true class, the belief
            before the first being uniform. ``terminal``: the last glimpse earns 1 when the answer is right, as in Mnih
            et al. 2014, section 3.2; nothing else earns anything. ``dense``: each glimpse after which the answer is
            right earns its share of 1.
        glimpse_cost: What each glimpse costs, whatever it earns.

    Raises:
        ValueError: When the budget is below 1, the reward is unknown, or the cost is negative or not finite.
    """

    num_glimpses: int
    reward: str = "improvement"
    glimpse_cost: float = 0.0

    def __post_init__(self) -> None:
        if self.num_glimpses < 1:
            raise ValueError(f"expected a budget of at least 1 glimpse, got num_glimpses={self.num_glimpses}; raise it")
        if self.reward not in REWARDS:
            raise ValueError(f"expected a reward out of {REWARDS}, got {self.reward!r}; choose one of them")
        if not 0 <= self.glimpse_cost < math.inf:
            raise ValueError(f"expected a glimpse_cost of at least 0, got {self.glimpse_cost}; give what is taken away")

    def earned(self, correct: Any = None, final: Any = None, gain: Any = None) -> Any:
        """Return the rewards of glimpses, one or many. Only the arguments that the kind of reward uses are needed.

        Args:
            correct: Whether the answer after the glimpse is right, 0 or 1, floating point; for ``dense``.
            final: Whether it is right and the final one; for ``terminal``.
            gain: What the glimpse added to the log-probability of the true class, nats; for ``improvement``.
        """
        if self.reward == "improvement":
            earned = gain
        elif self.reward == "terminal":
            earned = final
        else:
            earned = correct / self.num_glimpses
        return earned - self.glimpse_cost if self.glimpse_cost else earned

    def rewards(self, true_log_probability: Any, correct: Any, num_classes: int) -> Any:
        """Return the reward of each glimpse of whole episodes.

        Args:
            true_log_probability: Log-probability of the true class after each glimpse, nats, (batch, time). It must
                carry no gradient: a reward is a number, not a way to train the classifier.
            correct: Whether the answer after each glimpse is right, 0 or 1, (batch, time), floating point.
            num_classes: How many classes there are.

        Returns:
            Rewards of shape (batch, time).
        """
        gain = true_log_probability + 0.0
        gain[:, 1:] -= true_log_probability[:, :-1]
        gain[:, 0] += math.log(num_classes)
        final = correct * 0.0
        final[:, -1] = correct[:, -1]
        return self.earned(correct, final, gain)

    def terminated(self, glimpses_taken: Any) -> Any:
        """Whether the budget is used up; a whole number or an array of them."""
        return glimpses_taken >= self.num_glimpses
