import math

import numpy as np
import pytest
import torch

from glimpse.evaluation.calibration import COLDEST, CONFIDENCES, HOTTEST, budget_table, fit_temperature, glimpses_until


def beliefs(images: int, times: int = 3, classes: int = 4, seed: int = 0) -> torch.Tensor:
    """Logits that grow surer from glimpse to glimpse."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(images, 1, classes, generator=generator)
    noise = torch.randn(images, times, classes, generator=generator)
    return directions * torch.arange(1, times + 1).reshape(1, -1, 1) * 1.5 + noise


def drawn(logits: torch.Tensor, seed: int = 1) -> torch.Tensor:
    """Labels as often as their probabilities say."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_again(temperature):
    honest = torch.randn(20_000, 1, 5, generator=torch.Generator().manual_seed(2)) * 2
    labels = drawn(honest[:, 0])
    assert fit_temperature(honest * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_every_glimpse_counts():
    generator = torch.Generator().manual_seed(2)
    honest = torch.randn(4000, 1, 5, generator=generator) * 2
    labels = drawn(honest[:, 0])
    both = fit_temperature(torch.cat([honest, honest * 4], 1), labels)
    assert fit_temperature(honest, labels) < both < fit_temperature(honest * 4, labels)


def test_no_other_temperature_makes_the_labels_likelier():
    logits = beliefs(500)
    labels = drawn(logits[:, -1] / 3)
    found = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        shares = (logits.double() / temperature).log_softmax(2)
        return -float(shares.gather(2, labels.reshape(-1, 1, 1).expand(-1, 3, 1)).mean())

    others = np.geomspace(COLDEST, HOTTEST, 200)
    assert loss(found) <= min(loss(other) for other in others) + 1e-6
    assert found == round(found, 4)


def test_the_temperature_has_its_bounds():
    logits = torch.tensor([[[3.0, -3.0]]]).repeat(10, 1, 1)
    right, wrong = torch.zeros(10, dtype=torch.long), torch.ones(10, dtype=torch.long)
    assert fit_temperature(logits, right) == pytest.approx(COLDEST)
    assert fit_temperature(logits, wrong) == pytest.approx(HOTTEST)


def test_a_temperature_leaves_the_answers_as_they_are():
    logits = beliefs(100)
    labels = drawn(logits[:, -1])
    assert torch.equal((logits / fit_temperature(logits, labels)).argmax(2), logits.argmax(2))


def test_an_image_takes_glimpses_until_a_class_is_sure_enough():
    sure = torch.tensor([[0.5, 0.7, 0.9], [0.9, 0.5, 0.5], [0.6, 0.6, 0.6]])
    probabilities = torch.stack([sure, 1 - sure], 2)
    assert glimpses_until(probabilities, 0.7).tolist() == [2, 1, 3]
    assert glimpses_until(probabilities, 0.95).tolist() == [3, 3, 3]
    assert glimpses_until(probabilities, 0.5).tolist() == [1, 1, 1]
    assert glimpses_until(probabilities, None).tolist() == [3, 3, 3]


def naive(logits: torch.Tensor, labels: torch.Tensor, temperature: float, costs: list[int], limit: int, confidence):
    """Glimpses, accuracy and cost, one image at a time."""
    taken, right, cost = 0, 0, 0
    for image, label in zip(logits, labels, strict=True):
        for time in range(limit):
            shares = [math.exp(float(logit) / temperature) for logit in image[time]]
            if time + 1 == limit or (confidence is not None and max(shares) / sum(shares) >= confidence):
                break
        taken += time + 1
        right += int(max(range(len(shares)), key=shares.__getitem__) == int(label))
        cost += costs[time]
    return taken / len(labels), right / len(labels), cost / len(labels)


def test_the_budgets_are_those_of_a_naive_loop():
    logits, costs = beliefs(150), [100, 210, 330]
    labels = drawn(logits[:, -1])
    table = budget_table(logits, labels, 1.7, costs)
    assert [(budget.max_glimpses, budget.confidence) for budget in table] == [
        *((limit, None) for limit in (1, 2, 3)),
        *((3, confidence) for confidence in CONFIDENCES),
    ]
    for budget in table:
        glimpses, accuracy, cost = naive(logits, labels, 1.7, costs, budget.max_glimpses, budget.confidence)
        assert budget.glimpses == pytest.approx(glimpses, abs=1e-4)
        assert budget.accuracy == pytest.approx(accuracy, abs=1e-6)
        assert budget.multiply_accumulates == pytest.approx(cost, abs=1)
        assert budget.milliseconds is None


def test_who_wants_to_be_surer_takes_more_glimpses():
    logits = beliefs(300)
    sure = [budget for budget in budget_table(logits, drawn(logits[:, -1]), 1.0, [1, 2, 3]) if budget.confidence]
    glimpses = [budget.glimpses for budget in sure]
    assert glimpses == sorted(glimpses)
    assert 1 <= glimpses[0] < glimpses[-1] <= 3
    costs = [budget.multiply_accumulates for budget in sure]
    assert costs == sorted(costs)


def test_a_model_of_one_glimpse_has_one_budget():
    logits = beliefs(20, times=1)
    (budget,) = budget_table(logits, logits[:, 0].argmax(1), 1.0, [7])
    assert (budget.max_glimpses, budget.confidence, budget.glimpses) == (1, None, 1.0)
    assert (budget.accuracy, budget.multiply_accumulates) == (1.0, 7)
