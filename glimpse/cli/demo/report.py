"""The demo's page, its charts, and the summary in the terminal."""

import html
import json
import shlex
import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from glimpse.cli.demo.examples import Example
from glimpse.cli.usage import invocation
from glimpse.drawing import charts
from glimpse.drawing.album import save_picture
from glimpse.evaluation.evaluate import FIXATIONS, ClassifierEvaluation
from glimpse.export.checkpoint import Exported
from glimpse.files import write_whole

PAGE = "index.html"


def write_evaluation(evaluation: ClassifierEvaluation, folder: Path) -> None:
    """Write ``evaluation.json``."""
    write_whole(folder / "evaluation.json", evaluation.to_json() + "\n")


def write_charts(evaluation: ClassifierEvaluation, exported: Exported, folder: Path) -> None:
    """Draw the confusion matrix and the error under each kind of fixations."""
    classes = exported.card.classes
    save_picture(charts.draw_confusion(np.array(evaluation.confusion), classes), folder / "confusion.png")
    save_picture(charts.draw_baselines(evaluation.errors), folder / "fixations.png")


def write_demo_page(
    evaluation: ClassifierEvaluation, exported: Exported, examples: Sequence[Example], trained: float, folder: Path
) -> None:
    """Write ``index.html``, last of all, so that a page that is there is whole."""
    template = string.Template(resources.files("glimpse.cli.demo").joinpath("page.html").read_text(encoding="utf-8"))
    card = exported.card
    rows = "".join(
        f"<tr><th>{kind}</th>" + "".join(f"<td>{100 * error:.1f}</td>" for error in evaluation.errors[kind]) + "</tr>"
        for kind in FIXATIONS
    )
    figures = "".join(
        f'<figure class="{"right" if example.answer == example.truth else "wrong"}">'
        f'<a href="scanpaths/{example.name}.png"><img src="scanpaths/{example.name}.png" '
        f'alt="Scanpath over an image of {html.escape(example.truth)}"></a>'
        f"<figcaption>{_caption(example)}</figcaption></figure>"
        for example in examples
    )
    page = template.substitute(
        data=html.escape(card.data),
        images=f"{evaluation.images:,}",
        glimpses=card.num_glimpses,
        size=card.glimpse_size,
        scales=card.num_scales,
        error=f"{100 * evaluation.error:.1f}",
        random_error=f"{100 * evaluation.errors['random'][-1]:.1f}",
        centre_error=f"{100 * evaluation.errors['centre'][-1]:.1f}",
        grid_error=f"{100 * evaluation.errors['grid'][-1]:.1f}",
        calibration=f"{100 * evaluation.calibration_error:.1f}",
        minutes=f"{trained / 60:.1f}",
        sensed=f"{evaluation.pixels_sensed:,}",
        pixels=f"{evaluation.pixels_of_image:,}",
        macs=f"{evaluation.multiply_accumulates / 1e6:.1f}",
        parameters=f"{evaluation.parameters:,}",
        difference=f"{exported.parity.difference:.0e}",
        compared=f"{exported.parity.images:,}",
        megabytes=f"{exported.path.stat().st_size / 1e6:.1f}",
        times="".join(f"<th>{time}</th>" for time in range(1, card.num_glimpses + 1)),
        rows=rows,
        figures=figures,
        command=html.escape(next_command(exported, examples, folder)),
        card=html.escape(json.dumps(json.loads(card.to_json()), indent=2)),
    )
    write_whole(folder / PAGE, page)


def _caption(example: Example) -> str:
    settled = f"settled after glimpse {example.glimpses_needed}"
    answer = html.escape(example.answer)
    if example.answer == example.truth:
        return f"<b>{answer}</b>, {example.confidence:.0%} sure, {settled}"
    return f"<b>{answer}</b>, {example.confidence:.0%} sure, but it is <b>{html.escape(example.truth)}</b>; {settled}"


def demo_summary(
    evaluation: ClassifierEvaluation, exported: Exported, examples: Sequence[Example], trained: float, folder: Path
) -> str:
    """The text that the demo prints last: the figures, the page, and a command to try next."""
    errors = {kind: evaluation.errors[kind][-1] for kind in FIXATIONS}
    return "\n".join(
        [
            "",
            f"Trained on {exported.card.data} in {trained / 60:.1f} minutes, and measured on {evaluation.images} test "
            f"images, with {exported.card.num_glimpses} glimpses each:",
            f"  error with the model's own fixations   {errors['own']:>6.1%}",
            f"  the same weights, random fixations     {errors['random']:>6.1%}",
            f"  the same weights, always the centre    {errors['centre']:>6.1%}",
            f"  the same weights, a grid of fixations  {errors['grid']:>6.1%}",
            f"Exported to {exported.path}; on {exported.parity.images} test images its probabilities differ from the "
            f"model's by at most {exported.parity.difference:.0e}.",
            f"See it look: open {folder / PAGE}",
            f"Try next:    {next_command(exported, examples, folder)}",
        ]
    )


def next_command(exported: Exported, examples: Sequence[Example], folder: Path) -> str:
    """A command line, for the folder in which the demo was started, that classifies an image with the exported file."""
    image = folder / "images" / f"{examples[0].name}.png"
    arguments = ["classify", str(exported.path), str(image), "--draw", str(folder / "looked")]
    return f"{invocation()} {shlex.join(arguments)}"
