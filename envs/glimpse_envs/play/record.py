"""What a person has played: the record that is kept of it, and how it compares with a model's. Standard library only.

The record is one JSON document, written anew after every image, whole or not at all::

    {
      "schema_version": 1,
      "game": {                       what makes two games the same; see Settings
        "environment": "Glimpse/Digits-v0",
        "options": {"dataset": "digits", "split": "test", "num_glimpses": 4, ...},
        "seed": 0,
        "classes": ["0", "1", ...],
        "images": 500,                how many the split has
        "model": null                 or {"file", "sha256", "model", "data", "num_glimpses", "test_error"}
      },
      "played": [                     one object for each image, in the order of play; see Entry
        {
          "image": 417,               its number in the split
          "label": 3, "answer": 8, "correct": false,    classes, from 0
          "reward": 0.0,              what the environment paid
          "glimpses": 2,
          "fixations": [[0.0, 0.0], [0.2, -0.5]],       (x, y) in [-1, 1], y down
          "times": [0.0, 1.74],       of each glimpse, seconds since the image was shown
          "answered": 3.02,           likewise
          "model": null               or {"answers", "confidences", "fixations"}, each after every glimpse of its own
        }
      ]
    }
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from glimpse.files import write_problem, write_whole

SCHEMA_VERSION = 1

Fixations = tuple[tuple[float, float], ...]


class PlayedError(ValueError):
    """A file that is no record of ours, or one of another game."""


class AlreadyPlayedError(PlayedError):
    """An image that the record holds already, because another game kept it meanwhile."""


@dataclass(frozen=True)
class GameSettings:
    """What makes two games the same, so that they may be counted together.

    Attributes:
        environment: Its id.
        options: Its options, as JSON's values.
        seed: Fixes the order of the images.
        classes: Class names.
        images: How many images there are to choose from.
        model: What is known of the model that is played against; None without one.
    """

    environment: str
    options: dict[str, Any]
    seed: int
    classes: tuple[str, ...]
    images: int
    model: dict[str, Any] | None


@dataclass(frozen=True)
class ModelEntry:
    """What a model made of one image.

    Attributes:
        answers: The class after each of its glimpses.
        confidences: How sure it was of it, in [0, 1].
        fixations: Where it looked, (x, y) in [-1, 1].
    """

    answers: tuple[int, ...]
    confidences: tuple[float, ...]
    fixations: Fixations

    def after(self, glimpses: int) -> int:
        """The place in these tuples of what it said with so many glimpses, or with all it has if that is fewer.

        Args:
            glimpses: How many, at least 1.
        """
        return min(glimpses, len(self.answers)) - 1


@dataclass(frozen=True)
class PlayedImage:
    """One image that was played.

    Attributes:
        image: Its number in the split.
        label: The true class.
        answer: The class that was named.
        correct: Whether they are the same.
        reward: What the environment paid for it.
        glimpses: How many were taken.
        fixations: Where, (x, y) in [-1, 1].
        times: When, seconds since the image was shown.
        answered: When the class was named, likewise.
        model: What the model made of it; None without one.
    """

    image: int
    label: int
    answer: int
    correct: bool
    reward: float
    glimpses: int
    fixations: Fixations
    times: tuple[float, ...]
    answered: float
    model: ModelEntry | None


class GameRecord:
    """The file of what was played. What it holds already is kept, if it is of the same game.

    Args:
        path: The file, or a link to it; it is written after the first image.
        settings: The game.

    Raises:
        PlayedError: When the file is no such record, or is of another game.
        OSError: When it can't be read, or there is no folder for it.
    """

    def __init__(self, path: Path, settings: GameSettings) -> None:
        self.path = path
        self.settings = settings
        if problem := write_problem(path):
            raise PlayedError(f"{problem}, with --output")
        self.entries: list[PlayedImage] = self._read()

    def add(self, entry: PlayedImage) -> None:
        """Keep one more image, and whatever another game has put into the file meanwhile.

        Args:
            entry: What was played.

        Raises:
            AlreadyPlayedError: When another game has kept the same image meanwhile. What it kept stays, and is known
                here from now on; this entry is left out, so that no image counts twice.
            PlayedError: When the file has become something else in the meantime.
            OSError: When it can't be written; it is then as it was.
        """
        found = self._read() if self.path.exists() else self.entries
        if entry.image in {kept.image for kept in found}:
            self.entries = found
            raise AlreadyPlayedError(
                f"image {entry.image} was answered in another game meanwhile; that answer stays in the "
                "record, and yours is left out; go on to the next"
            )
        entries = [*found, entry]
        document = {
            "schema_version": SCHEMA_VERSION,
            "game": asdict(self.settings),
            "played": [asdict(played) for played in entries],
        }
        write_whole(self.path, json.dumps(document, indent=1) + "\n")
        self.entries = entries

    def _read(self) -> list[PlayedImage]:
        if not self.path.exists():
            return []
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            version = document["schema_version"]
            game, played = document["game"], document["played"]
        except (ValueError, KeyError, TypeError) as error:
            raise PlayedError(
                f"{str(self.path)!r} is no record of 'glimpse play'; name another file with --output"
            ) from error
        if version != SCHEMA_VERSION:
            raise PlayedError(
                f"expected {str(self.path)!r} to be a record of version {SCHEMA_VERSION}, got {version!r}; "
                "name another file with --output"
            )
        other = _difference(game, json.loads(json.dumps(asdict(self.settings))))
        if other:
            raise PlayedError(
                f"{str(self.path)!r} holds another game, with {other}; name another file with --output, or play the "
                "same game to go on with it"
            )
        try:
            return [_entry(values, len(self.settings.classes)) for values in played]
        except (TypeError, ValueError, KeyError) as error:
            raise PlayedError(
                f"{str(self.path)!r} is damaged: an image that was played is not told as it should be ({error}); "
                "name another file with --output"
            ) from error


class Figures(NamedTuple):
    """How one player did."""

    player: str
    right: int
    images: int
    glimpses: float
    """In the mean."""
    seconds: float | None
    """For an image, in the mean; None for a model, whose time is of another kind."""

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return self.right / self.images


def compare_players(entries: Sequence[PlayedImage]) -> list[Figures]:
    """How the person did, and how the model would have, with as many glimpses of each image and with all its own.

    Args:
        entries: What was played; either all of them tell of a model or none.
    """
    count = len(entries)
    if not count:
        return []
    taken = sum(entry.glimpses for entry in entries) / count
    seconds = sum(entry.answered for entry in entries) / count
    told = [Figures("you", sum(entry.correct for entry in entries), count, taken, seconds)]
    rival = [(entry, entry.model) for entry in entries if entry.model is not None]
    if len(rival) == count:
        level = [model.answers[model.after(entry.glimpses)] == entry.label for entry, model in rival]
        spent = sum(model.after(entry.glimpses) + 1 for entry, model in rival) / count
        final = [model.answers[-1] == entry.label for entry, model in rival]
        budget = sum(len(model.answers) for _, model in rival) / count
        told.append(Figures("the model, as many glimpses", sum(level), count, spent, None))
        told.append(Figures("the model, all its glimpses", sum(final), count, budget, None))
    return told


def table(told: Sequence[Figures]) -> str:
    """Lay figures out as aligned text.

    Args:
        told: Of each player; at least one.
    """
    rows = [("", "right", "accuracy", "glimpses", "seconds"), *(cells(figures) for figures in told)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([line.rstrip() for line in lines] + [chance(told[0])])


def cells(figures: Figures) -> tuple[str, str, str, str, str]:
    """Figures as texts: who, how many were right, the share of it, glimpses and seconds for an image."""
    seconds = "" if figures.seconds is None else f"{figures.seconds:.1f}"
    right = f"{figures.right} of {figures.images}"
    return figures.player, right, f"{figures.accuracy:.0%}", f"{figures.glimpses:.1f}", seconds


def chance(figures: Figures) -> str:
    """How far chance alone moves an accuracy over so few images, in a sentence.

    The share is taken with one success and one failure more (Laplace's rule), so that ten of ten is no certainty.
    """
    share, count = (figures.right + 1) / (figures.images + 2), figures.images
    points = max(1, round(100 * math.sqrt(share * (1 - share) / count)))
    images = f"{count} image{'s' * (count > 1)}"
    return f"One standard error of an accuracy over {images}: about {points} points."


def _entry(values: dict[str, Any], num_classes: int) -> PlayedImage:
    unknown = values.keys() ^ {field.name for field in fields(PlayedImage)}
    if unknown:
        raise ValueError(f"expected the entries of the schema, got others or none for {sorted(unknown)}")
    model = values["model"]
    if model is not None:
        answers = tuple(_class(answer, num_classes) for answer in model["answers"])
        if not answers:
            raise ValueError("expected an answer of the model after at least one glimpse, got none")
        model = ModelEntry(answers, tuple(map(float, model["confidences"])), _fixations(model["fixations"]))
    return PlayedImage(
        image=int(values["image"]),
        label=_class(values["label"], num_classes),
        answer=_class(values["answer"], num_classes),
        correct=values["label"] == values["answer"],
        reward=float(values["reward"]),
        glimpses=int(values["glimpses"]),
        fixations=_fixations(values["fixations"]),
        times=tuple(map(float, values["times"])),
        answered=float(values["answered"]),
        model=model,
    )


def _class(number: Any, count: int) -> int:
    if type(number) is not int or not 0 <= number < count:
        raise ValueError(f"expected a class from 0 to {count - 1}, got {number!r}")
    return number


def _fixations(pairs: Any) -> Fixations:
    return tuple((float(x), float(y)) for x, y in pairs)


def _difference(found: Any, wanted: dict[str, Any]) -> str | None:
    """The first thing in which a game differs, in words; None where there is none."""
    if not isinstance(found, dict):
        return "no settings"
    for name in wanted:
        theirs, ours = found.get(name), wanted[name]
        if theirs == ours:
            continue
        if name == "model":
            return f"{_model_name(theirs)} instead of {_model_name(ours)}"
        if name == "options" and isinstance(theirs, dict):
            differing = next(key for key in [*ours, *theirs] if theirs.get(key) != ours.get(key))
            return f"{differing}={theirs.get(differing)!r} instead of {ours.get(differing)!r}"
        return f"{name}={theirs!r} instead of {ours!r}"
    return None


def _model_name(model: Any) -> str:
    if not isinstance(model, dict):
        return "no model"
    return f"the model {model.get('file')!r} ({str(model.get('sha256'))[:8]})"
