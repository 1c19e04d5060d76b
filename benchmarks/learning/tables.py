"""The comparisons as tables, out of the results of their cells: ``python -m benchmarks.learning.tables``.

Reads what ``benchmarks.learning.learning`` wrote for the recipes in ``benchmarks/recipes``, and writes
``benchmarks/results/tables.md``.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser
from benchmarks.harness.machine import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results"
FAMILIES = {
    "soft": "soft attention",
    "self": "self-attention",
    "relaxed": "relaxed hard attention (mixed), evaluated hard",
    "pathwise": "relaxed hard attention (pathwise alone), evaluated hard",
    "gumbel": "relaxed hard attention (Gumbel-softmax), evaluated hard",
    "hard": "hard attention",
    "cnn": "convolutional",
    "mlp": "fully connected",
}
SCORES = ("dot", "scaled-dot", "general", "additive", "location", "content")
ATTENTIONS = ("global", "local-p", "local-m")
SIDES = (60, 100, 140)
EXPLICIT = "mean over glimpses"
"""The map whose pointing game stands in the table of scores, as ``benchmarks.attention.map_worth`` calls it."""
PIECES = {60: 4, 100: 8, 140: 16}
HEAD = (
    "| model | test error | same weights, random fixations | multiply-accumulates | parameters | pixels sensed "
    "| training |"
)


def read(name: str, results: Path) -> dict[str, Any] | None:
    """The result of a cell; None where it has not been run."""
    file = results / f"{name}-seed0.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def effort(result: dict[str, Any]) -> str:
    """What a cell's training took."""
    return f"{result['cpu_seconds'] / 60:.1f} CPU-min ({result['wall_seconds'] / 60:.1f} on the wall)"


def budget(prefix: str, results: Path) -> str:
    """How many images each cell of a table was trained on.

    Raises:
        ValueError: When they differ.
    """
    files = sorted(results.glob(f"{prefix}-*-seed0.json"))
    seen = sorted({json.loads(file.read_text(encoding="utf-8"))["images_seen"] for file in files})
    if len(seen) > 1:
        raise ValueError(
            f"expected cells of one budget, got {seen[0]:,} and {seen[-1]:,} images in {prefix}; run them again"
        )
    return f"{seen[0]:,} training images each" if seen else "not run yet"


def families(side: int, results: Path) -> list[str]:
    """The rows of the families on one canvas, best first."""
    found = {name: read(f"families-{side}-{name}", results) for name in FAMILIES}
    rows = sorted(((result["test_error"], name, result) for name, result in found.items() if result))
    lines = [HEAD, "|---|---|---|---|---|---|---|"]
    for error, name, result in rows:
        errors = result["test_errors_after_each_glimpse"]
        random = f"{errors['random'][-1]:.2%}" if "random" in errors else "-"
        lines.append(
            f"| {FAMILIES[name]} | {error:.2%} | {random} | {result['multiply_accumulates'] / 1e6:.2f} M "
            f"| {result['parameters']:,} | {result['pixels_sensed']:,} of {result['pixels_of_image']:,} "
            f"| {effort(result)} |"
        )
    return lines


def scores(results: Path) -> list[str]:
    """The rows of the six score functions."""
    file = results / "pointing-scores.json"
    models = json.loads(file.read_text(encoding="utf-8"))["models"] if file.is_file() else []
    pointing = {model["run"]: model["maps"][EXPLICIT] for model in models}
    lines = [
        "| score | test error | pointing game | weight inside the digit's box | entropy of the weights | training |",
        "|---|---|---|---|---|---|",
    ]
    for name in SCORES:
        result = read(f"scores-60-{name}", results)
        if result:
            scored = pointing.get(f"scores-60-{name}-seed0")
            maps = [f"{scored[what]['mean']:.1%}" if scored else "-" for what in ("pointing", "inside", "entropy")]
            lines.append(f"| {name} | {result['test_error']:.2%} | {' | '.join(maps)} | {effort(result)} |")
    return lines


def growth(results: Path) -> list[str]:
    """The rows of global and local attention on canvases that grow."""
    lines = [
        "| attention | " + " | ".join(f"{side}x{side}, map {side // 4}x{side // 4}" for side in SIDES) + " |",
        "|---" * (1 + len(SIDES)) + "|",
    ]
    for attention in ATTENTIONS:
        cells = [read(f"growth-{side}-{attention}", results) for side in SIDES]
        shown = [f"{cell['test_error']:.2%}, {effort(cell)}" if cell else "-" for cell in cells]
        lines.append(f"| {attention} | " + " | ".join(shown) + " |")
    return lines


def text(results: Path) -> str:
    """All tables.

    Args:
        results: The folder of the cells' results.
    """
    parts = ["# Comparisons", "", "One seed, the last model, deterministic, 10,000 held-out test images.", ""]
    for side in (60, 100):
        seen = budget(f"families-{side}", results)
        parts += [f"## Families on cluttered-{side} ({PIECES[side]} pieces), {seen}", ""]
        parts += [*families(side, results), ""]
    parts += [f"## Score functions on cluttered-60, {budget('scores-60', results)}", "", *scores(results), ""]
    parts += [f"## Global against local attention as the map grows, {budget('growth', results)}", ""]
    return "\n".join([*parts, *growth(results), ""])


def main(args: Sequence[str]) -> int:
    """Write and print the tables.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.learning.tables", __doc__)
    parser.add_argument(
        "results",
        nargs="?",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="of the results (default: benchmarks/results)",
    )
    results: Path = parser.parse_args(args).results
    tables = text(results)
    (results / "tables.md").write_text(tables, encoding="utf-8")
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
