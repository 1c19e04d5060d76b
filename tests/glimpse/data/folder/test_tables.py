import pytest

from glimpse.data.datasets import DataError
from glimpse.data.folder.tables import columns_of, read_table


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_is_read_with_its_own_delimiter(tmp_path, delimiter, encoding):
    path = tmp_path / "things.csv"
    lines = (("Path", " Note"), ("a.png", ' "x" '), (), ("b.png",), ("c.png", "y", "more"))
    path.write_text("\n".join(delimiter.join(line) for line in lines), encoding=encoding)
    table = read_table(path, "a table")
    assert table.columns == columns_of(path) == ("path", "note")
    assert [row["path"] for row in table.rows] == ["a.png", "b.png", "c.png"]
    assert [row["note"] for row in table.rows] == ['"x"', "", "y"]


def test_quoted_values_hold_delimiters_and_ends_of_lines(tmp_path):
    path = tmp_path / "things.csv"
    path.write_text('path,note\n"a,b.png","two\nlines"\n')
    assert read_table(path, "a table").rows == [{"path": "a,b.png", "note": "two\nlines"}]


def test_an_empty_table_has_no_columns(tmp_path):
    path = tmp_path / "things.csv"
    path.touch()
    assert read_table(path, "a table") == ((), [])
    assert columns_of(path) == ()


@pytest.mark.parametrize("content", [b"path,label\n\xff\xfe\n" * 10_000, None])
def test_a_table_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "things.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected a table of things at .*things\.csv, can't read it \(.*UTF-8"):
        read_table(path, "a table of things")
    assert columns_of(path) == ()
