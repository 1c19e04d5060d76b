"""The figures of a set of photographs in tables."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from benchmarks.harness.reports import heading, table
from benchmarks.learning.photographs.comparison import Lead, judge_beside_probe, leads_of

Rows = list[tuple[Any, ...]]


def report(result: Mapping[str, Any]) -> str:
    """All tables.

    Args:
        result: What the benchmark writes.
    """
    runs = {seed: found["product"] for seed, found in result["seeds"].items() if "test" in found.get("product", {})}
    tables = [heading(result, result["about"])]
    if runs:
        tables += [
            _products(result, runs),
            *_rivals(result, runs),
            *(_trials(seed, run["choice"]) for seed, run in runs.items()),
        ]
        for seed, run in runs.items():
            tables += _looking(seed, run["looking"], result["measure"])
    known = "\n".join(f"  {each}" for each in (f"asked: {result['target']}", *result["known"]))
    return "\n\n".join([*tables, f"beside it\n{known}"])


def _products(result: Mapping[str, Any], runs: Mapping[str, Any]) -> str:
    rows: Rows = []
    for seed, run in runs.items():
        choice, test, training = run["choice"], run["test"], run["training"]
        rows.append(
            (
                f"glimpse train, seed {seed}: {choice['chosen']}",
                _with_error(test["error"], test["error_standard_error"]),
                _with_error(test["balanced_accuracy"], test["balanced_accuracy_standard_error"]),
                f"{test['multiply_accumulates'] / 1e6:,.0f}",
                f"{training['cpu_seconds']:,.0f}",
                f"{training['wall_seconds']:,.0f}",
                training["load_average_after"][2],
            )
        )
        pixels = choice["pixel_regression_test_error"], choice["pixel_regression_test_balanced_accuracy"]
        rows.append(("  logistic regression on pixels", *map(_percent, pixels), "", "", "", ""))
        rows.append(("  always the most frequent class", _percent(choice["majority_test_error"]), "", "", "", "", ""))
    if len(runs) > 1:
        spread = [
            _spread([run["test"][name] for run in runs.values()], digits)
            for name, digits in (("error", 2), ("balanced_accuracy", 2))
        ]
        rows.append(("mean over the seeds, with their standard deviation", *spread, "", "", "", ""))
    images, groups = (next(iter(runs.values()))["test"][name] for name in ("images", "groups"))
    heads = ("", "error %", "balanced accuracy %", "M multiply-acc.", "CPU s", "wall s", "load (15 min)")
    title = (
        f"{result['set']}: {images:,} test images in {groups:,} groups; standard errors by bootstrap over the groups"
    )
    return table(title, heads, rows)


def _rivals(result: Mapping[str, Any], runs: Mapping[str, Any]) -> Iterable[str]:
    """The product and each rival that was measured, means over the seeds; and what is asked of it beside the probe."""
    measured = [found.get("rivals", {}) for found in result["seeds"].values()]
    names = dict.fromkeys(name for of_seed in measured for name in of_seed)
    if not names:
        return
    leads = leads_of(result)
    own = [{**run["test"], **run["training"], "epochs": None} for run in runs.values()]
    rows = [_side("glimpse train", own, None)]
    for name in names:
        rows.append(_side(name, [of_seed[name] for of_seed in measured if name in of_seed], leads.get(name)))
    heads = ("", "seeds", "error %", "balanced accuracy %", "M multiply-acc.", "CPU s", "wall s", "epochs")
    title = (
        "the product and its rivals on the same images, means over the seeds; the last column is the "
        f"{result['measure']} of the product less the rival's"
    )
    yield table(title, (*heads, "ahead, points"), rows)
    if judged := judge_beside_probe(result):
        yield judged["sentence"]


def _side(name: str, runs: Sequence[Mapping[str, Any]], lead: Lead | None) -> tuple[Any, ...]:
    def over_seeds(figure: str) -> float:
        return float(mean(run[figure] for run in runs))

    def with_error(figure: str) -> str:
        return _with_error(over_seeds(figure), over_seeds(f"{figure}_standard_error"))

    return (
        name,
        len(runs),
        with_error("error"),
        with_error("balanced_accuracy"),
        f"{over_seeds('multiply_accumulates') / 1e6:,.0f}",
        f"{over_seeds('cpu_seconds'):,.0f}",
        f"{over_seeds('wall_seconds'):,.0f}",
        "" if runs[0]["epochs"] is None else f"{over_seeds('epochs'):,.0f}",
        "" if lead is None else f"{100 * lead.accuracy:+.2f} ± {100 * lead.standard_error:.2f}",
    )


def _trials(seed: str, choice: Mapping[str, Any]) -> str:
    rows = [
        (
            each["name"],
            each["epochs"],
            f"{each['seconds']:.0f}",
            _percent(each["validation_error"]),
            _percent(each["validation_balanced_error"]),
        )
        for each in choice["trials"]
    ]
    heads = ("tried", "epochs", "wall s", "validation error %", "balanced error %")
    return table(f"seed {seed}: {choice['images']}; compared by {choice['measure']}", heads, rows)


def _looking(seed: str, looking: Mapping[str, Any], measure: str) -> Iterable[str]:
    sentences = "\n".join(f"  {sentence}" for sentence in looking["sentences"])
    yield f"seed {seed}: looking\n{sentences}"
    if not looking["of"]:
        return
    costs = looking["multiply_accumulates"]
    rows: Rows = [
        (f"{gaze} windows", *map(_with_error, found["accuracy"], found["standard_error"]))
        for gaze, found in looking["gazes"].items()
    ]
    rows.append(("million multiply-accumulates", *(f"{each / 1e6:,.0f}" for each in costs)))
    heads = ("", "glance", *(f"{count} window{'s' * (count > 1)}" for count in range(1, len(costs))))
    yield table(f"seed {seed}: {measure} on the test images, %", heads, rows)
    rows = []
    for kind, what in _shares_shown(looking["gazes"]["own"].get("found", {})):
        for gaze, found in looking["gazes"].items():
            of_kind = found["found"][kind]
            rows.append((f"{gaze}, {kind} kinds, {what}", of_kind[f"number_of_{what}"], *map(_percent, of_kind[what])))
    if rows:
        title = f"seed {seed}: images of which an object, and objects, that lie under one of the first windows, %"
        yield table(title, ("", "number", *heads[2:]), rows)


def _shares_shown(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The kinds of objects, and whether images or objects are counted, without what would say the same twice."""
    seen: list[Mapping[str, Any]] = []
    for kind, of_kind in found.items():
        for what in ("images", "objects"):
            shares = {"number": of_kind[f"number_of_{what}"], "shares": of_kind[what]}
            if of_kind[what] is not None and shares not in seen:
                seen.append(shares)
                yield kind, what


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _with_error(share: float, error: float) -> str:
    return f"{100 * share:.2f} ± {100 * error:.2f}"


def _spread(shares: list[float], digits: int) -> str:
    return f"{100 * mean(shares):.{digits}f} ± {100 * stdev(shares):.{digits}f}"
