"""The linear head: the optimum of logistic regression, and the penalty that held-out images choose."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from glimpse.training.transfer.linear_head import PENALTIES, fit_linear_head


def blobs(count: int, seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """Features of three classes around three middles, of unlike scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    middles = torch.tensor([[0.0, 0, 3, 0], [2, 0, 0, 0], [0, 2, 0, 0]])
    features = middles[labels] + noise * torch.randn(count, 4, generator=generator)
    return features * torch.tensor([1.0, 100.0, 0.01, 1.0]) + 5, labels


def test_the_head_is_that_of_logistic_regression() -> None:
    features, labels = blobs(300, 0, 1.0)
    head = fit_linear_head(features, labels, *blobs(300, 1, 1.0), torch.ones(3), balanced=False)
    mean, std = features.mean(0), features.std(0)
    reference = LogisticRegression(C=1 / (head.penalty * 300), max_iter=5000, tol=1e-8)
    reference.fit(((features - mean) / std).numpy(), labels.numpy())
    new, _ = blobs(50, 2, 1.0)
    expected = reference.predict_proba(((new - mean) / std).numpy())
    found = (new @ head.weight.T + head.bias).softmax(1)
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-3)


def test_held_out_images_choose_the_penalty() -> None:
    features, labels = blobs(12, 3, 2.5)
    held_out, truth = blobs(2000, 4, 2.5)
    head = fit_linear_head(features, labels, held_out, truth, torch.ones(3), balanced=False)
    assert head.penalty in PENALTIES
    assert head.penalty > min(PENALTIES)  # few and noisy images want a strong one


def test_weights_of_classes_shift_the_boundary() -> None:
    features, labels = blobs(300, 5, 2.0)
    same = (features, labels, features, labels)
    heavy = fit_linear_head(*same, torch.tensor([10.0, 1.0, 1.0]), balanced=True)
    even = fit_linear_head(*same, torch.ones(3), balanced=True)
    chosen = [(features @ head.weight.T + head.bias).argmax(1) for head in (heavy, even)]
    assert (chosen[0] == 0).sum() > (chosen[1] == 0).sum()
