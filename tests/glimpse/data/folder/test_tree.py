import os
from pathlib import Path

import pytest

from glimpse.data.datasets import DataError
from glimpse.data.folder.tree import masks_within, part_of, read_tree


def fill(folder: Path, count: int = 3, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}{suffix}").touch()


def counts(root: Path) -> dict[str, dict[str, int]]:
    return {
        part: {name: len(files) for name, files in of_class.items()} for part, of_class in read_tree(root).parts.items()
    }


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN", "train"),
        ("seg_train", "train"),
        ("train_set", "train"),
        ("trainset", "train"),
        ("training-images", "train"),
        ("images_train", "train"),
        ("val", "validation"),
        ("Valid", "validation"),
        ("validation", "validation"),
        ("seg_val", "validation"),
        ("dev", "validation"),
        ("Test", "test"),
        ("testing", "test"),
        ("Test_Data", "test"),
        ("trains", None),
        ("detest", None),
        ("latest", None),
        ("contest_images", None),
        ("cat", None),
        ("images", None),
        ("set", None),
    ],
)
def test_parts_are_recognised_by_their_usual_names(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "test"),
        ("Train", "Val", "Test"),
        ("TRAINING", "VALIDATION", "TESTING"),
        ("seg_train", "seg_dev", "seg_test"),
    ],
)
def test_laid_out_parts_are_read_under_their_usual_names(tmp_path, names):
    for name in names:
        fill(tmp_path / name / "cat")
        fill(tmp_path / name / "dog")
    assert counts(tmp_path) == {part: {"cat": 3, "dog": 3} for part in ("train", "validation", "test")}


@pytest.mark.parametrize("second", ["val", "test"])
def test_parts_may_be_missing(tmp_path, second):
    for name in ("train", second):
        fill(tmp_path / name / "cat")
        fill(tmp_path / name / "dog")
    assert list(counts(tmp_path)) == ["train", "validation" if second == "val" else "test"]
    assert read_tree(tmp_path).classes == ("cat", "dog")


def test_classes_that_are_named_like_parts_are_classes(tmp_path):
    for name in ("bus", "train", "van"):
        fill(tmp_path / name)
    assert counts(tmp_path) == {"train": {"bus": 3, "train": 3, "van": 3}}


def test_folders_of_unpacked_archives_are_passed_through(tmp_path):
    for part in ("seg_train", "seg_test"):
        fill(tmp_path / "archive" / part / part / "sea")
        fill(tmp_path / "archive" / part / part / "street")
    fill(tmp_path / "archive" / "seg_pred" / "seg_pred")
    (tmp_path / "__MACOSX").mkdir()
    tree = read_tree(tmp_path)
    assert counts(tmp_path) == {part: {"sea": 3, "street": 3} for part in ("train", "test")}
    assert tree.top == tmp_path / "archive"
    assert tree.left_out == {tmp_path / "archive" / "seg_pred": "a folder beside the parts"}


@pytest.mark.parametrize(
    ("pictures", "masks"), [("images", "masks"), ("Photos", "Ground-Truth"), ("a/img", "a/mask"), (".", "annotations")]
)
def test_masks_that_mirror_the_images_are_no_class(tmp_path, pictures, masks):
    for name in ("cat", "dog"):
        fill(tmp_path / pictures / name)
        fill(tmp_path / masks / name, suffix=".bmp")
    tree = read_tree(tmp_path)
    assert tree.top == tmp_path / pictures
    assert tree.left_out == {}
    assert counts(tmp_path) == {"train": {"cat": 3, "dog": 3}}
    assert masks_within((tmp_path / masks).parent) == (tmp_path / masks, tmp_path / pictures)


@pytest.mark.parametrize("form", ["{part}/{kind}", "{kind}/{part}"])
def test_masks_beside_the_parts_or_in_them_are_left_alone(tmp_path, form):
    for part in ("train", "test"):
        for kind in ("images", "masks"):
            for name in ("cat", "dog"):
                fill(tmp_path / form.format(part=part, kind=kind) / name)
    tree = read_tree(tmp_path)
    assert counts(tmp_path) == {part: {"cat": 3, "dog": 3} for part in ("train", "test")}
    assert not any("masks" in path.parts for of_class in tree.parts.values() for path in of_class["cat"])


def test_masks_in_each_class_are_no_images(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / name / "images")
        fill(tmp_path / name / "masks")
    assert counts(tmp_path) == {"train": {"cat": 3, "dog": 3}}


@pytest.mark.parametrize("names", [("mask", "no mask"), ("masks", "hats", "scarves"), ("annotations", "print")])
@pytest.mark.parametrize("below", ["", "2024/may"])
def test_a_class_may_be_named_as_masks_are(tmp_path, names, below):
    for name in names:
        fill(tmp_path / name / below)
    assert counts(tmp_path) == {"train": dict.fromkeys(sorted(names), 3)}
    assert masks_within(tmp_path) is None


def test_classes_may_be_nested_and_formats_are_those_that_are_classified(tmp_path):
    fill(tmp_path / "cat" / "2024" / "may", 2, ".jfif")
    fill(tmp_path / "cat", 1, ".JPE")
    fill(tmp_path / "dog", 4, ".pnm")
    assert counts(tmp_path) == {"train": {"cat": 3, "dog": 4}}


def test_a_part_without_labels_is_left_out_and_named(tmp_path):
    fill(tmp_path / "train" / "cat")
    fill(tmp_path / "train" / "dog")
    fill(tmp_path / "test")
    tree = read_tree(tmp_path)
    assert list(tree.parts) == ["train"]
    assert "the test part has no folder of a class" in tree.left_out[tmp_path / "test"]


def test_links_are_followed_once(tmp_path):
    fill(tmp_path / "elsewhere" / "more", 5)
    root = tmp_path / "root"
    fill(root / "cat")
    fill(root / "dog")
    (root / "dog" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "again").symlink_to(root / "dog")
    (root / "cat" / "gone.png").symlink_to(tmp_path / "nothing.png")
    tree = read_tree(root)
    assert counts(root) == {"train": {"cat": 3, "dog": 8}}
    assert sorted(tree.left_out.values()) == [
        "a link to a file that is not there",
        "a link to a folder that is read already",
    ]


def test_files_that_are_no_images_are_left_out_with_the_reason(tmp_path):
    fill(tmp_path / "cat")
    fill(tmp_path / "dog")
    for name in ("notes.txt", "photo.heic", "camera.NEF", ".DS_Store", "LICENSE"):
        (tmp_path / "dog" / name).touch()
    (tmp_path / "stray.png").touch()
    left_out = {path.name: reason for path, reason in read_tree(tmp_path).left_out.items()}
    assert set(left_out) == {"notes.txt", "photo.heic", "camera.NEF", "LICENSE", "stray.png"}
    assert "convert it to JPEG" in left_out["photo.heic"]
    assert "develop it" in left_out["camera.NEF"]
    assert left_out["stray.png"] == "an image outside the folders of the classes"


def test_two_folders_for_one_part_are_refused(tmp_path):
    for name in ("train", "val", "validation"):
        fill(tmp_path / name / "cat")
        fill(tmp_path / name / "dog")
    with pytest.raises(DataError, match=r"expected one folder for the validation part, found .*val and .*validation"):
        read_tree(tmp_path)


@pytest.mark.parametrize("folders", [("train", "test"), ("test",), ("val", "test")])
def test_parts_without_classes_are_refused_with_what_was_found(tmp_path, folders):
    for name in folders:
        fill(tmp_path / name)
    with pytest.raises(DataError, match=r"expected folders of classes in the part for training .* \(3 images\)"):
        read_tree(tmp_path)


def test_another_shape_is_refused_with_what_was_found(tmp_path):
    fill(tmp_path, 4)
    fill(tmp_path, 2, ".txt")
    with pytest.raises(DataError, match=r"expected at least 2 classes, .* found 0: 4 .png files, 2 .txt files; lay"):
        read_tree(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        fill(tmp_path / name)
    fill(tmp_path / "dog" / "secret")
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert read_tree(tmp_path).left_out == {
        tmp_path / "dog" / "secret": "a folder that can't be read (Permission denied)"
    }


def test_a_folder_of_classes_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(folder: Path) -> object:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(
        DataError, match=r"expected a folder that can be read at .*, got: Permission denied; change its"
    ):
        read_tree(tmp_path)
