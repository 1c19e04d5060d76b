"""Range of the comparison with the reference: ``python -m benchmarks.runtime.rounds --reference DIR``.

Options as well: ``--processes N``, ``--root DIR``, ``--output FILE``, ``--quick``. A process measures one ratio well,
but another process may measure another one: the same code takes more or less time by where its memory lies and by what
else the machine does. So each of N fresh processes lets both sides take turns on one image, and gives one ratio; what
counts is their median and their range.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import add_root, command_parser, options_of
from benchmarks.harness.machine import REPOSITORY, describe, interleave, settle_threads, threads
from benchmarks.harness.reports import hand_back, heading, table

settle_threads()

from benchmarks.runtime.models import paper_model, real_images  # noqa: E402
from benchmarks.runtime.reference import MISSING, NAME, reference_episode  # noqa: E402
from benchmarks.runtime.speed import compared, exported_sides, graphs_of, torch_sides  # noqa: E402

SIZE = 28
"""Side of the paper's images, pixels."""


def one_round(checkout: Path, root: str | None, quick: bool) -> dict[str, Any]:
    """Measure all sides in turn, in this process.

    Args:
        checkout: Of the reference implementation.
        root: Where MNIST lies.
        quick: Whether to take seconds instead of minutes; the figures then mean nothing.
    """
    model = paper_model()
    with threads(1), tempfile.TemporaryDirectory() as folder:
        images, dataset = real_images(SIZE, 1, root)
        sides = {NAME: reference_episode(checkout, images)}
        sides |= torch_sides(model, images, compiled=False)
        sides |= exported_sides(model, graphs_of(model), images, Path(folder))
        samples = interleave(sides, *((2, 0.001) if quick else (9, 0.1)))
    return {"data": dataset, "load_average": describe()["load_average"][0], "sides": compared(samples, NAME)}


def in_processes(count: int, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Run :func:`one_round` in processes of their own, one after another.

    Args:
        count: How many.
        arguments: Of each.

    Raises:
        subprocess.CalledProcessError: When one of them fails.
    """
    command = [sys.executable, "-m", "benchmarks.runtime.rounds", *arguments, "--here"]
    return [
        json.loads(subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(count)
    ]


def gathered(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each side the median and the range over the processes, of the ratio and of the time.

    Args:
        rounds: What :func:`one_round` found in each.
    """
    rows = []
    for index, row in enumerate(rounds[0]["sides"]):
        both = {key: [each["sides"][index][key] for each in rounds] for key in ("times_reference", "cpu_microseconds")}
        spans = {
            key: {"median": statistics.median(found), "least": min(found), "most": max(found)}
            for key, found in both.items()
        }
        rows.append({"side": row["side"], **spans})
    return rows


def report(result: dict[str, Any]) -> str:
    """The figures in a table.

    Args:
        result: What :func:`main` writes.
    """
    rows = [
        (
            row["side"],
            f"{row['times_reference']['median']:.2f}",
            f"{row['times_reference']['least']:.2f} to {row['times_reference']['most']:.2f}",
            f"{row['cpu_microseconds']['median']:,.1f}",
            f"{row['cpu_microseconds']['least']:,.1f} to {row['cpu_microseconds']['most']:,.1f}",
        )
        for row in result["sides"]
    ]
    title = f"One image: times as fast as {NAME}, by CPU time, over {len(result['rounds'])} processes"
    head = heading(result, f"data: {result['rounds'][0]['data']}", "28x28, 6 glimpses of 8x8, one thread")
    return "\n\n".join([head, table(title, ("", "median", "range", "CPU us", "range"), rows)])


def main(args: Sequence[str]) -> int:
    """Measure, print the table, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.runtime.rounds", __doc__)
    parser.add_argument("--reference", type=Path, metavar="DIR", help=f"a checkout of github.com/{NAME}")
    parser.add_argument("--processes", type=int, default=9, metavar="N", help="how many (default: 9)")
    parser.add_argument("--here", action="store_true", help="measure one round in this process, and print it as JSON")
    add_root(parser)
    options = options_of(args, parser)
    if options.reference is None:
        print(MISSING)
        return 0
    if options.here:
        print(json.dumps(one_round(options.reference, options.root, options.quick)))
        return 0
    before = describe()
    arguments = ["--reference", str(options.reference.resolve()), *["--quick"] * options.quick]
    arguments += ["--root", options.root] if options.root else []
    rounds = in_processes(2 if options.quick else options.processes, arguments)
    result = {
        "quick": options.quick,
        "machine": before,
        "load_average_after": describe()["load_average"],
        "sides": gathered(rounds),
        "rounds": rounds,
    }
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
