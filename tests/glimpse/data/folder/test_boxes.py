from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.data.datasets import DataError
from glimpse.data.folder.boxes import JOINED, MOST_BOXES, boxes_in, find_boxes, on_canvas
from glimpse.data.folder.tree import read_tree

HEADER = "path,left,top,right,bottom\n"
CLASSES = ("bolt", "nut")


def write(path: Path, size: tuple[int, int] = (40, 20), boxes: tuple[tuple[int, int, int, int], ...] = ()) -> None:
    """An image or a mask of a size (width, height), white in the boxes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = 255
    Image.fromarray(pixels).save(path)


def images(root: Path, count: int = 3, suffix: str = ".png") -> None:
    for name in CLASSES:
        for number in range(count):
            write(root / name / f"{number}{suffix}")


def found(root: Path, given: str | None = None) -> dict[str, Any]:
    """Boxes in pixels of a 40x20 image by the path below the folder."""
    boxes = read(root, given)
    return {
        path.relative_to(root).as_posix(): (of_image * (40, 20, 40, 20)).round(3).tolist()
        for path, of_image in (boxes.of if boxes else {}).items()
    }


def read(root: Path, given: str | None = None) -> Any:
    tree = read_tree(root)
    files = [path for of_class in tree.parts.values() for paths in of_class.values() for path in paths]
    return find_boxes(root, tree.top, files, given)


@pytest.mark.parametrize(
    "header",
    [
        "path,left,top,right,bottom",
        "Filename,label,XMin,YMin,XMax,YMax",
        "x1;class;y1;x2;y2;image",
        "width\tfile\txmin\tymin\txmax\tymax",
    ],
)
def test_a_table_of_boxes_is_found_by_its_columns(tmp_path, header):
    images(tmp_path)
    delimiter = next(mark for mark in ",;\t" if mark in header)
    (tmp_path / "prices.csv").write_text("path,price\nbolt/0.png,3\n")
    values = {"left": 10, "top": 5, "right": 30.5, "bottom": 20}
    values |= dict(
        zip(("xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2"), 2 * list(values.values()), strict=True)
    )
    lines = [header]
    for name in ("bolt/0.png", "nut/2.png"):
        names = header.lower().split(delimiter)
        lines.append(
            delimiter.join(
                str(values.get(column, name if column in ("path", "filename", "image", "file") else "large"))
                for column in names
            )
        )
    (tmp_path / "any name.csv").write_text("\n".join(lines))
    assert found(tmp_path) == {"bolt/0.png": [[10, 5, 30.5, 20]], "nut/2.png": [[10, 5, 30.5, 20]]}
    assert read(tmp_path).source == tmp_path / "any name.csv"


def test_an_image_may_have_several_boxes_or_a_line_without_one(tmp_path):
    images(tmp_path)
    (tmp_path / "things.csv").write_text(
        f"{HEADER}nut/1.png,1,1,3,3\nbolt/2.png,,,,\nnut/1.png,5,5,20,20\n./bolt\\1.png,0,0,40,20\n"
    )
    assert found(tmp_path) == {"nut/1.png": [[5, 5, 20, 20], [1, 1, 3, 3]], "bolt/1.png": [[0, 0, 40, 20]]}


def test_of_many_boxes_the_largest_are_kept(tmp_path):
    images(tmp_path)
    lines = [f"nut/1.png,0,0,{1 + number},20\n" for number in range(MOST_BOXES + 5)]
    (tmp_path / "things.csv").write_text(HEADER + "".join(lines))
    kept = found(tmp_path)["nut/1.png"]
    assert [box[2] for box in kept] == list(range(MOST_BOXES + 5, 5, -1))


def test_rows_are_filled_up_with_nan(tmp_path):
    images(tmp_path)
    (tmp_path / "things.csv").write_text(f"{HEADER}nut/1.png,0,0,40,20\nnut/1.png,0,0,20,10\nbolt/0.png,10,5,20,10\n")
    boxes = read(tmp_path)
    rows = boxes.rows([tmp_path / "bolt/0.png", tmp_path / "bolt/1.png", tmp_path / "nut/1.png"])
    assert rows.dtype == torch.float32
    nothing = [torch.nan] * 4
    expected = [[[0.25, 0.25, 0.5, 0.5], nothing], [nothing, nothing], [[0, 0, 1, 1], [0, 0, 0.5, 0.5]]]
    assert torch.allclose(rows, torch.tensor(expected), equal_nan=True)
    assert boxes.note([tmp_path / "bolt/0.png", tmp_path / "bolt/1.png"]) == (
        "boxes of objects for 1 of 2 images (things.csv); they teach the gaze"
    )
    assert boxes.note([tmp_path / "bolt/1.png"]).endswith("for 0 of 1 images (things.csv); none teaches the gaze")


def test_boxes_are_of_the_upright_image(tmp_path):
    images(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (20, 40)).save(tmp_path / "nut" / "turned.jpg", exif=exif)
    (tmp_path / "things.csv").write_text(f"{HEADER}nut/turned.jpg,20,10,40,20\n")
    assert found(tmp_path) == {"nut/turned.jpg": [[20, 10, 40, 20]]}


def test_all_faults_of_a_table_are_reported_at_once(tmp_path):
    images(tmp_path)
    (tmp_path / "things.csv").write_text(
        f"{HEADER}nut/7.png,1,1,3,3\n,1,1,3,3\nnut/0.png,1,1,x,3\nnut/0.png,1,1,3,\nnut/1.png,5,5,5,9\n"
        "nut/2.png,0.1,0.1,0.4,0.9\nbolt/0.png,30,10,41,20\nbolt/1.png,-2,0,9,9\nbolt/2.png,nan,0,9,9\nbolt/0.png,0,0,9,9\n"
    )
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    for fault in (
        "to name an image and a box in its pixels (left, top, right, bottom); line 2 names nut/7.png, which is not",
        "line 3 names no image",
        "line 4 has the box 1, 1, x, 3, which is no four numbers",
        "line 5 has the box 1, 1, 3, , which is no four numbers",
        "line 6 has the box 5, 5, 5, 9, less than a pixel wide or high",
        "line 7 has the box 0.1, 0.1, 0.4, 0.9, less than a pixel wide or high",
        "line 8 has the box 30, 10, 41, 20, not within the 40x20 pixels (width x height) of 0.png",
        "line 9 has the box -2, 0, 9, 9, not within",
        "line 10 has the box nan, 0, 9, 9, less than a pixel",
        "mend or remove them, or train without boxes by boxes='none'",
    ):
        assert fault in str(caught.value)
    assert "line 11" not in str(caught.value)
    assert found(tmp_path, "none") == {}


def test_many_faults_are_counted(tmp_path):
    images(tmp_path)
    (tmp_path / "things.csv").write_text(HEADER + "".join(f"{number}.png,0,0,9,9\n" for number in range(30)))
    with pytest.raises(DataError, match="and 20 more faults"):
        read(tmp_path)


def test_an_image_that_cannot_be_read_is_no_fault_of_the_table(tmp_path):
    images(tmp_path)
    (tmp_path / "nut" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "things.csv").write_text(f"{HEADER}nut/1.png,0,0,9,9\nnut/2.png,0,0,9,9\n")
    assert list(found(tmp_path)) == ["nut/2.png"]


def test_of_two_tables_one_is_to_be_named(tmp_path):
    images(tmp_path)
    for name in ("old.csv", "new.csv"):
        (tmp_path / name).write_text(f"{HEADER}nut/1.png,0,0,{len(name)},9\n")
    with pytest.raises(
        DataError, match=r"expected one table with boxes of objects, found .*new\.csv, .*old\.csv; name"
    ):
        read(tmp_path)
    assert found(tmp_path, "old.csv") == {"nut/1.png": [[0, 0, 7, 9]]}


def test_a_table_may_lie_elsewhere(tmp_path):
    images(tmp_path / "images")
    (tmp_path / "things.csv").write_text(f"{HEADER}nut/1.png,0,0,10,9\n")
    assert found(tmp_path / "images", str(tmp_path / "things.csv")) == {"nut/1.png": [[0, 0, 10, 9]]}


@pytest.mark.parametrize("below", ["", "archive"])
def test_a_table_beside_parts_is_found_in_an_unpacked_archive(tmp_path, below):
    for part in ("train", "test"):
        images(tmp_path / below / part)
    (tmp_path / below / "things.csv").write_text(f"{HEADER}train/nut/1.png,0,0,10,9\ntest/bolt/0.png,1,1,9,9\n")
    places = [(Path(below) / name).as_posix() for name in ("train/nut/1.png", "test/bolt/0.png")]
    assert found(tmp_path) == {places[0]: [[0, 0, 10, 9]], places[1]: [[1, 1, 9, 9]]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.csv", r"expected boxes as a table or a folder of masks, got 'nowhere\.csv', which is not there"),
        (
            "prices.csv",
            r"expected a table with the columns path, left, top, right and bottom at .*, found path, price;",
        ),
        ("nut", r"expected a folder of masks that are named as the images of .* are, found none in .*nut; lay them"),
    ],
)
def test_what_is_given_must_be_boxes(tmp_path, given, message):
    images(tmp_path)
    (tmp_path / "prices.csv").write_text("path,price\nbolt/0.png,3\n")
    with pytest.raises(DataError, match=message):
        read(tmp_path, given)


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("images", "masks"),
        ("Images", "Ground Truth"),
        ("imgs", "mask"),
        (".", "annotations"),
        ("images/train", "ground_truth/train"),
        ("train", "masks/train"),
        ("train/images", "train/masks"),
    ],
)
def test_masks_that_mirror_the_images_are_found(tmp_path, pictures, masks):
    images(tmp_path / pictures, suffix=".jpg")
    write(tmp_path / masks / "nut" / "1.png", boxes=((4, 5, 20, 12),))
    write(tmp_path / masks / "bolt" / "0_mask.tif", boxes=((30, 0, 40, 5),))
    write(tmp_path / masks / "bolt" / "2.png")
    folder = Path(pictures)
    assert found(tmp_path) == {
        (folder / "nut/1.jpg").as_posix(): [[4, 5, 20, 12]],
        (folder / "bolt/0.jpg").as_posix(): [[30, 0, 40, 5]],
    }
    assert read_tree(tmp_path).classes == CLASSES
    shown = Path(masks).parts[-1 if pictures == "train/images" else 0]
    assert f"for 2 of 6 images ({shown}/); they" in read(tmp_path).note(
        path for of_class in read_tree(tmp_path).parts["train"].values() for path in of_class
    )


def test_masks_in_every_class_are_found(tmp_path):
    for name in CLASSES:
        write(tmp_path / name / "images" / "7.png")
        write(tmp_path / name / "masks" / "7.png", boxes=((1, 2, 9, 9),))
    assert found(tmp_path) == {f"{name}/images/7.png": [[1, 2, 9, 9]] for name in CLASSES}


def test_masks_beside_the_folder_of_images_that_is_given_are_found(tmp_path):
    images(tmp_path / "images")
    write(tmp_path / "masks" / "nut" / "1.bmp", boxes=((4, 5, 20, 12),))
    assert found(tmp_path / "images") == {"nut/1.png": [[4, 5, 20, 12]]}
    images(tmp_path / "screws")
    assert found(tmp_path / "screws") == {}
    assert found(tmp_path / "screws", str(tmp_path / "masks")) == {"nut/1.png": [[4, 5, 20, 12]]}


def test_masks_that_are_all_zero_are_images_without_objects(tmp_path):
    images(tmp_path / "images")
    images(tmp_path / "masks")
    boxes = read(tmp_path)
    assert boxes.of == {}
    assert boxes.rows([tmp_path / "images/nut/1.png"]).isnan().all()


def test_all_faults_of_masks_are_reported_at_once(tmp_path):
    images(tmp_path / "images")
    images(tmp_path / "masks")
    write(tmp_path / "masks" / "nut" / "1.png", size=(20, 40))
    (tmp_path / "masks" / "bolt" / "2.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    for fault in (
        "expected masks that can be read, each of its image's size",
        "1.png has 20x40 pixels, its image 1.png has 40x20",
        "2.png' is empty",
        "mend or remove them",
    ):
        assert fault in str(caught.value)


def test_what_is_not_zero_is_an_object_whatever_the_mask_is(tmp_path):
    images(tmp_path / "images")
    folder = tmp_path / "masks" / "nut"
    folder.mkdir(parents=True)
    pixels = np.zeros((20, 40), np.uint16)
    pixels[5:15, 10:30] = 1
    Image.fromarray(pixels).save(folder / "0.png")
    palette = Image.fromarray(pixels.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(folder / "1.png")
    noisy = np.random.default_rng(0).integers(0, 20, (20, 40)).astype(np.uint8)
    noisy[5:15, 10:30] += 230
    Image.fromarray(noisy).save(folder / "2.jpg", quality=95)
    assert found(tmp_path) == {f"images/nut/{number}.png": [[10, 5, 30, 15]] for number in range(3)}


def test_each_region_of_a_mask_is_a_box_and_near_regions_are_one():
    mask = np.zeros((60, 90), bool)
    mask[10:12, 10:15] = mask[10:12, 15 + JOINED : 25] = True
    mask[30:50, 60:70] = mask[50 + JOINED + 1 :, 60:70] = True
    mask[40, 0] = True
    assert boxes_in(mask) == [(60, 30, 70, 50), (60, 55, 70, 60), (10, 10, 25, 12), (0, 40, 1, 41)]


def test_a_mask_gives_so_many_boxes_at_most():
    mask = np.zeros((200, 200), bool)
    for number in range(36):
        row, column = divmod(number, 6)
        mask[30 * row : 30 * row + 5 + (number % 7), 30 * column : 30 * column + 5] = True
    boxes = boxes_in(mask)
    assert len(boxes) == MOST_BOXES
    assert min(bottom - top for _, top, _, bottom in boxes) >= 8


def test_boxes_go_with_the_image_onto_a_canvas():
    nothing = [torch.nan] * 4
    boxes = torch.tensor([[[0, 0, 1, 1], [0.5, 0.25, 0.75, 0.5]], [[0, 0, 0.1, 1], nothing]])
    places = torch.tensor([[0, 10, 40, 30], [-8, 0, 32, 20]])
    moved = on_canvas(boxes, places, 40, 80)
    expected = [[[0, 0.25, 0.5, 0.75], [0.25, 0.375, 0.375, 0.5]], [nothing, nothing]]
    assert torch.allclose(moved, torch.tensor(expected), equal_nan=True)
    clipped = on_canvas(torch.tensor([[[0.1, 0.5, 0.6, 1]]]), torch.tensor([[-8, 0, 32, 20]]), 15, 40)
    assert torch.allclose(clipped, torch.tensor([[[0, 10 / 15, 0.4, 1]]]))
