import io

import pytest

from glimpse.cli.classify.progress import ProgressLine


class Watch:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def last(stream: io.StringIO) -> str:
    return stream.getvalue().split("\r\x1b[K")[-1]


def test_it_says_how_many_are_done_how_fast_and_how_long_it_takes():
    stream, watch = io.StringIO(), Watch()
    line = ProgressLine(2000, stream, watch)
    assert last(stream) == "[" + "." * 24 + "] 0 of 2,000 images"
    watch.now = 10.0
    line.advance(500)
    assert last(stream) == "[" + "#" * 6 + "." * 18 + "] 500 of 2,000 images, 50.0 a second, 0:30 left"
    watch.now = 40.0
    line.advance(1500)
    assert last(stream) == "[" + "#" * 24 + "] 2,000 of 2,000 images, 50.0 a second, 0:00 left"


def test_it_is_not_drawn_for_each_of_many():
    stream, watch = io.StringIO(), Watch()
    line = ProgressLine(1000, stream, watch)
    for _ in range(1000):
        watch.now += 0.001
        line.advance()
    assert stream.getvalue().count("\r") < 15


def test_it_makes_room_for_something_else_and_comes_back():
    stream = io.StringIO()
    line = ProgressLine(3, stream, Watch())
    line.clear()
    assert last(stream) == ""
    line.advance()
    assert last(stream).endswith("1 of 3 images")


def test_it_never_runs_into_a_second_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    ProgressLine(3, stream, Watch())
    assert len(last(stream)) == 19
