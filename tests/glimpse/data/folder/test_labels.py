from pathlib import Path

import pytest

from glimpse.data.datasets import DataError
from glimpse.data.folder.labels import read_labels


@pytest.fixture
def root(tmp_path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (tmp_path / name).touch()
    return tmp_path


def table(root: Path, text: str, encoding: str = "utf-8") -> Path:
    path = root / "labels.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_a_table_gives_labels_groups_and_parts(root):
    text = "path,label,group,part\na.png,cat,1,train\nb.png,dog,1,training\nc.png,cat,2,TEST\nd.png,dog,,val\n"
    tree, groups = read_labels(table(root, text), root)
    assert tree.parts == {
        "train": {"cat": [root / "a.png"], "dog": [root / "b.png"]},
        "validation": {"dog": [root / "d.png"]},
        "test": {"cat": [root / "c.png"]},
    }
    assert groups == {root / "a.png": "1", root / "b.png": "1", root / "c.png": "2"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_columns_may_come_in_any_order_and_case(root, encoding):
    text = 'Label, Path,notes\ncafé,a.png,x\n"dog, large",b.png,y\n'
    tree, groups = read_labels(table(root, text, encoding), root)
    assert tree.classes == ("café", "dog, large")
    assert groups == {}


def test_all_faults_of_a_table_are_reported_at_once(root):
    text = "path,label,part\na.png,cat,\nnone.png,cat,\n,dog,\nb.png,,\na.png,dog,\nc.png,dog,somewhere\n"
    with pytest.raises(DataError) as caught:
        read_labels(table(root, text), root)
    for fault in (
        "line 3 names none.png, which is not there",
        "line 4 has no path or no label",
        "line 5 has no path or no label",
        "line 6 names a.png a second time",
        "line 7 has the part 'somewhere', none of train, validation, test",
    ):
        assert fault in str(caught.value)


def test_many_faults_are_counted(root):
    text = "path,label\n" + "".join(f"{number}.png,cat\n" for number in range(30))
    with pytest.raises(DataError, match="and 20 more faults"):
        read_labels(table(root, text), root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected a table with the columns path and label .* found no line"),
        ("file,class\na.png,cat\n", r"found file, class; name the columns"),
        ("path,label\na.png,cat\n", r"at least 2 classes to train on in .*, found 1"),
        ("path,label,part\na.png,cat,test\nb.png,dog,test\n", r"expected images of at least 2 classes to train on"),
    ],
)
def test_another_table_is_refused(root, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(table(root, text), root)


@pytest.mark.parametrize("content", [b"path,label\n\xff\xfe", None])
def test_a_table_that_cannot_be_read_is_named(root, content):
    path = root / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected a table of labels at .*labels.csv, can't read it"):
        read_labels(path, root)
