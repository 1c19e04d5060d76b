"""``glimpse classify``: the images, the predictions, and their limits."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.cli.usage import UsageError
from glimpse.contract.card import ContractError
from glimpse.drawing.palette import time_colours
from glimpse.images import pixels
from glimpse.runtime.session import GlimpseSession
from tests.glimpse.images import test_lazy
from tests.support import toys
from tests.support.brightness import MAPS, run


def test_each_image_gets_its_class_and_a_line_for_each_glimpse(model, bright, dark, capsys):
    assert run(model, bright, dark) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, second = out.strip().split("\n\n")
    assert first.splitlines()[0] == f"{bright}: bright (100.0%)"
    assert second.splitlines()[0] == f"{dark}: dark (100.0%)"
    heading, *glimpses = first.splitlines()[1:]
    assert heading.split() == ["glimpse", "location", "finest", "window", "(px)", "belief"]
    assert [line.split("  ")[1:] for line in glimpses] != []
    assert glimpses[0].split() == ["1", "(-0.50,", "+0.25)", "6..10,", "11..15", "bright", "100.0%"]
    assert glimpses[1].split()[:3] == ["2", "(+0.50,", "-0.75)"]
    assert len({line.index("(") for line in glimpses}) == 1, "the columns are aligned"


def test_windows_are_in_the_pixels_of_the_file_not_of_the_models_canvas(model, dark, capsys):
    run(model, dark)
    assert "12..20, 22..30" in capsys.readouterr().out


def test_a_model_with_maps_has_locations_and_no_windows(soft, bright, capsys):
    assert run(soft, bright) == 0
    heading, *glimpses = capsys.readouterr().out.strip().splitlines()[1:]
    assert heading.split() == ["glimpse", "location", "belief"]
    assert glimpses[1].split() == ["2", "(+0.50,", "-0.75)", "bright", "100.0%"]
    assert run(soft, bright, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["images"][0]["glimpses"]
    assert first.keys() == second.keys() == {"time", "class", "confidence", "location", "map"}
    assert [first["map"], second["map"]] == MAPS.tolist()


def test_a_model_that_looks_nowhere_says_its_belief_alone(plain, bright, capsys):
    assert run(plain, bright) == 0
    heading, *glimpses = capsys.readouterr().out.strip().splitlines()[1:]
    assert heading.split() == ["glimpse", "belief"]
    assert glimpses[1].split() == ["2", "bright", "100.0%"]
    assert run(plain, bright, "--json") == 0
    for glimpse in json.loads(capsys.readouterr().out)["images"][0]["glimpses"]:
        assert glimpse.keys() == {"time", "class", "confidence"}


def test_a_bad_image_is_named_and_the_others_go_on(model, bright, dark, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    Image.effect_noise((100, 100), 50).save(broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    assert run(model, broken, bright, tmp_path / "gone.png", dark) == 1
    out, err = capsys.readouterr()
    assert "bright.png: bright" in out
    assert "dark.png: dark" in out
    first, second = err.splitlines()
    assert first.startswith(f"glimpse: the image '{broken}' is damaged or cut short")
    assert second == f"glimpse: there is no image file '{tmp_path / 'gone.png'}'; check the path"


def test_a_model_that_is_none_is_refused(bright):
    with pytest.raises(ContractError, match="expected an ONNX file written by 'glimpse export'"):
        run(bright, bright)


def test_without_onnxruntime_it_says_what_to_install(bright, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "glimpse.runtime.session", None)

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "glimpse.runtime.session":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        return original(name, *args, **kwargs)

    original = __import__
    monkeypatch.setattr("builtins.__import__", missing)
    assert run(bright, bright) == 1
    assert "pip install 'glimpse-attention[serve]'" in capsys.readouterr().err


@pytest.mark.child
def test_it_runs_without_torch_or_matplotlib(model, bright, tmp_path):
    program = (
        "import argparse, sys; from glimpse.cli.classify import command; parser = argparse.ArgumentParser();"
        "command.add_arguments(parser); code = command.run(parser.parse_args());"
        "print(code, sorted({'torch', 'matplotlib', 'onnx'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(model), str(bright), "--draw", str(tmp_path / "out")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "0 []"


def test_a_folder_a_pattern_and_a_list_give_their_images(model, tmp_path, capsys):
    for number in (10, 9, 1):
        Image.new("L", (30, 20), 20 * number).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "list").write_text(f"{tmp_path / '9.png'}\n")
    assert run(model, tmp_path, tmp_path / "1*.png", "--csv", "--from", tmp_path / "list") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["image"]).stem for row in rows] == ["1", "9", "10", "1", "10", "9"]
    assert run(model, "--from", tmp_path / "list", "--json-lines") == 0
    assert json.loads(capsys.readouterr().out)["class"] == "bright"


def test_an_image_comes_on_standard_input(model, bright, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(bright.read_bytes())))
    assert run(model, "-", "--draw", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("-: bright (100.0%)")
    assert (tmp_path / "out" / "stdin.png").exists()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"nothing")))
    assert run(model, "-") == 1
    assert "'standard input' is no image" in capsys.readouterr().err


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_answers_come_in_the_order_of_the_images_whatever_the_batches(model, bright, dark, greyish, size, capsys):
    images = (bright, dark, "gone.png", greyish, bright, "gone too.png")
    assert run(model, *images, "--batch-size", size, "--json-lines") == 1
    out, err = capsys.readouterr()
    output = list(map(json.loads, out.splitlines()))
    assert [answer["image"] for answer in output] == list(map(str, images))
    assert [answer.get("class") for answer in output] == ["bright", "dark", None, "bright", "bright", None]
    assert "there is no image file 'gone.png'" in output[2]["error"]
    assert err.count("there is no image file") == 2


def test_images_are_looked_at_in_batches_that_fit_in_memory(model, bright, dark, monkeypatch):
    batches: list[int] = []
    original = GlimpseSession.run

    def count(session: GlimpseSession, canvases: Any, **limits: Any) -> Any:
        batches.append(len(canvases))
        return original(session, canvases, **limits)

    monkeypatch.setattr(GlimpseSession, "run", count)
    run(model, *[bright] * 5, "--batch-size", 2)
    assert batches == [2, 2, 1]
    batches.clear()
    monkeypatch.setattr(pixels, "MAX_PIXELS", 2400)
    run(model, *[dark] * 2, *[bright] * 5)
    assert batches == [1, 1, 4, 1]


@pytest.mark.parametrize(
    ("options", "ending", "taken"),
    [
        (["--max-glimpses", 1], "stopped after 1 of 2 glimpses: budget used", 1),
        (["--confidence", 0.7], "stopped after 1 of 2 glimpses: sure enough (71.1%)", 1),
        (["--confidence", 0.8], "stopped after 2 of 2 glimpses: sure enough (85.8%)", 2),
        (["--confidence", 0.99], "stopped after 2 of 2 glimpses: budget used", 2),
    ],
)
def test_a_limit_is_kept_and_it_is_said_why_it_stopped(model, greyish, options, ending, taken, capsys, tmp_path):
    assert run(model, greyish, "--draw", tmp_path / "out", *options) == 0
    _, _, *glimpses, last, drawn = capsys.readouterr().out.strip().splitlines()
    assert (len(glimpses), last.strip()) == (taken, ending)
    assert "drawn in" in drawn
    colours = time_colours(2)
    picture = pixels.decode(tmp_path / "out" / "greyish.png")
    assert (picture == colours[1]).all(-1).any() == (taken == 2)


def test_each_image_of_a_batch_shows_its_own_glimpses_only(model, bright, greyish, capsys):
    assert run(model, bright, greyish, "--confidence", 0.8, "--json") == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert [(image["glimpses_taken"], len(image["glimpses"]), image["reason"]) for image in images] == [
        (1, 1, "confident"),
        (2, 2, "confident"),
    ]


def test_without_a_limit_nothing_is_said_of_the_end(model, bright, capsys):
    run(model, bright)
    assert "stopped" not in capsys.readouterr().out


def test_what_the_user_set_reaches_the_session(model, bright, monkeypatch, capsys):
    given: dict[str, Any] = {}

    class Watched(GlimpseSession):
        def __init__(self, path: Path, **options: Any) -> None:
            given["session"] = options
            super().__init__(path)
            self.card = replace(self.card, graph="adaptive")

        def run(self, canvases: Any, **limits: Any) -> Any:
            given["run"] = limits
            self.card = replace(self.card, graph="episode")
            return super().run(canvases)._replace(reasons=("time",) * len(canvases))

    monkeypatch.setattr("glimpse.runtime.session.GlimpseSession", Watched)
    assert run(model, bright) == 0
    assert given == {"session": {}, "run": {}}
    options = ("--provider", "cuda", "--threads", 2, "--max-glimpses", 2, "--confidence", 0.9, "--time", 250)
    assert run(model, bright, *options) == 0
    assert given["session"] == {"provider": "cuda", "threads": 2}
    assert given["run"] == {"max_glimpses": 2, "confidence": 0.9, "seconds": 0.25}
    assert "stopped after 2 of 2 glimpses: time is up" in capsys.readouterr().out
    assert run(model, bright, bright, "--time", 250, "--batch-size", 2) == 0
    assert given["run"] == {"seconds": 0.5}


def test_what_the_model_cannot_do_is_refused_before_anything_is_written(model, bright, tmp_path):
    with pytest.raises(UsageError, match="--max-glimpses: expected at most 2"):
        run(model, bright, "--max-glimpses", 3, "--draw", tmp_path / "out", "--output", tmp_path / "out.txt")
    assert list(tmp_path.iterdir()) == [bright]


def test_an_image_that_is_larger_than_memory_is_read_by_parts(tmp_path, capsys):
    model = toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)
    np.save(tmp_path / "large.npy", np.broadcast_to(toys.noise(300, 400, 1), (300, 400, 1)))
    assert run(model, tmp_path, "--size", "native", "--json", "--draw", tmp_path / "out") == 0
    (answer,) = json.loads(capsys.readouterr().out)["images"]
    assert (answer["width"], answer["height"], answer["glimpses_taken"]) == (400, 300, 5)
    left, top, right, bottom = answer["glimpses"][0]["boxes"][0]
    assert (right - left, bottom - top) == (4, 4), "a window of the image's own pixels"
    assert pixels.decode(tmp_path / "out" / "large.png").shape[2] == 3
    assert run(model, tmp_path / "large.npy") == 1
    assert "is no image that can be read" in capsys.readouterr().err


@pytest.mark.parametrize("graph", ["ADAPTIVE", "EPISODE", "STEP"])
def test_images_with_damaged_pixels_are_named_and_the_others_go_on(tmp_path, graph, capsys):
    model, image = toys.write_toy(tmp_path / "toy.onnx", getattr(toys, graph)), toys.noise(200, 300, 3)
    tiff = test_lazy.spoil_tiles(test_lazy.write_deflated_tiff(tmp_path / "tiles", image))
    chunks = test_lazy.spoil_chunks(test_lazy.write_zarr(tmp_path / "chunks", image))
    np.save(tmp_path / "sound.npy", image)
    assert run(model, tiff, tmp_path / "sound.npy", chunks, "--size", "native", "--json") == 1
    out, err = capsys.readouterr()
    document, complaints = json.loads(out), err.splitlines()
    assert [answer["image"] for answer in document["images"]] == [str(tmp_path / "sound.npy")]
    assert [failure["image"] for failure in document["errors"]] == [str(tiff), str(chunks)]
    assert len(complaints) == 2
    for complaint, path in zip(complaints, (tiff, chunks), strict=True):
        assert f"expected pixels of '{path}' under (" in complaint
        assert "copy or write it again" in complaint


@pytest.mark.parametrize("graph", ["ADAPTIVE", "STEP"])
def test_when_the_time_is_up_no_further_glimpse_is_begun(graph, bright, tmp_path, capsys):
    model = toys.write_toy(tmp_path / "toy.onnx", getattr(toys, graph))
    assert run(model, bright, "--time", 1e-6) == 0
    assert "stopped after 1 of 5 glimpses: time is up" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["fit", "native"])
def test_the_first_location_is_that_of_each_image(tmp_path, capsys, size):
    path = toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)
    images = [toys.noise(90, 40, 1), toys.noise(10, 60, 1)]
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image[..., 0]).save(file)
    assert run(path, *files, "--json", "--size", size, "--first-location=-0.5,0.25") == 0
    answers = json.loads(capsys.readouterr().out)["images"]
    for image, answer in zip(images, answers, strict=True):
        expected = GlimpseSession(path).predict_one(image, size=size, first_location=(-0.5, 0.25))
        found = [glimpse["location"] for glimpse in answer["glimpses"]]
        np.testing.assert_allclose(found, expected.locations, atol=1e-3)
        np.testing.assert_allclose(found[0], (-0.5, 0.25), atol=1e-3)
