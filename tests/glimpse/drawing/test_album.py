from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from glimpse.drawing.album import PictureFolder


def picture(shade: int = 0) -> Image.Image:
    return Image.new("L", (3, 2), shade)


def shade(path: Path) -> int:
    with Image.open(path) as opened:
        return int(opened.getpixel((0, 0)))  # type: ignore[arg-type]


def test_pictures_of_one_name_are_numbered(tmp_path):
    album = PictureFolder(tmp_path / "new" / "folder")
    paths = [album.add(picture(number), "seven") for number in range(3)]
    assert [path.name for path in paths] == ["seven.png", "seven-2.png", "seven-3.png"]
    assert [shade(path) for path in paths] == [0, 1, 2]


def test_names_that_differ_in_case_alone_are_one_name(tmp_path):
    album = PictureFolder(tmp_path)
    assert [album.add(picture(), stem).name for stem in ("seven", "SEVEN")] == ["seven.png", "SEVEN-2.png"]


def test_a_later_album_replaces_our_own_pictures(tmp_path):
    PictureFolder(tmp_path).add(picture(1), "seven")
    assert PictureFolder(tmp_path).add(picture(2), "seven").name == "seven.png"
    assert shade(tmp_path / "seven.png") == 2


@pytest.mark.parametrize("content", [b"no picture", None])
def test_what_somebody_else_made_stays(tmp_path, content):
    theirs = tmp_path / "seven.png"
    if content is None:
        picture(9).save(theirs)
    else:
        theirs.write_bytes(content)
    before = theirs.read_bytes()
    assert PictureFolder(tmp_path).add(picture(), "seven").name == "seven-2.png"
    assert theirs.read_bytes() == before


def test_a_source_is_never_replaced_not_even_our_own(tmp_path):
    source = PictureFolder(tmp_path).add(picture(5), "seven")
    assert PictureFolder(tmp_path, [source]).add(picture(), "seven").name == "seven-2.png"
    assert shade(source) == 5


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    album = PictureFolder(tmp_path)

    def fail(*args: object, **options: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="the disk is full"):
        album.add(picture(), "seven")
    assert list(tmp_path.iterdir()) == []


def film(*shades: int) -> list[Image.Image]:
    return [Image.new("RGB", (30, 20), (shade, 2 * shade, 3)) for shade in shades]


@pytest.mark.parametrize("film_format", ["gif", "webp"])
def test_a_film_has_its_frames_and_begins_again(tmp_path, film_format):
    frames = film(10, 20, 30)
    path = PictureFolder(tmp_path).add_film(frames, "seven", [100, 100, 500], film_format)
    assert path.name == f"seven.{film_format}"
    with Image.open(path) as opened:
        assert (opened.format, opened.info["loop"]) == (film_format.upper(), 0)
        read = [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(opened)]
    assert [duration for _, duration in read] == [100, 100, 500]
    for (frame, _), drawn in zip(read, frames, strict=True):
        np.testing.assert_array_equal(np.asarray(frame), np.asarray(drawn))


@pytest.mark.parametrize("film_format", ["gif", "webp"])
def test_a_later_album_replaces_our_own_films_alone(tmp_path, film_format):
    picture(9).save(tmp_path / f"eight.{film_format}")
    for shade in (10, 20):
        album = PictureFolder(tmp_path)
        names = [album.add_film(film(shade), stem, [100], film_format).name for stem in ("seven", "eight")]
        assert names == [f"seven.{film_format}", f"eight-2.{film_format}"]
    with Image.open(tmp_path / f"seven.{film_format}") as opened:
        assert opened.convert("RGB").getpixel((0, 0)) == (20, 40, 3)


def test_a_picture_and_its_film_bear_one_name(tmp_path):
    album = PictureFolder(tmp_path)
    assert [album.add(picture(), "a").name, album.add_film(film(1), "a", [100]).name] == ["a.png", "a.gif"]


def test_a_gif_keeps_the_colours_that_matter(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    values[0, 0] = colour = (64, 190, 255)
    path = PictureFolder(tmp_path).add_film([Image.fromarray(values)], "noise", [100], colours=[colour])
    with Image.open(path) as opened:
        assert opened.convert("RGB").getpixel((0, 0)) == colour


@pytest.mark.parametrize(
    ("frames", "milliseconds", "film_format", "sentence"),
    [
        ([], [], "gif", "expected frames and a duration for each, got 0 and 0"),
        (film(1, 2), [100], "gif", "expected frames and a duration for each, got 2 and 1"),
        (film(1), [100], "mp4", "expected one of gif, webp as a film's format, got 'mp4'"),
    ],
)
def test_what_is_no_film_is_refused(tmp_path, frames, milliseconds, film_format, sentence):
    with pytest.raises(ValueError, match=sentence):
        PictureFolder(tmp_path).add_film(frames, "seven", milliseconds, film_format)
    assert list(tmp_path.iterdir()) == []
