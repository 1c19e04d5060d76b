import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse import classify, map_pictures, pixels, visualise
from glimpse.contract import ContractError
from glimpse.runtime import GlimpseSession
from tests.test_runtime import LOCATIONS, MAP_CARD, MAPS, PLAIN_CARD, write_model


def run(*arguments: Any) -> int:
    parser = argparse.ArgumentParser()
    classify.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["classify", *map(str, arguments)])
    code: int = args.run(args)
    return code


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
    assert first["confidence"] == first["glimpses"][-1]["confidence"] == max(first["probabilities"])
    assert sum(first["probabilities"]) == pytest.approx(1, abs=1e-5)
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
    assert first.keys() == second.keys() == {"class", "confidence", "location", "map"}
    assert [first["map"], second["map"]] == MAPS.tolist()


def test_a_model_that_looks_nowhere_says_its_belief_alone(plain, bright, capsys):
    assert run(plain, bright) == 0
    heading, *glimpses = capsys.readouterr().out.strip().splitlines()[1:]
    assert heading.split() == ["glimpse", "belief"]
    assert glimpses[1].split() == ["2", "bright", "100.0%"]
    assert run(plain, bright, "--json") == 0
    for glimpse in json.loads(capsys.readouterr().out)["images"][0]["glimpses"]:
        assert glimpse.keys() == {"class", "confidence"}


def test_maps_are_drawn_on_the_canvas_that_the_model_saw(soft, tmp_path):
    path, noise = tmp_path / "tall.png", np.random.default_rng(0).integers(0, 256, (40, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert run(soft, path, "--draw", tmp_path / "out") == 0
    session = GlimpseSession(soft)
    sight = classify.look(session, path)
    assert sight.canvas.shape == (20, 30, 1)
    expected = map_pictures.draw_attention(sight.canvas, MAPS, sight.on_image.probabilities[0], ("dark", "bright"))
    np.testing.assert_array_equal(pixels.decode(tmp_path / "out" / "tall.png"), np.asarray(expected))


def test_an_answer_from_nowhere_is_drawn_beside_the_image_as_it_came(plain, tmp_path):
    path, noise = tmp_path / "tall.png", np.random.default_rng(0).integers(0, 256, (40, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert run(plain, path, "--draw", tmp_path / "out") == 0
    belief = classify.look(GlimpseSession(plain), path).on_image.probabilities[0, -1]
    expected = map_pictures.draw_answer(noise, belief, ("dark", "bright"))
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
    for colour in visualise.time_colours(2):
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
    monkeypatch.setitem(sys.modules, "glimpse.runtime", None)

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "glimpse.runtime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        return original(name, *args, **kwargs)

    original = __import__
    monkeypatch.setattr("builtins.__import__", missing)
    assert run(bright, bright) == 1
    assert "pip install 'glimpse-attention[serve]'" in capsys.readouterr().err


def test_it_runs_without_torch_or_matplotlib(model, bright, tmp_path):
    program = (
        "import argparse, sys; from glimpse import classify; parser = argparse.ArgumentParser();"
        "classify.add_parser(parser.add_subparsers()); args = parser.parse_args(); code = args.run(args);"
        "print(code, sorted({'torch', 'matplotlib', 'onnx'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "classify", str(model), str(bright), "--draw", str(tmp_path / "out")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "0 []"
