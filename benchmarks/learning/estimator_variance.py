"""Variance of estimators of the policy's gradient.

``python -m benchmarks.learning.estimator_variance [--output FILE]``.

One objective for all: the expected log-probability of the true class after the last glimpse, over the noise of a
Gaussian policy's locations, seen through the bilinear crop, no location clamped. One gradient for all: with respect to
the parameters of the policy alone, through all that a choice leads to, later choices included. Estimators that leave
the later choices out are biased, and their bias counts.
"""

import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, in_words
from benchmarks.harness.reports import hand_back
from benchmarks.learning.gradient_estimators import (
    HELD,
    LEARNED,
    LEFT_OUT,
    PATHWISE,
    PLAIN,
    Estimator,
    Problem,
    estimators,
    fit_baseline,
    gradient,
    mixed,
)
from benchmarks.training.steps import available_dataset
from glimpse.data.datamodule import ImageData
from glimpse.data.held_out import generator_for
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.models.relaxed import rollout_relaxed
from glimpse.nn.retina import Retina
from glimpse.training.objectives import classification_loss

BATCH = 256
HALF, LEAST = "mixed, half and half", "mixed, weight of least error"
TARGET = 5.0
"""How much lower than the plain score function's the mean squared error is to be, at equal cost."""


@dataclass(frozen=True)
class Effort:
    """How large all this is.

    Attributes:
        hidden: Length of the model's vectors.
        num_glimpses: Glimpses in an episode.
        images: Images that the gradient is the mean over.
        num_rollouts: Roll-outs of each in one estimate.
        points: Where to measure: training steps taken by then, and the spread of the policy, half images.
        repetitions: Estimates of each kind.
        reference: Estimates in the reference.
        pilot: Estimates of each kind that the mixture's weight is taken from, and for each shorter episode.
        lengths: Glimpses in the shorter episodes.
    """

    hidden: int = 128
    num_glimpses: int = 6
    images: int = 64
    num_rollouts: int = 4
    points: tuple[tuple[int, float], ...] = ((100, 0.15), (500, 0.05))
    repetitions: int = 100
    reference: int = 400
    pilot: int = 30
    lengths: tuple[int, ...] = (2, 3, 4)


QUICK = Effort(8, 3, 4, 2, ((2, 0.2), (4, 0.1)), repetitions=4, reference=8, pilot=3, lengths=(2,))


@dataclass
class Estimates:
    """Independent estimates of one gradient.

    Attributes:
        gradients: One a row.
        seconds: CPU time of each.
    """

    gradients: Tensor
    seconds: float

    @property
    def variance(self) -> float:
        """Trace of their covariance."""
        return float(self.gradients.var(0).double().sum())

    @property
    def mean(self) -> Tensor:
        """Their mean."""
        return self.gradients.mean(0)


def draw_estimates(problem: Problem, wanted: Mapping[str, Estimator], seeds: Sequence[int]) -> dict[str, Estimates]:
    """Make many estimates, each kind alternately from the same noise, and time them.

    Args:
        problem: The problem.
        wanted: Estimators, by name.
        seeds: The noise of each estimate.
    """
    gradients: dict[str, list[Tensor]] = {name: [] for name in wanted}
    seconds: dict[str, list[float]] = {name: [] for name in wanted}
    for seed in seeds:
        for name, estimator in wanted.items():
            start = time.process_time()
            gradients[name].append(gradient(problem, estimator(problem, seed)))
            seconds[name].append(time.process_time() - start)
    return {name: Estimates(torch.stack(gradients[name]), statistics.median(seconds[name])) for name in wanted}


def noise_of(estimates: Estimates, reference: Estimates) -> float:
    """Expected square of the distance between two means that are estimates of the same."""
    return estimates.variance / len(estimates.gradients) + reference.variance / len(reference.gradients)


def squared_distance(estimates: Estimates, reference: Estimates) -> float:
    """Square of the distance between two means."""
    return float((estimates.mean - reference.mean).double().square().sum())


def squared_bias(estimates: Estimates, reference: Estimates) -> float:
    """Square of the bias's length, from two independent runs, of which the reference is unbiased; at least 0."""
    return max(0.0, squared_distance(estimates, reference) - noise_of(estimates, reference))


def least_error_weight(first: Estimates, second: Estimates, bias: float) -> float:
    """The weight w for which w * first + (1 - w) * second has the least mean squared error.

    Args:
        first: Estimates with a bias.
        second: Unbiased ones, of the same roll-outs.
        bias: Square of the bias.
    """
    apart = Estimates(first.gradients - second.gradients, 0.0).variance
    return (apart + second.variance - first.variance) / (2 * (apart + bias))


def figures(estimates: Estimates, reference: Estimates, bias: float = 0.0) -> dict[str, float]:
    """Variance, bias and cost of one estimator.

    Args:
        estimates: Its estimates.
        reference: The long run.
        bias: Square of its bias.
    """
    truth, mean = reference.mean, estimates.mean
    cosines = nn.functional.cosine_similarity(estimates.gradients, truth.unsqueeze(0), dim=1)
    return {
        "variance": estimates.variance,
        "relative_bias": math.sqrt(bias) / float(truth.norm()),
        "mean_squared_error": estimates.variance + bias,
        "cosine": float(cosines.mean()),
        "cosine_deviation": float(cosines.std()),
        "cpu_milliseconds": 1000 * estimates.seconds,
        "mean_cosine": float(nn.functional.cosine_similarity(mean, truth, dim=0)),
        "mean_distance_in_standard_errors": math.sqrt(
            squared_distance(estimates, reference) / noise_of(estimates, reference)
        ),
    }


def compare(problem: Problem, effort: Effort) -> dict[str, Any]:
    """Measure every estimator at one point of the training.

    Args:
        problem: The problem. Its baseline is fitted here.
        effort: How large this is.
    """
    trained, held, measured, piloted = (range(start, start + count) for start, count in (
        (0, max(8, effort.pilot)), (10_000, effort.reference), (20_000, effort.repetitions), (30_000, effort.pilot)
    ))  # fmt: skip
    for parameter in problem.model.parameters():
        parameter.requires_grad_(False)
    explained = fit_baseline(problem, trained)
    for tensor in problem.parameters():
        tensor.requires_grad_(True)
    every = estimators()
    pilot = draw_estimates(problem, {name: every[name] for name in (LEARNED, LEFT_OUT, HELD)}, piloted)
    best = min((LEARNED, LEFT_OUT), key=lambda name: pilot[name].variance)
    reference = draw_estimates(problem, {best: every[best]}, held)[best]
    weight = least_error_weight(pilot[HELD], pilot[LEARNED], squared_bias(pilot[HELD], reference))
    every[HALF] = lambda problem, seed: mixed(problem, seed, 0.5)
    every[LEAST] = lambda problem, seed: mixed(problem, seed, weight)
    found = draw_estimates(problem, every, measured)
    bias = squared_bias(found[HELD], reference)
    # A mixture has its weight's share of the bias.
    shares = {HELD: 1.0, HALF: 0.5, LEAST: weight}
    rows = {name: figures(part, reference, shares.get(name, 0.0) ** 2 * bias) for name, part in found.items()}
    plain = rows[PLAIN]
    for row in rows.values():
        row["times_lower"] = plain["variance"] / row["mean_squared_error"]
        # In the time of one plain estimate: more of them average the variance away, but not the bias.
        cost = row["cpu_milliseconds"] / plain["cpu_milliseconds"]
        row["times_lower_at_equal_cpu"] = plain["variance"] / (
            cost * row["variance"] + row["mean_squared_error"] - row["variance"]
        )
    return {
        "spread": problem.spread,
        "baseline_explains": explained,
        "mixture_weight": weight,
        "reference": {
            "estimator": best,
            "estimates": effort.reference,
            "norm": float(reference.mean.norm()),
            "standard_error": math.sqrt(reference.variance / effort.reference),
        },
        "estimators": rows,
        "lengths": lengths(problem, effort, piloted),
    }


def lengths(problem: Problem, effort: Effort, seeds: Sequence[int]) -> list[dict[str, float]]:
    """Where the pathwise estimate's variance comes from: the same policy, in shorter episodes.

    Args:
        problem: The problem.
        effort: How large this is.
        seeds: The noise of each estimate.
    """
    every, rows = estimators(), []
    for num_glimpses in (*effort.lengths, effort.num_glimpses):
        shorter = replace(problem, num_glimpses=num_glimpses)
        found = draw_estimates(shorter, {name: every[name] for name in (PATHWISE, HELD, LEFT_OUT)}, seeds)
        rows.append({"num_glimpses": num_glimpses} | {name: part.variance for name, part in found.items()})
    return rows


def batches(data: ImageData, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Training images on canvases drawn anew, and their labels.

    Args:
        data: Where they come from.
        count: How many.
        first: Number of the first of them.
    """
    part = data.source.train
    shown = part.take(torch.arange(first, first + count) % len(part))
    return data.draw(shown.images, 0, first), shown.labels


def train(problem: Problem, data: ImageData, optimiser: torch.optim.Optimizer, steps: range, spread: float) -> None:
    """Train by back-propagation through the bilinear crop, as relaxed attention is, at a constant learning rate."""
    for parameter in problem.model.parameters():
        parameter.requires_grad_(True)
    for step in steps:
        images, labels = batches(data, BATCH, step * BATCH)
        noise = generator_for("cpu", 1, step)
        trace = rollout_relaxed(
            problem.model, problem.retina, images, problem.num_glimpses, "bilinear", 1.0, spread, noise
        )
        optimiser.zero_grad()
        classification_loss(trace.logits, labels).backward()
        nn.utils.clip_grad_norm_(problem.model.parameters(), 5.0)
        optimiser.step()


def validation_error(problem: Problem, data: ImageData) -> float:
    """Share of validation images that are named wrongly, deterministically and by the hard crop."""
    part = data.source.validation.take(torch.arange(min(1000, len(data.source.validation))))
    with torch.no_grad():
        seen = HardObserver(problem.model, problem.retina, problem.num_glimpses)(data.draw(part.images, 1))
    return float((seen.logits[:, -1].argmax(1) != part.labels).double().mean())


def measure(effort: Effort, dataset: str) -> dict[str, Any]:
    """Train, and measure on the way.

    Args:
        effort: How large this is.
        dataset: ``mnist`` or ``digits``.
    """
    torch.set_num_threads(1)
    machine = describe()
    torch.manual_seed(0)
    data = ImageData(dataset, canvas_height=60, canvas_width=60, num_pieces=4)
    model = HardAttention(10, data.image_shape[0], 12, 3, effort.hidden, gaze_hidden=effort.hidden)
    sample, _ = batches(data, 500)
    model.get_buffer("mean").fill_(sample.float().mean() / 255)
    model.get_buffer("std").fill_(sample.float().std() / 255)
    # Not among those of the training: every training canvas is drawn once.
    images, labels = batches(data, effort.images, effort.points[-1][0] * BATCH)
    images, labels = (part.repeat_interleave(effort.num_rollouts, 0) for part in (images, labels))
    problem = Problem(model, Retina(12, 3, 2), images, labels, effort.num_rollouts, effort.num_glimpses, 0.0)
    optimiser = torch.optim.AdamW(model.parameters(), 1.5e-3)
    done, points = 0, []
    for steps, spread in effort.points:
        train(problem, data, optimiser, range(done, steps), spread)
        done, problem.spread = steps, spread
        points.append(
            {"training_steps": steps, "validation_error": validation_error(problem, data)} | compare(problem, effort)
        )
    return {
        "command": "python -m benchmarks.learning.estimator_variance"
        " --output benchmarks/results/estimator-variance.json",
        "data": dataset,
        "seed": 0,
        "effort": asdict(effort),
        "policy_parameters": sum(part.numel() for part in problem.parameters()),
        "machine": machine,
        "points": points,
        "cpu_seconds": time.process_time(),
        "load_average_after": describe()["load_average"],
    }


COLUMNS = {
    "variance": ("variance", "{:.3g}"),
    "rel. bias": ("relative_bias", "{:.2f}"),
    "sq. error": ("mean_squared_error", "{:.3g}"),
    "times lower": ("times_lower", "{:.2f}"),
    "at equal CPU": ("times_lower_at_equal_cpu", "{:.2f}"),
    "cosine": ("cosine", "{:.3f}"),
    "+-": ("cosine_deviation", "{:.3f}"),
    "CPU ms": ("cpu_milliseconds", "{:.0f}"),
    "mean's cosine": ("mean_cosine", "{:.3f}"),
    "std errs off": ("mean_distance_in_standard_errors", "{:.2f}"),
}


def report(result: dict[str, Any]) -> str:
    """The figures in tables.

    Args:
        result: What :func:`measure` found.
    """
    effort = result["effort"]
    lines = [
        in_words(result["machine"]),
        f"data: {result['data']}; {effort['images']} images x {effort['num_rollouts']} roll-outs of "
        f"{effort['num_glimpses']} glimpses an estimate; {result['policy_parameters']:,} parameters of the policy; "
        f"{effort['repetitions']} estimates each",
    ]
    for point in result["points"]:
        reference = point["reference"]
        lines += [
            "",
            f"After {point['training_steps']} steps (validation error {point['validation_error']:.1%}), spread "
            f"{point['spread']}; the baseline explains {point['baseline_explains']:.0%}; reference: "
            f"{reference['estimates']} estimates, {reference['estimator']}, {reference['norm']:.3g} +- "
            f"{reference['standard_error']:.2g}; weight of least error: {point['mixture_weight']:.2f} pathwise",
            "  ".join([" " * 34, *(head.rjust(12) for head in COLUMNS)]),
        ]
        for name, row in point["estimators"].items():
            cells = (form.format(row[key]).rjust(12) for key, form in COLUMNS.values())
            lines.append("  ".join([name.ljust(34), *cells]))
        reached = [name for name, row in point["estimators"].items() if row["times_lower_at_equal_cpu"] >= TARGET]
        lines.append(f"At least {TARGET:g} times lower than plain at equal CPU time: {'; '.join(reached) or 'none'}.")
        lines.append(f"Variance by the number of glimpses, {PATHWISE} / {HELD} / {LEFT_OUT}:")
        lines += [
            f"  {row['num_glimpses']}: {row[PATHWISE]:.3g} / {row[HELD]:.3g} / {row[LEFT_OUT]:.3g}"
            for row in point["lengths"]
        ]
    return "\n".join(lines)


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.learning.estimator_variance", __doc__)
    options = options_of(args, parser)
    torch.set_num_threads(1)
    result = {"quick": options.quick} | measure(QUICK if options.quick else Effort(), available_dataset())
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
