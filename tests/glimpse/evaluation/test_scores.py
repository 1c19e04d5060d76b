"""Figures of predictions, beside scikit-learn's."""

import pytest
import torch
from sklearn import metrics

from glimpse.evaluation.scores import balanced_accuracy, count_confusion, is_unbalanced, macro_f1, scores_of


def answers(classes: int, images: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are often right, of labels the later of which are rarer."""
    generator = torch.Generator().manual_seed(classes)
    shares = 0.5 ** torch.arange(classes).clamp(max=4)
    labels = torch.multinomial(shares, images, replacement=True, generator=generator)
    logits = torch.randn(images, classes, generator=generator) + 1.5 * torch.eye(classes)[labels]
    return logits, labels


@pytest.mark.parametrize("classes", [2, 5, 8])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    logits, labels = answers(classes)
    found, predicted = scores_of(logits, labels), logits.argmax(1)
    assert found.error == pytest.approx(1 - metrics.accuracy_score(labels, predicted))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    most = int(labels.bincount().argmax())
    assert found.majority_class == most
    assert found.majority_accuracy == pytest.approx(float((labels == most).float().mean()))
    if classes > 5:
        top = metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
        assert found.top5_accuracy == pytest.approx(top)
    else:
        assert found.top5_accuracy is None


def test_classes_without_images_do_not_count() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 3])
    counts = count_confusion(predicted, labels, 6)
    torch.testing.assert_close(counts, torch.tensor(metrics.confusion_matrix(labels, predicted, labels=range(6))))
    assert balanced_accuracy(counts) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(counts) == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))


@pytest.mark.parametrize(
    ("images", "unbalanced"), [([50, 50], False), ([99, 50, 60], False), ([100, 50, 60], True), ([7, 0], True)]
)
def test_classes_are_unbalanced_from_twice_the_images_on(images: list[int], unbalanced: bool) -> None:
    assert is_unbalanced(torch.tensor(images)) is unbalanced
