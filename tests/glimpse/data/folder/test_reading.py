import os
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.data.datasets import DataError
from glimpse.data.folder import labelled_files, reading
from glimpse.data.folder.grouping import Groups
from glimpse.images.pixels import fit
from tests.support.folders import flat, parts_of, read_folder, values, write


def test_one_folder_a_class_is_split_into_three_parts(tmp_path):
    source = read_folder(flat(tmp_path), 6, 8, 1)
    parts = [values(part) for part in (source.train, source.validation, source.test)]
    assert source.classes == labelled_files(tmp_path).tree.classes == ("ant", "bee")
    assert sum(map(len, parts)) == 80
    assert parts[0] | parts[1] | parts[2] == {(label, 1 + n + 100 * label) for label in range(2) for n in range(40)}
    for part in parts:
        assert {label for label, _ in part} == {0, 1}
    assert len(parts[0]) > len(parts[2]) > len(parts[1])
    assert source.train.images.shape[1:] == (1, 6, 8)
    assert source.train.images.dtype == torch.uint8


def test_the_files_of_a_part_can_be_had_in_the_order_of_its_images(tmp_path):
    found, test = labelled_files(flat(tmp_path)), read_folder(tmp_path, 6, 8, 1).test
    parts, _ = reading.complete_parts(found.tree, reading.group_files(found).groups)
    listed = reading.in_reading_order(parts["test"], found.tree.classes)
    shown = [(label, 1 + int(path.stem) + 100 * label) for path, label in listed]
    assert shown == [(int(label), int(image.max())) for image, label in zip(test.images, test.labels, strict=True)]


def test_adding_images_moves_none_of_the_others(tmp_path):
    before = read_folder(flat(tmp_path), 6, 8, 1)
    flat(tmp_path, range(40, 97))
    after = read_folder(tmp_path, 6, 8, 1)
    for name in ("train", "validation", "test"):
        assert values(getattr(before, name)) < values(getattr(after, name))


def test_the_parts_have_their_shares(tmp_path):
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for number in range(600):
            (tmp_path / label / f"{number}.png").write_text(f"{label} {number}")
    tree, _ = labelled_files(tmp_path)
    files = [path for paths in tree.parts["train"].values() for path in paths]
    parts, _ = reading.complete_parts(tree, Groups(tmp_path, files, {}))
    counts = {part: sum(map(len, files.values())) for part, files in parts.items()}
    assert abs(counts["test"] - 240) < 45
    assert abs(counts["validation"] - 120) < 35
    assert sum(counts.values()) == 1200


def test_the_split_does_not_depend_on_where_the_folder_lies(tmp_path):
    flat(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "moved" / "there")
    here, there = read_folder(tmp_path / "here", 6, 8, 1), read_folder(tmp_path / "moved" / "there", 6, 8, 1)
    assert torch.equal(here.train.images, there.train.images)
    assert torch.equal(here.test.labels, there.test.labels)


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_three_images_a_class_are_enough_for_every_part(tmp_path, count):
    for start in range(0, 50, 10):
        root = tmp_path / str(start)
        source = read_folder(flat(root, range(start, start + count)), 6, 8, 1)
        for part in (source.train, source.validation, source.test):
            assert {label for label, _ in values(part)} == {0, 1}
        assert sum(len(part) for part in (source.train, source.validation, source.test)) == 2 * count


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_parts_that_are_laid_out_are_taken_as_they_are(tmp_path, validation):
    for shift, part in enumerate(("train", validation, "test")):
        flat(tmp_path / part, range(shift * 10, shift * 10 + 4))
    source = read_folder(tmp_path, 6, 8, 1)
    assert values(source.train) == {(label, 1 + n + 100 * label) for label in range(2) for n in range(4)}
    assert values(source.validation) == {(label, 1 + n + 100 * label) for label in range(2) for n in range(10, 14)}
    assert values(source.test) == {(label, 1 + n + 100 * label) for label in range(2) for n in range(20, 24)}


def test_images_are_fitted_turned_upright_and_converted(tmp_path):
    flat(tmp_path, range(12))
    kept = sorted((tmp_path / "ant").iterdir())
    for number, path in enumerate(kept):
        path.unlink()
        picture = np.zeros((4, 12, 3), np.uint8)
        picture[:, :6] = [250 - number, 0, 0]
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(picture).save(path, exif=exif)
    source = read_folder(tmp_path, 24, 24, 3)
    image = source.train.images[source.train.labels == 0][0]
    assert image.shape == (3, 24, 24)
    assert (image[0, :11, 8:16] > 200).all(), "the red half lies above once the image stands upright"
    assert not image[:, 13:].any()
    assert not image[:, :, :8].any()
    assert not image[1:].any()


def test_16_bits_a_pixel_are_scaled(tmp_path):
    flat(tmp_path, range(6))
    for number, path in enumerate((tmp_path / "bee").iterdir()):
        Image.fromarray(np.full((6, 8), 32768 + number, np.uint16)).save(path)
    source = read_folder(tmp_path, 6, 8, 1)
    assert set(source.train.images[source.train.labels == 1].unique().tolist()) == {128}


def test_grey_images_can_be_wanted_in_colour(tmp_path):
    source = read_folder(flat(tmp_path, range(6)), 6, 8, 3)
    assert source.train.images.shape[1] == 3
    assert torch.equal(source.train.images[:, 0], source.train.images[:, 2])


def test_files_that_are_no_images_and_hidden_folders_are_passed_over(tmp_path):
    flat(tmp_path, range(6))
    (tmp_path / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    write(tmp_path / "bee" / "deeper" / "UPPER.PNG", 7)
    source = read_folder(tmp_path, 6, 8, 1)
    assert source.classes == ("ant", "bee")
    assert sum(len(part) for part in (source.train, source.validation, source.test)) == 13


def test_hidden_files_and_folders_named_like_images_are_passed_over(tmp_path):
    flat(tmp_path, range(6))
    (tmp_path / "ant" / "._0000.png").write_bytes(b"what macOS writes beside an image")
    (tmp_path / "ant" / "album.png").mkdir()
    (tmp_path / "bee" / ".thumbnails").mkdir()
    (tmp_path / "bee" / ".thumbnails" / "0000.png").touch()
    write(tmp_path / "ant" / "album.png" / "inside.png", 7)
    source = read_folder(tmp_path, 6, 8, 1)
    assert sum(len(part) for part in (source.train, source.validation, source.test)) == 13


def test_the_first_images_of_a_part_are_of_all_classes(tmp_path):
    for part in ("train", "val", "test"):
        flat(tmp_path / part, range(30), ("ant", "bee", "cat"))
    source, again = read_folder(tmp_path, 6, 8, 1), read_folder(tmp_path, 6, 8, 1)
    for name in ("train", "validation", "test"):
        once, twice = getattr(source, name), getattr(again, name)
        assert set(once.labels[:15].tolist()) == {0, 1, 2}
        assert torch.equal(once.labels, twice.labels)
        assert torch.equal(once.images, twice.images)


def test_images_are_read_straight_into_their_places(tmp_path):
    for part in ("train", "val", "test"):
        flat(tmp_path / part, range(60 if part == "train" else 2))
    tracemalloc.start()
    source = read_folder(tmp_path, 300, 300, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < source.train.images.nbytes / 2, "numpy holds a few images at a time, torch holds them all"
    assert source.train.images.is_contiguous()


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder of images at .*gone, found none; give one with"):
        read_folder(tmp_path / "gone", 6, 8, 1)


def test_one_class_is_too_few(tmp_path):
    flat(tmp_path, classes=("ant",))
    with pytest.raises(
        DataError, match=r"expected at least 2 classes, one folder each, .*, found 1: ant/ \(40 images\); lay the"
    ):
        read_folder(tmp_path, 6, 8, 1)


def test_a_class_without_images_is_named(tmp_path):
    flat(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"of every class in each part of .*, found none of cat in the train part"):
        read_folder(tmp_path, 6, 8, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_too_small_to_split_is_named(tmp_path, count):
    flat(tmp_path)
    flat(tmp_path, range(count), ("cat",))
    with pytest.raises(DataError, match=r"none of cat in the .* part; add some \(three a class at least; files"):
        read_folder(tmp_path, 6, 8, 1)


def test_a_part_that_lacks_a_class_is_named(tmp_path):
    for part in ("train", "val"):
        flat(tmp_path / part, range(4), ("ant", "bee", "cat"))
    flat(tmp_path / "test", range(4))
    with pytest.raises(DataError, match=r"of every class in each part of .*, found none of cat in the test part"):
        read_folder(tmp_path, 6, 8, 1)


@pytest.mark.parametrize(
    ("laid_out", "split_off"),
    [("val", "20 % for the test part"), ("test", "10 % for the validation part"), (None, "10 % for the validation")],
)
def test_a_part_that_is_missing_is_split_off_the_training_part_and_that_is_said(tmp_path, laid_out, split_off):
    flat(tmp_path / "train")
    if laid_out:
        flat(tmp_path / laid_out, range(50, 60))
    source = read_folder(tmp_path, 6, 8, 1)
    assert len(source.notes) == 2
    assert split_off in source.notes[1]
    parts = {"train": source.train, "val": source.validation, "test": source.test}
    if laid_out:
        assert values(parts[laid_out]) == {(label, 1 + n + 100 * label) for label in range(2) for n in range(50, 60)}
        del parts[laid_out]
    assert set.union(*map(values, parts.values())) == {
        (label, 1 + n + 100 * label) for label in (0, 1) for n in range(40)
    }
    assert all(parts.values())


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    flat(tmp_path, range(10))
    (tmp_path / "bee" / "0004.png").write_bytes(b"not an image at all")
    with pytest.raises(DataError, match=r"found 1 that can't: '.*0004\.png' is no image .*; mend or remove them"):
        read_folder(tmp_path, 6, 8, 1)


def test_more_than_memory_holds_is_refused_before_reading(tmp_path):
    flat(tmp_path, range(10))
    with pytest.raises(DataError, match=r"20 images of 20000x20000 pixels need .* GiB of memory, more than 8; lower"):
        read_folder(tmp_path, 20_000, 20_000, 3)


def test_images_that_cannot_be_read_are_reported_at_once_or_left_out(tmp_path):
    flat(tmp_path, range(20))
    for number in range(7):
        (tmp_path / "bee" / f"{number:04}.png").write_bytes(b"not an image" * number)
    with pytest.raises(DataError, match=r"found 7 that can't: .*; and 2 more; .* with skip_unreadable=True"):
        read_folder(tmp_path, 6, 8, 1)
    source = read_folder(tmp_path, 6, 8, 1, skip_unreadable=True)
    assert sum(len(part) for part in (source.train, source.validation, source.test)) == 33
    assert any(note.startswith("unreadable and left out: 7 images") for note in source.notes)


def test_a_group_of_files_stays_in_one_part(tmp_path):
    for label, name in enumerate(("ant", "bee")):
        for number in range(60):
            write(tmp_path / name / f"track{number // 5}_{number % 5}.png", 1 + number + 100 * label)
    source = read_folder(tmp_path, 6, 8, 1, group=r"^(.*track\d+)_")
    tracks = [{(label, (value - 1) % 100 // 5) for label, value in values(part)} for part in parts_of(source)]
    assert tracks[0] | tracks[1] | tracks[2] == {(label, track) for label in range(2) for track in range(12)}
    assert not tracks[0] & tracks[1]
    assert not (tracks[0] | tracks[1]) & tracks[2]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", r"expected group as a regular expression, got '\('"), ("x{9}", r"to match paths such as 'bee/0039\.png'")],
)
def test_a_pattern_of_groups_that_fits_nothing_is_refused(tmp_path, pattern, message):
    with pytest.raises(DataError, match=message):
        read_folder(flat(tmp_path), 6, 8, 1, group=pattern)


def test_groups_in_several_laid_out_parts_are_noted(tmp_path):
    for shift, part in enumerate(("train", "val", "test")):
        flat(tmp_path / part, range(shift * 10, shift * 10 + 4))
    shutil.copy(tmp_path / "train" / "ant" / "0000.png", tmp_path / "test" / "ant" / "copy.png")
    shutil.copy(tmp_path / "train" / "ant" / "0001.png", tmp_path / "train" / "bee" / "copy.png")
    notes = read_folder(tmp_path, 6, 8, 1).notes
    assert any("1 groups or identical files lie in several parts" in note for note in notes)
    assert any("train/ant/0001.png = train/bee/copy.png; one label is wrong" in note for note in notes)


def test_what_is_left_out_is_noted(tmp_path):
    flat(tmp_path)
    (tmp_path / "bee" / "photo.HEIC").write_text("x")
    (tmp_path / "bee" / "gone.png").symlink_to("nowhere.png")
    notes = "\n".join(read_folder(tmp_path, 6, 8, 1).notes)
    assert "left out: 1 x a HEIC photograph: convert it to JPEG" in notes
    assert "left out: 1 x a link to a file that is not there, such as " in notes


def test_labels_may_come_in_a_table(tmp_path):
    flat(tmp_path / "images")
    lines = ["path,label,group"]
    for number in range(40):
        lines += [f"images/{name}/{number:04}.png,{name}s,{name}{number // 4}" for name in ("ant", "bee")]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    source = read_folder(tmp_path, 6, 8, 1, labels="labels.csv")
    assert source.classes == labelled_files(tmp_path, "labels.csv").tree.classes == ("ants", "bees")
    groups = [{(label, (value - 1) % 100 // 4) for label, value in values(part)} for part in parts_of(source)]
    assert sum(map(len, groups)) == 20, "no group is in two parts"


@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"stra\xdfe", r"stra\\udcdfe', which holds \\udcdf, which is no UTF-8; rename it \(the program convmv"),
        (b"\x1b[31mred", r"x1b\[31mred', which holds \\x1b, a control character; rename it"),
        ("right\u202eleft".encode(), "a control character; rename it"),
        (b"two\nlines", "a control character; rename it"),
        (b" ", "which is empty; rename it"),
    ],
)
def test_a_folder_that_can_not_name_a_class_is_named_with_what_to_do(tmp_path, name, fault, parted):
    for part in ("train", "val", "test") if parted else (".",):
        ant = flat(tmp_path / part, range(4)) / "ant"
        ant.rename(ant.with_name(os.fsdecode(name)))
    for read in (lambda: read_folder(tmp_path, 6, 8, 1), lambda: labelled_files(tmp_path).tree.classes):
        with pytest.raises(DataError, match=fault) as refused:
            read()
        assert str(refused.value).isprintable()


def test_names_of_people_are_names_of_classes_and_files_may_be_called_anything(tmp_path):
    names = ["猫", "crème brûlée", "<b>&", "👩\u200d🔬", 'a,b"c']
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        for place in range(3):
            with open(os.fsencode(folder) + b"/caf\xe9\n%d.png" % place, "wb") as stream:  # noqa: PTH123 - bytes
                Image.new("L", (8, 6), 10 * place).save(stream, "PNG")
    source = read_folder(tmp_path, 6, 8, 1)
    assert list(source.classes) == sorted(names)
    assert len(source.train) == len(names)


def test_boxes_of_objects_come_with_the_images_and_are_noted(tmp_path):
    flat(tmp_path)
    lines = [f"bee/{number:04}.png,2,3,{3 + number % 6},6" for number in range(40)]
    (tmp_path / "stings.csv").write_text("\n".join(("path,xmin,ymin,xmax,ymax", *lines)))
    source = read_folder(tmp_path, 16, 16, 1)
    for part in parts_of(source):
        assert part.boxes is not None
        assert part.boxes.shape == (len(part), 1, 4)
        for image, label, box in zip(part.images, part.labels, part.boxes[:, 0], strict=True):
            if label == 0:
                assert box.isnan().all()
            else:  # 8x6 pixels in the middle of 16x16: twice as large, with 2 black rows above
                number = int(image.max()) - 101
                expected = torch.tensor([4, 2 + 6, 2 * (3 + number % 6), 2 + 12]) / 16
                assert torch.allclose(box, expected)
    used = len(source.train) + len(source.validation)
    with_boxes = int(source.train.labels.sum() + source.validation.labels.sum())
    assert source.notes[-1] == (f"boxes of objects for {with_boxes} of {used} images (stings.csv); they teach the gaze")
    assert not any("left out" in note for note in source.notes)
    without = read_folder(tmp_path, 16, 16, 1, boxes="none")
    assert all(part.boxes is None for part in parts_of(without))
    assert "left out: 1 x a file ending with .csv" in without.notes[-1]


def test_boxes_stay_with_their_images_when_others_cannot_be_read(tmp_path):
    flat(tmp_path)
    (tmp_path / "bee" / "0003.png").write_bytes(b"broken")
    lines = [f"bee/{number:04}.png,2,3,{3 + number % 6},6" for number in range(40)]
    (tmp_path / "stings.csv").write_text("\n".join(("path,x1,y1,x2,y2", *lines)))
    source = read_folder(tmp_path, 6, 8, 1, skip_unreadable=True)
    assert sum(map(len, parts_of(source))) == 79
    for part in parts_of(source):
        assert part.boxes is not None
        for image, box in zip(part.images[part.labels == 1], part.boxes[part.labels == 1], strict=True):
            assert torch.allclose(box[0], torch.tensor([2 / 8, 3 / 6, (3 + (int(image.max()) - 101) % 6) / 8, 1]))


def test_the_canvas_follows_from_the_training_folder_alone(tmp_path):
    for part, size in (("train", (50, 44)), ("val", (300, 300)), ("test", (9, 200))):
        for name in ("ant", "bee"):
            for number in range(3):
                write(tmp_path / part / name / f"{number}.png", 10 * number + len(part) + len(name), size)
    (tmp_path / "train" / "ant" / "torn.png").write_bytes(b"no image")
    source = read_folder(tmp_path, None, None, 1, skip_unreadable=True)
    assert {tuple(part.images.shape[1:]) for part in parts_of(source)} == {(1, 48, 48)}
    assert "images of 44 to 50 pixels a side, 44x50 in the middle: scaled to 48x48" in source.notes


def test_of_images_that_nobody_can_read_the_error_tells_and_no_size_fails(tmp_path):
    for name in ("ant", "bee"):
        for number in range(4):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"no image" + bytes([number]) + name.encode())
    with pytest.raises(DataError, match="expected images that can be read, found 8 that can't"):
        read_folder(tmp_path, None, None, 1)


def test_a_folder_is_squashed_as_a_model_is_given_its_images(tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (30, 70, 3), np.uint8)
    for number in range(8):
        path = tmp_path / ("ant", "bee")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(wide, number, 1)).save(path)
    source = read_folder(tmp_path, 20, 24, 3, size_policy="squash")
    expected = {fit(np.roll(wide, number, 1), 20, 24, 3, "squash").tobytes() for number in range(8)}
    read = {image.permute(1, 2, 0).numpy().tobytes() for part in parts_of(source) for image in part.images}
    assert read == expected
