from pathlib import Path

import pytest

from glimpse.data.datasets import DataError
from glimpse.data.folder.grouping import Groups, groups_by_pattern, telling_names


def write(root: Path, **contents: str) -> list[Path]:
    for name, content in contents.items():
        (root / name).write_text(content)
    return [root / name for name in contents]


def test_a_file_stands_for_itself(tmp_path):
    files = write(tmp_path, a="1", b="2")
    groups = Groups(tmp_path, files, {})
    assert [groups.of(path) for path in files] == ["a", "b"]
    assert groups.identical == []


def test_files_with_the_same_bytes_are_one_group(tmp_path):
    files = write(tmp_path, c="same", a="same", b="other")
    groups = Groups(tmp_path, files, {})
    assert [groups.of(path) for path in files] == ["a", "a", "b"]
    assert groups.identical == [files[:2]]


def test_named_groups_that_share_a_file_are_joined(tmp_path):
    files = write(tmp_path, a="1", b="twice", c="twice", d="4", e="5")
    named = dict(zip(files[:4], ["left", "left", "right", "right"], strict=True))
    groups = Groups(tmp_path, files, named)
    assert len({groups.of(path) for path in files[:4]}) == 1
    assert groups.of(files[4]) == "e"


def test_a_file_that_cannot_be_read_stands_for_itself(tmp_path):
    groups = Groups(tmp_path, [tmp_path / "gone", tmp_path / "lost"], {})
    assert groups.of(tmp_path / "gone") == "gone"
    assert groups.identical == []


@pytest.mark.parametrize(
    ("pattern", "names"),
    [(r"_(\d+)_", ["07", "07", "08"]), (r"t_\d+", ["t_07", "t_07", "t_08"]), ("(x)?t_08", ["", None, None])],
)
def test_a_pattern_names_the_groups(tmp_path, pattern, names):
    files = [tmp_path / "cat" / name for name in ("t_07_1.png", "t_07_2.png", "t_08_1.png")]
    found = groups_by_pattern(pattern, tmp_path, files)
    expected = [None, None, ""] if "x" in pattern else names
    assert [found.get(path) for path in files] == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("[", r"expected group as a regular expression, got '\['"), ("z+", "to match paths such as 'cat/b', got 'z\\+'")],
)
def test_a_pattern_that_is_wrong_or_matches_nothing_is_refused(tmp_path, pattern, message):
    with pytest.raises(DataError, match=message):
        groups_by_pattern(pattern, tmp_path, [tmp_path / "cat" / "a", tmp_path / "cat" / "b"])


def test_groups_are_joined(tmp_path):
    files = write(tmp_path, a="1", b="2", c="3", d="4")
    groups = Groups(tmp_path, files, {files[2]: "x", files[3]: "x"})
    groups.join(files[1:3])
    assert [groups.of(path) for path in files] == ["a", "b", "b", "b"]


@pytest.mark.parametrize(
    ("name", "mark", "count"),
    [
        ("train/cat/{:05}_{}.png", "_", 40),
        ("cat/{:05}-{}.jpg", "-", 40),
        ("cat/{:05}.rf{}.jpg", ".", 40),
        ("cat/{:05} {}.jpg", " ", 40),
    ],
)
def test_names_of_tracks_tell_groups(name, mark, count):
    root = Path("root")
    names = [name.format(track, frame) for track in range(count) for frame in range(5)]
    first = [place for place in range(len(names)) if place % 5 < 4]
    found = telling_names(
        root, [root / name for name in names], ["cat"] * len(names), first, [place + 1 for place in first]
    )
    assert found is not None
    assert found.mark == mark
    assert found.agreement == 1
    assert found.chance < 0.03
    assert len(set(found.groups.values())) == count


def test_groups_may_reach_over_classes():
    root = Path("root")
    files = [root / kind / f"board{n}{end}.png" for n in range(30) for kind, end in (("ok", ""), ("cut", "-1"))]
    found = telling_names(root, files, ["cat"] * len(files), range(0, 60, 2), range(1, 60, 2))
    assert found is not None
    assert found.groups[root / "ok" / "board7.png"] == found.groups[root / "cut" / "board7-1.png"]


def test_names_that_only_count_tell_nothing():
    root = Path("root")
    for name in ("cat/IMG_{:04}.jpg", "cat/{}.jpg", "cat/cat_{}.png"):
        files = [root / name.format(number) for number in range(100)]
        assert telling_names(root, files, ["cat"] * len(files), range(0, 100, 2), range(1, 100, 2)) is None


def test_few_near_duplicates_tell_nothing():
    root = Path("root")
    files = [root / "cat" / f"t{number // 2}_{number % 2}.png" for number in range(30)]
    assert telling_names(root, files, ["cat"] * len(files), range(0, 30, 2), range(1, 30, 2)) is None


def test_near_duplicates_with_other_names_tell_nothing():
    root = Path("root")
    files = [root / "cat" / f"t{number % 50}_{number}.png" for number in range(200)]
    assert telling_names(root, files, ["cat"] * len(files), range(0, 200, 2), range(1, 200, 2)) is None


def test_a_class_of_fewer_groups_than_parts_keeps_none():
    root = Path("root")
    files = [root / "cat" / f"t{number // 2}_{number % 2}.png" for number in range(60)]
    files += [root / "dog" / f"t{number // 4}_{number % 4}.png" for number in range(8)]
    cells = [path.parent.name for path in files]
    found = telling_names(root, files, cells, range(0, 60, 2), range(1, 60, 2))
    assert found is not None
    assert {path.parent.name for path in found.groups} == {"cat"}
