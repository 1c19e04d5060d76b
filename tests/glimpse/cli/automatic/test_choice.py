"""The choice among trials."""

from pathlib import Path

import torch

from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.automatic.choice import rank_trials
from glimpse.cli.automatic.trials import CandidateTrial


def trial(name: str, error: float, balanced_error: float, weaker: str | None = None) -> CandidateTrial:
    return CandidateTrial(Contender(name, "", (), weaker=weaker), Path(name), 1, 1.0, error, balanced_error)


def test_the_error_that_counts_follows_from_the_classes_sizes() -> None:
    trials = [trial("one", 0.10, 0.40), trial("two", 0.20, 0.30)]
    even, uneven = rank_trials(trials, torch.tensor([50, 60])), rank_trials(trials, torch.tensor([20, 100]))
    assert (even.best.candidate.name, uneven.best.candidate.name) == ("one", "two")
    assert uneven.describe() == "balanced error on the validation images: two 30.00 %, one 40.00 %; chosen: two"


def test_a_stronger_augmentation_comes_first_unless_its_error_is_far_greater() -> None:
    def order(strong: float, other: float = 0.5) -> list[str]:
        trials = [trial("plain", 0.10, 0.1), trial("strong", strong, 0.1, weaker="plain"), trial("other", other, 0.1)]
        return [each.candidate.name for each in rank_trials(trials, torch.tensor([50, 60])).trials]

    assert order(0.14) == ["strong", "plain", "other"]
    assert order(0.16) == ["plain", "strong", "other"]
    assert order(0.09) == ["strong", "plain", "other"]
    assert order(0.14, other=0.05) == ["other", "strong", "plain"]
    trials = [trial("plain", 0.10, 0.1), trial("strong", 0.14, 0.1, weaker="plain")]
    chosen = rank_trials(trials, torch.tensor([50, 60]))
    assert chosen.describe().endswith("chosen: strong, whose stronger augmentation leaves it more to learn")
    assert rank_trials(trials[:1], torch.tensor([50, 60])).describe().endswith("chosen: plain")
