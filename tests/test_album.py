from pathlib import Path

import pytest
from PIL import Image

from glimpse.album import Album


def picture(shade: int = 0) -> Image.Image:
    return Image.new("L", (3, 2), shade)


def shade(path: Path) -> int:
    with Image.open(path) as opened:
        return int(opened.getpixel((0, 0)))  # type: ignore[arg-type]


def test_pictures_of_one_name_are_numbered(tmp_path):
    album = Album(tmp_path / "new" / "folder")
    paths = [album.add(picture(number), "seven") for number in range(3)]
    assert [path.name for path in paths] == ["seven.png", "seven-2.png", "seven-3.png"]
    assert [shade(path) for path in paths] == [0, 1, 2]


def test_names_that_differ_in_case_alone_are_one_name(tmp_path):
    album = Album(tmp_path)
    assert [album.add(picture(), stem).name for stem in ("seven", "SEVEN")] == ["seven.png", "SEVEN-2.png"]


def test_a_later_album_replaces_our_own_pictures(tmp_path):
    Album(tmp_path).add(picture(1), "seven")
    assert Album(tmp_path).add(picture(2), "seven").name == "seven.png"
    assert shade(tmp_path / "seven.png") == 2


@pytest.mark.parametrize("content", [b"no picture", None])
def test_what_somebody_else_made_stays(tmp_path, content):
    theirs = tmp_path / "seven.png"
    if content is None:
        picture(9).save(theirs)
    else:
        theirs.write_bytes(content)
    before = theirs.read_bytes()
    assert Album(tmp_path).add(picture(), "seven").name == "seven-2.png"
    assert theirs.read_bytes() == before


def test_a_source_is_never_replaced_not_even_our_own(tmp_path):
    source = Album(tmp_path).add(picture(5), "seven")
    assert Album(tmp_path, [source]).add(picture(), "seven").name == "seven-2.png"
    assert shade(source) == 5


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    album = Album(tmp_path)

    def fail(*args: object, **options: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="the disk is full"):
        album.add(picture(), "seven")
    assert list(tmp_path.iterdir()) == []
