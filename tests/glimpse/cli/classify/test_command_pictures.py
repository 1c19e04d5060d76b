"""``glimpse classify --draw`` and ``--animate``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from glimpse.cli.classify.command import predict_fitted
from glimpse.cli.usage import UsageError
from glimpse.drawing import view
from glimpse.drawing.answer import draw_answer, draw_attention
from glimpse.drawing.palette import time_colours
from glimpse.images import pixels
from glimpse.runtime.session import GlimpseSession
from tests.support.brightness import MAPS, run


def looked_at(model: Path, path: Path) -> view.View:
    session, image = GlimpseSession(model), pixels.decode(path)
    return view.view_of(session, image, predict_fitted(session, [image])[0])


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
