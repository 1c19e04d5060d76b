import argparse
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from glimpse.cli import app
from glimpse.cli.classify.options import check_classify_options
from glimpse.cli.usage import UsageError
from glimpse.contract.card import ModelCard

CARD = ModelCard(
    model="hard",
    graph="adaptive",
    classes=("cat", "dog"),
    channels=1,
    height=20,
    width=30,
    num_glimpses=4,
    glimpse_size=4,
    num_scales=2,
    zoom=2,
    has_maps=False,
    any_size=True,
    data="made up",
    recipe={},
    versions={},
    state_size=3,
)


def parse(*arguments: str) -> argparse.Namespace:
    return app.parse(["classify", "model.onnx", *arguments])


def test_images_stand_before_or_behind_the_options():
    assert parse("a.png", "b.png", "--json").images == ["a.png", "b.png"]
    assert parse("--json", "a.png", "b.png").images == ["a.png", "b.png"]
    assert parse("-", "--csv").images == ["-"]


def test_a_list_stands_for_images_or_beside_them():
    assert (parse("--from", "list").images, parse("--from", "list").lists) == ([], ["list"])
    chosen = parse("--from", "-", "--json", "a.png", "--from", "list")
    assert (chosen.images, chosen.lists) == (["a.png"], ["-", "list"])
    assert parse("a.png").lists == [], "nothing is left of an earlier parse"
    with pytest.raises(UsageError, match="the following arguments are required: IMAGE"):
        parse("--json")


def test_what_is_left_out_is_not_set():
    left = vars(parse("a.png"))
    assert {name for name, value in left.items() if value is None} == {
        *("max_glimpses", "confidence", "time", "size", "batch_size", "provider", "threads", "output", "draw"),
        *("animate", "format", "first_location"),
    }


def test_numbers_are_read():
    chosen = parse("a.png", "--max-glimpses", "3", "--confidence", "0.95", "--time", "2.5", "--batch-size", "8")
    assert (chosen.max_glimpses, chosen.confidence, chosen.time, chosen.batch_size) == (3, 0.95, 2.5, 8)
    for arguments in (["--first-location", "-0.5,.25"], ["--first-location=-0.5,0.25"]):
        assert parse("a.png", *arguments).first_location == (-0.5, 0.25)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--max-glimpses", "0"], "argument --max-glimpses: expected a whole number of at least 1, got '0'"),
        (["--batch-size", "1.5"], "argument --batch-size: expected a whole number of at least 1, got '1.5'"),
        (["--threads", "-1"], "argument --threads: expected"),
        (["--confidence", "95"], "expected a probability above 0 and up to 1, such as 0.95, got '95'"),
        (["--confidence", "sure"], "expected a probability above 0 and up to 1, such as 0.95, got 'sure'"),
        (["--time", "nan"], "argument --time: expected a number above 0, got 'nan'"),
        (["--first-location", "1.5,0"], "argument --first-location: expected X,Y, both in [-1, 1], got '1.5,0'"),
        (["--size", "large"], "expected one of fit, native; got 'large'"),
        (["--format", "mp4"], "expected one of gif, webp; got 'mp4'"),
        (["--csv", "--json"], "argument --json: not allowed with argument --csv"),
        (["--recursiv"], "classify knows no '--recursiv'; did you mean --recursive?"),
    ],
)
def test_a_mistake_is_told(options, sentence):
    with pytest.raises(UsageError) as error:
        parse("a.png", *options)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("options", "changes", "sentence"),
    [
        (["--format", "webp"], {}, "--format is that of the films; expected --animate DIR with it"),
        (["--max-glimpses", "5"], {}, "--max-glimpses: expected at most 4, those that the model was trained to take"),
        (["--time", "5"], {"graph": "episode"}, "--time: the graph of the model takes all glimpses at once"),
        (["--size", "native"], {"any_size": False}, "--size: the graph of the model takes images of 30 x 20 pixels"),
        (
            ["--first-location", "0,0"],
            {"model": "cnn", "glimpse_size": None},
            "--first-location: the model takes an image in at once (cnn), so it has no first glimpse; leave it out",
        ),
        (
            ["--animate", "films"],
            {"model": "cnn", "glimpse_size": None},
            "--animate: the model takes an image in at once (cnn), so there is no gaze to animate",
        ),
    ],
)
def test_what_a_model_cannot_do_is_refused(options: list[str], changes: dict[str, Any], sentence: str):
    with pytest.raises(UsageError) as error:
        check_classify_options(parse("a.png", *options), replace(CARD, **changes))
    assert sentence in str(error.value)


def test_what_a_model_can_do_is_let_through():
    options = (
        "--max-glimpses",
        "4",
        "--time",
        "5",
        "--size",
        "native",
        "--animate",
        "films",
        "--format",
        "gif",
        "--first-location",
        "-1,1",
    )
    check_classify_options(parse("a.png", *options), CARD)


def test_the_help_explains_each_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace())
    with pytest.raises(SystemExit):
        parse("--help")
    output = capsys.readouterr().out
    for option in ("--from", "--recursive", "--confidence", "--time", "--csv", "--output", "--animate", "--quiet"):
        assert f"  {option}" in output
