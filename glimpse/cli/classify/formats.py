"""The output formats of ``glimpse classify``: text, one JSON document, JSON lines, CSV. No torch.

A format returns pieces of text in the order in which they are to be written, so each prediction can be written as soon
as it is made.
"""

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glimpse.contract.card import ModelCard
from glimpse.contract.texts import visible
from glimpse.runtime.payload import image_payload

if TYPE_CHECKING:
    from glimpse.runtime.prediction import Prediction

STOPPED = {"confident": "sure enough", "budget": "budget used", "time": "time is up"}
"""Texts for the reasons for which a model takes no further glimpse."""
_DIGITS, _MAP_DIGITS = 6, 4
"""Decimal places of numbers in JSON, and of those in attention maps, which have many."""


def describe(
    name: str,
    size: tuple[int, int],
    found: "Prediction",
    classes: Sequence[str],
    picture: Path | None = None,
    film: Path | None = None,
) -> dict[str, Any]:
    """Build the JSON object for an image: what the service returns for it, with the names of its files.

    Args:
        name: Name of the image.
        size: Height and width of the image, pixels.
        found: The prediction, with locations and boxes in the image's own frame: a batch of one image, with only the
            glimpses that were taken.
        classes: Class names, in the order of the probabilities.
        picture: Path of the drawing, if there is one.
        film: Path of the animation, if there is one.
    """
    payload = image_payload(found, classes, *size, maps=True)
    for glimpse in payload["glimpses"]:
        if "map" in glimpse:
            glimpse["map"] = glimpse["map"].round(_MAP_DIGITS)
    return {
        "image": name,
        **_plain(payload),
        "glimpses_taken": len(payload["glimpses"]),
        "picture": None if picture is None else str(picture),
        "animation": None if film is None else str(film),
    }


class OutputFormat(ABC):
    """An output format. By default it writes nothing at the beginning, at the end, and for images that failed."""

    def begin(self) -> str:
        """Return the text before the first prediction."""
        return ""

    @abstractmethod
    def answer(self, answer: dict[str, Any]) -> str:
        """Return the text of a prediction.

        Args:
            answer: The object that :func:`describe` returned.
        """

    def failure(self, name: str, sentence: str) -> str:
        """Return the text for an image that failed.

        Args:
            name: Name of the image.
            sentence: The error message.
        """
        return ""

    def end(self) -> str:
        """Return the text after the last prediction."""
        return ""


class TextFormat(OutputFormat):
    """A heading for each image and an aligned line for each glimpse, with the values that this kind of model predicts.

    Args:
        most: Number of glimpses that the model takes without limits.
        limited: Whether there are limits. If so, the text states why the model stopped.
    """

    def __init__(self, most: int, limited: bool) -> None:
        self._most, self._limited = most, limited

    def answer(self, answer: dict[str, Any]) -> str:
        """Return a prediction as lines of text."""
        columns: dict[str, list[str]] = {"glimpse": [], "location": [], "finest window (px)": [], "belief": [], "": []}
        for number, glimpse in enumerate(answer["glimpses"], start=1):
            columns["glimpse"].append(str(number))
            if "location" in glimpse:
                x, y = glimpse["location"]
                columns["location"].append(f"({x:+.2f}, {y:+.2f})")
            if "boxes" in glimpse:
                left, top, right, bottom = (round(side) for side in glimpse["boxes"][0])
                columns["finest window (px)"].append(f"{left}..{right}, {top}..{bottom}")
            columns["belief"].append(glimpse["class"])
            columns[""].append(f"{glimpse['confidence']:.1%}")
        lines = [f"{visible(answer['image'])}: {answer['class']} ({answer['confidence']:.1%})"]
        aligned = []
        for title, entries in columns.items():
            if entries:
                width = max(map(len, (title, *entries)))
                to_the_right = title in ("glimpse", "")
                aligned.append([text.rjust(width) if to_the_right else text.ljust(width) for text in (title, *entries)])
        lines += [f"  {'  '.join(row)}".rstrip() for row in zip(*aligned, strict=True)]
        if self._limited:
            lines.append(f"  {self._ending(answer)}")
        for key, done in (("picture", "drawn"), ("animation", "animated")):
            if answer[key]:
                lines.append(f"  {done} in {visible(answer[key])}")
        return "\n".join(lines) + "\n\n"

    def _ending(self, answer: dict[str, Any]) -> str:
        taken = answer["glimpses_taken"]
        sure = f" ({answer['confidence']:.1%})" * (answer["reason"] == "confident")
        most = max(self._most, taken)
        return f"stopped after {taken} of {most} glimpse{'s' * (most > 1)}: {STOPPED[answer['reason']]}{sure}"


class JsonDocumentFormat(OutputFormat):
    """One JSON document: the model, the images, and the errors.

    Args:
        model: Path of the model's file.
        card: The model's card.
        sha256: The seal of the model's file.
    """

    def __init__(self, model: Path, card: ModelCard, sha256: str) -> None:
        self._model = {
            "path": str(model),
            "sha256": sha256,
            "classes": card.classes,
            "data": card.data,
            "test_error": card.test_error,
        }
        self._separator, self._errors = "", list[dict[str, str]]()

    def begin(self) -> str:
        """Return the beginning of the document."""
        return f'{{\n  "model": {_indented(self._model, 2)},\n  "images": ['

    def answer(self, answer: dict[str, Any]) -> str:
        """Return a prediction as an entry of ``images``."""
        separator, self._separator = self._separator, ","
        return f"{separator}\n    {_indented(answer, 4)}"

    def failure(self, name: str, sentence: str) -> str:
        """Keep an error for the end of the document."""
        self._errors.append({"image": name, "error": sentence})
        return ""

    def end(self) -> str:
        """Return the errors and the end of the document."""
        bracket = "\n  ]" if self._separator else "]"
        return f'{bracket},\n  "errors": {_indented(self._errors, 2)}\n}}\n'


class JsonLinesFormat(OutputFormat):
    """One JSON object on a line for each image; that of an image that failed has an ``error``."""

    def answer(self, answer: dict[str, Any]) -> str:
        """Return a prediction as a line."""
        return json.dumps(answer) + "\n"

    def failure(self, name: str, sentence: str) -> str:
        """Return an error as a line."""
        return json.dumps({"image": name, "error": sentence}) + "\n"


class CsvFormat(OutputFormat):
    """A table with a row for each image, and a column for each class's probability. An image that failed has no row.

    Args:
        classes: Class names, in the order of the probabilities.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes

    def begin(self) -> str:
        """Return the names of the columns."""
        return _row("image", "width", "height", "class", "confidence", "glimpses", "reason", *self._classes)

    def answer(self, answer: dict[str, Any]) -> str:
        """Return a prediction as a row."""
        # A file's name may hold any bytes; a table is UTF-8.
        name = os.fsencode(answer["image"]).decode("utf-8", "replace")
        entries = ("width", "height", "class", "confidence", "glimpses_taken", "reason")
        return _row(name, *(answer[entry] for entry in entries), *answer["probabilities"].values())


def _row(*entries: object) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(entries)
    return line.getvalue()


def _indented(value: object, depth: int) -> str:
    """Write a value as JSON, with all lines after the first indented by ``depth`` more spaces."""
    return json.dumps(value, indent=2).replace("\n", "\n" + " " * depth)


def _plain(value: Any) -> Any:
    """Replace the scalars and arrays of a payload by rounded numbers and lists, which :mod:`json` writes."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.astype(float).round(_DIGITS).tolist()
    return value
