"""Results of the comparison of servers: medians and ratios within rounds, verdicts on the targets, and tables."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.harness.machine import in_words
from benchmarks.harness.reports import quick_remark, table
from benchmarks.serving.sides import BARE, BATCHED, LITSERVE, OURS

TARGETS = {
    "over_bare_alone": 1.3,
    "over_bare_under_load": 1.0,
    "over_litserve": 1 / 3,
    "ready_seconds": 1.5,
    "resident_megabytes": 150.0,
}


def cell_of(kind: str, clients: int, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What was found in one cell: medians over the rounds, with the range; ratios are of runs in one round.

    Args:
        kind: Of what was sent.
        clients: How many there were.
        runs: By side, one for each round.
    """
    kept = ("cpu_ms", "p50_ms", "p99_ms", "requests_per_second", "client_cpu_ms", "bytes_of_an_answer")
    rows = []
    for name, taken in runs.items():
        ratios = [ours["cpu_ms"] / theirs["cpu_ms"] for ours, theirs in zip(runs[OURS], taken, strict=True)]
        failures = [run["first_failure"] for run in taken if run["first_failure"]]
        rows.append(
            {
                "side": name,
                "ours_over_it": spread(ratios),
                **{figure: spread([run[figure] for run in taken]) for figure in kept},
                "requests": sum(run["requests"] for run in taken),
                "failures": sum(run["failures"] for run in taken),
                "first_failure": failures[0] if failures else None,
            }
        )
    return {"kind": kind, "clients": clients, "sides": rows}


def spread(values: Iterable[float]) -> dict[str, float]:
    """The median of values, and their range."""
    values = list(values)
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def verdicts(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The claims: each with its target, the figure, and whether it is met.

    Args:
        result: Cells, starts and memory of one model.
    """
    claims = []
    for cell in result["cells"]:
        ratios = {row["side"]: row["ours_over_it"]["median"] for row in cell["sides"]}
        where = f"{cell['kind']}, {cell['clients']} client{'s' * (cell['clients'] > 1)}"
        bare = TARGETS["over_bare_alone" if cell["clients"] == 1 else "over_bare_under_load"]
        claims.append((f"CPU, ours / bare session, {where}", ratios[BARE], bare))
        # The better form of LitServe is the one that ours is cheaper than by less.
        litserve = [ratios[name] for name in (LITSERVE, BATCHED) if name in ratios]
        if litserve:
            claims.append((f"CPU, ours / LitServe's better form, {where}", max(litserve), TARGETS["over_litserve"]))
    claims.append(("start to ready, s", result["starts"][OURS]["median"], TARGETS["ready_seconds"]))
    claims.append(("resident after the load, MB", result["memory"][OURS]["resident"], TARGETS["resident_megabytes"]))
    return [{"claim": claim, "found": found, "target": most, "met": found <= most} for claim, found, most in claims]


def report(result: dict[str, Any]) -> str:
    """The figures in tables, ratios first.

    Args:
        result: What :func:`measure` found.
    """
    head = (
        f"{in_words(result['machine'])}\n{', '.join(f'{name} {said}' for name, said in result['versions'].items())}\n"
        f"data: {result['data']}; {result['rounds']} rounds of {result['seconds']:g} s, medians (range); load average "
        f"at the end {result['load_average_after'][0]}{quick_remark(result)}"
    )
    return "\n\n".join(["\n".join([head, *result["left_out"]]), *(_told(found) for found in result["models"])])


def _told(found: Mapping[str, Any]) -> str:
    """The tables of one model."""
    model, loads = found["model"], found["load_average_before_each_round"]
    alone = ", ".join(f"{taken:.3f} ms in {batch}s" for batch, taken in found["session_alone_ms"].items())
    title = (
        f"== {model['file']} ({model['family']}, {model['graph']}, {model['canvas'][0]}x{model['canvas'][1]}), "
        f"{found['images']} different images; the session alone takes {alone}; load average before the rounds "
        f"{min(loads)} to {max(loads)}"
    )
    heads = ("", "CPU, ours / it", "CPU ms a request", "p50 ms", "p99 ms", "requests/s", "failures")
    starts = (
        (name, _shown(seconds), *(f"{found['memory'][name][kind]:.0f}" for kind in ("resident", "proportional")))
        for name, seconds in found["starts"].items()
    )
    shown = (
        (one["claim"], f"{one['found']:.2f}", f"{one['target']:.2f}", "met" if one["met"] else "missed")
        for one in found["verdicts"]
    )
    return "\n\n".join(
        [
            title,
            *(
                table(f"{cell['kind']}, {cell['clients']} at once", heads, (_row(row) for row in cell["sides"]))
                for cell in found["cells"]
            ),
            table(
                "Starting, and what is held after the load, of all processes",
                ("", "s to ready", "resident MB", "proportional MB"),
                starts,
            ),
            table("What was to be shown", ("", "found", "at most", ""), shown),
            *(
                f"wrong of {row['side']}, {cell['kind']}, {cell['clients']} at once, the first: {row['first_failure']}"
                for cell in found["cells"]
                for row in cell["sides"]
                if row["failures"]
            ),
        ]
    )


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    rate = f"{row['requests_per_second']['median']:,.0f}"
    figures = (_shown(row[name]) for name in ("ours_over_it", "cpu_ms", "p50_ms", "p99_ms"))
    return (row["side"], *figures, rate, f"{row['failures']} of {row['requests']:,}")


def _shown(found: Mapping[str, float]) -> str:
    return f"{found['median']:.3g} ({found['least']:.3g}-{found['most']:.3g})"
