"""What an early exit saves: ``python -m benchmarks.runtime.early_exit CHECKPOINT [CHECKPOINT ...]``.

Options: ``--root DIR``, ``--output FILE``, ``--quick``. Along the budget table of each model's adaptive file, on the
real test images: glimpses, accuracy, multiply-accumulates, and on every fifth the time, one image at a time and in
batches. One thread.

The threshold is chosen on validation images by a fixed rule: the smallest one with which the error is not above that of
the full budget, and the answers differ from the full budget's on at most 0.2 % of the images.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.machine import Samples, describe, interleave, settle_threads, threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from jaxtyping import Float, Int64  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.runtime.models import Model, session_for, trained_model  # noqa: E402
from glimpse.contract.card import Budget  # noqa: E402
from glimpse.contract.seal import seal  # noqa: E402
from glimpse.contract.tensors import CONFIDENCE, GLIMPSES, INPUT, LOGITS, MAX_GLIMPSES  # noqa: E402
from glimpse.evaluation.calibration import glimpses_until  # noqa: E402
from glimpse.evaluation.evaluate import beliefs  # noqa: E402
from glimpse.runtime.session import GlimpseSession  # noqa: E402

BATCH = 64
DIFFERENT = 0.002
"""Share of the validation images whose answer may be another one than with the full budget."""
TIMED_EVERY = 5
"""One image out of so many is timed, from all over: the two halves of MNIST's test images aren't equally hard."""
TARGETS = {"time_share": 0.6, "points": 0.1}
EPISODE = "episode graph"


class Images(NamedTuple):
    """Images, and what they show."""

    pixels: Tensor
    """uint8 (images, channels, height, width)."""
    labels: Tensor


def choose(
    logits: Float[Tensor, "images time classes"],
    labels: Int64[Tensor, " images"],
    temperature: float,
    thresholds: Sequence[float],
) -> float | None:
    """Choose a threshold by the rule above.

    Args:
        logits: Of validation images.
        labels: What they show.
        temperature: What the logits are divided by.
        thresholds: To choose from.

    Returns:
        The smallest that the rule allows; None where it allows none.
    """
    full, images = logits[:, -1].argmax(1), torch.arange(len(labels))
    probabilities = (logits / temperature).softmax(2)
    for threshold in sorted(thresholds):
        answers = logits[images, glimpses_until(probabilities, threshold) - 1].argmax(1)
        no_worse = (answers != labels).sum() <= (full != labels).sum()
        if no_worse and (answers != full).sum() <= DIFFERENT * len(labels):
            return threshold
    return None


def name_of(budget: Budget) -> str:
    """What a budget is called in the results."""
    if budget.confidence is not None:
        return f"until {budget.confidence:g}"
    return f"{budget.max_glimpses} glimpse{'s' * (budget.max_glimpses > 1)}"


def feeds_of(budget: Budget) -> dict[str, npt.NDArray[Any]]:
    """A budget as inputs of an adaptive graph."""
    feeds: dict[str, npt.NDArray[Any]] = {MAX_GLIMPSES: np.array(budget.max_glimpses)}
    if budget.confidence is not None:
        feeds[CONFIDENCE] = np.array(budget.confidence, np.float32)
    return feeds


def answers_of(
    session: Any, feeds: dict[str, npt.NDArray[Any]], pixels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What an adaptive file answers, and with how many glimpses.

    Args:
        session: Of the file.
        feeds: Its inputs but for the images.
        pixels: The images.
    """
    found = [
        session.run([LOGITS, GLIMPSES], {**feeds, INPUT: pixels[first : first + BATCH]})
        for first in range(0, len(pixels), BATCH)
    ]
    return (
        np.concatenate([logits[:, -1].argmax(1) for logits, _ in found]),
        np.concatenate([glimpses for _, glimpses in found]),
    )


def passes(
    model: Model, graphs: Mapping[str, onnx.ModelProto], pixels: npt.NDArray[np.uint8], batch: int
) -> dict[str, Callable[[], None]]:
    """For each budget a pass over all the images, and one with the episode graph.

    Batches go through our runtime, which leaves out the images that have reached the threshold.

    Args:
        model: The model.
        graphs: Its adaptive graph and its episode.
        pixels: The images.
        batch: Images at a time.
    """
    sizes = model.sizes if batch == 1 else {}
    adaptive, episode = (session_for(graphs[graph], sizes) for graph in ("adaptive", "episode"))
    parts = [np.ascontiguousarray(pixels[first : first + batch]) for first in range(0, len(pixels), batch)]

    def over(session: Any, feeds: dict[str, npt.NDArray[Any]]) -> Callable[[], None]:
        def run() -> None:
            for part in parts:
                session.run(None, {**feeds, INPUT: part})

        return run

    def through_runtime(budget: Budget) -> Callable[[], None]:
        limits: dict[str, Any] = {"max_glimpses": budget.max_glimpses, "confidence": budget.confidence}

        def run() -> None:
            for part in parts:
                runtime.run(part.transpose(0, 2, 3, 1), **limits)

        return run

    if batch == 1:
        budgets = {name_of(budget): over(adaptive, feeds_of(budget)) for budget in model.card.budgets}
        return {**budgets, EPISODE: over(episode, {})}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adaptive.onnx"
        path.write_bytes(seal(graphs["adaptive"].SerializeToString()))
        runtime = GlimpseSession(path)
    return {**{name_of(budget): through_runtime(budget) for budget in model.card.budgets}, EPISODE: over(episode, {})}


def along_budgets(checkpoint: Path, root: str | None, quick: bool) -> dict[str, Any]:
    """Measure one model along its budget table.

    Args:
        checkpoint: The model.
        root: Where its data lie.
        quick: Whether to take seconds instead of minutes.
    """
    model, data = trained_model(checkpoint, root)
    validation = beliefs(model.observer, data.val_dataloader())
    blocks = list(data.test_dataloader())
    shown = Images(torch.cat([pixels for pixels, _ in blocks]), torch.cat([labels for _, labels in blocks]))
    if quick:
        shown = Images(shown.pixels[:BATCH], shown.labels[:BATCH])
    pixels, labels = shown.pixels.numpy(), shown.labels.numpy()
    table_of = model.card.budgets
    thresholds = [budget.confidence for budget in table_of if budget.confidence is not None]
    chosen = choose(*validation, model.card.temperature, thresholds)
    full = name_of(next(budget for budget in table_of if budget.max_glimpses == model.card.num_glimpses))
    timed = pixels if quick else pixels[::TIMED_EVERY]
    graphs = {graph: model.graph(graph) for graph in ("adaptive", "episode")}
    session = session_for(graphs["adaptive"])
    with threads(1):
        taken: dict[int, dict[str, Samples]] = {
            batch: interleave(passes(model, graphs, timed, batch), 2 if quick else 5, 0) for batch in (1, BATCH)
        }
    costs = np.array([0, *model.card.multiply_accumulates])
    answered = {name_of(budget): answers_of(session, feeds_of(budget), pixels) for budget in table_of}
    rows = []
    for budget in table_of:
        name = name_of(budget)
        answers, glimpses = answered[name]
        rows.append(
            {
                "budget": name,
                "confidence": budget.confidence,
                "glimpses": float(glimpses.mean()),
                "accuracy": float((answers == labels).mean()),
                "answers_unlike_full": float((answers != answered[full][0]).mean()),
                "multiply_accumulates": float(costs[glimpses].mean()),
                "validation_accuracy": budget.accuracy,
                **{
                    key: figure
                    for batch, samples in taken.items()
                    for key, figure in (
                        (f"microseconds_{batch}", 1e6 * samples[name].median() / len(timed)),
                        (f"of_full_{batch}", samples[name].over(samples[full])),
                        (f"of_episode_{batch}", samples[name].over(samples[EPISODE])),
                    )
                },
            }
        )
    return {
        "checkpoint": checkpoint.parent.name,
        "data": model.card.data,
        "validation_images": len(validation[1]),
        "test_images": len(labels),
        "timed_images": len(timed),
        "temperature": model.card.temperature,
        "full": full,
        "episode_microseconds": {
            str(batch): 1e6 * samples[EPISODE].median() / len(timed) for batch, samples in taken.items()
        },
        "chosen": None if chosen is None else next(row for row in rows if row["confidence"] == chosen),
        "full_accuracy": next(row["accuracy"] for row in rows if row["budget"] == full),
        "budgets": rows,
    }


def measure(checkpoints: Sequence[Path], root: str | None, quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        checkpoints: The models.
        root: Where their data lie.
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    before = describe()
    return {
        "quick": quick,
        "machine": before,
        "models": [along_budgets(checkpoint, root, quick) for checkpoint in checkpoints],
        "load_average_after": describe()["load_average"],
        "rule": " ".join((__doc__ or "").split("\n\n")[-1].split()),
        "targets": TARGETS,
    }


def report(result: dict[str, Any]) -> str:
    """The figures in tables.

    Args:
        result: What :func:`measure` found.
    """
    head = f"{heading(result, 'one thread')}\n{result['rule']}"
    return "\n\n".join([head, *(part for found in result["models"] for part in (_budgets(found), _choice(found)))])


def _budgets(found: dict[str, Any]) -> str:
    title = (
        f"{found['checkpoint']}, {found['test_images']} test images, of which {found['timed_images']} are timed; "
        "microseconds an image, and as a share of those of "
        f"{found['full']} and of the episode graph, one at a time (1) and in batches ({BATCH})"
    )
    heads = ("budget", "glimpses", "right", "unlike full", "MMAC")
    clocks = [f"{what} ({batch})" for batch in (1, BATCH) for what in ("us", "of full", "of episode")]
    rows = (
        (
            row["budget"],
            f"{row['glimpses']:.2f}",
            f"{row['accuracy']:.2%}",
            f"{row['answers_unlike_full']:.2%}",
            f"{row['multiply_accumulates'] / 1e6:.2f}",
            *(
                text
                for batch in (1, BATCH)
                for text in (
                    f"{row[f'microseconds_{batch}']:,.1f}",
                    f"{row[f'of_full_{batch}']:.1%}",
                    f"{row[f'of_episode_{batch}']:.1%}",
                )
            ),
        )
        for row in found["budgets"]
    )
    return table(title, (*heads, *clocks), rows)


def _choice(found: dict[str, Any]) -> str:
    row = found["chosen"]
    if row is None:
        return "no threshold of the table satisfies the rule"
    lost = 100 * (found["full_accuracy"] - row["accuracy"])
    return (
        f"chosen on {found['validation_images']} validation images: {row['confidence']:g}. Test accuracy "
        f"{row['accuracy']:.2%}, {lost:+.2f} points lost (target: at most {TARGETS['points']}); one at a time it takes "
        f"{row['of_full_1']:.1%} of the time of the full budget (target: at most {TARGETS['time_share']:.0%}) and "
        f"{row['of_episode_1']:.1%} of the episode graph's, in batches {row[f'of_full_{BATCH}']:.1%} and "
        f"{row[f'of_episode_{BATCH}']:.1%}"
    )


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.early_exit", __doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="a file that training wrote")
    add_root(parser, "that of the training if left out")
    options = options_of(args, parser)
    result = measure(options.checkpoints, options.root, options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
