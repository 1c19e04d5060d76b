"""``glimpse classify``: the formats, the output file, and the progress line."""

import csv
import io
import json
import os
from typing import Any

import pytest

from glimpse.cli.usage import UsageError
from glimpse.runtime.session import GlimpseSession
from tests.support.brightness import LOCATIONS, run


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_a_name_of_any_bytes_goes_into_every_form(model, bright, tmp_path, capsys):
    odd = tmp_path / os.fsdecode(b"\xff.png")
    odd.write_bytes(bright.read_bytes())
    for form in ("--json", "--csv", "--json-lines", "--quiet"):
        assert run(model, tmp_path, form, "--output", tmp_path / "out") == 0
    assert run(model, odd) == 0
    assert "udcff.png" in capsys.readouterr().out


def test_a_terminal_sees_how_far_it_is(model, bright, monkeypatch, tmp_path):
    def output(*arguments: Any) -> str:
        screen = Screen()
        monkeypatch.setattr("sys.stderr", screen)
        run(model, *arguments)
        return screen.getvalue()

    assert "0 of 2 images" in (line := output(bright, bright))
    assert line.endswith("\r\x1b[K"), "it is wiped away at the end"
    assert output(bright) == ""
    assert output(bright, bright, "--quiet") == ""
    assert "\x1b[Kglimpse: there is no image file" in output(bright, "gone.png")
    monkeypatch.setattr("sys.stdout", Screen())
    assert output(bright, bright) == "", "the answers themselves show it"
    assert "of 2 images" in output(bright, bright, "--output", tmp_path / "out")


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


def test_json_lists_the_images_that_failed(model, bright, tmp_path, capsys):
    assert run(model, tmp_path / "gone.png", bright, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert [answer["image"] for answer in document["images"]] == [str(bright)]
    (failure,) = document["errors"]
    assert failure["image"] == str(tmp_path / "gone.png")
    assert "there is no image file" in failure["error"]


def test_no_image_at_all_still_makes_a_document(model, capsys):
    assert run(model, "gone.png", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], len(document["errors"])) == ([], 1)


def test_a_table_has_a_column_for_each_class(model, bright, dark, capsys, tmp_path):
    assert run(model, bright, dark, tmp_path / "gone.png", "--csv") == 1
    header, first, *others = csv.reader(io.StringIO(capsys.readouterr().out))
    names = ["image", "width", "height", "class", "confidence", "glimpses", "reason", "dark", "bright"]
    assert header == names
    assert first == [str(bright), "30", "20", "bright", "1.0", "2", "budget", "0.0", "1.0"]
    assert len(others) == 1


def test_a_name_that_would_upset_the_terminal_is_shown_with_escapes(model, bright, tmp_path, capsys):
    odd = tmp_path / "odd\x1b[31mname\n.png"
    odd.write_bytes(bright.read_bytes())
    assert run(model, odd) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"odd\x1b[31mname\n.png: " in out
