"""Time of a step of global and of local attention as the map grows.

``python -m benchmarks.attention.speed [--quick] [--output FILE]``
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import Samples, describe, in_words, interleave, settle_threads, threads
from benchmarks.harness.reports import hand_back, quick_remark, table

settle_threads()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from glimpse.data.held_out import generator_for  # noqa: E402
from glimpse.nn.attention import GlobalAttention, LocalAttention  # noqa: E402
from glimpse.nn.scores import score_function  # noqa: E402

GLOBAL, LOCAL = "global", ("local-p", "local-m")
PASSES = ("forward", "forward and backward")
SEED = 0


@dataclass(frozen=True)
class Effort:
    """What is timed, and for how long.

    Attributes:
        scores: Score functions, for queries and keys of one length.
        sides: Of the square maps, cells.
        batch: Queries, each with a map of its own.
        features: Length of a query, of a key and of a value.
        window: Cells from the centre of a local attention to its window's edge.
        repetitions: Samples of each attention.
        seconds: CPU time of a sample, unless a single call takes longer.
    """

    scores: tuple[str, ...] = ("additive", "dot")
    sides: tuple[int, ...] = (8, 15, 25, 35, 64, 128)
    batch: int = 64
    features: int = 32
    window: int = 3
    repetitions: int = 7
    seconds: float = 0.1


QUICK = Effort(sides=(4, 6), batch=2, features=4, window=1, repetitions=2, seconds=1e-3)


class AttentionStep(nn.Module):
    """One query an image, at keys that have been prepared.

    Args:
        attention: Global or local.
        queries: (batch, features).
        keys: (batch, places, features), as the score function prepared them.
        values: (batch, places, features).
        around: What local attention needs to know besides.
    """

    def __init__(
        self, attention: GlobalAttention | LocalAttention, queries: Tensor, keys: Tensor, values: Tensor, **around: Any
    ) -> None:
        super().__init__()
        self.attention = attention
        self.queries, self.keys, self.values = nn.Parameter(queries), nn.Parameter(keys), nn.Parameter(values)
        self.around = around

    def forward(self) -> Tensor:
        """The contexts, (batch, features)."""
        context: Tensor = self.attention(self.queries, self.keys, self.values, prepared=True, **self.around).context
        return context

    def look(self) -> Tensor:
        """The step as evaluation takes it."""
        with torch.no_grad():
            return self()  # type: ignore[no-any-return]

    def learn(self) -> tuple[Tensor | None, ...]:
        """The step and its gradient, with respect to queries, keys, values and weights."""
        return torch.autograd.grad(self().sum(), list(self.parameters()), allow_unused=True)


def attention_steps(effort: Effort, score: str, side: int) -> dict[str, AttentionStep]:
    """A step of each attention, with the same score function at the same queries, keys and values.

    The middles of the windows lie anywhere on the map: local-p predicts them, local-m is given random ones.

    Args:
        effort: The sizes.
        score: Name of the score function.
        side: Of the map, cells.
    """
    batch, features = effort.batch, effort.features
    generator = generator_for("cpu", SEED, side)
    queries = torch.randn(batch, features, generator=generator)
    values = torch.randn(batch, side * side, features, generator=generator)
    centres = torch.rand(batch, 2, generator=generator) * 2 - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        compare = score_function(score, features, features)
        predictive, monotonic = (LocalAttention(compare, effort.window, learned) for learned in (True, False))
    seen = queries, compare.prepare(values).detach(), values
    return {
        GLOBAL: AttentionStep(GlobalAttention(compare), *seen),
        "local-p": AttentionStep(predictive, *seen, shape=(side, side)),
        "local-m": AttentionStep(monotonic, *seen, shape=(side, side), centres=centres),
    }


def speeds(effort: Effort, score: str, side: int) -> list[dict[str, Any]]:
    """Time each attention in turn on a map of one size, on one thread: a row for each pass.

    Args:
        effort: The sizes, and for how long.
        score: Name of the score function.
        side: Of the map, cells.
    """
    steps = attention_steps(effort, score, side)
    passes: dict[str, dict[str, Callable[[], object]]] = {
        PASSES[0]: {name: step.look for name, step in steps.items()},
        PASSES[1]: {name: step.learn for name, step in steps.items()},
    }
    with threads(1):
        return [
            {"score": score, "side": side, "pass": kind} | _row(interleave(runs, effort.repetitions, effort.seconds))
            for kind, runs in passes.items()
        ]


def _row(samples: Mapping[str, Samples]) -> dict[str, Any]:
    return {
        "times_local": {name: samples[GLOBAL].over(samples[name]) for name in LOCAL},
        "times_local_wall": {name: samples[GLOBAL].over(samples[name], "wall") for name in LOCAL},
        "cpu_microseconds": {name: taken.median() * 1e6 for name, taken in samples.items()},
    }


def pays_from(rows: Sequence[Mapping[str, Any]], score: str, kind: str, local: str) -> int | None:
    """The side of the smallest map from which on local attention takes less time than global.

    Args:
        rows: What :func:`speeds` found, for maps of growing size.
        score: Name of the score function.
        kind: One of ``PASSES``.
        local: One of ``LOCAL``.

    Returns:
        None when it doesn't even on the largest map.
    """
    smallest = None
    for row in reversed([row for row in rows if (row["score"], row["pass"]) == (score, kind)]):
        if row["times_local"][local] <= 1:
            break
        smallest = int(row["side"])
    return smallest


def measure(effort: Effort, quick: bool) -> dict[str, Any]:
    """Measure everything.

    Args:
        effort: The sizes, and for how long.
        quick: Whether the figures mean nothing.
    """
    machine = describe()
    rows = [row for score in effort.scores for side in effort.sides for row in speeds(effort, score, side)]
    return {
        "command": "python -m benchmarks.attention.speed" + " --quick" * quick,
        "quick": quick,
        "seed": SEED,
        "machine": machine,
        "effort": asdict(effort),
        "rows": rows,
        "local_pays_from": [
            {"score": score, "pass": kind, "attention": local, "side": pays_from(rows, score, kind, local)}
            for score in effort.scores
            for kind in PASSES
            for local in LOCAL
        ],
        "load_average_after": describe()["load_average"],
    }


def report(result: Mapping[str, Any]) -> str:
    """The figures in a table, and from which size local attention pays.

    Args:
        result: What :func:`measure` found.
    """
    effort = result["effort"]
    largest = effort["sides"][-1]
    found = table(
        f"Time of a step of global attention, times that of local attention with a window of {effort['window']} "
        f"(batch {effort['batch']}, {effort['features']} features, one thread, CPU time)",
        ("score", "map", "pass", *LOCAL, *(f"{name} us" for name in (GLOBAL, *LOCAL))),
        (
            (
                row["score"],
                f"{row['side']}x{row['side']}",
                row["pass"],
                *(f"{row['times_local'][name]:.2f}" for name in LOCAL),
                *(f"{row['cpu_microseconds'][name]:,.0f}" for name in (GLOBAL, *LOCAL)),
            )
            for row in result["rows"]
        ),
    )
    verdicts = [
        f"{row['score']}, {row['pass']}: {row['attention']} pays "
        + (f"from {row['side']}x{row['side']} on" if row["side"] else f"on no map up to {largest}x{largest}")
        for row in result["local_pays_from"]
    ]
    head = in_words(result["machine"]) + quick_remark(result, "\n")
    return "\n\n".join([head, found, "\n".join(verdicts)])


def main(args: Sequence[str]) -> int:
    """Measure, print the tables, and write the figures to ``--output``.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.attention.speed", __doc__)
    options = options_of(args, parser)
    result = measure(QUICK if options.quick else Effort(), options.quick)
    hand_back(report(result), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
