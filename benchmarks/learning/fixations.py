"""What the choice of fixations earns: ``python -m benchmarks.learning.fixations RECIPE [--output FILE] [--quick]``.

``glimpse evaluate`` puts a trained model under random, central and grid fixations, which its weights never saw in
training. Here the recipe is trained *for* each of them: the same model, data and number of steps, the fixations of
every training image by the same rule, and no loss of the policy, which chooses nothing. Each last model is evaluated
under the fixations that it was trained for.
"""

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, settle_threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import torch  # noqa: E402

from glimpse.cli.evaluate import evaluate_checkpoint  # noqa: E402
from glimpse.cli.train import command, training_cli  # noqa: E402
from glimpse.contract.episode import EpisodeRule  # noqa: E402
from glimpse.evaluation.evaluate import FIXATIONS, baseline_locations  # noqa: E402
from glimpse.models.hard import HardAttention, rollout_hard  # noqa: E402
from glimpse.nn.retina import Retina  # noqa: E402
from glimpse.rollout import Chooser, Trace, follow  # noqa: E402
from glimpse.training.callbacks import LAST_FILE  # noqa: E402

KINDS = FIXATIONS[1:]
QUICK = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")
NORMAL_QUANTILE = 1.96
"""Of the standard normal distribution, for intervals of 95 %."""


def roll_out_under(kind: str) -> Any:
    """A roll-out of the training under fixations that no policy chose.

    Args:
        kind: See :func:`glimpse.evaluation.evaluate.baseline_locations`.
    """

    def roll_out(
        model: HardAttention,
        retina: Retina,
        images: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        rule: EpisodeRule,
        choose: Chooser,
        first: torch.Tensor | None,
    ) -> Trace:
        locations = baseline_locations(kind, len(images), rule.num_glimpses, torch.default_generator)
        placed = locations.to(images.device)
        return rollout_hard(model, retina, images, rule.num_glimpses, follow(placed), placed[:, 0])

    return roll_out


RANDOM, CENTRE, GRID = (roll_out_under(kind) for kind in KINDS)


def interval(wrong: float, images: int) -> tuple[float, float]:
    """The 95 % interval of an error rate (Wilson, J. Am. Stat. Assoc. 22, 1927).

    Args:
        wrong: Share of wrong answers, in [0, 1].
        images: How many were answered.
    """
    spread = NORMAL_QUANTILE**2 / images
    middle = (wrong + spread / 2) / (1 + spread)
    reach = NORMAL_QUANTILE * math.sqrt(wrong * (1 - wrong) / images + spread / (4 * images)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def trained_for(kind: str, recipe: str, seed: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Train a recipe, under its own fixations or others, and evaluate its last model.

    Args:
        kind: ``own``, or one of the fixations that no policy chose.
        recipe: A recipe's name, or a YAML file, of hard attention.
        seed: Fixes the run.
        folder: For the run's files.
        quick: Whether to train for two batches.

    Raises:
        RuntimeError: When the training failed.
    """
    arguments = ["--config", recipe, "--seed", str(seed), "--output", str(folder / kind), *QUICK * quick]
    if kind != "own":
        training_cli.ROLLOUTS[kind] = f"{__name__}:{kind.upper()}"
        arguments += ["--rollout", kind, "--model.policy_weight", "0"]
    began = time.process_time()
    status = command.main(arguments, "glimpse train")
    if status:
        raise RuntimeError(f"expected a run of {recipe} under {kind} fixations, it ended with status {status}")
    seconds = time.process_time() - began
    evaluation = evaluate_checkpoint(folder / kind / LAST_FILE, "test")
    errors = {name: found[-1] for name, found in evaluation.errors.items()}
    return {
        "trained_for": kind,
        "test_error": errors[kind],
        "interval": interval(errors[kind], evaluation.images),
        "test_images": evaluation.images,
        "test_errors_under": errors,
        "cpu_seconds": round(seconds, 1),
    }


def measure(recipe: str, kinds: Sequence[str], seed: int, quick: bool) -> dict[str, Any]:
    """Train for each kind of fixations.

    Args:
        recipe: See :func:`trained_for`.
        kinds: Of fixations.
        seed: See :func:`trained_for`.
        quick: See :func:`trained_for`.
    """
    before = describe()
    with tempfile.TemporaryDirectory() as folder:
        runs = [trained_for(kind, recipe, seed, Path(folder), quick) for kind in kinds]
    return {
        "quick": quick,
        "recipe": Path(recipe).stem,
        "seed": seed,
        "machine": before,
        "load_average_after": describe()["load_average"],
        "runs": runs,
    }


def report(result: dict[str, Any]) -> str:
    """The figures in a table.

    Args:
        result: What :func:`measure` found.
    """
    rows = [
        (
            run["trained_for"],
            f"{run['test_error']:.1%}",
            " to ".join(f"{bound:.1%}" for bound in run["interval"]),
            *(f"{run['test_errors_under'][kind]:.1%}" for kind in FIXATIONS),
            f"{run['cpu_seconds']:,.0f}",
        )
        for run in result["runs"]
    ]
    heads = ("trained for", "test error", "95 % interval", *(f"under {kind}" for kind in FIXATIONS), "CPU s")
    title = f"{result['recipe']}, seed {result['seed']}: fixations in training against those of the test"
    return "\n\n".join([heading(result, f"{result['runs'][0]['test_images']} test images"), table(title, heads, rows)])


def main(args: Sequence[str]) -> int:
    """Train, print the table, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.learning.fixations", __doc__)
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name, or a YAML file, of hard attention")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="fixes the runs (default: 0)")
    parser.add_argument(
        "--kinds", nargs="+", choices=FIXATIONS, default=list(FIXATIONS), help="fixations to train for (default: all)"
    )
    options = options_of(args, parser)
    result = measure(options.recipe, options.kinds, options.seed, options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
