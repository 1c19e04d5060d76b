"""The whole command, with models that look at two fixed places and say how bright the image is."""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageSequence

from glimpse.cli.classify import command as command_module
from glimpse.cli.classify.command import look
from glimpse.cli.classify.options import add_parser
from glimpse.cli.usage import UsageError
from glimpse.contract.card import CARD_KEY, ContractError, ModelCard
from glimpse.contract.seal import SEAL_KEY, seal
from glimpse.drawing import view
from glimpse.drawing.answer import draw_answer, draw_attention
from glimpse.drawing.palette import time_colours
from glimpse.images import geometry, pixels
from glimpse.runtime.session import GlimpseSession
from tests.glimpse.images import test_lazy
from tests.support import toys

LOCATIONS = np.array([[-0.5, 0.25], [0.5, -0.75]], np.float32)
MAPS = np.array([[[0.5, 0.25, 0], [0.25, 0, 0]], [[0, 0, 0], [0, 0, 1]]], np.float32)
CARD = ModelCard(
    model="hard",
    graph="episode",
    classes=("dark", "bright"),
    channels=1,
    height=20,
    width=30,
    num_glimpses=2,
    glimpse_size=4,
    num_scales=2,
    zoom=2,
    has_maps=False,
    any_size=False,
    data="made up",
    recipe={},
    versions={},
)
PLAIN_CARD = replace(CARD, model="cnn", glimpse_size=None, num_scales=None, zoom=None)
MAP_CARD = replace(PLAIN_CARD, model="soft", has_maps=True)


def write_model(path: Path, card: ModelCard = CARD) -> Path:
    boxes = np.stack([np.stack(box, -1) for box in geometry.boxes(LOCATIONS, card.height, card.width, 4, 2, 2)], -2)
    constants = {
        "middle": np.array([127.5], np.float32),
        "where": LOCATIONS[None],
        "windows": boxes[None].astype(np.float32),
        "axes": np.array([1, 2, 3]),
        "shape": np.array([-1, 1, 1]),
        "weights": MAPS[None],
        "shape_of_both": np.array([-1, 1, 1, 1]),
        "slopes": np.array([[[-0.1, 0.1], [-0.2, 0.2]]], np.float32),
        "zero": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["brightness"]),
        helper.make_node("Reshape", ["brightness", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "slopes"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "where"], ["locations"]),
        helper.make_node("Reshape", ["nothing", "shape_of_both"], ["nothing_of_both"]),
        helper.make_node("Add", ["nothing_of_both", "windows"], ["boxes"]),
        helper.make_node("Add", ["nothing_of_both", "weights"], ["maps"]),
    ]
    tails = {"logits": (2, 2), "probabilities": (2, 2), "locations": (2, 2), "boxes": (2, 2, 4), "maps": (2, 2, 3)}
    size = [card.channels, card.height, card.width]
    first = helper.make_tensor_value_info("first_location", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(
        nodes,
        "episode",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *size]),
            *[first] * ("first_location" in card.options),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *tails[name]]) for name in card.outputs],
        [
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *[numpy_helper.from_array(np.zeros((1, 2), np.float32), "first_location")]
            * ("first_location" in card.options),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {CARD_KEY: card.to_json(), SEAL_KEY: "0" * 64})
    onnx.checker.check_model(model)
    path.write_bytes(seal(model.SerializeToString()))
    return path


def run(*arguments: Any) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    return command_module.run(parser.parse_args(["classify", *map(str, arguments)]))


def looked_at(model: Path, path: Path) -> view.View:
    session, image = GlimpseSession(model), pixels.decode(path)
    return view.view_of(session, image, look(session, [image])[0])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model.onnx")


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    path = tmp_path / "bright.png"
    Image.new("L", (30, 20), 255).save(path)
    return path


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    path = tmp_path / "dark.png"
    Image.new("RGB", (60, 40), (0, 0, 0)).save(path)
    return path


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


def test_json_is_one_document_that_says_it_all(model, bright, dark, capsys):
    assert run(model, bright, dark, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["classes"] == ["dark", "bright"]
    assert document["errors"] == []
    first, second = document["images"]
    assert (first["image"], first["class"], first["picture"]) == (str(bright), "bright", None)
    assert (second["width"], second["height"], second["class"]) == (60, 40, "dark")
    assert (first["glimpses_taken"], first["reason"]) == (2, "budget")
    assert document["model"]["sha256"] == GlimpseSession(model).sha256
    assert first["confidence"] == first["glimpses"][-1]["confidence"] == max(first["probabilities"].values())
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert [glimpse["location"] for glimpse in first["glimpses"]] == LOCATIONS.tolist()
    assert second["glimpses"][0]["boxes"] == [[12, 22, 20, 30], [8, 18, 24, 34]]


@pytest.fixture(scope="module")
def soft(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "soft.onnx", MAP_CARD)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "plain.onnx", PLAIN_CARD)


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


def test_maps_are_drawn_on_the_canvas_that_the_model_saw(soft, tmp_path):
    path, noise = tmp_path / "tall.png", np.random.default_rng(0).integers(0, 256, (40, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert run(soft, path, "--draw", tmp_path / "out") == 0
    seen = looked_at(soft, path)
    assert seen.canvas.shape == (20, 30, 1)
    expected = draw_attention(seen.canvas, MAPS, seen.on_image.probabilities[0], ("dark", "bright"))
    np.testing.assert_array_equal(pixels.decode(tmp_path / "out" / "tall.png"), np.asarray(expected))


def test_an_answer_from_nowhere_is_drawn_beside_the_image_as_it_came(plain, tmp_path):
    path, noise = tmp_path / "tall.png", np.random.default_rng(0).integers(0, 256, (40, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert run(plain, path, "--draw", tmp_path / "out") == 0
    belief = looked_at(plain, path).on_image.probabilities[0, -1]
    expected = draw_answer(noise, belief, ("dark", "bright"))
    np.testing.assert_array_equal(pixels.decode(tmp_path / "out" / "tall.png"), np.asarray(expected))


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


def test_json_lists_the_images_that_failed(model, bright, tmp_path, capsys):
    assert run(model, tmp_path / "gone.png", bright, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert [answer["image"] for answer in document["images"]] == [str(bright)]
    (failure,) = document["errors"]
    assert failure["image"] == str(tmp_path / "gone.png")
    assert "there is no image file" in failure["error"]


def test_a_model_that_is_none_is_refused(bright):
    with pytest.raises(ContractError, match="expected an ONNX file written by 'glimpse export'"):
        run(bright, bright)


def test_draw_writes_a_picture_of_each_image(model, bright, dark, tmp_path, capsys):
    pictures = tmp_path / "new" / "pictures"
    assert run(model, bright, dark, "--draw", pictures) == 0
    assert sorted(path.name for path in pictures.iterdir()) == ["bright.png", "dark.png"]
    assert f"drawn in {pictures / 'dark.png'}" in capsys.readouterr().out
    drawn = pixels.decode(pictures / "dark.png")
    assert drawn.shape[2] == 3
    assert min(drawn.shape[:2]) > 300
    for colour in time_colours(2):
        assert (drawn == colour).all(-1).any()


def test_the_picture_shows_what_the_retina_saw(model, tmp_path):
    path = tmp_path / "half.png"
    image = np.zeros((20, 30), np.uint8)
    image[11:15, 6:10] = 200
    Image.fromarray(image).save(path)
    run(model, path, "--draw", tmp_path / "out")
    drawn = pixels.decode(tmp_path / "out" / "half.png").astype(int)
    shade = (drawn == 200).all(-1)
    assert shade.any(axis=0).sum() > 4 * 16 + 80, "once in the image and once, filled, as the finest first glimpse"


def test_images_of_one_stem_get_a_picture_each(model, tmp_path, capsys):
    for folder, name in (("a", "7.png"), ("b", "7.bmp"), ("c", "7.png")):
        (tmp_path / folder).mkdir()
        Image.new("L", (30, 20), 255).save(tmp_path / folder / name)
    images = (tmp_path / "a" / "7.png", tmp_path / "b" / "7.bmp", tmp_path / "c" / "7.png")
    assert run(model, *images, "--json", "--draw", tmp_path / "out") == 0
    document = json.loads(capsys.readouterr().out)
    pictures = [tmp_path / "out" / name for name in ("7.png", "7-2.png", "7-3.png")]
    assert [answer["picture"] for answer in document["images"]] == list(map(str, pictures))
    assert sorted((tmp_path / "out").iterdir()) == sorted(pictures)


def test_only_pictures_of_our_own_are_replaced(model, bright, dark, tmp_path):
    before = bright.read_bytes(), dark.read_bytes()
    foreign = tmp_path / "notes.png"
    foreign.write_text("a text of the user's")
    Image.new("L", (30, 20)).save(tmp_path / "notes.bmp")
    for _ in range(2):
        assert run(model, bright, dark, tmp_path / "notes.bmp", "--draw", tmp_path) == 0
        assert (bright.read_bytes(), dark.read_bytes()) == before
        assert foreign.read_text() == "a text of the user's"
        names = sorted(path.name for path in tmp_path.glob("*-2.png"))
        assert names == ["bright-2.png", "dark-2.png", "notes-2.png"]
    assert not list(tmp_path.glob("*-3.png")), "a second run replaces the first one's pictures"


def test_nothing_half_written_stays(model, bright, tmp_path, capsys, monkeypatch):
    def fail(picture: Image.Image, path: Path, *_: Any, **__: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    assert run(model, bright, "--draw", tmp_path / "out") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_refused(model, bright, capsys):
    assert run(model, bright, "--draw", bright) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"glimpse: --draw: can't make the directory '{bright}'" in err


def test_a_name_that_would_upset_the_terminal_is_quoted(model, bright, tmp_path, capsys):
    odd = tmp_path / "odd\x1b[31mname\n.png"
    odd.write_bytes(bright.read_bytes())
    assert run(model, odd) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"odd\x1b[31mname\n.png'" in out


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
        "import argparse, sys; from glimpse.cli.classify import command, options; parser = argparse.ArgumentParser();"
        "options.add_parser(parser.add_subparsers()); code = command.run(parser.parse_args());"
        "print(code, sorted({'torch', 'matplotlib', 'onnx'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "classify", str(model), str(bright), "--draw", str(tmp_path / "out")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "0 []"


@pytest.fixture
def greyish(tmp_path: Path) -> Path:
    """An image of which the model is 71 % and then 86 % sure."""
    path = tmp_path / "greyish.png"
    Image.new("L", (30, 20), 132).save(path)
    return path


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
    told = list(map(json.loads, out.splitlines()))
    assert [answer["image"] for answer in told] == list(map(str, images))
    assert [answer.get("class") for answer in told] == ["bright", "dark", None, "bright", "bright", None]
    assert "there is no image file 'gone.png'" in told[2]["error"]
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


def test_a_table_has_a_column_for_each_class(model, bright, dark, capsys, tmp_path):
    assert run(model, bright, dark, tmp_path / "gone.png", "--csv") == 1
    header, first, *others = csv.reader(io.StringIO(capsys.readouterr().out))
    names = ["image", "width", "height", "class", "confidence", "glimpses", "reason", "dark", "bright"]
    assert header == names
    assert first == [str(bright), "30", "20", "bright", "1.0", "2", "budget", "0.0", "1.0"]
    assert len(others) == 1


def test_no_image_at_all_still_makes_a_document(model, capsys):
    assert run(model, "gone.png", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], len(document["errors"])) == ([], 1)


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


@pytest.mark.parametrize("form", ["--json", "--csv", "--json-lines", "--quiet"])
def test_a_file_holds_what_would_be_printed(model, bright, dark, form, tmp_path, capsys):
    run(model, bright, dark, form)
    expected = capsys.readouterr().out
    (tmp_path / "out").write_text("what was there before")
    assert run(model, bright, dark, form, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "out").read_text() == expected


def test_a_run_that_breaks_leaves_the_file_as_it_was(model, bright, tmp_path, monkeypatch):
    (tmp_path / "out.csv").write_text("what was there before")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GlimpseSession, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(model, bright, "--csv", "--output", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "what was there before"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone/out.csv", "--output: expected a file that can be written, got '.*out.csv', whose folder '.*gone' does"),
        (".", "--output: expected a file that can be written, got '.*', which is a folder; name a file in it"),
        ("bright.png", r"--output: '.*bright\.png' is read by this command"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(model, bright, tmp_path, name, sentence):
    before = bright.read_bytes()
    with pytest.raises(UsageError, match=sentence):
        run(model, bright, "--csv", "--output", tmp_path / name)
    assert bright.read_bytes() == before


def test_an_output_that_is_no_file_is_written_not_replaced(model, bright, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run(model, bright, "--csv", "--output", tmp_path / "pipe") == 0
        assert os.read(reader, 5) == b"image"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_an_output_behind_a_link_leaves_the_link(model, bright, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "out.csv")
    assert run(model, bright, "--csv", "--output", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out.csv").read_text().startswith("image,")


@pytest.mark.parametrize("graph", ["ADAPTIVE", "STEP"])
def test_when_the_time_is_up_no_further_glimpse_is_begun(graph, bright, tmp_path, capsys):
    model = toys.write_toy(tmp_path / "toy.onnx", getattr(toys, graph))
    assert run(model, bright, "--time", 1e-6) == 0
    assert "stopped after 1 of 5 glimpses: time is up" in capsys.readouterr().out


def test_a_name_of_any_bytes_goes_into_every_form(model, bright, tmp_path, capsys):
    odd = tmp_path / os.fsdecode(b"\xff.png")
    odd.write_bytes(bright.read_bytes())
    for form in ("--json", "--csv", "--json-lines", "--quiet"):
        assert run(model, tmp_path, form, "--output", tmp_path / "out") == 0
    assert run(model, odd) == 0
    assert "udcff.png" in capsys.readouterr().out


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_far_it_is(model, bright, monkeypatch, tmp_path):
    def told(*arguments: Any) -> str:
        screen = Screen()
        monkeypatch.setattr("sys.stderr", screen)
        run(model, *arguments)
        return screen.getvalue()

    assert "0 of 2 images" in (line := told(bright, bright))
    assert line.endswith("\r\x1b[K"), "it is wiped away at the end"
    assert told(bright) == ""
    assert told(bright, bright, "--quiet") == ""
    assert "\x1b[Kglimpse: there is no image file" in told(bright, "gone.png")
    monkeypatch.setattr("sys.stdout", Screen())
    assert told(bright, bright) == "", "the answers themselves show it"
    assert "of 2 images" in told(bright, bright, "--output", tmp_path / "out")


@pytest.mark.parametrize("film_format", ["gif", "webp"])
@pytest.mark.parametrize("kind", ["model", "soft"])
def test_a_film_shows_a_frame_for_each_glimpse(kind, bright, dark, tmp_path, capsys, request, film_format):
    films = tmp_path / "films"
    options = ("--animate", films, *(["--format", film_format] if film_format == "webp" else []))
    assert run(request.getfixturevalue(kind), bright, dark, *options) == 0
    assert f"animated in {films / f'dark.{film_format}'}" in capsys.readouterr().out
    assert sorted(path.name for path in films.iterdir()) == [f"bright.{film_format}", f"dark.{film_format}"]
    with Image.open(films / f"dark.{film_format}") as film:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    second = time_colours(2)[1]
    assert [(frame == second).all(-1).any() for frame in frames] == [False, True]


def test_a_model_that_looks_nowhere_has_no_gaze_to_animate(plain, bright, tmp_path):
    with pytest.raises(UsageError, match=r"takes an image in at once \(cnn\), so there is no gaze to animate"):
        run(plain, bright, "--animate", tmp_path / "films")
    assert not (tmp_path / "films").exists()
