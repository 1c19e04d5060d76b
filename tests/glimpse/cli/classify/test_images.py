import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from glimpse.cli.classify.images import ImagePathError, find_images
from glimpse.images import pixels
from glimpse.images.formats import IMAGE_SUFFIXES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ("b/10.png", "b/2.JPG", "b/1.png", "b/notes.txt", "b/.hidden.png", "b/c/3.webp", "b/.git/4.png", "a.png")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*named: str, **options: object) -> list[str]:
    return [source.name for source in find_images(named, **options)]  # type: ignore[arg-type]


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_files_come_as_they_were_named(folder):
    assert names("b/10.png", "a.png", "gone.png", "b/notes.txt") == ["b/10.png", "a.png", "gone.png", "b/notes.txt"]


def test_a_folder_gives_its_images_in_natural_order(folder):
    assert names("b") == ["b/1.png", "b/2.JPG", "b/10.png"]


def test_deeper_folders_count_when_asked_for_and_hidden_ones_never(folder):
    assert names(".", recursive=True) == ["a.png", "b/1.png", "b/2.JPG", "b/10.png", "b/c/3.webp"]


def test_a_pattern_gives_the_images_that_match(folder):
    assert names("b/*") == ["b/1.png", "b/2.JPG", "b/10.png"]
    assert names("**/*.png") == ["a.png", "b/1.png", "b/10.png"]
    assert names("b/[12].*") == ["b/1.png", "b/2.JPG"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder):
    (folder / "[a].png").touch()
    assert names("[a].png") == ["[a].png"]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("c/*.png", r"images that match the pattern 'c/\*\.png', found none; check the pattern"),
        ("b/*.txt", "found 1 of other kinds"),
    ],
)
def test_a_pattern_that_matches_no_image_is_refused(folder, pattern, sentence):
    with pytest.raises(ImagePathError, match=sentence):
        find_images([pattern])


def test_a_folder_without_an_image_is_refused(folder):
    (folder / "empty").mkdir()
    with pytest.raises(ImagePathError, match=r"images in the folder 'empty', found none; their names should end with"):
        find_images(["empty"])
    (folder / "outer" / "inner").mkdir(parents=True)
    with pytest.raises(ImagePathError, match="found none but 1 folder in it; --recursive looks into them"):
        find_images(["outer"])


@pytest.mark.parametrize(("named", "lists"), [([""], []), (["a.png", ""], []), ([], [""])])
def test_an_empty_name_is_not_the_current_folder(folder, named, lists):
    with pytest.raises(ImagePathError, match=r"got an empty one; leave it out, or write \. for the current folder"):
        find_images(named, lists)


@pytest.mark.parametrize("content", [b"a.png\n\nb\n", b"a.png\r\nb", b"a.png\0b\0"])
def test_a_list_holds_paths_on_lines_or_ended_by_nuls(folder, content, monkeypatch):
    (folder / "list").write_bytes(content)
    expected = ["a.png", "b/1.png", "b/2.JPG", "b/10.png"]
    assert names(lists=["list"]) == expected
    give(monkeypatch, content)
    assert names("a.png", lists=["-"]) == ["a.png", *expected]


def test_a_name_in_a_list_is_no_pattern_and_may_be_any_bytes(folder, monkeypatch):
    give(monkeypatch, b"*.png\0of two\nlines.png\0\xff.png\0")
    assert names(lists=["-"]) == ["*.png", "of two\nlines.png", os.fsdecode(b"\xff.png")]


def test_a_list_that_is_not_there_or_empty_is_refused(folder, monkeypatch):
    with pytest.raises(ImagePathError, match="a list of images in 'gone', found no such file"):
        find_images([], ["gone"])
    give(monkeypatch, b"\n")
    with pytest.raises(ImagePathError, match="expected paths of images in 'standard input'"):
        find_images([], ["-"])


def test_standard_input_is_an_image_of_its_own(folder):
    (source,) = find_images(["-"])
    assert (source.name, source.path, source.stem) == ("-", None, "stdin")
    (folder / "-").touch()
    (source,) = find_images(["./-"])
    assert source.path == Path("-")


@pytest.mark.parametrize(("named", "lists"), [(["-", "-"], []), (["-"], ["-"])])
def test_standard_input_can_be_read_once(named, lists):
    with pytest.raises(ImagePathError, match="expected standard input to be named once"):
        find_images(named, lists)


def test_a_suffix_may_be_that_of_a_folder(folder):
    (folder / "b" / "large.zarr" / "inside").mkdir(parents=True)
    (folder / "b" / "large.zarr" / "0.png").touch()
    suffixes = {*IMAGE_SUFFIXES, ".zarr"}
    assert names("b/large.zarr", suffixes=suffixes) == ["b/large.zarr"]
    assert names("b", recursive=True, suffixes=suffixes)[-1] == "b/large.zarr"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_no_empty_one(folder):
    (folder / "b").chmod(0)
    with pytest.raises(PermissionError):
        find_images(["b"])


def test_each_format_that_is_read_has_a_suffix():
    from PIL import Image

    Image.init()
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in pixels.FORMATS}
    assert known - IMAGE_SUFFIXES <= {".apng", ".dib", ".pfm", ".pnm"}
