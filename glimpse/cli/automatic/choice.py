"""The choice among trials: by their error on the validation images."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from glimpse.cli.automatic.trials import CandidateTrial
from glimpse.evaluation.scores import is_unbalanced

STILL_LEARNING = 1.5
"""How many times the error of the same model with a weaker augmentation a trial may have, and still come before it.

After a trial a model without augmentation has nearly come to its end, one with it has not. Traffic signs after three
minutes: 11.1 % balanced error without, 12.2 % with the strong one; in a longer training without: still 12 to 14 %."""


@dataclass(frozen=True)
class RankedTrials:
    """What was tried, and in which order it came in.

    Attributes:
        trials: The trials, the best first.
        balanced: Whether they were compared by the error that counts every class alike.
    """

    trials: tuple[CandidateTrial, ...]
    balanced: bool

    @property
    def best(self) -> CandidateTrial:
        """The one that was chosen."""
        return self.trials[0]

    def describe(self) -> str:
        """The choice in words."""
        what = "balanced error" if self.balanced else "error"
        figures = ", ".join(
            f"{trial.candidate.name} {100 * trial.measure(self.balanced):.2f} %" for trial in self.trials
        )
        least = min(trial.measure(self.balanced) for trial in self.trials)
        still_learns = self.best.measure(self.balanced) > least
        reason = ", whose stronger augmentation leaves it more to learn" if still_learns else ""
        return f"{what} on the validation images: {figures}; chosen: {self.best.candidate.name}{reason}"


def rank_trials(trials: Sequence[CandidateTrial], class_counts: Tensor) -> RankedTrials:
    """Order trials by their error on the validation images, which counts each class alike where they are unbalanced.

    A trial whose augmentation is stronger comes before that with the weaker one, unless its error is far greater; see
    ``STILL_LEARNING``.

    Args:
        trials: The trials.
        class_counts: Training images of each class.
    """
    balanced = is_unbalanced(class_counts)
    ranked = sorted(trials, key=lambda trial: trial.measure(balanced))
    for trial in tuple(ranked):
        weaker = next((each for each in ranked if each.candidate.name == trial.candidate.weaker), None)
        if weaker is None or trial.measure(balanced) > STILL_LEARNING * weaker.measure(balanced):
            continue
        if ranked.index(weaker) < ranked.index(trial):
            ranked.remove(trial)
            ranked.insert(ranked.index(weaker), trial)
    return RankedTrials(tuple(ranked), balanced)
