"""The choice among trials: by their error on the validation images."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from glimpse.cli.automatic.trials import CandidateTrial
from glimpse.evaluation.scores import is_unbalanced


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
        return f"{what} on the validation images: {figures}; chosen: {self.best.candidate.name}"


def rank_trials(trials: Sequence[CandidateTrial], class_counts: Tensor) -> RankedTrials:
    """Order trials by their error on the validation images, which counts each class alike where they are unbalanced.

    Args:
        trials: The trials.
        class_counts: Training images of each class.
    """
    balanced = is_unbalanced(class_counts)
    return RankedTrials(tuple(sorted(trials, key=lambda trial: trial.measure(balanced))), balanced)
