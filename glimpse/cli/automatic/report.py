"""What a choice found, as JSON, as one page, and in words."""

import html
import json
import shlex
import string
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glimpse.cli.automatic.measures import (
    Looking,
    error_of,
    keep_glimpses,
    measure_looking,
    pixel_regression,
    scores_on_test,
)
from glimpse.cli.usage import invocation
from glimpse.files import write_whole
from glimpse.training.checkpoint import load_with_data

if TYPE_CHECKING:
    from glimpse.cli.automatic.choice import RankedTrials
    from glimpse.cli.automatic.survey import Survey
    from glimpse.cli.automatic.trials import CandidateTrial
    from glimpse.data.datamodule import ImageData

MODEL_FILE, CHOICE_FILE, CHOICE_PAGE = "model.ckpt", "choice.json", "choice.html"
"""The files of a choice, in the run's folder."""


def write_report(
    output: Path, survey: "Survey", choice: "RankedTrials", final: "CandidateTrial", data: "ImageData"
) -> None:
    """Measure the chosen model beside its rivals, drop windows that earn nothing, and write and print what was found.

    Args:
        output: The run's folder.
        survey: What the images are like.
        choice: What was tried and chosen.
        final: The model that is recommended.
        data: The images, as the first candidate saw them.
    """
    model = output / MODEL_FILE
    write_whole(model, final.checkpoint.read_bytes())
    training, own_data = load_with_data(model)
    looking = measure_looking(training, own_data, choice.balanced)
    if looking is not None and looking.kept < training.observer.num_glimpses:
        keep_glimpses(model, looking.kept)
    found, cost = scores_on_test(model)
    pixels, pixels_on_test = pixel_regression(data, choice.balanced)
    figures: dict[str, Any] = {
        "images": survey.describe(),
        "measure": "balanced error" if choice.balanced else "error",
        "chosen": final.candidate.name,
        "model": str(model),
        "run": str(final.folder),
        "multiply_accumulates": cost,
        "test_error": found.error,
        "test_balanced_accuracy": found.balanced_accuracy,
        "majority_test_error": 1 - found.majority_accuracy,
        "pixel_regression_validation": error_of(pixels, choice.balanced),
        "pixel_regression_test_error": pixels_on_test.error,
        "pixel_regression_test_balanced_accuracy": pixels_on_test.balanced_accuracy,
        "looking": _looking(looking),
        "trials": [
            {
                "name": trial.candidate.name,
                "reason": trial.candidate.reason,
                "options": list(trial.candidate.options),
                "epochs": trial.epochs,
                "seconds": round(trial.seconds, 1),
                "validation_error": trial.error,
                "validation_balanced_error": trial.balanced_error,
            }
            for trial in dict.fromkeys((*choice.trials, final))
        ],
    }
    write_whole(output / CHOICE_FILE, json.dumps(figures, indent=2) + "\n")
    write_whole(output / CHOICE_PAGE, page(figures))
    if looking is not None:
        print(f"\n{looking.describe()}")
    print(
        f"\nthe model: {model} ({final.candidate.name}): on test images error {100 * found.error:.2f} %, "
        f"balanced accuracy {100 * found.balanced_accuracy:.1f} %; logistic regression on pixels "
        f"{100 * pixels_on_test.error:.2f} %, always {data.classes[found.majority_class]} "
        f"{100 * (1 - found.majority_accuracy):.2f} %"
    )
    print(f"all that was tried: {output / CHOICE_PAGE}, {CHOICE_FILE} beside it")
    print(f"next: {invocation()} export {shlex.quote(str(model))}")


def _looking(looking: Looking | None) -> dict[str, Any] | None:
    if looking is None:
        return None
    return {
        "sentence": looking.describe(),
        "errors": {gaze: list(errors) for gaze, errors in looking.errors.items()},
        "multiply_accumulates": list(looking.costs),
        "glimpses_kept": looking.kept,
        "everywhere": asdict(looking.everywhere),
    }


def page(figures: dict[str, Any]) -> str:
    """One page with the figures.

    Args:
        figures: As they stand in ``choice.json``.
    """
    template = resources.files("glimpse.cli.automatic").joinpath("page.html").read_text(encoding="utf-8")
    rows = [
        (
            trial["name"],
            trial["reason"],
            str(trial["epochs"]),
            f"{trial['seconds']:.0f}",
            f"{100 * trial['validation_error']:.2f}",
            f"{100 * trial['validation_balanced_error']:.2f}",
        )
        for trial in figures["trials"]
    ]
    looking = figures["looking"]
    return string.Template(template).substitute(
        images=html.escape(figures["images"]),
        chosen=html.escape(figures["chosen"]),
        model=html.escape(figures["model"]),
        test_error=f"{100 * figures['test_error']:.2f}",
        balanced=f"{100 * figures['test_balanced_accuracy']:.1f}",
        cost=f"{figures['multiply_accumulates'] / 1e6:.0f}",
        pixels=f"{100 * figures['pixel_regression_test_error']:.2f}",
        pixels_balanced=f"{100 * figures['pixel_regression_test_balanced_accuracy']:.1f}",
        majority=f"{100 * figures['majority_test_error']:.2f}",
        trials="\n".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows),
        looking=_looking_section(looking, figures["measure"]) if looking else "",
    )


def _looking_section(looking: dict[str, Any], measure: str) -> str:
    count, everywhere = len(looking["multiply_accumulates"]), looking["everywhere"]
    head = "".join(f"<th>{number} glimpse{'s' * (number > 1)}</th>" for number in range(1, count + 1))
    rows = [(f"{gaze} windows", [f"{100 * each:.2f}" for each in errors]) for gaze, errors in looking["errors"].items()]
    rows.append(("million multiply-accumulates", [f"{each / 1e6:.0f}" for each in looking["multiply_accumulates"]]))
    body = "\n".join(f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for name, cells in rows)
    return (
        f"<h2>Looking</h2>\n<p>{html.escape(looking['sentence'])}. The first glimpse is the glance at the whole. "
        f"{measure.capitalize()} on the validation images, %:</p>\n"
        f"<table><tr><th></th>{head}</tr>\n{body}</table>\n"
        f"<p>With windows at all {everywhere['windows']} places: {100 * everywhere['error']:.2f} %, "
        f"{everywhere['cost'] / 1e6:,.0f} million multiply-accumulates ({everywhere['images']:,} validation images)."
        "</p>"
    )
