import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.cli.classify.formats import (
    CsvFormat,
    JsonDocumentFormat,
    JsonLinesFormat,
    OutputFormat,
    TextFormat,
    describe,
)
from glimpse.runtime.prediction import Prediction
from tests.glimpse.cli.classify.test_options import CARD

CLASSES = ("cat", 'a "quoted", dog')


def found(time: int = 2, reason: str = "confident") -> Prediction:
    beliefs = np.linspace([0.5, 0.5], [0.007654321, 0.992345679], time, dtype=np.float32)[None]
    boxes = np.arange(time * 8, dtype=np.float32).reshape(1, time, 2, 4)
    return Prediction(beliefs, np.zeros((1, time, 2), np.float32), boxes, None, np.array([time]), (reason,))


def answer(**changes: Any) -> dict[str, Any]:
    return {**describe("a.png", (20, 30), found(), CLASSES), **changes}


def tell(form: OutputFormat, *answers: dict[str, Any], failure: bool = True) -> str:
    output = form.begin() + "".join(map(form.answer, answers))
    return output + (form.failure("b.png", "it is damaged") if failure else "") + form.end()


def test_a_description_says_how_many_glimpses_were_taken_and_why_it_ended():
    described = answer()
    assert (described["class"], described["confidence"]) == (CLASSES[1], 0.992346)
    assert (described["glimpses_taken"], described["reason"], len(described["glimpses"])) == (2, "confident", 2)
    assert (described["width"], described["height"]) == (30, 20)
    assert described["probabilities"] == {CLASSES[0]: 0.007654, CLASSES[1]: 0.992346}
    assert [glimpse["time"] for glimpse in described["glimpses"]] == [0, 1]
    assert described["glimpses"][1]["boxes"] == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert (described["picture"], described["animation"]) == (None, None)
    drawn = describe("a.png", (20, 30), found(), CLASSES, Path("out/a.png"), Path("out/a.gif"))
    assert (drawn["picture"], drawn["animation"]) == ("out/a.png", "out/a.gif")


def test_the_numbers_of_a_map_are_rounded_to_fewer_digits():
    maps = np.full((1, 2, 1, 3), 1 / 3, np.float32)
    described = describe("a.png", (20, 30), found()._replace(boxes=None, maps=maps), ("map", "cat"))
    assert described["glimpses"][1]["map"] == [[0.3333, 0.3333, 0.3333]]
    assert described["probabilities"]["map"] == 0.007654
    assert "boxes" not in described["glimpses"][1]
    json.dumps(described)


@pytest.mark.parametrize(
    ("reason", "taken", "ending"),
    [
        ("confident", 2, "stopped after 2 of 6 glimpses: sure enough (99.2%)"),
        ("budget", 3, "stopped after 3 of 6 glimpses: budget used"),
        ("time", 1, "stopped after 1 of 6 glimpses: time is up"),
    ],
)
def test_text_says_why_it_stopped_when_something_was_limited(reason, taken, ending):
    output = answer(reason=reason, glimpses_taken=taken)
    assert tell(TextFormat(6, limited=True), output).splitlines()[-2] == f"  {ending}"
    assert "stopped" not in tell(TextFormat(6, limited=False), output)


def test_text_names_the_pictures():
    output = tell(TextFormat(6, limited=False), answer(picture="out/a.png", animation="out/\x1b.gif"))
    assert output.splitlines()[-3:-1] == ["  drawn in out/a.png", r"  animated in out/\x1b.gif"]


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("failure", [False, True])
def test_a_document_is_what_json_would_write_at_once(count, failure):
    answers = [answer(image=f"{number}.png") for number in range(count)]
    output = tell(JsonDocumentFormat(Path("model.onnx"), CARD, "abc"), *answers, failure=failure)
    model = {"path": "model.onnx", "sha256": "abc", "classes": CARD.classes, "data": "made up", "test_error": None}
    errors = [{"image": "b.png", "error": "it is damaged"}] * failure
    assert output == json.dumps({"model": model, "images": answers, "errors": errors}, indent=2) + "\n"


def test_each_line_is_an_object():
    first, second = map(json.loads, tell(JsonLinesFormat(), answer(image="two\nlines")).splitlines())
    assert first == answer(image="two\nlines")
    assert second == {"image": "b.png", "error": "it is damaged"}


def test_a_table_is_read_back_as_it_was():
    output = tell(CsvFormat(CLASSES), answer(image='of two\nlines, "quoted".png'))
    header, row = csv.reader(io.StringIO(output, newline=""))
    assert header == ["image", "width", "height", "class", "confidence", "glimpses", "reason", *CLASSES]
    expected = ['of two\nlines, "quoted".png', "30", "20", CLASSES[1], "0.992346", "2", "confident"]
    assert row == [*expected, "0.007654", "0.992346"]


def test_a_table_is_utf_8_whatever_the_name():
    name = os.fsdecode(b"\xff.png")
    assert "\ufffd.png,30" in tell(CsvFormat(CLASSES), answer(image=name))
