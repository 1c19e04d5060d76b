"""The record of a game, a JSON file, and the scores of player and model. Standard library only.

The record is one JSON document, which is replaced atomically after every image::

    {
      "schema_version": 1,
      "game": {                       see GameSettings
        "environment": "Glimpse/Digits-v0",
        "options": {"dataset": "digits", "split": "test", "num_glimpses": 4, ...},
        "seed": 0,
        "classes": ["0", "1", ...],
        "images": 500,                number of images in the split
        "model": null                 or {"file", "sha256", "model", "data", "num_glimpses", "test_error"}
      },
      "played": [                     one object for each image, in the order of play; see ImageRecord
        {
          "image": 417,               its index in the split
          "label": 3, "answer": 8, "correct": false,    classes, from 0
          "reward": 0.0,              the return of the episode
          "glimpses": 2,
          "fixations": [[0.0, 0.0], [0.2, -0.5]],       (x, y) in [-1, 1], y down
          "times": [0.0, 1.74],       of each glimpse, seconds since the image was displayed
          "answered": 3.02,           seconds since the image was displayed
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

RECORD_SCHEMA_VERSION = 1

Fixations = tuple[tuple[float, float], ...]


class RecordError(ValueError):
    """A file that is not a record, or is the record of another game."""


class AlreadyRecordedError(RecordError):
    """An image that another game has added to the record in the meantime."""


@dataclass(frozen=True)
class GameSettings:
    """The settings of a game. Games with equal settings share a record.

    Attributes:
        environment: Id of the environment.
        options: Its arguments, as JSON values.
        seed: Seeds the order of the images.
        classes: Class names.
        images: Number of images in the split.
        model: Description of the model to compare with; None without one.
    """

    environment: str
    options: dict[str, Any]
    seed: int
    classes: tuple[str, ...]
    images: int
    model: dict[str, Any] | None


@dataclass(frozen=True)
class ModelRecord:
    """The result of the model for one image.

    Attributes:
        answers: The predicted class after each glimpse.
        confidences: Its probability after each glimpse, in [0, 1].
        fixations: The fixations, (x, y) in [-1, 1].
    """

    answers: tuple[int, ...]
    confidences: tuple[float, ...]
    fixations: Fixations

    def after(self, glimpses: int) -> int:
        """Index in these tuples of the result after a number of glimpses, at most that of the last glimpse.

        Args:
            glimpses: Number of glimpses, at least 1.
        """
        return min(glimpses, len(self.answers)) - 1


@dataclass(frozen=True)
class ImageRecord:
    """The result of the player for one image.

    Attributes:
        image: Index of the image in the split.
        label: The true class.
        answer: The class that the player named.
        correct: Whether the answer is correct.
        reward: Return of the episode.
        glimpses: Number of glimpses.
        fixations: The fixations, (x, y) in [-1, 1].
        times: Time of each glimpse, seconds since the image was displayed.
        answered: Time of the answer, seconds since the image was displayed.
        model: The result of the model; None without one.
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
    model: ModelRecord | None


class GameRecord:
    """The file with the results of a game. A file of the same game is continued.

    Args:
        path: The file, or a link to it; it is written after the first image.
        settings: The settings of the game.

    Raises:
        RecordError: When the file is not a record, or is the record of another game.
        OSError: When the file can't be read, or its folder does not exist.
    """

    def __init__(self, path: Path, settings: GameSettings) -> None:
        self.path = path
        self.settings = settings
        if problem := write_problem(path):
            raise RecordError(f"{problem}, with --output")
        self.entries: list[ImageRecord] = self._read()

    def add(self, entry: ImageRecord) -> None:
        """Add the result of an image; results that another game has added to the file are kept.

        Args:
            entry: The result.

        Raises:
            AlreadyRecordedError: When another game has added the same image in the meantime. Its result is kept and
                read; this one is discarded, so that no image counts twice.
            RecordError: When the file is no longer a record of this game.
            OSError: When the file can't be written; its former content is then unchanged.
        """
        found = self._read() if self.path.exists() else self.entries
        if entry.image in {kept.image for kept in found}:
            self.entries = found
            raise AlreadyRecordedError(
                f"image {entry.image} was answered in another game meanwhile; that answer stays in the "
                "record, and yours is discarded; go on to the next"
            )
        entries = [*found, entry]
        document = {
            "schema_version": RECORD_SCHEMA_VERSION,
            "game": asdict(self.settings),
            "played": [asdict(played) for played in entries],
        }
        write_whole(self.path, json.dumps(document, indent=1) + "\n")
        self.entries = entries

    def _read(self) -> list[ImageRecord]:
        if not self.path.exists():
            return []
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            version = document["schema_version"]
            game, played = document["game"], document["played"]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"{str(self.path)!r} is no record of 'glimpse play'; name another file with --output"
            ) from error
        if version != RECORD_SCHEMA_VERSION:
            raise RecordError(
                f"expected {str(self.path)!r} to be a record of version {RECORD_SCHEMA_VERSION}, got {version!r}; "
                "name another file with --output"
            )
        other = _difference(game, json.loads(json.dumps(asdict(self.settings))))
        if other:
            raise RecordError(
                f"{str(self.path)!r} holds another game, with {other}; name another file with --output, or play the "
                "same game to go on with it"
            )
        try:
            return [_entry(values, len(self.settings.classes)) for values in played]
        except (TypeError, ValueError, KeyError) as error:
            raise RecordError(
                f"{str(self.path)!r} is damaged: the entry of an image is invalid ({error}); "
                "name another file with --output"
            ) from error


class PlayerScore(NamedTuple):
    """The score of the person or of the model."""

    player: str
    """Name of the row in the table of scores."""
    right: int
    """Number of images that were classified correctly."""
    images: int
    """Number of images."""
    glimpses: float
    """Mean number of glimpses for an image."""
    seconds: float | None
    """Mean time for an image, seconds; None for a model, whose time is not comparable."""

    @property
    def accuracy(self) -> float:
        """Fraction of correct answers, in [0, 1]."""
        return self.right / self.images


def score_players(entries: Sequence[ImageRecord]) -> list[PlayerScore]:
    """The scores of the person, and of the model after as many glimpses as the person took and after all its glimpses.

    Args:
        entries: The results; the model is included only if all of them have a result of the model.
    """
    count = len(entries)
    if not count:
        return []
    taken = sum(entry.glimpses for entry in entries) / count
    seconds = sum(entry.answered for entry in entries) / count
    scores = [PlayerScore("you", sum(entry.correct for entry in entries), count, taken, seconds)]
    compared = [(entry, entry.model) for entry in entries if entry.model is not None]
    if len(compared) == count:
        level = [model.answers[model.after(entry.glimpses)] == entry.label for entry, model in compared]
        spent = sum(model.after(entry.glimpses) + 1 for entry, model in compared) / count
        final = [model.answers[-1] == entry.label for entry, model in compared]
        budget = sum(len(model.answers) for _, model in compared) / count
        scores.append(PlayerScore("the model, as many glimpses", sum(level), count, spent, None))
        scores.append(PlayerScore("the model, all its glimpses", sum(final), count, budget, None))
    return scores


def score_table(scores: Sequence[PlayerScore]) -> str:
    """Format scores as an aligned table.

    Args:
        scores: At least one score.
    """
    rows = [("", "right", "accuracy", "glimpses", "seconds"), *(score_cells(score) for score in scores)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([line.rstrip() for line in lines] + [standard_error_note(scores[0])])


def score_cells(score: PlayerScore) -> tuple[str, str, str, str, str]:
    """The cells of a row of the table: player, correct answers, accuracy, glimpses and seconds for an image."""
    seconds = "" if score.seconds is None else f"{score.seconds:.1f}"
    right = f"{score.right} of {score.images}"
    return score.player, right, f"{score.accuracy:.0%}", f"{score.glimpses:.1f}", seconds


def standard_error_note(score: PlayerScore) -> str:
    """A sentence with the standard error of the accuracy.

    The accuracy is smoothed with one more success and one more failure (rule of succession), so that the error is not 0
    for ten correct answers out of ten.
    """
    share, count = (score.right + 1) / (score.images + 2), score.images
    points = max(1, round(100 * math.sqrt(share * (1 - share) / count)))
    images = f"{count} image{'s' * (count > 1)}"
    return f"One standard error of an accuracy over {images}: about {points} points."


def _entry(values: dict[str, Any], num_classes: int) -> ImageRecord:
    unknown = values.keys() ^ {field.name for field in fields(ImageRecord)}
    if unknown:
        raise ValueError(f"expected the entries of the schema, got others or none for {sorted(unknown)}")
    model = values["model"]
    if model is not None:
        answers = tuple(_class(answer, num_classes) for answer in model["answers"])
        if not answers:
            raise ValueError("expected an answer of the model after at least one glimpse, got none")
        model = ModelRecord(answers, tuple(map(float, model["confidences"])), _fixations(model["fixations"]))
    return ImageRecord(
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
    """A description of the first difference between two games; None if they are equal."""
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
