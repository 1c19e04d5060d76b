"""``glimpse demo``: the whole job on real images, and a page that shows it."""

import argparse
import html
import json
import shlex
import string
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from glimpse.cli.evaluate import evaluate_checkpoint
from glimpse.cli.train.command import main as train
from glimpse.cli.usage import invocation
from glimpse.data.datamodule import ImageData
from glimpse.drawing import charts
from glimpse.drawing.view import View, draw
from glimpse.evaluation.evaluate import FIXATIONS, ClassifierEvaluation
from glimpse.export.checkpoint import Exported, export_checkpoint
from glimpse.runtime.session import GlimpseSession, Prediction
from glimpse.training.checkpoint import load_training

PAGE = "index.html"
RIGHT_SHOWN, WRONG_SHOWN = 6, 4
"""How many scanpaths of either kind the page shows."""


class Example(NamedTuple):
    """A held-out image that the exported model has looked at."""

    name: str
    truth: str
    answer: str
    confidence: float
    glimpses_needed: int
    """How many glimpses it took until the answer no longer changed."""


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, export, classify, and write the page.

    Args:
        args: ``output``, the folder to write.
    """
    folder: Path = args.output
    (folder / PAGE).unlink(missing_ok=True)
    began = time.monotonic()
    print(f"1/4  training the default recipe into {folder / 'run'}", flush=True)
    status = train(
        ["fit", "--config", "digits", "--output", str(folder / "run"), "--overwrite", "true"], "glimpse demo"
    )
    if status:
        return status
    trained = time.monotonic() - began
    checkpoint = folder / "run" / "last.ckpt"
    print("2/4  evaluating on held-out test images, under the model's own fixations and others", flush=True)
    evaluation = evaluate_checkpoint(checkpoint)
    _write(folder / "evaluation.json", evaluation.to_json() + "\n")
    print("3/4  exporting to ONNX and comparing the file with the model", flush=True)
    exported = export_checkpoint(checkpoint, folder / "model.onnx")
    print("4/4  classifying held-out images with the exported file", flush=True)
    _, data = load_training(checkpoint)
    examples = look_at_examples(GlimpseSession(exported.path), data, folder)
    write_pictures(evaluation, exported, folder)
    write_page(evaluation, exported, examples, trained, folder)
    print(summary(evaluation, exported, examples, trained, folder))
    return 0


def look_at_examples(session: GlimpseSession, data: ImageData, folder: Path) -> list[Example]:
    """Classify test images with the exported file, and draw the first right and the first wrong answers.

    Args:
        session: The exported model.
        data: Where the test images come from.
        folder: Gets ``images/`` with the images as files, and ``scanpaths/`` with the pictures.
    """
    images, labels = data.test_dataloader().dataset[0]
    pixels = images.permute(0, 2, 3, 1).numpy()
    prediction = session.run(pixels)
    answers = prediction.probabilities[:, -1].argmax(1)
    right = np.flatnonzero(answers == labels.numpy())[:RIGHT_SHOWN]
    wrong = np.flatnonzero(answers != labels.numpy())[:WRONG_SHOWN]
    for name in ("images", "scanpaths"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).glob("*.png"):
            old.unlink()
    return [
        _example(session, pixels[place], int(labels[place]), _only(prediction, int(place)), number, folder)
        for number, place in enumerate([*right, *wrong], start=1)
    ]


def _only(prediction: Prediction, place: int) -> Prediction:
    """One image's part of a prediction, a batch of one."""
    only = slice(place, place + 1)
    boxes, maps = (None if field is None else field[only] for field in (prediction.boxes, prediction.maps))
    return Prediction(prediction.probabilities[only], prediction.locations[only], boxes, maps)


def _example(
    session: GlimpseSession,
    image: UInt8[np.ndarray, "height width channels"],
    label: int,
    prediction: Prediction,
    number: int,
    folder: Path,
) -> Example:
    classes = session.card.classes
    beliefs = prediction.probabilities[0]
    answers = beliefs.argmax(1)
    answer = int(answers[-1])
    changed = np.flatnonzero(answers != answer)
    truth = classes[label]
    name = f"{number:02d}-{truth}"
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / "images" / f"{name}.png")
    draw(session, View(image, image, prediction, prediction), truth).save(folder / "scanpaths" / f"{name}.png")
    return Example(
        name, truth, classes[answer], float(beliefs[-1, answer]), int(changed[-1]) + 2 if len(changed) else 1
    )


def write_pictures(evaluation: ClassifierEvaluation, exported: Exported, folder: Path) -> None:
    """Draw the confusion matrix and the error under each kind of fixations."""
    classes = exported.card.classes
    charts.draw_confusion(np.array(evaluation.confusion), classes).save(folder / "confusion.png")
    charts.draw_baselines(evaluation.errors).save(folder / "fixations.png")


def write_page(
    evaluation: ClassifierEvaluation, exported: Exported, examples: Sequence[Example], trained: float, folder: Path
) -> None:
    """Write ``index.html``, last of all, so that a page that is there is whole."""
    template = string.Template(resources.files("glimpse.cli").joinpath("demo.html").read_text(encoding="utf-8"))
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
    _write(folder / PAGE, page)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _caption(example: Example) -> str:
    settled = f"settled after glimpse {example.glimpses_needed}"
    answer = html.escape(example.answer)
    if example.answer == example.truth:
        return f"<b>{answer}</b>, {example.confidence:.0%} sure, {settled}"
    return f"<b>{answer}</b>, {example.confidence:.0%} sure, but it is <b>{html.escape(example.truth)}</b>; {settled}"


def summary(
    evaluation: ClassifierEvaluation, exported: Exported, examples: Sequence[Example], trained: float, folder: Path
) -> str:
    """What was done, the figures, and what to try next."""
    errors = {kind: evaluation.errors[kind][-1] for kind in FIXATIONS}
    return "\n".join(
        [
            "",
            f"Trained on {exported.card.data} in {trained / 60:.1f} minutes, and tried on {evaluation.images} test "
            f"images that it never saw, with {exported.card.num_glimpses} glimpses each:",
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
    """A command line that runs as it stands where the demo was started: the exported file looks at an image."""
    image = folder / "images" / f"{examples[0].name}.png"
    arguments = ["classify", str(exported.path), str(image), "--draw", str(folder / "looked")]
    return f"{invocation()} {shlex.join(arguments)}"
