"""Variance of estimators of the policy's gradient: ``python benchmarks/estimator_variance.py [--output FILE]``.

One objective for all: the expected log-probability of the true class after the last glimpse, over the noise of a
Gaussian policy's locations, seen through the bilinear crop, no location clamped. One gradient for all: with respect to
the parameters of the policy alone, through all that a choice leads to, later choices included.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine import describe, in_words, settle_threads

settle_threads()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

from glimpse.data import ImageData  # noqa: E402
from glimpse.data.datamodule import generator_for  # noqa: E402
from glimpse.heads import LocationPolicy  # noqa: E402
from glimpse.models.hard import HardAttention, HardObserver  # noqa: E402
from glimpse.models.relaxed import look_relaxed, sense_smoothly  # noqa: E402
from glimpse.objectives import classification_loss, leave_one_out, policy_loss  # noqa: E402
from glimpse.retina import Retina  # noqa: E402
from glimpse.rollout import Choice, Chooser, Trace, fixed, rollout  # noqa: E402
from training_speed import available_dataset  # noqa: E402

PLAIN, LEARNED, LEFT_OUT = "score function", "score function, learned baseline", "score function, leave-one-out"
BELIEF = "score function, belief as baseline"
PATHWISE = "pathwise"
HELD, DOUBLED = "pathwise, belief held", "score function, choices linked"
"""What the training of relaxed attention computes: see :func:`estimators`."""
BATCH = 256
TARGET = 5.0
"""How much lower than the plain score function's the variance is to be, at equal cost."""


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
        pilot: Estimates that the mixture's weight is taken from.
    """

    hidden: int = 128
    num_glimpses: int = 6
    images: int = 64
    num_rollouts: int = 4
    points: tuple[tuple[int, float], ...] = ((100, 0.15), (500, 0.05))
    repetitions: int = 100
    reference: int = 400
    pilot: int = 30


QUICK = Effort(8, 3, 4, 2, ((2, 0.2), (4, 0.1)), repetitions=4, reference=8, pilot=3)


@dataclass
class Problem:
    """A model before some images, an image's roll-outs next to one another.

    Attributes:
        model: The model.
        retina: Its retina.
        images: Images, repeated.
        labels: Their true classes, repeated alike.
        num_rollouts: Roll-outs an image.
        num_glimpses: Glimpses in an episode.
        spread: Standard deviation of the policy, half images.
    """

    model: HardAttention
    retina: Retina
    images: Tensor
    labels: Tensor
    num_rollouts: int
    num_glimpses: int
    spread: float

    def parameters(self) -> list[Tensor]:
        """What the gradient is with respect to: the policy's head and its own layers."""
        named = dict(self.model.named_parameters())
        return [named[name] for name in sorted(named) if name.startswith(("policy.", "gaze_"))]


class Attached(TorchFunctionMode):
    """Within it nothing is detached.

    The model cuts the gradient between the belief and the policy that reads it, and for the score function that changes
    nothing. The pathwise gradient takes that way as well: from a location to the belief, and on to the next location.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, unless it detaches."""
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def unbounded(policy: LocationPolicy, spread: float, generator: torch.Generator, linked: bool) -> Chooser:
    """Choose a Gaussian policy's sample, without a clamp.

    Args:
        policy: The policy.
        spread: Its standard deviation, half images.
        generator: Where the randomness comes from.
        linked: Whether the location is the mean plus noise, with its gradient.
    """

    def choose(step: Any, present: Choice) -> Choice:
        drawn = policy.sample(step.policy, spread, generator)
        log_prob = policy.log_prob(step.policy, drawn, spread)
        place = step.policy + (drawn - step.policy).detach() if linked else drawn
        return Choice(place, log_prob, policy.entropy(step.policy, spread))

    return choose


def explore(problem: Problem, seed: int, linked: bool, attached: bool) -> Trace:
    """Roll the problem out. The same seed gives the same locations, whatever has a gradient.

    Args:
        problem: The problem.
        seed: Fixes the noise.
        linked: Whether locations have a gradient.
        attached: Whether it passes through the belief to later locations.
    """
    model, images = problem.model, problem.images

    def step(glimpse: Tensor, choice: Choice, state: Any) -> Any:
        with Attached() if attached else nullcontext():
            return model(glimpse, choice.location, state)

    return rollout(
        step,
        sense_smoothly(images, problem.retina, "bilinear", 1.0),
        unbounded(model.policy, problem.spread, generator_for("cpu", seed), linked),
        fixed(torch.zeros(len(images), 2)),
        model.initial_state(len(images)),
        problem.num_glimpses,
    )


def true_log_probability(trace: Trace, labels: Tensor) -> Tensor:
    """Log-probability of the true class after each glimpse, nats, (batch, time)."""
    places = labels[:, None, None].expand(-1, trace.logits.shape[1], 1)
    return trace.logits.log_softmax(2).gather(2, places).squeeze(2)


def earned(trace: Trace, labels: Tensor) -> Tensor:
    """Log-probability of the true class after the last glimpse, nats, (batch,)."""
    return true_log_probability(trace, labels)[:, -1]


def pathwise(problem: Problem, seed: int, attached: bool = True) -> Tensor:
    """Something whose gradient is the pathwise estimate."""
    return earned(explore(problem, seed, linked=True, attached=attached), problem.labels).mean()


def score_function(problem: Problem, seed: int, baseline: str, linked: bool = False) -> Tensor:
    """Something whose gradient is the score function's estimate (Mnih et al. 2014, eq. 2).

    Args:
        problem: The problem.
        seed: Fixes the noise.
        baseline: ``none``; ``learned``, which does not know the true class; ``leave-one-out``; or ``belief``: the true
            class's log-probability before the choice, which makes the return an improvement.
        linked: Whether a location's log-probability has a gradient through earlier locations too, which is wrong.
    """
    trace = explore(problem, seed, linked, attached=False)
    beliefs = true_log_probability(trace, problem.labels).detach()
    returns = beliefs[:, -1:].expand_as(beliefs)[:, 1:]
    advantages = returns
    if baseline == "learned" and trace.value is not None:
        advantages = returns - trace.value[:, :-1]
    elif baseline == "leave-one-out":
        advantages = returns - leave_one_out(returns, problem.num_rollouts)
    elif baseline == "belief":
        advantages = returns - beliefs[:, :-1]
    return -policy_loss(trace.log_prob[:, 1:], advantages)


def estimators() -> dict[str, Callable[[Problem, int], Tensor]]:
    """What is compared, each by what is differentiated.

    The last two are what :class:`glimpse.training.RelaxedAttentionTraining` computes, and are not unbiased. There the
    belief that the policy reads is held, so what a location does to later choices through it is left out; and the
    log-probability of a choice (for its ``mixed``) is differentiated through the earlier choices that led there.
    """
    return {
        PLAIN: lambda problem, seed: score_function(problem, seed, "none"),
        LEARNED: lambda problem, seed: score_function(problem, seed, "learned"),
        LEFT_OUT: lambda problem, seed: score_function(problem, seed, "leave-one-out"),
        BELIEF: lambda problem, seed: score_function(problem, seed, "belief"),
        PATHWISE: pathwise,
        HELD: lambda problem, seed: pathwise(problem, seed, attached=False),
        DOUBLED: lambda problem, seed: score_function(problem, seed, "learned", linked=True),
    }


def gradient(problem: Problem, objective: Tensor) -> Tensor:
    """The gradient with respect to the policy's parameters, flat."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(objective, problem.parameters())])


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


def draw_estimates(problem: Problem, estimator: Callable[[Problem, int], Tensor], seeds: Sequence[int]) -> Estimates:
    """Estimate again and again, and time it.

    Args:
        problem: The problem.
        estimator: Makes what is differentiated.
        seeds: The noise of each estimate.
    """
    gradients, seconds = [], []
    for seed in seeds:
        start = time.process_time()
        gradients.append(gradient(problem, estimator(problem, seed)))
        seconds.append(time.process_time() - start)
    return Estimates(torch.stack(gradients), statistics.median(seconds))


def least_variance_weight(first: Estimates, second: Estimates) -> float:
    """The weight w for which w * first + (1 - w) * second varies least, the two being of the same roll-outs."""
    apart = Estimates(first.gradients - second.gradients, 0.0).variance
    return (apart + second.variance - first.variance) / (2 * apart)


def fit_baseline(problem: Problem, seeds: Sequence[int]) -> float:
    """Set the learned baseline to what its training converges to on this policy: the least squares fit.

    Args:
        problem: The problem.
        seeds: Noise of the roll-outs that it is fitted to.

    Returns:
        Share of the returns' variance that it explains, on these roll-outs.
    """
    read: list[Tensor] = []
    watcher = problem.model.baseline.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    features, returns = [], []
    with torch.no_grad():
        for seed in seeds:
            read.clear()
            trace = explore(problem, seed, linked=False, attached=False)
            # One row for each choice; what is read after the last glimpse chooses nothing.
            features.append(torch.cat(read[:-1]))
            returns.append(earned(trace, problem.labels).repeat(len(read) - 1))
        watcher.remove()
        inputs, targets = torch.cat(features).double(), torch.cat(returns).double()
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], dim=1)
        squares = inputs.T @ inputs / len(inputs)
        solved = torch.linalg.solve(
            squares + 1e-6 * torch.eye(len(squares), dtype=squares.dtype), inputs.T @ targets / len(inputs)
        )
        problem.model.baseline.weight.copy_(solved[:-1].unsqueeze(0))
        problem.model.baseline.bias.copy_(solved[-1:])
        left = (targets - inputs @ solved).square().mean()
    return float(1 - left / targets.var())


def figures(estimates: Estimates, reference: Estimates) -> dict[str, float]:
    """What one estimator is worth.

    Args:
        estimates: Its estimates.
        reference: The long run.
    """
    truth, mean = reference.mean, estimates.mean
    noise = estimates.variance / len(estimates.gradients) + reference.variance / len(reference.gradients)
    apart = float((mean - truth).double().square().sum())
    cosines = nn.functional.cosine_similarity(estimates.gradients, truth.unsqueeze(0), dim=1)
    return {
        "variance": estimates.variance,
        "signal_to_noise": float(truth.norm()) / math.sqrt(estimates.variance),
        "cosine": float(cosines.mean()),
        "cosine_deviation": float(cosines.std()),
        "cpu_milliseconds": 1000 * estimates.seconds,
        "mean_cosine": float(nn.functional.cosine_similarity(mean, truth, dim=0)),
        "mean_distance_in_standard_errors": math.sqrt(apart / noise),
        "relative_bias": math.sqrt(max(0.0, apart - noise)) / float(truth.norm()),
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
    for parameter in problem.parameters():
        parameter.requires_grad_(True)
    every = estimators()
    pilot = [draw_estimates(problem, every[name], piloted) for name in (PATHWISE, LEARNED)]
    best = PATHWISE if pilot[0].variance <= pilot[1].variance else LEARNED
    reference = draw_estimates(problem, every[best], held)
    found = {name: draw_estimates(problem, estimator, measured) for name, estimator in every.items()}
    weight = least_variance_weight(*pilot)
    for name, share in (("mixed, half and half", 0.5), (f"mixed, {weight:.3f} pathwise", weight)):
        mixture = share * found[PATHWISE].gradients + (1 - share) * found[LEARNED].gradients
        found[name] = Estimates(mixture, found[PATHWISE].seconds + found[LEARNED].seconds)
    rows = {name: figures(estimates, reference) for name, estimates in found.items()}
    plain = rows[PLAIN]
    for row in rows.values():
        row["times_lower"] = plain["variance"] / row["variance"]
        row["times_lower_at_equal_cpu"] = row["times_lower"] * plain["cpu_milliseconds"] / row["cpu_milliseconds"]
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
    }


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
        trace = look_relaxed(
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
    machine = describe()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = ImageData(dataset, canvas_height=60, canvas_width=60, num_pieces=4)
    model = HardAttention(10, data.image_shape[0], 12, 3, effort.hidden, gaze_hidden=effort.hidden)
    sample, _ = batches(data, 500)
    model.get_buffer("mean").fill_(sample.float().mean() / 255)
    model.get_buffer("std").fill_(sample.float().std() / 255)
    # Not among those of the training: every training canvas is drawn once.
    images, labels = batches(data, effort.images, effort.points[-1][0] * BATCH)
    repeated = (part.repeat_interleave(effort.num_rollouts, 0) for part in (images, labels))
    problem = Problem(model, Retina(12, 3, 2), *repeated, effort.num_rollouts, effort.num_glimpses, 0.0)
    optimiser = torch.optim.AdamW(model.parameters(), 1.5e-3)
    done, points = 0, []
    for steps, spread in effort.points:
        train(problem, data, optimiser, range(done, steps), spread)
        done, problem.spread = steps, spread
        points.append(
            {"training_steps": steps, "validation_error": validation_error(problem, data)} | compare(problem, effort)
        )
    return {
        "command": "python benchmarks/estimator_variance.py --output benchmarks/results/estimator-variance.json",
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
    "times lower": ("times_lower", "{:.2f}"),
    "at equal CPU": ("times_lower_at_equal_cpu", "{:.2f}"),
    "signal/noise": ("signal_to_noise", "{:.3f}"),
    "cosine": ("cosine", "{:.3f}"),
    "+-": ("cosine_deviation", "{:.3f}"),
    "CPU ms": ("cpu_milliseconds", "{:.0f}"),
    "mean's cosine": ("mean_cosine", "{:.3f}"),
    "std errors off": ("mean_distance_in_standard_errors", "{:.2f}"),
    "rel. bias": ("relative_bias", "{:.2f}"),
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
            f"{reference['standard_error']:.2g}",
            "  ".join([" " * 34, *(head.rjust(12) for head in COLUMNS)]),
        ]
        for name, row in point["estimators"].items():
            cells = (form.format(row[key]).rjust(12) for key, form in COLUMNS.values())
            lines.append("  ".join([name.ljust(34), *cells]))
        unbiased = {name: row for name, row in point["estimators"].items() if name not in (HELD, DOUBLED)}
        reached = [name for name, row in unbiased.items() if row["times_lower_at_equal_cpu"] >= TARGET]
        lines.append(f"At least {TARGET:g} times lower than plain at equal CPU time: {'; '.join(reached) or 'none'}.")
    return "\n".join(lines)


def main(args: Sequence[str]) -> int:
    """Measure, print, and write the figures where they are wanted.

    Args:
        args: The command line.
    """
    parser = argparse.ArgumentParser(prog="estimator_variance.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument(
        "--quick", action="store_true", help="take seconds instead of minutes; the figures mean nothing"
    )
    options = parser.parse_args(args)
    if options.output and not options.output.parent.is_dir():
        parser.error(f"--output: expected a folder at {options.output.parent}, found none; make it first")
    result = {"quick": options.quick} | measure(QUICK if options.quick else Effort(), available_dataset())
    print(report(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
