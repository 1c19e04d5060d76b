"""All benchmarks in their order: ``python -m benchmarks.harness.suite [NAME ...] [--quick] [--list] [--table]``.

``benchmarks/suite.toml`` lists them and explains its fields. Each benchmark runs in a process of its own. When one
fails, the next ones still run, and the exit status is 1.
"""

import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.command_line import command_parser

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = REPOSITORY / "benchmarks" / "suite.toml"
RESULTS = "benchmarks/results"
REFERENCE_VARIABLE = "GLIMPSE_REFERENCE"
"""Environment variable that names a checkout of the reference implementation, when ``--reference`` does not."""
DATA = {
    "mnist": ("MNIST/raw", "MNIST: set GLIMPSE_DATA to the folder that holds MNIST/raw"),
    "photographs": ("traffic-signs", "photographs: set GLIMPSE_DATA to the folder that holds them, unpacked"),
}
"""The folder that data are found by, and what is said without it."""
EXTRAS = {"bench": ("ap_gym", "fastapi", "litserve", "ray")}
"""Packages that each extra of pyproject.toml must have brought."""


@dataclass(frozen=True)
class Benchmark:
    """An entry of ``suite.toml``, which explains the fields."""

    name: str
    about: str
    results: tuple[str, ...]
    module: str | None = None
    by_hand: str | None = None
    arguments: str = ""
    cells: tuple[str, ...] = ()
    quick: str | None = None
    reference: bool = False
    minutes: int | None = None
    needs: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command as the table shows it, with ``CELL`` for a cell and ``DIR`` for the reference implementation."""
        if self.by_hand:
            return self.by_hand
        reference = " --reference DIR" if self.reference else ""
        arguments = " ".join(shlex.split(self.arguments)).format(results=RESULTS, cell="CELL")
        return f"python -m {self.module}{reference} {arguments}".rstrip()

    def files(self) -> list[str]:
        """Names of all files that it leaves in the folder of results."""
        stems = self.cells or ("",)
        first = [self.results[0].format(cell=cell) for cell in stems]
        return [*first, *(str(Path(name).with_suffix(ending)) for name in first for ending in self.results[1:])]


@dataclass(frozen=True)
class Run:
    """One process of a benchmark.

    Attributes:
        name: Of the benchmark, or of its cell.
        command: Arguments of the Python interpreter.
    """

    name: str
    command: tuple[str, ...]


def read_suite(file: Path = SUITE) -> list[Benchmark]:
    """The benchmarks, in the order in which they run.

    Args:
        file: TOML with one ``[[benchmark]]`` each.

    Raises:
        ValueError: When an entry has neither or both of ``module`` and ``by_hand``, or two share a name.
    """
    entries: list[dict[str, Any]] = tomllib.loads(file.read_text(encoding="utf-8"))["benchmark"]
    for entry in entries:
        entry.update({key: tuple(entry[key]) for key in ("results", "cells", "needs") if key in entry})
    found = [Benchmark(**entry) for entry in entries]
    names = [name for each in found for name in (each.name, *each.cells)]
    for each in found:
        if bool(each.module) == bool(each.by_hand):
            raise ValueError(f"expected either module or by_hand in {each.name!r} of {file.name}; give exactly one")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"expected names of their own in {file.name}, got {', '.join(twice)} twice; rename one")
    return found


def runs_of(
    benchmarks: Iterable[Benchmark], names: Sequence[str], quick: bool, results: str, reference: str | None
) -> list[Run]:
    """The processes to start, in order.

    Args:
        benchmarks: All of them.
        names: Of benchmarks or cells; all when empty.
        quick: Whether to take the short form, and to leave out what has none.
        results: Folder of the results.
        reference: A checkout of the reference implementation, if there is one.

    Raises:
        ValueError: When a name is unknown, or the suite does not run what it names.
    """
    found, left_out = [], []
    known = []
    for each in benchmarks:
        arguments = each.quick if quick else each.arguments
        known += [each.name, *each.cells]
        for name in each.cells or (each.name,):
            if names and not {each.name, name} & set(names):
                continue
            if each.module is None or arguments is None:
                left_out.append(name)
                continue
            filled = [part.format(results=results, cell=name) for part in shlex.split(arguments)]
            extra = ("--reference", reference) if each.reference and reference else ()
            found.append(Run(name, ("-m", each.module, *extra, *filled)))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"expected names of benchmarks, got {', '.join(unknown)}; --list shows the names")
    if names and left_out:
        raise ValueError(f"the suite has no {'quick ' * quick}run of {', '.join(left_out)}; see benchmarks/suite.toml")
    return found


def missing_needs(benchmark: Benchmark, reference: str | None) -> Iterator[str]:
    """What a full run needs and this machine lacks, one sentence each.

    Args:
        benchmark: Which.
        reference: A checkout of the reference implementation, if there is one.
    """
    for need in benchmark.needs:
        folder, wanted = DATA.get(need, ("", ""))
        if folder and not (Path(os.environ.get("GLIMPSE_DATA") or "data") / folder).is_dir():
            yield wanted
        elif need == "reference" and not reference:
            yield f"the reference implementation: name a checkout with --reference or {REFERENCE_VARIABLE}"
        elif absent := [name for name in EXTRAS.get(need, ()) if importlib.util.find_spec(name) is None]:
            yield f"{', '.join(absent)}: pip install '.[{need}]'"


def table_of(benchmarks: Iterable[Benchmark]) -> str:
    """The benchmarks as a table in Markdown.

    Args:
        benchmarks: Its rows.
    """
    lines = ["| name | what is measured | command | results | minutes | needs |", "|---|---|---|---|---|---|"]
    for each in benchmarks:
        results = ", ".join(f"`{name.format(cell='CELL')}`" for name in each.results)
        cells = (each.name, each.about, f"`{each.command}`", results, each.minutes or "", ", ".join(each.needs))
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def listing_of(benchmarks: Iterable[Benchmark]) -> str:
    """The names, each with its minutes and what it needs, one a line.

    Args:
        benchmarks: In order.
    """
    lines = []
    for each in benchmarks:
        minutes = f"{each.minutes} min" if each.minutes else ""
        remarks = [*each.needs, *(["not run by the suite"] if each.by_hand else [])]
        lines.append(f"{each.name:20} {minutes:>8}  {', '.join(remarks):24} {each.about}".rstrip())
        lines += [f"  {cell}" for cell in each.cells]
    return "\n".join(lines) + "\n"


def carry_out(runs: Iterable[Run]) -> list[str]:
    """Run processes one after another.

    Args:
        runs: Which.

    Returns:
        The names of those that failed.
    """
    failed = []
    for run in runs:
        print(f"== {run.name}: python {shlex.join(run.command)}", flush=True)
        status = subprocess.run(
            [sys.executable, *run.command], cwd=REPOSITORY, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if status:
            print(f"== {run.name} failed with status {status}", file=sys.stderr, flush=True)
            failed.append(run.name)
    return failed


def main(args: Sequence[str]) -> int:
    """Run benchmarks, or list them.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.harness.suite", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a benchmark or a cell; all if left out")
    parser.add_argument(
        "--quick", action="store_true", help="the short form, whose figures mean nothing, of all that have one"
    )
    parser.add_argument(
        "--results", metavar="DIR", help=f"where results go; {RESULTS} if left out, a temporary folder with --quick"
    )
    parser.add_argument(
        "--reference",
        metavar="DIR",
        default=os.environ.get(REFERENCE_VARIABLE) or None,
        help=f"a checkout of the reference implementation; {REFERENCE_VARIABLE} if left out",
    )
    parser.add_argument("--list", action="store_true", help="list the benchmarks and run none")
    parser.add_argument("--table", action="store_true", help="print the table of benchmarks/README.md and run none")
    options = parser.parse_args(args)
    benchmarks = read_suite()
    if options.list or options.table:
        print(table_of(benchmarks) if options.table else listing_of(benchmarks), end="")
        return 0
    reference = str(Path(options.reference).resolve()) if options.reference else None
    with tempfile.TemporaryDirectory() as folder:
        results = str(Path(options.results).resolve()) if options.results else folder if options.quick else RESULTS
        try:
            runs = runs_of(benchmarks, options.names, options.quick, results, reference)
        except ValueError as error:
            parser.error(str(error))
        chosen = {run.name for run in runs}
        for each in benchmarks:
            if not options.quick and chosen & {each.name, *each.cells}:
                for lack in missing_needs(each, reference):
                    print(f"== {each.name} runs without {lack}", file=sys.stderr)
        failed = carry_out(runs)
    if failed:
        print(f"== {len(failed)} of {len(runs)} failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
