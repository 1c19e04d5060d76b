from pathlib import Path

import pytest

from glimpse.data.folder.splitting import SHARES, split_off


def by_name(path: Path) -> str:
    return str(path)


def numbered(name: str, count: int, pattern: str = "{}.png") -> list[Path]:
    return [Path(name, pattern.format(number)) for number in range(count)]


@pytest.mark.parametrize("pattern", ["{}.png", "IMG_20240501_{:06}.jpg", "{}/image.png", "a{}", "aaaa{}aaaa.jpeg"])
def test_the_shares_hold_whatever_the_files_are_called(pattern):
    split = split_off({"cat": numbered("cat", 3000, pattern), "dog": numbered("dog", 3000, pattern)}, SHARES, by_name)
    for name in ("cat", "dog"):
        assert len(split["test"][name]) == pytest.approx(600, abs=70)
        assert len(split["validation"][name]) == pytest.approx(300, abs=60)
        assert sum(len(files[name]) for files in split.values()) == 3000


def test_files_that_are_added_move_no_other():
    before = split_off({"cat": numbered("cat", 40), "dog": numbered("dog", 40)}, SHARES, by_name)
    after = split_off({"cat": numbered("cat", 140), "dog": numbered("dog", 300)}, SHARES, by_name)
    for part, of_class in before.items():
        for name, files in of_class.items():
            assert set(files) <= set(after[part][name])


def test_only_the_parts_that_are_asked_for_are_split_off():
    split = split_off({"cat": numbered("cat", 100)}, {"validation": 0.1}, by_name)
    assert list(split) == ["train", "validation"]
    assert 3 <= len(split["validation"]["cat"]) <= 20


def test_a_part_is_the_same_whether_the_other_one_is_laid_out_or_not():
    files = {"cat": numbered("cat", 500)}
    both = split_off(files, SHARES, by_name)
    assert split_off(files, {"test": SHARES["test"]}, by_name)["test"] == both["test"]


@pytest.mark.parametrize("count", [3, 4, 7])
@pytest.mark.parametrize("start", range(0, 60, 7))
def test_small_classes_are_in_every_part(start, count):
    files = {name: [Path(name, f"{number}.png") for number in range(start, start + count)] for name in ("cat", "dog")}
    split = split_off(files, SHARES, by_name)
    assert all(of_class[name] for of_class in split.values() for name in ("cat", "dog"))


def test_a_group_of_several_classes_moves_as_a_whole():
    def track(path: Path) -> str:
        return path.stem.split("_")[0]

    files = {
        "cat": [Path(f"t{number}_{frame}.png") for number in range(4) for frame in range(3)],
        "dog": [Path(f"t{number}_{frame}d.png") for number in range(1, 5) for frame in range(3)],
    }
    split = split_off(files, SHARES, track)
    parts_of: dict[str, set[str]] = {}
    for part, of_class in split.items():
        for name, paths in of_class.items():
            assert paths, (part, name)
            for path in paths:
                parts_of.setdefault(track(path), set()).add(part)
    assert all(len(parts) == 1 for parts in parts_of.values())


def test_a_class_with_fewer_groups_than_parts_lacks_some():
    split = split_off(
        {"cat": numbered("cat", 20), "dog": numbered("dog", 9)}, SHARES, lambda path: f"{path.parent} {len(path.stem)}"
    )
    assert sum(bool(of_class["dog"]) for of_class in split.values()) == 1


@pytest.mark.parametrize("groups", [10, 12, 20])
@pytest.mark.parametrize("name", ["{:05}", "track{}", "{}", "burst-{}-x"])
def test_few_groups_are_dealt_out_so_that_the_shares_hold(groups, name):
    def burst(path: Path) -> str:
        return str(name.format(int(path.stem.split("_")[0])))

    files = [Path(f"{number}_{frame}.png") for number in range(groups) for frame in range(15)]
    split = split_off({"cat": files, "dog": files}, SHARES, burst)
    for part, share in SHARES.items():
        assert abs(len(split[part]["cat"]) / len(files) - share) <= max(1 / groups, share / 2) + 1e-9
