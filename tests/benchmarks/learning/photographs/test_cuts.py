"""A part of a set: shares of the classes, whole groups, boxes and masks that come along."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.learning.photographs.cuts import LEAST, PhotoCut, draw_groups, shares_of
from benchmarks.learning.photographs.sets import SETS, make_up
from glimpse.data.datamodule import ImageData
from glimpse.data.folder.grouping import Groups


def listed(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_cut_names_itself():
    assert PhotoCut(300, ()).suffix == "-cut300"
    assert PhotoCut(400, ("01", "02")).suffix == "-01-02-cut400"
    assert PhotoCut(None, ("01", "02")).describe() == "all images to learn from, of the classes 01, 02 alone"


def test_each_class_keeps_its_share_and_three_images_at_least():
    shares = shares_of({"many": 900, "some": 95, "few": 5}, 100)
    assert shares == {"many": 88, "some": 9, "few": 3}
    assert shares_of({"many": 10, "few": 2}, 100) == {"many": 10, "few": 2}


def tracks(root: Path, lengths: list[int]) -> tuple[list[Path], Groups]:
    files = [root / f"{track}_{frame:02}.png" for track, length in enumerate(lengths) for frame in range(length)]
    return files, Groups(root, files, {path: path.name.split("_")[0] for path in files})


def test_groups_are_drawn_whole(tmp_path):
    files, groups = tracks(tmp_path, [5] * 12)
    drawn = draw_groups(files, groups, 20, np.random.default_rng(0))
    of_track = {groups.of(path): [each for each in drawn if groups.of(each) == groups.of(path)] for path in drawn}
    assert [len(paths) for paths in of_track.values()] == [5] * 4
    assert drawn == draw_groups(files[::-1], groups, 20, np.random.default_rng(0))


def test_large_groups_give_images_that_lie_evenly_over_them(tmp_path):
    files, groups = tracks(tmp_path, [30] * 5)
    drawn = draw_groups(files, groups, 9, np.random.default_rng(0))
    assert [path.name.split("_")[1] for path in drawn] == ["00.png", "10.png", "20.png"] * LEAST


@pytest.mark.parametrize("lengths", [[40, 1], [1] * 50, [7, 19, 3, 30], [60]])
@pytest.mark.parametrize("count", [1, 2, 3, 20, 41])
def test_as_many_are_drawn_as_are_asked_for(lengths, count, tmp_path):
    files, groups = tracks(tmp_path, lengths)
    drawn = draw_groups(files, groups, count, np.random.default_rng(0))
    assert len(set(drawn)) == len(drawn) == count


def test_a_cut_of_a_set_with_boxes_keeps_the_test_images_and_the_boxes(tmp_path):
    folder, place = make_up(SETS["boards"], tmp_path), tmp_path / "cut"
    PhotoCut(18, ()).write(folder, place)
    names = listed(place)
    assert [name for name in names if name.startswith("test")] == [
        name for name in listed(folder) if name.startswith("test")
    ]
    assert sum(name.startswith("train") for name in names) == 18
    whole, part = (
        ImageData("folder", str(root), image_height=32, image_width=32, channels=1).source for root in (folder, place)
    )
    assert part.test.boxes is not None
    assert whole.test.boxes is not None
    np.testing.assert_array_equal(part.test.boxes, whole.test.boxes)
    assert part.train.boxes is not None
    assert bool((~part.train.boxes[:, 0, 0].isnan() == (part.train.labels > 0)).all())


def test_a_cut_of_some_classes_has_these_alone(tmp_path):
    folder = make_up(SETS["signs"], tmp_path)
    PhotoCut(None, ("02", "00")).write(folder, tmp_path / "cut")
    assert listed(tmp_path / "cut") == [name for name in listed(folder) if "/01/" not in name]


def test_masks_come_along_and_the_products_own_test_part_is_kept(tmp_path):
    folder = tmp_path / "tiles"
    generator = np.random.default_rng(0)
    for name in ("crack", "free"):
        for number in range(30):
            pixels, mask = generator.integers(0, 255, (40, 40), dtype=np.uint8), np.zeros((40, 40), np.uint8)
            mask[number : number + 8, 4:20] = 255 * (name == "crack")
            for kind, of_kind, ending in (("images", pixels, "jpg"), ("masks", mask, "png")):
                path = folder / kind / name / f"{number}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(of_kind).save(path)
    whole = ImageData("folder", str(folder), image_height=40, image_width=40, channels=1).source
    PhotoCut(20, ()).write(folder, tmp_path / "cut")
    part = ImageData("folder", str(tmp_path / "cut"), image_height=40, image_width=40, channels=1).source
    assert len(part.train) + len(part.validation) == 20
    np.testing.assert_array_equal(part.test.images, whole.test.images)
    assert part.train.boxes is not None
    assert bool((~part.train.boxes[:, 0, 0].isnan() == (part.train.labels == 0)).all())


@pytest.mark.parametrize(
    ("cut", "sentence"),
    [
        (PhotoCut(None, ("00", "77")), r"--classes: expected two or more of 00, 01, 02, got 77"),
        (PhotoCut(None, ("00",)), r"--classes: expected two or more of 00, 01, 02, got 00"),
        (PhotoCut(8, ()), r"--cut: expected at least 3 images of each of 3 classes, got 8; raise it"),
    ],
)
def test_what_cannot_be_cut_is_said(cut, sentence, tmp_path):
    folder = make_up(SETS["signs"], tmp_path)
    with pytest.raises(ValueError, match=sentence):
        cut.write(folder, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
