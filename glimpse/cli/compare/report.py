"""The results of a comparison: its figures as JSON, as a table, and as one page."""

import html
import json
import math
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from glimpse.evaluation.evaluate import FIXATIONS, ClassifierEvaluation
from glimpse.files import write_whole
from glimpse.training.families import FAMILIES

PAGE, FIGURES = "index.html", "comparison.json"
PICTURES, LEGEND, CURVES = "pictures", "legend.png", "learning-curves.png"


@dataclass(frozen=True)
class ComparedModel:
    """A model that was compared.

    Attributes:
        name: Its name in the comparison.
        family: Its family, one of :data:`glimpse.training.families.FAMILIES`.
        given: The recipe or the checkpoint, as the command line has it.
        checkpoint: The file of its weights.
        trained_now: Whether this comparison trained it, or found it trained.
        epochs: Number of epochs of its training.
        images_seen: Training images that it was trained on, counted with repetition; None if unknown.
        wall_seconds: Wall time of its training; None if unknown.
        cpu_seconds: CPU time of its training, over all threads; None if unknown.
        validation_errors: Epoch, and share of wrong answers on the validation images after it, NaN where unmeasured.
        evaluation: Its figures on the test images.
    """

    name: str
    family: str
    given: str
    checkpoint: str
    trained_now: bool
    epochs: int
    images_seen: int | None
    wall_seconds: float | None
    cpu_seconds: float | None
    validation_errors: list[tuple[int, float]]
    evaluation: ClassifierEvaluation


@dataclass(frozen=True)
class ImageAnswer:
    """The models' answers for a test image.

    Attributes:
        place: Its place among the test images, from 0.
        truth: Its class.
        answers: Each model's answer, in the order of the models.
        confidences: Its probability, in [0, 1].
        disputed: Whether the image was taken because the answers differ.
    """

    place: int
    truth: str
    answers: list[str]
    confidences: list[float]
    disputed: bool


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        data: The data set in words.
        command: The command line that made it.
        entries: The models, the smallest test error first.
        views: The answers for the images that are shown.
        disputed: Share of the first test images, a block of at most 500, on which the answers differ, in [0, 1].
    """

    data: str
    command: str
    entries: list[ComparedModel]
    views: list[ImageAnswer]
    disputed: float

    def to_json(self) -> str:
        """Write it as JSON; an unknown value is null."""
        return json.dumps(_without_nan(asdict(self)), indent=2)


COLUMNS = (
    "model",
    "error %",
    *(f"{kind} %" for kind in FIXATIONS[1:]),
    "calibration %",
    "parameters",
    "million MACs",
    "pixels sensed",
    "of the image",
    "glimpses",
    "images seen",
    "wall s",
    "CPU s",
)
"""The table's columns, the same on the page and in the terminal."""


def table_cells(entry: ComparedModel) -> list[str]:
    """A model's row of the table; a dash where a figure is unknown.

    Args:
        entry: The model.
    """
    found = entry.evaluation
    return [
        entry.name,
        f"{100 * found.error:.2f}",
        *(f"{100 * found.errors[kind][-1]:.2f}" if kind in found.errors else "-" for kind in FIXATIONS[1:]),
        f"{100 * found.calibration_error:.1f}",
        f"{found.parameters:,}",
        f"{found.multiply_accumulates / 1e6:.2f}",
        f"{found.pixels_sensed:,}",
        f"{found.pixels_sensed / found.pixels_of_image:.2f}x",
        str(found.num_glimpses),
        "-" if entry.images_seen is None else f"{entry.images_seen:,}",
        "-" if entry.wall_seconds is None else f"{entry.wall_seconds:,.0f}",
        "-" if entry.cpu_seconds is None else f"{entry.cpu_seconds:,.0f}",
    ]


def comparison_table(comparison: Comparison) -> str:
    """The table for a terminal, the smallest error first."""
    rows = [list(COLUMNS), *(table_cells(entry) for entry in comparison.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.json``, and then ``index.html``, last of all, so that a page that is there is whole.

    Args:
        comparison: The results.
        folder: Holds the pictures already; a model without a picture of its explicit map has none.
    """
    entries = comparison.entries
    template = string.Template(resources.files("glimpse.cli.compare").joinpath("page.html").read_text(encoding="utf-8"))
    best, images = entries[0].evaluation, entries[0].evaluation.images
    page = template.substitute(
        data=html.escape(comparison.data),
        count=len(entries),
        images=f"{images:,}",
        chance=f"{100 * math.sqrt(best.error * (1 - best.error) / images):.2f}",
        budget=budget(entries),
        sources=_sources(entries),
        header="".join(f"<th>{column}</th>" for column in COLUMNS),
        rows="".join(_row(entry, best.error) for entry in entries),
        columns="".join(
            f"<th>{html.escape(entry.name)}<small>{FAMILIES[entry.family].title}</small></th>" for entry in entries
        ),
        views="".join(_view(row, view, entries, folder) for row, view in enumerate(comparison.views, start=1)),
        chosen=_chosen(comparison),
        legend=f"{PICTURES}/{LEGEND}",
        curves=_learning(folder),
        command=html.escape(comparison.command),
    )
    write_whole(folder / FIGURES, comparison.to_json() + "\n")
    write_whole(folder / PAGE, page)


def budget(entries: Sequence[ComparedModel]) -> str:
    """A sentence on how many images each model was trained on, and whether the numbers are equal.

    Args:
        entries: The models.
    """
    seen = {entry.images_seen for entry in entries}
    known = sorted(images for images in seen if images is not None)
    if len(seen) == 1 and known:
        return f"One budget for all: each model was trained on {known[0]:,} images, one seed each."
    if len(seen) > len(known):
        return "The number of training images of some models is unknown: this is no comparison at one budget."
    return (
        f"The budgets differ: the models were trained on {known[0]:,} to {known[-1]:,} images, as the table says, so "
        "that the errors are not those of one budget."
    )


def _sources(entries: Sequence[ComparedModel]) -> str:
    trained = [html.escape(entry.name) for entry in entries if entry.trained_now]
    found = [f"{html.escape(entry.name)} (<code>{html.escape(entry.checkpoint)}</code>)" for entry in entries
             if not entry.trained_now]  # fmt: skip
    sentences = [f"Trained for this page, one after another on this machine: {', '.join(trained)}."] * bool(trained)
    sentences += [f"Found trained, and not trained again: {', '.join(found)}."] * bool(found)
    return " ".join(sentences)


def _row(entry: ComparedModel, least: float) -> str:
    name, *others = table_cells(entry)
    best = ' class="best"' if entry.evaluation.error == least else ""
    head = f"<th>{html.escape(name)}<small>{FAMILIES[entry.family].title}</small></th>"
    return f"<tr{best}>{head}{''.join(f'<td>{cell}</td>' for cell in others)}</tr>"


def _view(row: int, view: ImageAnswer, entries: Sequence[ComparedModel], folder: Path) -> str:
    """A test image with all its maps: three rows of the table."""
    truth = html.escape(view.truth)
    disputed = "<small>they disagree</small>" if view.disputed else ""
    image = (
        f'<th class="image" rowspan="3"><img src="{PICTURES}/{panel_file("image", row)}" alt="Test image '
        f'{view.place}, of class {truth}"><b>{truth}</b><small>test image {view.place}</small>{disputed}</th>'
    )
    lines = []
    for kind in ("explicit", "implicit"):
        panels = "".join(_panel(kind, row, column, entry, folder) for column, entry in enumerate(entries, start=1))
        lines.append(f'<th class="kind"><span>{kind}</span></th>{panels}')
    captions = [
        f'<td class="{"right" if answer == view.truth else "wrong"}"><b>{html.escape(answer)}</b> {confidence:.0%}</td>'
        for answer, confidence in zip(view.answers, view.confidences, strict=True)
    ]
    lines.append(f'<th class="kind"></th>{"".join(captions)}')
    first, *rest = lines
    return f"<tbody><tr>{image}{first}</tr>{''.join(f'<tr>{line}</tr>' for line in rest)}</tbody>"


def _panel(kind: str, row: int, column: int, entry: ComparedModel, folder: Path) -> str:
    file = panel_file(kind, row, column)
    if (folder / PICTURES / file).is_file():
        return f'<td><img src="{PICTURES}/{file}" alt="{kind} map of {html.escape(entry.name)}"></td>'
    return '<td class="none">takes in the whole image at once: no map of its own</td>'


def _chosen(comparison: Comparison) -> str:
    half = "" if len(comparison.views) == 1 else (
        ", the second half the first ones after them on which the models disagree, filled up with the next ones where "
        "these are too few"
    )  # fmt: skip
    return (
        f"The images are the first of the test set{half}. The models disagree on {100 * comparison.disputed:.0f} % of "
        "the first test images."
    )


def _learning(folder: Path) -> str:
    if not (folder / PICTURES / CURVES).is_file():
        return "<p>No log lies beside the checkpoints.</p>"
    return f'<div class="charts"><img src="{PICTURES}/{CURVES}" alt="Validation error of each model by epoch"></div>'


def panel_file(kind: str, row: int, column: int | None = None) -> str:
    """The name of a panel's file.

    Args:
        kind: ``image``, ``explicit`` or ``implicit``.
        row: The image's number, from 1.
        column: The model's number, from 1.
    """
    return f"{kind}-{row}.png" if column is None else f"{kind}-{row}-{column}.png"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
