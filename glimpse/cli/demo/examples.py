"""Test images that the exported file classifies for the demo's page."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from glimpse.data.datamodule import ImageData
from glimpse.drawing.album import save_picture
from glimpse.drawing.view import View, draw
from glimpse.runtime.session import GlimpseSession, Prediction

RIGHT_SHOWN, WRONG_SHOWN = 6, 4
"""How many scanpaths with a right and with a wrong answer the page shows."""


class Example(NamedTuple):
    """A held-out image that the exported file has classified."""

    name: str
    truth: str
    answer: str
    confidence: float
    glimpses_needed: int
    """How many glimpses it took until the answer no longer changed."""


def classify_examples(session: GlimpseSession, data: ImageData, folder: Path) -> list[Example]:
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
        _example(session, pixels[place], int(labels[place]), prediction.row(int(place)), number, folder)
        for number, place in enumerate([*right, *wrong], start=1)
    ]


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
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    save_picture(picture, folder / "images" / f"{name}.png")
    scanpath = draw(session, View(image, image, prediction, prediction), truth)
    save_picture(scanpath, folder / "scanpaths" / f"{name}.png")
    return Example(
        name, truth, classes[answer], float(beliefs[-1, answer]), int(changed[-1]) + 2 if len(changed) else 1
    )
