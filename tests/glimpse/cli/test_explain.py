from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from PIL import Image

from glimpse.cli.app import main
from glimpse.cli.explain import TITLES, explain
from glimpse.data.datamodule import ImageData
from glimpse.drawing.layout import GAP, PADDING
from glimpse.evaluation.maps import MAP_METHODS, explicit_maps, implicit_maps
from glimpse.images import pixels
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families import FAMILIES

SMALL: dict[str, dict[str, Any]] = {
    "hard": {"num_glimpses": 2, "hidden": 8, "gaze_hidden": 8},
    "soft": {"num_glimpses": 2, "hidden": 8, "widths": [8, 8], "depths": [1, 1]},
    "cnn": {"widths": [8, 8], "depths": [1, 1]},
}


def data() -> ImageData:
    return ImageData("digits", canvas_height=24, canvas_width=32, num_pieces=1)


def training_of(kind: str) -> ClassifierTraining:
    torch.manual_seed(0)
    source = data()
    return FAMILIES[kind](source.classes, source.image_shape, **SMALL[kind]).eval()


@pytest.fixture(scope="module", params=sorted(SMALL))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of each kind, as a checkpoint."""
    path = tmp_path_factory.mktemp("run") / f"{request.param}.ckpt"
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(training_of(request.param))
    trainer._data_connector.attach_datamodule(training_of(request.param), datamodule=data())
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, _ = data().test_dataloader().dataset[0]
    path = tmp_path_factory.mktemp("images") / "digit.png"
    Image.fromarray(images[0, 0].numpy()).save(path)
    return path


def test_every_method_has_a_title():
    assert TITLES.keys() == MAP_METHODS.keys()


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_the_maps_are_those_of_the_observer(kind, monkeypatch):
    training = training_of(kind)
    images, _ = data().test_dataloader().dataset[0]
    shown: list[tuple[str, np.ndarray]] = []

    def watched(
        canvas: np.ndarray, maps: list[tuple[str, np.ndarray]], columns: int, note: str, longest: int
    ) -> Image.Image:
        shown.extend(maps)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("glimpse.drawing.heatmap.draw_maps", watched)
    explain(training, images[3].permute(1, 2, 0).numpy(), ["jacobian"], output=4)
    observer = training.observer
    with torch.no_grad():
        expected = explicit_maps(observer, observer(images[3:4]), 24, 32)
    assert [title for title, _ in shown] == {
        "hard": ["where it looked", "Jacobian"],
        "soft": ["where it attended", "Jacobian"],
        "cnn": ["Jacobian"],
    }[kind]
    if expected is not None:
        np.testing.assert_allclose(shown[0][1], expected[0])
    jacobian = implicit_maps(observer, images[3:4], torch.tensor([4]))
    np.testing.assert_allclose(shown[-1][1], jacobian[0])


def test_images_are_explained_from_the_command_line(checkpoint, image, tmp_path, capsys):
    assert main(["explain", str(checkpoint), str(image), "--output", str(tmp_path / "maps"), "--class", "3"]) == 0
    assert "digit.png: " in capsys.readouterr().out
    with Image.open(tmp_path / "maps" / "digit.png") as picture:
        assert picture.width > picture.height


def test_an_unknown_class_and_a_file_that_is_no_image_are_named(checkpoint, image, tmp_path, capsys):
    output = ["--output", str(tmp_path / "maps")]
    assert main(["explain", str(checkpoint), str(image), *output, "--class", "ten"]) == 2
    assert "expected a class out of 0, 1, 2" in capsys.readouterr().err
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    assert main(["explain", str(checkpoint), str(broken), str(image), *output]) == 1
    assert "broken.png" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["digit.png"]


@pytest.mark.parametrize(
    ("size", "panel"), [((400, 300), (400, 300)), ((1920, 1200), (960, 600)), ((20, 12), (256, 192))]
)
def test_a_photograph_is_drawn_in_its_own_size_up_to_a_limit(size, panel):
    training = training_of("cnn")
    photograph = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    picture, _ = explain(training, photograph, ["jacobian"])
    assert picture.width == 2 * PADDING + 2 * panel[0] + GAP
    if panel == size:  # every pixel of the photograph is there
        top = PADDING + 26
        shown = np.asarray(picture)[top : top + size[1], PADDING : PADDING + size[0]]
        np.testing.assert_array_equal(shown, photograph)


def test_the_map_of_a_photograph_lies_where_the_canvas_shows_it(monkeypatch):
    training, shown = training_of("cnn"), []
    monkeypatch.setattr("glimpse.drawing.heatmap.draw_maps", lambda image, maps, **_: shown.append((image, maps)))
    photograph = np.zeros((120, 40, 1), np.uint8)
    photograph[:60] = 255  # on a canvas of 24 x 32 it takes 8 columns in the middle
    explain(training, photograph, ["jacobian"], output=2)
    ((drawn, ((_, map_),)),) = shown
    canvas = torch.from_numpy(pixels.fit(photograph, 24, 32, 1)).permute(2, 0, 1)[None]
    expected = implicit_maps(training.observer, canvas, torch.tensor([2]))[0, :, 12:20].numpy()
    assert drawn.shape[:2] == map_.shape == (120, 40)
    np.testing.assert_array_equal(map_, expected.repeat(5, axis=0).repeat(5, axis=1))


def test_the_map_of_a_squashed_photograph_covers_it(monkeypatch):
    training, shown = training_of("cnn"), []
    monkeypatch.setattr("glimpse.drawing.heatmap.draw_maps", lambda image, maps, **_: shown.append((image, maps)))
    photograph = np.zeros((12, 128, 1), np.uint8)
    photograph[:, 30:90] = 255
    explain(training, photograph, ["jacobian"], 2, None, "squash")
    ((drawn, ((_, map_),)),) = shown
    canvas = torch.from_numpy(pixels.fit(photograph, 24, 32, 1, "squash")).permute(2, 0, 1)[None]
    expected = implicit_maps(training.observer, canvas, torch.tensor([2]))[0].numpy()
    assert drawn.shape[:2] == map_.shape == (12, 128)
    np.testing.assert_array_equal(map_, expected[1::2].repeat(4, axis=1))


def test_the_maps_begin_at_the_first_location(monkeypatch):
    training, first = training_of("hard"), torch.tensor([[0.5, -0.75]])
    images, _ = data().test_dataloader().dataset[0]
    shown: list[np.ndarray] = []

    def watched(canvas: np.ndarray, maps: list[tuple[str, np.ndarray]], **_: Any) -> Image.Image:
        shown.extend(values for _, values in maps)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("glimpse.drawing.heatmap.draw_maps", watched)
    explain(training, images[3].permute(1, 2, 0).numpy(), ["jacobian"], 4, (0.5, -0.75))
    observer = training.observer
    with torch.no_grad():
        looked = explicit_maps(observer, observer(images[3:4], first), 24, 32)
    assert looked is not None
    np.testing.assert_allclose(shown[0], looked[0])
    np.testing.assert_allclose(shown[1], implicit_maps(observer, images[3:4], torch.tensor([4]), "jacobian", first)[0])
    assert not np.allclose(shown[1], implicit_maps(observer, images[3:4], torch.tensor([4]))[0])


def test_the_first_location_is_an_option_for_models_with_a_retina(checkpoint, image, tmp_path, capsys):
    asked = ["explain", str(checkpoint), str(image), "--output", str(tmp_path / "maps"), "--first-location", "-1,0.5"]
    if checkpoint.stem == "hard":
        assert main(asked) == 0
    else:
        assert main(asked) == 2
        assert "--first-location: the model has no retina" in capsys.readouterr().err
