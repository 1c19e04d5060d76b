"""How soon a session is ready, and what memory it takes: ``python -m benchmarks.runtime.start [--checkpoint FILE]``.

Options as well: ``--root DIR``, ``--output FILE``, ``--quick``. Every figure is of a fresh process, which imports
``glimpse.runtime.session``, opens a file and classifies one image; one that imports numpy and onnxruntime alone stands
beside.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.fresh_process import in_a_fresh_process
from benchmarks.harness.machine import describe, settle_threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

import numpy as np  # noqa: E402

from benchmarks.runtime.models import paper_model, real_images, trained_model  # noqa: E402

FIGURES = ("to_import", "import", "ready", "peak", "resident")
FLOOR = "numpy and onnxruntime alone"
TARGETS = {"ready_seconds": 0.3, "resident_mebibytes": 100}


def measure(checkpoint: Path | None, root: str | None, quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        checkpoint: A trained model; the untrained one is measured in any case.
        root: Where MNIST lies.
        quick: Whether to start each process twice only.
    """
    before = describe()
    models = {"the paper's model": paper_model()}
    if checkpoint:
        models[f"{checkpoint.parent.name}, trained"] = trained_model(checkpoint, root)[0]
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, tuple[Any, ...]] = {FLOOR: ("floor",)}
        for place, (name, model) in enumerate(models.items()):
            image = Path(folder) / f"{place}.npy"
            np.save(image, real_images(model.card.height, 1, root)[0][0, 0].numpy())
            for graph in ("adaptive",) if quick else ("adaptive", "episode"):
                path = Path(folder) / f"{place}-{graph}.onnx"
                path.write_bytes(model.file(graph))
                sides[f"{name}, {graph}"] = ("glimpse", path, image)
        # The first of each brings its files into the page cache.
        for _ in range(2 if quick else 12):
            for name, arguments in sides.items():
                taken = in_a_fresh_process(*arguments)
                if "ended" in taken:
                    raise RuntimeError(f"the process of {name!r} came to no end: {taken['ended']}")
                found.setdefault(name, []).append(taken)
    return {
        "quick": quick,
        "machine": before,
        "load_average_after": describe()["load_average"],
        "starts": {
            name: {figure: statistics.median(run[figure] for run in runs[1:]) for figure in FIGURES}
            for name, runs in found.items()
        },
        "targets": TARGETS,
    }


def report(result: dict[str, Any]) -> str:
    """The figures in a table.

    Args:
        result: What :func:`measure` found.
    """
    head = heading(result)
    rows = [
        (
            name,
            *(f"{1000 * row[figure]:.0f}" for figure in ("to_import", "import", "ready")),
            *(f"{row[figure]:.1f}" for figure in ("peak", "resident")),
        )
        for name, row in result["starts"].items()
    ]
    heads = ("", "ms to the import", "ms in it", "ms from it to the first answer", "peak MiB", "resident MiB")
    targets = f"targets: {1000 * TARGETS['ready_seconds']:.0f} ms, {TARGETS['resident_mebibytes']} MB"
    return f"{head}\n\n{table(f'A fresh process, medians ({targets})', heads, rows)}"


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.start", __doc__)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="a trained model")
    add_root(parser)
    options = options_of(args, parser)
    result = measure(options.checkpoint, options.root, options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
