"""The data module on folders of images: sizes, boxes, options of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.data.datamodule import ImageData, complete_options
from glimpse.data.datasets import DataError
from glimpse.data.folder import labelled_files


@pytest.mark.parametrize("options", [{"jitter": 3}, {"canvas_height": 30, "canvas_width": 40}, {}])
def test_boxes_of_objects_move_with_the_images(tmp_path, options):
    lines = ["path,left,top,right,bottom"]
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(8):
            pixels = np.zeros((16, 20), np.uint8)
            pixels[4 : 6 + number, 5:9] = 255
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
            lines.append(f"{name}/{number}.png,5,4,9,{6 + number}")
    (tmp_path / "legs.csv").write_text("\n".join(lines))
    data = ImageData("folder", str(tmp_path), image_height=16, image_width=20, channels=1, seed=5, **options)
    part = data.source.train
    assert part.boxes is not None
    assert part.boxes.shape == (len(part), 1, 4)
    drawn, boxes = data.draw(part.images, 2, 7), data.draw_boxes(part.images, part.boxes, 2, 7)
    height, width = drawn.shape[2:]
    for image, box in zip(drawn, boxes, strict=True):
        rows, columns = image[0].nonzero().unbind(1)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (box[0] * torch.tensor([width, height, width, height])).round().tolist() == expected
    assert ImageData("folder", str(tmp_path), boxes="none").source.train.boxes is None


def folder_of(root: Path, *sizes: tuple[int, int], value: int = 200) -> Path:
    """Ten images of two classes; their (width, height) come in turn."""
    for number in range(20):
        path = root / ("ant", "bee")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", sizes[number % len(sizes)], value + number).save(path)
    return root


def test_a_folder_has_a_canvas_like_its_images_and_its_options_say_which(tmp_path):
    data = ImageData("folder", str(folder_of(tmp_path, (100, 48), (130, 66))))
    assert data.image_shape == [3, 64, 128]
    assert (data.source.train.images.amin((1, 2, 3)) >= 200).all()  # no black beside any of them
    assert data.size_policy == "squash"
    again = ImageData(**data.hparams)
    folder_of(tmp_path, (500, 500))
    assert again.image_shape == [3, 64, 128]
    assert again.size_policy == "squash"


def test_a_letterbox_keeps_proportions_and_leaves_black(tmp_path):
    data = ImageData("folder", str(folder_of(tmp_path, (30, 60))), image_height=40, image_width=40, fit="letterbox")
    images = data.source.train.images
    assert (images[..., :10] == 0).all()
    assert (images[..., 11:29] >= 200).all()
    assert data.size_policy == "fit"


def test_a_canvas_with_clutter_keeps_its_own_policy(tmp_path):
    data = ImageData("folder", str(folder_of(tmp_path, (40, 40))), canvas_height=90, canvas_width=80)
    assert data.image_shape == [3, 90, 80]
    assert data.source.train.images.shape[1:] == (3, 48, 48)
    assert data.size_policy == ImageData("digits").size_policy == "fit"


def test_the_options_of_an_earlier_version_mean_what_they_meant():
    assert complete_options({"dataset": "folder", "image_height": None, "image_width": 96, "seed": 3}) == {
        "dataset": "folder",
        "channels": 3,
        "fit": "letterbox",
        "image_height": 64,
        "image_width": 96,
        "seed": 3,
    }
    for options in ({"dataset": "mnist"}, {"dataset": "folder", "fit": "squash", "image_height": 48}, {}):
        assert complete_options(options) == options


@pytest.mark.parametrize(
    ("option", "value"), [("near_duplicates", False), ("near_duplicates", True), ("cache", "here")]
)
def test_options_of_folders_are_refused_with_other_data_sets(option, value):
    with pytest.raises(DataError, match=f"expected {option} with the data set folder alone, got {value} with digits"):
        ImageData("digits", **{option: value})


def test_a_folder_is_walked_once_and_may_be_cached(tmp_path, monkeypatch):
    for name in ("ant", "bee"):
        flat = tmp_path / "photos" / name
        flat.mkdir(parents=True)
        for number in range(9):
            Image.new("L", (8, 6), 10 * number).save(flat / f"{number}.png")
    walks = []

    def counted(root, labels=None):
        walks.append(root)
        return labelled_files(root, labels)

    monkeypatch.setattr("glimpse.data.datamodule.labelled_files", counted)
    data = ImageData("folder", str(tmp_path / "photos"), cache=str(tmp_path / "cache"))
    assert data.classes == ["ant", "bee"]
    assert len(data.source.train) + len(data.source.validation) + len(data.source.test) == 18
    assert len(walks) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2
