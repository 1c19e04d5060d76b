"""The product beside its rivals: paired differences, and what is said of them."""

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.learning.photographs.comparison import (
    judge_beside_probe,
    lead_of,
    leads_of,
    outcomes_in_words,
    read_outcomes,
)
from benchmarks.learning.photographs.uncertainty import standard_error, sums_of_groups

IMAGES = 300


def predictions(share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(IMAGES) < share).astype(float)


LABELS = np.random.default_rng(5).integers(0, 3, IMAGES)
GROUPS = [f"track {number}" for number in np.random.default_rng(6).integers(0, 60, IMAGES)]


def outcomes(right: np.ndarray) -> str:
    return outcomes_in_words(sums_of_groups(right, LABELS, GROUPS))


def test_outcomes_are_read_as_they_were_written():
    counted = sums_of_groups(np.array([1.0, 0, 1, 1]), np.array([0, 2, 0, 2]), ["b", "b", "a", "b"])
    written = outcomes_in_words(counted)
    assert written == "0:1:1 0:1:1,2:2:1"
    read = read_outcomes(written)
    np.testing.assert_array_equal(read.images, counted.images)
    np.testing.assert_array_equal(read.sums, counted.sums)


@pytest.mark.parametrize("balanced", [True, False])
def test_a_lead_is_the_difference_with_the_bootstrap_of_the_paired_differences(balanced):
    product, rival = predictions(0.9, 0), predictions(0.7, 1)
    lead = lead_of([outcomes(product)], [outcomes(rival)], balanced)
    means = [np.mean((product - rival)[label == LABELS]) for label in range(3)]
    assert lead.accuracy == pytest.approx(np.mean(means) if balanced else np.mean(product - rival))
    assert lead.standard_error == pytest.approx(standard_error(product - rival, LABELS, GROUPS, balanced))


def test_what_both_get_wrong_does_not_widen_their_difference():
    product = predictions(0.5, 0)
    rival = product.copy()
    rival[:10] = 0
    lead = lead_of([outcomes(product)], [outcomes(rival)], balanced=False)
    assert lead.standard_error < standard_error(product, LABELS, GROUPS, balanced=False) / 3
    assert lead_of([outcomes(product)], [outcomes(product)], balanced=False) == (0, 0)


def test_a_lead_over_several_seeds_is_that_of_their_means():
    runs = [predictions(0.9, seed) for seed in range(3)]
    rival = predictions(0.8, 7)
    lead = lead_of([outcomes(each) for each in runs], [outcomes(rival)], balanced=False)
    assert lead.accuracy == pytest.approx(np.mean(runs) - rival.mean())


def test_other_test_images_are_not_compared():
    other = outcomes_in_words(sums_of_groups(np.ones(4), np.array([0, 1, 0, 1]), list("abcd")))
    with pytest.raises(ValueError, match=r"the same test images, in the same groups; measure both sides again"):
        lead_of([outcomes(predictions(0.9, 0))], [other], balanced=False)


def result(product: np.ndarray | None, probe: np.ndarray | None, measure: str = "accuracy") -> dict[str, Any]:
    test = {} if product is None else {"outcomes": outcomes(product)}
    rivals = {} if probe is None else {"linear-probe": {"outcomes": outcomes(probe)}}
    return {"measure": measure, "seeds": {"0": {"product": {"test": test}, "rivals": rivals}, "1": {"product": {}}}}


def test_more_than_a_point_behind_the_probe_is_behind():
    probe = predictions(0.8, 0)
    near, far = probe.copy(), probe.copy()
    near[np.flatnonzero(probe)[:3]], far[np.flatnonzero(probe)[:4]] = 0, 0
    judged = judge_beside_probe(result(near, probe))
    assert judged is not None
    assert (judged["ahead"], judged["is_behind"]) == (pytest.approx(-1), False)
    assert "the product's accuracy less the linear probe's: -1.00 points (standard error" in judged["sentence"]
    behind = judge_beside_probe(result(far, probe))
    assert behind is not None
    assert behind["is_behind"]
    assert behind["sentence"].endswith(": behind by more than a point")
    assert math.isfinite(behind["standard_error"])


def test_balanced_accuracies_are_compared_where_they_are_the_measure():
    product, probe = predictions(0.9, 0), predictions(0.7, 1)
    lead = leads_of(result(product, probe, "balanced accuracy"))["linear-probe"]
    assert lead == lead_of([outcomes(product)], [outcomes(probe)], balanced=True)


def test_nothing_is_said_of_what_was_not_measured():
    assert leads_of(result(None, predictions(0.7, 1))) == {}
    assert judge_beside_probe(result(predictions(0.7, 1), None)) is None
