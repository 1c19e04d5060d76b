"""The estimators that the benchmark compares: each against an exact gradient, on a problem small enough to have one."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.learning import estimator_variance as benchmark
from benchmarks.learning.estimator_variance import Estimates
from benchmarks.learning.gradient_estimators import (
    HELD,
    LEARNED,
    PATHWISE,
    PLAIN,
    Problem,
    earned,
    estimators,
    explore,
    fit_baseline,
    gradient,
    mixed,
    pathwise,
    surrogate,
)
from glimpse.models.hard import HardAttention
from glimpse.models.relaxed import sense_smoothly
from glimpse.nn.relaxation import bilinear_glimpse
from glimpse.nn.retina import Retina
from glimpse.rollout import Choice, Trace, fixed, rollout

UNBIASED = [name for name in estimators() if name != HELD]
HEIGHT, WIDTH, SPREAD = 6, 8, 0.3
SAME = 4.5
"""Standard errors within which the worst of some hundred entries stays, but for one seed in a thousand."""


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def noise(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def draw(problem: Problem, name: str, seeds: range) -> Estimates:
    return benchmark.draw_estimates(problem, {name: estimators()[name]}, seeds)[name]


# With one choice there are no later ones to hold.
@pytest.mark.parametrize("name", [*UNBIASED, HELD])
def test_the_mean_is_the_exact_gradient_where_there_is_one_choice(name):
    exact = exact_gradient(problem_of(2, 1))
    assert distance(draw(problem_of(2, 500), name, range(60)), exact) < SAME


def slope(problem: Problem, direction: Tensor, objective: Callable[[], Tensor], step: float = 1e-6) -> float:
    """Slope of an objective along a direction of the policy's parameters, by finite differences."""
    parameters = problem.parameters()
    parts = direction.split([part.numel() for part in parameters])

    def value(by: float) -> float:
        with torch.no_grad():
            for parameter, part in zip(parameters, parts, strict=True):
                parameter += by * part.view_as(parameter)
            found = float(objective())
            for parameter, part in zip(parameters, parts, strict=True):
                parameter -= by * part.view_as(parameter)
        return found

    return (value(step) - value(-step)) / (2 * step)


def along(problem: Problem, locations: Tensor) -> tuple[Trace, Tensor]:
    """A roll-out that looks at given places whatever the policy says, and the means that it said there."""
    said: list[Tensor] = []

    def choose(step: Any, present: Choice) -> Choice:
        said.append(step.policy)
        return fixed(locations[:, len(said)])

    model, batch = problem.model, len(problem.images)
    trace = rollout(
        lambda glimpse, choice, state: model(glimpse, choice.location, state),
        sense_smoothly(problem.images, problem.retina, "bilinear", 1.0),
        choose,
        fixed(locations[:, 0]),
        model.initial_state(batch),
        problem.num_glimpses,
    )
    return trace, torch.stack(said[: locations.shape[1] - 1], dim=1)


def test_the_pathwise_gradients_are_those_of_finite_differences_at_held_noise():
    problem = problem_of(4, 30)
    directions = torch.randn(5, sum(part.numel() for part in problem.parameters()), generator=noise())
    slopes = torch.tensor([slope(problem, direction, lambda: pathwise(problem, 7)) for direction in directions])
    found = directions @ gradient(problem, pathwise(problem, 7))
    torch.testing.assert_close(found, slopes, rtol=1e-5, atol=1e-7)

    # Later choices held: every mean moves as if all places before it had stayed where they were.
    places = explore(problem, 7).locations.detach()
    means = along(problem, places)[1].detach()

    def moved() -> Tensor:
        steps = along(problem, places)[1] - means
        return earned(
            along(problem, torch.cat([places[:, :1], places[:, 1:] + steps], dim=1))[0], problem.labels
        ).mean()

    held = directions @ gradient(problem, pathwise(problem, 7, attached=False))
    held_slopes = torch.tensor([slope(problem, direction, moved) for direction in directions])
    torch.testing.assert_close(held, held_slopes, rtol=1e-5, atol=1e-7)
    assert float((held - slopes).norm()) > 0.01 * float(slopes.norm())


@pytest.fixture(scope="module")
def long_run() -> Estimates:
    torch.set_default_dtype(torch.float64)
    return draw(problem_of(3, 500), PATHWISE, range(1000, 1060))


@pytest.mark.parametrize("name", [name for name in UNBIASED if name != PATHWISE])
def test_the_score_functions_mean_is_the_pathwise_one_where_choices_follow_choices(name, long_run):
    error = (long_run.gradients.var(0) / len(long_run.gradients)).sqrt()
    assert distance(draw(problem_of(3, 500), name, range(60)), long_run.mean, error) < SAME


def test_the_comparison_tells_the_bias_of_held_choices(long_run):
    held = draw(problem_of(3, 500), HELD, range(60))
    error = (long_run.gradients.var(0) / len(long_run.gradients)).sqrt()
    assert distance(held, long_run.mean, error) > 8
    assert benchmark.squared_bias(held, long_run) > 0.001 * float(long_run.mean.square().sum())


def test_a_log_probability_has_the_same_gradient_whether_or_not_locations_have_one():
    problem = problem_of(4, 20)
    linked, cut = (surrogate(problem, explore(problem, 3, linked), "learned") for linked in (True, False))
    torch.testing.assert_close(gradient(problem, linked), gradient(problem, cut))


def test_the_mixture_has_its_parts_gradients_in_its_weights_shares():
    problem = problem_of(4, 20)
    held, learned = (gradient(problem, estimators()[name](problem, 3)) for name in (HELD, LEARNED))
    torch.testing.assert_close(gradient(problem, mixed(problem, 3, 0.3)), 0.3 * held + 0.7 * learned)


def test_all_estimators_see_the_same_roll_outs():
    problem = problem_of(3, 4)
    traces = [
        explore(problem, 5, linked, attached) for linked, attached in ((False, False), (True, False), (True, True))
    ]
    for trace in traces[1:]:
        torch.testing.assert_close(trace.locations, traces[0].locations)
        torch.testing.assert_close(trace.logits, traces[0].logits)
    assert float(traces[0].locations.detach().abs().max()) > 1
    assert not torch.equal(explore(problem, 6).locations, traces[0].locations)


def test_the_baseline_is_the_least_squares_fit():
    problem = problem_of(3, 200)
    explained = fit_baseline(problem, range(1))
    trace = explore(problem, 0)
    assert trace.value is not None
    returns = earned(trace, problem.labels).detach()
    left = returns.unsqueeze(1) - trace.value[:, :-1].detach()
    # What is left has no mean and does not go with what the baseline says.
    assert abs(float(left.mean())) < 1e-3
    assert abs(float((left * trace.value[:, :-1].detach()).mean())) < 0.05 * float(returns.var())
    assert float(left.square().mean() / returns.var()) == pytest.approx(1 - explained, rel=0.01)
    assert explained > 0.1


def test_the_weight_gives_the_least_error():
    shared, first, second = torch.randn(3, 50, 8, generator=noise(0))
    one, other = Estimates(first + shared, 1.0), Estimates(3 * second + 2 * shared, 1.0)

    def error(share: float) -> float:
        return Estimates(share * one.gradients + (1 - share) * other.gradients, 1.0).variance + share**2 * 20.0

    weight = benchmark.least_error_weight(one, other, 20.0)
    assert error(weight) < min(error(weight - 0.01), error(weight + 0.01))
    assert 0.1 < weight < benchmark.least_error_weight(one, other, 0.0) - 0.1


def test_the_figures_are_what_they_are_called():
    generator, truth = noise(3), torch.zeros(100)
    truth[0] = 3.0
    reference = Estimates(truth + 0.01 * torch.randn(500, 100, generator=generator), 0.1)
    close = Estimates(truth + torch.randn(400, 100, generator=generator), 0.002)
    row = benchmark.figures(close, reference)
    assert row["variance"] == row["mean_squared_error"] == pytest.approx(100, rel=0.05)
    assert row["relative_bias"] == 0
    assert row["cosine"] == pytest.approx(3 / math.sqrt(109), rel=0.1)
    assert row["mean_distance_in_standard_errors"] == pytest.approx(1, abs=0.3)
    assert row["cpu_milliseconds"] == pytest.approx(2)
    assert benchmark.squared_bias(close, reference) < 0.1
    off = Estimates(1.5 * truth + torch.randn(400, 100, generator=generator), 0.002)
    bias = benchmark.squared_bias(off, reference)
    assert bias == pytest.approx(1.5**2, rel=0.2)
    row = benchmark.figures(off, reference, bias)
    assert row["relative_bias"] == pytest.approx(0.5, rel=0.1)
    assert row["mean_squared_error"] == pytest.approx(102.25, rel=0.05)


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
