import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from PIL import Image

from glimpse import commands
from glimpse.commands import card_of, evaluate_checkpoint, export_checkpoint, load_with_data
from glimpse.data.datamodule import ImageData
from glimpse.data.sources import DataError
from glimpse.export import ExportError, Parity
from glimpse.training.checkpoint import CheckpointError, load_training
from glimpse.training.hard import HardAttentionTraining


def images(root: Path, *classes: str) -> Path:
    """ROOT/CLASS/image, thirty images in each."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(30):
            Image.new("L", (20, 16), 40 * label + number).save(root / name / f"{number:02}.png")
    return root


def save(path: Path, **options: Any) -> Path:
    """A checkpoint of a tiny model, as training writes it."""
    data = ImageData(**options)
    training = HardAttentionTraining(
        data.classes, data.image_shape, num_glimpses=2, glimpse_size=4, num_scales=2, hidden=8, gaze_hidden=8
    )
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(training)
    trainer._data_connector.attach_datamodule(training, datamodule=data)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that was trained on a folder of ants and bees."""
    root = images(tmp_path / "insects", "ant", "bee")
    return save(tmp_path / "last.ckpt", dataset="folder", root=str(root), image_height=16, image_width=20, channels=1)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_checkpoint_is_evaluated_on_the_part_that_is_asked_for(checkpoint, part):
    evaluation = evaluate_checkpoint(checkpoint, part)
    data = load_with_data(checkpoint)[1]
    assert evaluation.images == len(data.source.test if part == "test" else data.source.validation)
    assert [report.name for report in evaluation.per_class] == ["ant", "bee"]


def test_a_class_that_came_or_went_is_told_with_both_lists(checkpoint, tmp_path):
    images(tmp_path / "insects", "wasp")
    changed = r"last.ckpt was trained on the classes ant, bee; the data under .*insects now have ant, bee, wasp; give"
    for run in (evaluate_checkpoint, export_checkpoint):
        with pytest.raises(CheckpointError, match=changed):
            run(checkpoint)
    for name in ("bee", "wasp"):
        shutil.rmtree(tmp_path / "insects" / name)
    images(tmp_path / "insects", "beetle")
    with pytest.raises(CheckpointError, match="now have ant, beetle; "):
        evaluate_checkpoint(checkpoint)
    assert not (tmp_path / "model.onnx").exists()


def test_images_of_another_shape_are_refused(checkpoint, monkeypatch):
    training, data = load_training(checkpoint)
    training.image_shape = (1, 16, 24)
    monkeypatch.setattr(commands, "load_training", lambda path, root: (training, data))
    with pytest.raises(CheckpointError, match=r"was trained on images of the shape 1, 16, 24; the data .* 1, 16, 20; "):
        evaluate_checkpoint(checkpoint)


def test_data_that_are_not_there_are_asked_for_with_an_option_that_there_is(checkpoint, tmp_path):
    for run in (evaluate_checkpoint, export_checkpoint):
        with pytest.raises(DataError, match=r"a folder of images at nowhere, found none; give one with --root$"):
            run(checkpoint, root="nowhere")
    saved = torch.load(checkpoint, weights_only=True)
    saved["datamodule_hyper_parameters"] = {"dataset": "mnist", "root": str(tmp_path), "download": True}
    torch.save(saved, checkpoint)
    with pytest.raises(DataError, match=r"no complete copy of it; give its folder with --root or GLIMPSE_DATA$"):
        evaluate_checkpoint(checkpoint)


def test_a_file_that_is_no_checkpoint_is_told(tmp_path):
    for run in (evaluate_checkpoint, export_checkpoint):
        with pytest.raises(CheckpointError, match=r"expected a checkpoint at .*no.ckpt, found nothing"):
            run(tmp_path / "no.ckpt")


def test_an_exported_files_name_says_what_it_is(checkpoint):
    with pytest.raises(ExportError, match=r"expected a file name that ends in .onnx, got model.pt; change --output"):
        export_checkpoint(checkpoint, Path("model.pt"))


def test_an_export_gets_test_images_and_a_card_with_the_test_error(checkpoint, monkeypatch):
    seen: list[Any] = []

    def export(episode, card, path, shown):
        seen.append(shown)
        return Parity(len(shown), 0.0, 0, 0)

    monkeypatch.setattr(commands, "export_episode", export)
    path, card, parity = export_checkpoint(checkpoint)
    assert path == checkpoint.parent / "model.onnx"
    assert card.test_error == evaluate_checkpoint(checkpoint).error
    test = load_with_data(checkpoint)[1].source.test
    assert torch.equal(seen[0], test.images)
    assert parity.images == len(test)


def test_a_card_describes_model_and_data_without_their_place(checkpoint):
    training, data = load_training(checkpoint)
    card = card_of(training, data, None)
    assert (card.classes, card.channels, card.height, card.width) == (("ant", "bee"), 1, 16, 20)
    assert (card.num_glimpses, card.glimpse_size, card.num_scales, card.test_error) == (2, 4, 2, None)
    assert card.data == "insects"
    assert card.recipe["model"]["hidden"] == 8
    assert card.recipe["data"]["image_width"] == 20
    assert not {"root", "download"} & set(card.recipe["data"])
    assert not {"classes", "image_shape"} & set(card.recipe["model"])
