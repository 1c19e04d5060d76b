"""Which of two models is recommended, and why."""

import math

import pytest
import torch
from torch.nn import functional

from glimpse.evaluation.recommendation import Finalist, finalists_table, recommend


def finalist(name: str, epoch: int, predictions: torch.Tensor, classes: int = 3) -> Finalist:
    return Finalist(name, epoch, functional.one_hot(predictions, classes).float())


def chosen(labels: torch.Tensor, best: torch.Tensor, last: torch.Tensor, **options: bool) -> tuple[str, str]:
    given = {"balanced": False, "finished": True} | options
    found, reason = recommend(finalist("best", 3, best), finalist("last", 5, last), labels, **given)
    return found.name, reason


LABELS = torch.tensor([0] * 90 + [1] * 10)


def wrong_at(*places: int) -> torch.Tensor:
    answers = LABELS.clone()
    answers[list(places)] = 2
    return answers


def test_the_best_is_taken_where_it_leads_by_more_than_one_standard_error() -> None:
    # Wrong on 1 image that the other has right, and right on 4: a lead of 3 images, of sqrt(5) by chance.
    name, reason = chosen(LABELS, wrong_at(0), wrong_at(1, 2, 3, 4))
    assert name == "best"
    assert (
        f"is 3.00 points lower than that of last, more than chance explains (standard error {math.sqrt(5):.2f})"
        in reason
    )


def test_the_last_is_taken_where_the_lead_may_be_luck() -> None:
    name, reason = chosen(LABELS, wrong_at(9, 8), wrong_at(0, 1, 2))
    assert name == "last"
    assert "of 1.00 points less error on the validation images, leads by no more than chance explains" in reason


@pytest.mark.parametrize("wrong", [(8, 9), (0, 1), ()])
def test_the_last_is_taken_where_the_best_is_no_better(wrong: tuple[int, ...]) -> None:
    found = chosen(LABELS, wrong_at(9, 8), wrong_at(*wrong))
    assert found == ("last", "since best is no better on the validation images")


def test_where_classes_count_alike_a_rare_class_outweighs_a_frequent_one() -> None:
    rare, frequent = wrong_at(90, 91, 92, 93), wrong_at(*range(12))
    assert chosen(LABELS, rare, frequent)[0] == "best"
    assert chosen(LABELS, rare, frequent, balanced=True)[0] == "last"
    name, reason = chosen(LABELS, frequent, rare, balanced=True)
    assert name == "best"
    # Half of 4 of 10 images, less half of 12 of 90.
    assert "whose balanced error on the validation images is 13.33 points lower" in reason


def test_a_training_that_ended_early_gives_the_best() -> None:
    name, reason = chosen(LABELS, wrong_at(0), wrong_at(1), finished=False)
    assert (name, "ended before the learning rate did" in reason) == ("best", True)


def test_one_model_is_both() -> None:
    one = finalist("last.ckpt", 4, LABELS)
    assert recommend(finalist("best.ckpt", 4, LABELS), one, LABELS, False, True)[0] is one


def test_the_table_holds_both_models_and_the_majority_line() -> None:
    both = [finalist("best.ckpt", 12, wrong_at(0)), finalist("last.ckpt", 20, wrong_at(1, 95))]
    heading, first, second, constant = finalists_table(both, LABELS, ("ant", "bee", "cat"))
    assert " ".join(heading.split()) == "on the 100 validation images error balanced accuracy macro F1"
    assert first.startswith("best.ckpt, after epoch 12")
    assert "1.00%" in first
    assert second.split()[-3:-1] == ["2.00%", "94.44%"]
    assert " ".join(constant.split()) == "always ant, the most frequent class 10.00%"


def test_of_many_classes_the_table_has_the_five_likeliest() -> None:
    heading, row, _ = finalists_table([finalist("one", 1, LABELS, 7)], LABELS, tuple("abcdefg"))
    assert heading.endswith("top-5 accuracy")
    assert row.endswith("100.00%")
    assert len(heading) == len(row)
