"""The choice among trials."""

from pathlib import Path

import torch

from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.automatic.choice import rank_trials
from glimpse.cli.automatic.trials import CandidateTrial


def trial(name: str, error: float, balanced_error: float) -> CandidateTrial:
    return CandidateTrial(Contender(name, "", ()), Path(name), 1, 1.0, error, balanced_error)


def test_the_error_that_counts_follows_from_the_classes_sizes() -> None:
    trials = [trial("one", 0.10, 0.40), trial("two", 0.20, 0.30)]
    even, uneven = rank_trials(trials, torch.tensor([50, 60])), rank_trials(trials, torch.tensor([20, 100]))
    assert (even.best.candidate.name, uneven.best.candidate.name) == ("one", "two")
    assert uneven.describe() == "balanced error on the validation images: two 30.00 %, one 40.00 %; chosen: two"
