"""Every figure in the tables of README.md is that of the committed result."""

import json
import re
from typing import Any

import pytest

from benchmarks.learning.fixations import interval
from tests.house.sources import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RESULTS = REPOSITORY / "benchmarks" / "results"
RECIPES = ("mnist-28", "cluttered-60-8", "cluttered-60-soft")
FAMILIES = ("soft", "cnn", "self", "hard", "relaxed", "mlp")


def result_of(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rows_of(heading: str) -> list[list[str]]:
    """The rows of the table whose heading begins so, their cells without emphasis."""
    lines = README.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading)) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("*", "") for cell in line.strip("|").split(" | ")])
    return rows


def error_and_interval(error: float, images: int, digits: int) -> str:
    low, high = interval(error, images)
    return f"{100 * error:.{digits}f} % ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_figures_of_its_run(recipe):
    found = result_of(f"{recipe}-seed0")
    row = next(row for row in rows_of("| recipe | test error |") if row[0].startswith(f"`{recipe}`"))
    errors = found["test_errors_after_each_glimpse"]
    assert row[1] == error_and_interval(found["test_error"], found["images"], 2)
    assert row[3:6] == [f"{errors[kind][-1]:.2%}".replace("%", " %") if kind in errors else "-" for kind in
                        ("random", "centre", "grid")]  # fmt: skip
    assert row[6:] == [f"{found['wall_seconds'] / 60:.1f} min", f"{found['images_seen'] / 1e6:.2f} million"]


def test_the_demo_has_the_figures_of_its_run():
    found = result_of("demo")
    row = next(row for row in rows_of("| recipe | test error |") if row[0].startswith("`digits`"))
    assert row[1] == error_and_interval(found["error"], found["images"], 1)
    assert row[3:6] == [f"{100 * found['errors'][kind][-1]:.1f} %" for kind in ("random", "centre", "grid")]


def test_the_families_have_the_figures_of_their_cells():
    (row,) = rows_of("| soft | convolutional |")
    assert row == [f"{100 * result_of(f'families-60-{family}-seed0')['test_error']:.2f} %" for family in FAMILIES]


def test_early_exit_has_both_denominators_of_its_run():
    models = {model["checkpoint"].removesuffix("-seed0"): model for model in result_of("runtime-exit")["models"]}
    for row in rows_of("| recipe | test accuracy, full budget |"):
        model = models[row[0].strip("`")]
        chosen = model["chosen"]
        assert row[1] == f"{100 * chosen['accuracy']:.2f} %, {100 * model['full_accuracy']:.2f} %"
        shares = ("of_full_1", "of_episode_1", "of_full_64", "of_episode_64")
        assert row[2:] == [f"{100 * chosen[share]:.0f} %" for share in shares]


def test_the_environments_have_the_speed_of_their_run():
    found = result_of("env-speed")
    rates = {name: rate["cpu"] for name, rate in found["steps_per_second"].items()}
    told = (
        f"{round(rates['drawn-1024'], -3):,.0f}",
        f"{round(rates['drawn-64'], -3):,.0f}",
        f"{round(rates['vector-1024'], -4):,.0f}",
        f"{found['times_slower_than_ours']['sync-1024']:.0f}",
    )
    words = " ".join(README.split())
    assert re.search(
        "1,024 environments take about {} steps per CPU-second, and 64 environments {}[.].* 1,024 environments take "
        "about {}, which is {} times as many".format(*told),
        words,
    )


def test_what_a_training_for_random_fixations_reaches_is_the_committed_result():
    (run,) = [run for run in result_of("fixations-digits")["runs"] if run["trained_for"] == "random"]
    told = error_and_interval(run["test_error"], run["test_images"], 1)
    assert f"trained for random fixations, errs in {told} under them" in " ".join(README.split())
