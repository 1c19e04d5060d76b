"""Accuracy and speed of the models in the package: ``python -m benchmarks.runtime.bundled_models``.

Options: ``--root DIR``, ``--output FILE``, ``--quick``. The exported files themselves, through the runtime, on the real
test images, each alone and in batches: the error and the glimpses taken at several confidences, whether an answer
depends on an image's batch-mates, and what an image costs. Beside a file whose weights are stored as float16 the same
one with float32 in their place: time, opening, answers. One thread. The canvases are those of each card.
"""

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.machine import Samples, describe, interleave, settle_threads, threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from onnx import TensorProto, numpy_helper  # noqa: E402

from benchmarks.runtime.models import available_dataset  # noqa: E402
from glimpse.contract.card import ModelCard  # noqa: E402
from glimpse.contract.tensors import INPUT  # noqa: E402
from glimpse.data.datamodule import ImageData  # noqa: E402
from glimpse.runtime.providers import open_session  # noqa: E402
from glimpse.runtime.session import GlimpseSession  # noqa: E402
from glimpse_serve.models.bundled import BundledModel, models  # noqa: E402

BATCH = 32
"""What the service looks at together, at most."""
CONFIDENCES = (None, 0.9, 0.95, 0.98, 0.99)
"""Thresholds of the early exit; the first is never reached."""
LARGEST = 3_000_000
"""Bytes that a file may have."""
QUICK_IMAGES = 50


class Images(NamedTuple):
    """Images, and what they show."""

    canvases: npt.NDArray[np.uint8]
    """(images, height, width, channels)."""
    labels: npt.NDArray[np.int64]


class Found(NamedTuple):
    """What a file answered to each image."""

    probabilities: npt.NDArray[np.float32]
    """(images, classes)."""
    glimpses: npt.NDArray[np.int64]
    microseconds: float
    """CPU time of an image."""


def test_images(card: ModelCard, dataset: str, root: str | None) -> Images:
    """The test images that a model was made for.

    Args:
        card: Its recipe has the canvas.
        dataset: The data set; that of the recipe, or one that stands in.
        root: Where it lies.
    """
    data = ImageData(root=root, **{**card.recipe["data"], "dataset": dataset})
    data.setup()
    blocks = list(data.test_dataloader())
    pixels, labels = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return Images(np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()), labels.numpy())


def answers(session: GlimpseSession, images: Images, batch: int, confidence: float | None) -> Found:
    """Have a file classify all images, so many at a time.

    Args:
        session: Of the file.
        images: The images.
        batch: How many at a time.
        confidence: Threshold of the early exit.
    """
    probabilities, glimpses = [], []
    started = time.process_time()
    for first in range(0, len(images.canvases), batch):
        found = session.run(images.canvases[first : first + batch], confidence=confidence)
        probabilities.append(found.probabilities[:, -1])
        assert found.glimpses is not None
        glimpses.append(found.glimpses)
    taken = time.process_time() - started
    return Found(np.concatenate(probabilities), np.concatenate(glimpses), 1e6 * taken / len(images.canvases))


def at_confidence(session: GlimpseSession, images: Images, confidence: float | None) -> dict[str, Any]:
    """One row of a model's figures: each image alone, compared with batches.

    Args:
        session: Of the file.
        images: The images.
        confidence: Threshold of the early exit.
    """
    alone, together = (answers(session, images, batch, confidence) for batch in (1, BATCH))
    labels = alone.probabilities.argmax(1)
    return {
        "confidence": confidence,
        "error": float((labels != images.labels).mean()),
        "glimpses": float(alone.glimpses.mean()),
        "labels_unlike_in_batches": int((labels != together.probabilities.argmax(1)).sum()),
        "glimpses_unlike_in_batches": int((alone.glimpses != together.glimpses).sum()),
        "largest_difference_in_batches": float(np.abs(alone.probabilities - together.probabilities).max()),
        "microseconds_alone": alone.microseconds,
        "microseconds_in_batches": together.microseconds,
    }


def in_full(file: bytes) -> onnx.ModelProto:
    """A graph with float32 in the place of every weight that is stored as float16 and cast.

    Args:
        file: The graph's file.
    """
    model = onnx.load_from_string(file)
    graph = model.graph
    halves = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    for node in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in halves]:
        tensor = halves[node.input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0]))
        graph.node.remove(node)
    return model


def against_full(file: bytes, images: Images, quick: bool) -> dict[str, Any] | None:
    """A file beside the same with its weights stored as float32; None where they are so.

    Args:
        file: The file.
        images: Of which some are looked at.
        quick: Whether to take a moment instead of a minute.
    """
    full = in_full(file).SerializeToString()
    if len(full) < 1.01 * len(file):
        return None
    pixels = np.ascontiguousarray(images.canvases[:BATCH].transpose(0, 3, 1, 2))
    height, width = pixels.shape[2:]
    repetitions, seconds = (2, 0.0) if quick else (200, 0.02)
    files = {"half": file, "full": full}
    measured: dict[str, Any] = {"bytes_in_full": len(full), "answers_unlike": 0}
    for name, batch, sizes in (("alone", 1, {"batch": 1, "height": height, "width": width}), ("in_batches", BATCH, {})):
        sessions = {kind: open_session(content, "cpu", 1, sizes) for kind, content in files.items()}
        for first in range(0, len(pixels), batch):
            found, wanted = (session.run(None, {INPUT: pixels[first : first + batch]}) for session in sessions.values())
            measured["answers_unlike"] += not all(map(np.array_equal, found, wanted))
        runs = {kind: partial(session.run, None, {INPUT: pixels[:batch]}) for kind, session in sessions.items()}
        measured[f"times_{name}"] = _times(interleave(runs, repetitions, seconds))
    opens = {kind: partial(open_session, content, "cpu", 1, {}) for kind, content in files.items()}
    opened = interleave(opens, 2 if quick else 25, 0.0)
    return measured | {f"open_milliseconds_{kind}": 1000 * samples.median() for kind, samples in opened.items()}


def _times(samples: dict[str, Samples]) -> float:
    return samples["half"].over(samples["full"])


def worth(model: BundledModel, dataset: str, root: str | None, quick: bool) -> dict[str, Any]:
    """All figures of a model.

    Args:
        model: The model.
        dataset: The data set.
        root: Where it lies.
        quick: Whether to take seconds instead of minutes.
    """
    session = GlimpseSession(model.path)
    card = session.card
    images = test_images(card, dataset, root)
    if quick:
        images = Images(images.canvases[:QUICK_IMAGES], images.labels[:QUICK_IMAGES])
    return {
        "name": model.name,
        "made_by": card.recipe["made_by"],
        "model": card.model,
        "graph": card.graph,
        "bytes": model.path.stat().st_size,
        "sha256": session.sha256,
        "images": len(images.labels),
        "error_of_card": card.test_error,
        "num_glimpses": card.num_glimpses,
        "confidences": [at_confidence(session, images, confidence) for confidence in CONFIDENCES],
        "against_full": against_full(model.path.read_bytes(), images, quick),
    }


def measure(root: str | None, quick: bool) -> dict[str, Any]:
    """Measure every model.

    Args:
        root: Where MNIST lies; without it the embedded digits are used, on which the models were not trained.
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    before, dataset = describe(), available_dataset(root)
    with threads(1):
        measured = [worth(model, dataset, root, quick) for model in models()]
    return {
        "quick": quick,
        "machine": before,
        "dataset": dataset,
        "batch": BATCH,
        "models": measured,
        "load_average_after": describe()["load_average"],
    }


def report(result: dict[str, Any]) -> str:
    """The figures in tables.

    Args:
        result: What :func:`measure` found.
    """
    head = heading(result, "one thread", result["dataset"])
    return "\n\n".join([head, *(_worth(found) for found in result["models"])])


def _worth(found: dict[str, Any]) -> str:
    title = (
        f"{found['name']}: {found['model']}, {found['graph']} graph, {found['bytes']:,} bytes (at most {LARGEST:,}); "
        f"{found['images']} test images, test error by its card {found['error_of_card']:.2%}\n"
        f"made by {found['made_by']}"
    )
    heads = (
        "confidence",
        "error",
        "glimpses",
        f"labels unlike in {BATCH}s",
        "differ by",
        "us alone",
        f"us in {BATCH}s",
    )
    rows = (
        (
            "never" if row["confidence"] is None else f"{row['confidence']:g}",
            f"{row['error']:.2%}",
            f"{row['glimpses']:.2f}",
            row["labels_unlike_in_batches"],
            f"{row['largest_difference_in_batches']:.0e}",
            f"{row['microseconds_alone']:,.0f}",
            f"{row['microseconds_in_batches']:,.0f}",
        )
        for row in found["confidences"]
    )
    return "\n".join([table(title, heads, rows), *_beside(found["against_full"])])


def _beside(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    return [
        f"  with its weights stored as float32 it has {found['bytes_in_full']:,} bytes; stored as they are it takes "
        f"{found['times_alone']:.3f} times as long alone, {found['times_in_batches']:.3f} times in {BATCH}s, opens in "
        f"{found['open_milliseconds_half']:.1f} instead of {found['open_milliseconds_full']:.1f} ms, and answers "
        + (f"unlike it {found['answers_unlike']} times" if found["answers_unlike"] else "bit by bit as it does")
    ]


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.bundled_models", __doc__)
    add_root(parser, "the embedded digits if left out")
    options = options_of(args, parser)
    result = measure(options.root, options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
