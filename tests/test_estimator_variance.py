"""The estimators that the benchmark compares: each against an exact gradient, on a problem small enough to have one."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import estimator_variance as benchmark
from estimator_variance import Estimates
from glimpse.models.hard import HardAttention
from glimpse.relaxation import bilinear_glimpse
from glimpse.retina import Retina
from gradient_estimators import (
    DOUBLED,
    HELD,
    PATHWISE,
    PLAIN,
    Problem,
    earned,
    estimators,
    explore,
    fit_baseline,
    gradient,
    pathwise,
)

UNBIASED = [name for name in estimators() if name not in (HELD, DOUBLED)]
HEIGHT, WIDTH, SPREAD = 6, 8, 0.3
SAME = 4.5
"""Standard errors within which the worst of some hundred entries stays, but for one seed in a thousand."""


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def problem_of(num_glimpses: int, copies: int, num_rollouts: int = 4) -> Problem:
    """Some hundred numbers for the policy, whose second location lies at the image's edge as often as not."""
    generator = torch.Generator().manual_seed(45)
    model = HardAttention(3, 1, 2, 1, 6, combine="add", gaze="eyes", gaze_hidden=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
        model.classifier.weight *= 3
    images = torch.rand(2, 1, HEIGHT, WIDTH, generator=generator).repeat_interleave(copies, 0)
    labels = torch.tensor([0, 2]).repeat_interleave(copies)
    return Problem(model, Retina(2, 1, 2), images, labels, num_rollouts, num_glimpses, SPREAD)


def exact_gradient(problem: Problem) -> Tensor:
    """With one choice alone: the integral over it, by Gauss-Legendre between the kinks of the interpolation."""
    model = problem.model
    first = bilinear_glimpse(problem.images, torch.zeros(2, 2), 2, 1, 2)
    before = model(first, torch.zeros(2, 2), model.initial_state(2))
    total = torch.zeros(())
    for row in range(2):
        mean = before.policy[row]
        nodes, weights = np.polynomial.legendre.leggauss(6)
        places, shares = [], []
        for middle, length in zip(mean.tolist(), (WIDTH, HEIGHT), strict=True):
            low, high = middle - 8 * SPREAD, middle + 8 * SPREAD
            kinks = [2 * pixel / length - 1 for pixel in range(-length, 2 * length + 1)]
            ends = [low, *(kink for kink in kinks if low < kink < high), high]
            pieces = list(itertools.pairwise(ends))
            places.append(torch.from_numpy(np.concatenate([(b - a) / 2 * nodes + (a + b) / 2 for a, b in pieces])))
            shares.append(torch.from_numpy(np.concatenate([(b - a) / 2 * weights for a, b in pieces])))
        locations, weight = torch.cartesian_prod(*places), torch.cartesian_prod(*shares).prod(1)
        density = torch.distributions.Normal(mean, SPREAD).log_prob(locations).sum(1).exp()
        assert float((weight * density).detach().sum()) == pytest.approx(1, abs=1e-9)
        images = problem.images[row].expand(len(locations), -1, -1, -1)
        state = type(before.state)(*(part[row].expand(len(locations), -1) for part in before.state))
        seen = model(bilinear_glimpse(images, locations, 2, 1, 2), locations, state)
        returns = seen.logits.log_softmax(1)[:, problem.labels[row]].detach()
        total = total + (weight * density * returns).sum() / 2
    return gradient(problem, total)


def distance(estimates: Estimates, truth: Tensor, truth_error: float | Tensor = 0.0) -> float:
    """How far the mean is from the truth, in standard errors, at its worst entry."""
    error = (estimates.gradients.var(0) / len(estimates.gradients) + truth_error**2).sqrt()
    moving = error > 1e-12
    assert float(truth[~moving].abs().sum()) < 1e-9
    assert float(error.norm()) < 0.2 * float(truth.norm())
    return float(((estimates.mean - truth).abs()[moving] / error[moving]).max())


@pytest.mark.parametrize("name", UNBIASED)
def test_the_mean_is_the_exact_gradient_where_there_is_one_choice(name):
    exact = exact_gradient(problem_of(2, 1))
    problem = problem_of(2, 500)
    assert distance(benchmark.draw_estimates(problem, estimators()[name], range(60)), exact) < SAME


def slope(problem: Problem, direction: Tensor, seed: int, step: float = 1e-6) -> float:
    """Slope of the objective along a direction of the policy's parameters, at held noise, by finite differences."""
    parameters = problem.parameters()
    parts = direction.split([part.numel() for part in parameters])

    def objective(by: float) -> float:
        with torch.no_grad():
            for parameter, part in zip(parameters, parts, strict=True):
                parameter += by * part.view_as(parameter)
            value = float(pathwise(problem, seed))
            for parameter, part in zip(parameters, parts, strict=True):
                parameter -= by * part.view_as(parameter)
        return value

    return (objective(step) - objective(-step)) / (2 * step)


def test_the_pathwise_gradient_is_that_of_finite_differences_at_held_noise():
    problem = problem_of(4, 30)
    found = gradient(problem, pathwise(problem, 7))
    held = gradient(problem, pathwise(problem, 7, attached=False))
    directions = torch.randn(5, len(found), generator=torch.Generator().manual_seed(1))
    slopes = torch.tensor([slope(problem, direction, 7) for direction in directions])
    torch.testing.assert_close(directions @ found, slopes, rtol=1e-5, atol=1e-7)
    # With the belief held a location's effect on later choices is missing.
    assert float((directions @ held - slopes).norm()) > 0.01 * float(slopes.norm())


@pytest.fixture(scope="module")
def long_run() -> Estimates:
    torch.set_default_dtype(torch.float64)
    return benchmark.draw_estimates(problem_of(3, 500), pathwise, range(1000, 1060))


@pytest.mark.parametrize("name", [name for name in UNBIASED if name != PATHWISE])
def test_the_score_functions_mean_is_the_pathwise_one_where_choices_follow_choices(name, long_run):
    estimates = benchmark.draw_estimates(problem_of(3, 500), estimators()[name], range(60))
    error = (long_run.gradients.var(0) / len(long_run.gradients)).sqrt()
    assert distance(estimates, long_run.mean, error) < SAME


def test_the_comparison_tells_a_log_probability_that_is_differentiated_through_earlier_choices(long_run):
    estimates = benchmark.draw_estimates(problem_of(3, 500), estimators()[DOUBLED], range(60))
    error = (long_run.gradients.var(0) / len(long_run.gradients)).sqrt()
    assert distance(estimates, long_run.mean, error) > 8


def test_all_estimators_see_the_same_roll_outs():
    problem = problem_of(3, 4)
    traces = [
        explore(problem, 5, linked, attached) for linked, attached in ((False, False), (True, False), (True, True))
    ]
    for trace in traces[1:]:
        torch.testing.assert_close(trace.locations, traces[0].locations)
        torch.testing.assert_close(trace.logits, traces[0].logits)
    assert float(traces[0].locations.detach().abs().max()) > 1
    assert not torch.equal(explore(problem, 6, False, False).locations, traces[0].locations)


def test_the_baseline_is_the_least_squares_fit():
    problem = problem_of(3, 200)
    explained = fit_baseline(problem, range(1))
    trace = explore(problem, 0, linked=False, attached=False)
    assert trace.value is not None
    returns = earned(trace, problem.labels).detach()
    left = returns.unsqueeze(1) - trace.value[:, :-1].detach()
    # What is left has no mean and does not go with what the baseline says.
    assert abs(float(left.mean())) < 1e-3
    assert abs(float((left * trace.value[:, :-1].detach()).mean())) < 0.05 * float(returns.var())
    assert float(left.square().mean() / returns.var()) == pytest.approx(1 - explained, rel=0.01)
    assert explained > 0.1


def test_the_weight_gives_the_least_variance():
    generator = torch.Generator().manual_seed(0)
    shared, first, second = torch.randn(3, 50, 8, generator=generator)
    one, other = Estimates(first + shared, 1.0), Estimates(3 * second + 2 * shared, 1.0)
    weight = benchmark.least_variance_weight(one, other)

    def variance(share: float) -> float:
        return Estimates(share * one.gradients + (1 - share) * other.gradients, 1.0).variance

    assert variance(weight) < min(variance(weight - 0.01), variance(weight + 0.01))


def test_the_figures_are_what_they_are_called():
    generator = torch.Generator().manual_seed(3)
    truth = torch.zeros(100)
    truth[0] = 3.0
    reference = Estimates(truth + 0.01 * torch.randn(500, 100, generator=generator), 0.1)
    row = benchmark.figures(Estimates(truth + torch.randn(400, 100, generator=generator), 0.002), reference)
    assert row["variance"] == pytest.approx(100, rel=0.05)
    assert row["signal_to_noise"] == pytest.approx(0.3, rel=0.05)
    assert row["cosine"] == pytest.approx(3 / math.sqrt(109), rel=0.1)
    assert row["mean_distance_in_standard_errors"] == pytest.approx(1, abs=0.3)
    assert row["cpu_milliseconds"] == pytest.approx(2)
    off = benchmark.figures(Estimates(1.5 * truth + torch.randn(400, 100, generator=generator), 0.002), reference)
    assert off["relative_bias"] == pytest.approx(0.5, rel=0.1)
    assert row["relative_bias"] < 0.15


def test_a_quick_run_writes_every_estimators_figures(tmp_path, capsys, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(benchmark, "available_dataset", lambda: "digits")
    assert benchmark.main(["--quick", "--output", str(tmp_path / "figures.json")]) == 0
    result: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert result["quick"]
    assert result["data"] == "digits"
    for point in result["points"]:
        rows = point["estimators"]
        assert len(rows) == len(estimators()) + 2
        assert rows[PLAIN]["times_lower_at_equal_cpu"] == pytest.approx(1)
        assert all(math.isfinite(number) for row in rows.values() for number in row.values())
    assert "At least 5 times lower" in capsys.readouterr().out


def test_figures_go_only_into_a_folder_that_is_there(tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--quick", "--output", str(tmp_path / "missing" / "file.json")])
    assert "expected a folder at" in capsys.readouterr().err
