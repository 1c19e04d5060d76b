"""The game as a service for the pages in a browser: its state as JSON values, and its moves."""

import base64
import io
import json
import secrets
from http import HTTPStatus
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from glimpse.drawing.palette import time_colours
from glimpse.drawing.scanpath import draw_scanpath
from glimpse.images.geometry import to_unit
from glimpse_envs.play.game import Game
from glimpse_envs.play.record import ImageRecord, score_cells, score_players, standard_error_note

MAX_COORDINATE = 1e9
"""Upper bound of a coordinate, in pixels."""


class PageError(ValueError):
    """An invalid request, or a server that can't start.

    Args:
        status: HTTP status of the response.
        message: What was expected, what was received, and what to do.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class GameService:
    """The game as a service for several pages: its state as JSON values, and one move at a time.

    Args:
        game: The game.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.id = secrets.token_urlsafe(12)
        self._lock = Lock()
        self._clock_started = False

    def state(self) -> dict[str, Any]:
        """The current state, without the parts of the image that have not been revealed."""
        with self._lock:
            if not self._clock_started:
                self._clock_started = True
                self.game.round.restart_clock()
            return self._state()

    def move(self, kind: str, values: dict[str, Any]) -> dict[str, Any]:
        """Make a move, and return the state after it.

        Args:
            kind: ``look``, ``answer`` or ``next``.
            values: The JSON object of the request.

        Raises:
            PageError: When the values are invalid, or refer to another state than the current one.
            GameError: When the move is not allowed.
            RecordError: When another game has changed the record.
            OSError: When the record can't be written.
        """
        with self._lock:
            game = self.game
            if (values.get("game"), values.get("turn")) != (self.id, self._turn_id()):
                raise PageError(HTTPStatus.CONFLICT, "another page has changed the game; this is the current state")
            if kind == "look":
                x, y = _parse_place(values.get("place"))
                game.round.look((to_unit(x, game.round.width), to_unit(y, game.round.height)))
            elif kind == "answer":
                answer = values.get("answer")
                if type(answer) is not int:
                    raise PageError(HTTPStatus.BAD_REQUEST, f"expected answer to be a class's number, got {answer!r}")
                game.answer(answer)
            else:
                game.next_image()
            return self._state()

    def _state(self) -> dict[str, Any]:
        game, played = self.game, self.game.round
        retina, budget = game.core.retina, game.core.rule.num_glimpses
        return {
            "game": self.id,
            "turn": self._turn_id(),
            "position": game.position,
            "images": len(game.images),
            "classes": list(game.classes),
            "height": played.height,
            "width": played.width,
            "budget": budget,
            "taken": played.glimpses_taken,
            "windows": [retina.size * retina.zoom**scale for scale in range(retina.num_scales)],
            "colours": [f"rgb({', '.join(map(str, colour))})" for colour in time_colours(budget).tolist()],
            "view": _revealed_png(game),
            "boxes": [glimpse.boxes.tolist() for glimpse in played.glimpses],
            "result": self._result() if played.over else None,
            "finished": game.finished,
            "figures": [score_cells(figures) for figures in score_players(game.record.entries)]
            if game.finished
            else None,
            "chance": standard_error_note(score_players(game.record.entries)[0]) if game.finished else None,
            "record": str(game.record.path) if game.finished else None,
        }

    def _turn_id(self) -> str:
        """A text that identifies the current state of the game."""
        game = self.game
        stage = "finished" if game.finished else "answered" if game.round.over else "open"
        return f"{game.position}-{game.round.glimpses_taken}-{stage}"

    def _result(self) -> dict[str, Any]:
        game, played = self.game, self.game.round
        entry, image = game.entry(), played.full_image()
        locations = np.array([glimpse.location for glimpse in played.glimpses])
        path = draw_scanpath(image, np.stack([glimpse.boxes for glimpse in played.glimpses]), locations)
        result: dict[str, Any] = {
            "answer": entry.answer,
            "label": entry.label,
            "correct": entry.correct,
            "picture": _data_url(path),
            "model": None,
        }
        if game.opponent and game.model_view:
            result["model"] = {
                **_model_answers(entry),
                "picture": _data_url(game.opponent.draw_scanpath(game.model_view)),
            }
        return result


def _parse_place(given: Any) -> tuple[float, float]:
    numbers = given if isinstance(given, list) and len(given) == 2 else []
    if not numbers or not all(type(part) in (int, float) and abs(part) < MAX_COORDINATE for part in numbers):
        raise PageError(HTTPStatus.BAD_REQUEST, f"expected place to be [x, y] in pixels, got {json.dumps(given)[:80]}")
    return float(numbers[0]), float(numbers[1])


def _revealed_png(game: Game) -> str:
    """The revealed parts of the image as a PNG; unknown pixels are transparent."""
    view = game.round.revealed()
    known = (view.visible * 255).astype(np.uint8)
    return _data_url(Image.fromarray(np.dstack([view.image, known])))


def _model_answers(entry: ImageRecord) -> dict[str, Any]:
    """The model's answers after as many glimpses as the player took, and after all its glimpses."""
    model = entry.model
    if model is None:
        return {}
    places = sorted({model.after(entry.glimpses), len(model.answers) - 1})
    return {
        "said": [
            {
                "glimpses": place + 1,
                "answer": model.answers[place],
                "confidence": model.confidences[place],
                "correct": model.answers[place] == entry.label,
            }
            for place in places
        ]
    }


def _data_url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
