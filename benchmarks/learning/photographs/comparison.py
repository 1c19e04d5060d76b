"""The product beside its rivals on the same test images: by how much it is ahead, and whether that is by chance.

Both sides err on the same images, so that their difference is known better than either figure. It is bootstrapped over
groups from what each side's figures hold: right predictions by group and class.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.learning.photographs.rivals import PROBE
from benchmarks.learning.photographs.uncertainty import GroupSums

TOLERATED = 0.01
"""By how much accuracy the product may be behind the linear probe."""


class Lead(NamedTuple):
    """By how much the product is ahead of a rival, behind where it is negative."""

    accuracy: float
    """Of the accuracy, or the balanced accuracy, in [-1, 1]."""
    standard_error: float
    """Of the difference, over the test images; another training may differ by more."""


def outcomes_in_words(counted: GroupSums) -> str:
    """Write right predictions by group and class in one short line.

    Args:
        counted: Images and right predictions.

    Returns:
        The groups with spaces between, the classes of a group with commas between, each class as
        ``class:images:right``.
    """
    groups = []
    for images, right in zip(counted.images.tolist(), counted.sums.tolist(), strict=True):
        of_class = enumerate(zip(images, right, strict=True))
        groups.append(",".join(f"{label}:{count:.0f}:{good:.0f}" for label, (count, good) in of_class if count))
    return " ".join(groups)


def read_outcomes(written: str) -> GroupSums:
    """Read what :func:`outcomes_in_words` wrote.

    Args:
        written: The line.
    """
    groups = [[tuple(map(int, cell.split(":"))) for cell in group.split(",")] for group in written.split(" ")]
    classes = 1 + max(label for group in groups for label, _, _ in group)
    images, right = (np.zeros((len(groups), classes)) for _ in range(2))
    for number, group in enumerate(groups):
        for label, count, good in group:
            images[number, label], right[number, label] = count, good
    return GroupSums(images, right)


def lead_of(product: Sequence[str], rival: Sequence[str], balanced: bool) -> Lead:
    """By how much the mean of the product's runs is ahead of the mean of a rival's.

    Args:
        product: The outcomes of each run of the product, see :func:`outcomes_in_words`.
        rival: Those of each run of the rival.
        balanced: Whether every class counts alike.

    Raises:
        ValueError: When they are not of the same test images.
    """
    sides = [[read_outcomes(each) for each in runs] for runs in (product, rival)]
    images = sides[0][0].images
    if any(each.images.shape != images.shape or (each.images != images).any() for runs in sides for each in runs):
        raise ValueError("expected outcomes of the same test images, in the same groups; measure both sides again")
    ours, theirs = (np.mean([each.sums for each in runs], axis=0) for runs in sides)
    difference = GroupSums(images, ours - theirs)
    return Lead(difference.figure(balanced), difference.standard_error(balanced))


def leads_of(result: Mapping[str, Any]) -> dict[str, Lead]:
    """By how much the product is ahead of each rival that was measured.

    Args:
        result: What the benchmark writes. Nothing is said where the product's outcomes are not among its figures.
    """
    runs = result["seeds"].values()
    product = [each["product"]["test"] for each in runs if "test" in each.get("product", {})]
    ours = [test["outcomes"] for test in product if "outcomes" in test]
    if not ours:
        return {}
    names = dict.fromkeys(name for each in runs for name in each.get("rivals", {}))
    theirs = {
        name: [each["rivals"][name]["outcomes"] for each in runs if name in each.get("rivals", {})] for name in names
    }
    return {name: lead_of(ours, outcomes, result["measure"] != "accuracy") for name, outcomes in theirs.items()}


def judge_beside_probe(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Answer the question: is the product behind the linear probe by more than a point?

    Args:
        result: What the benchmark writes.

    Returns:
        ``ahead`` and its ``standard_error``, points of the measure; ``is_behind``: by more than a point; and
        ``sentence``. None where one of the two was not measured.
    """
    lead = leads_of(result).get(PROBE)
    if lead is None:
        return None
    ahead, error, is_behind = 100 * lead.accuracy, 100 * lead.standard_error, lead.accuracy < -TOLERATED
    judged = "behind by more than a point" if is_behind else "not behind by more than a point"
    sentence = (
        f"the product's {result['measure']} less the linear probe's: {ahead:+.2f} points (standard error {error:.2f}): "
        f"{judged}"
    )
    return {"ahead": ahead, "standard_error": error, "is_behind": is_behind, "sentence": sentence}
