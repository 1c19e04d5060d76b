"""What each family owes the rest: a name of its own, and a checkpoint that comes back as it was."""

from pathlib import Path

import pytest
import pytorch_lightning as lightning
import torch

from glimpse.data.datamodule import ImageData
from glimpse.training import classifier
from glimpse.training.checkpoint import CheckpointError, load_training, read_checkpoint
from glimpse.training.families import FAMILIES


def save(kind: str, path: Path) -> Path:
    """A checkpoint of an untrained model with the family's defaults, as training writes it."""
    data = ImageData("digits", canvas_height=32, canvas_width=32)
    torch.manual_seed(0)
    training = FAMILIES[kind](data.classes, data.image_shape)
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(training)
    trainer._data_connector.attach_datamodule(training, datamodule=data)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_checkpoint_comes_back_as_the_family_that_it_was(kind, tmp_path):
    path = save(kind, tmp_path / "last.ckpt")
    saved = read_checkpoint(path)
    assert saved["glimpse_model"] == kind
    training, _ = load_training(path)
    assert type(training) is FAMILIES[kind]
    assert not training.training
    assert all(torch.equal(weight, saved["state_dict"][name]) for name, weight in training.state_dict().items())


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_observes_images_and_leaves_a_trace(kind, tmp_path):
    training, _ = load_training(save(kind, tmp_path / "last.ckpt"))
    observer = training.observer
    images = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trace, again = training(images), observer(images)
    assert torch.equal(trace.logits, again.logits)
    assert trace.logits.shape == (3, observer.num_glimpses, 10)
    assert trace.locations.shape == (3, observer.num_glimpses, 2)
    assert trace.logits.isfinite().all()
    if trace.maps is not None:
        assert trace.maps.shape[:2] == (3, observer.num_glimpses)
        torch.testing.assert_close(trace.maps.sum((2, 3)), torch.ones(3, observer.num_glimpses))
    assert observer.pixels_sensed(1, 32, 32) > 0
    assert {"mean", "std"} <= dict(observer.model.named_buffers()).keys()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("kind", FAMILIES)
def test_each_family_weighs_the_classes(kind, monkeypatch):
    def loss_under(weights: torch.Tensor) -> float:
        monkeypatch.setattr(classifier, "balanced_weights", lambda images: weights)
        torch.manual_seed(0)
        data = ImageData("digits", batch_size=16)
        training = FAMILIES[kind](data.classes, data.image_shape, class_weights="balanced")
        trainer = lightning.Trainer(
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=1,
            limit_val_batches=0,
        )
        trainer.fit(training, data)
        return float(trainer.callback_metrics["train_loss"])

    even, all_alike = loss_under(torch.ones(10)), loss_under(torch.full((10,), 7.0))
    assert all_alike == pytest.approx(7 * even)
    assert loss_under(torch.arange(1.0, 11.0)) != pytest.approx(5.5 * even)


@pytest.mark.parametrize("kind", FAMILIES)
def test_each_family_measures_at_least_its_loss(kind):
    assert FAMILIES[kind].kind == kind
    assert "train_loss" in FAMILIES[kind].figures


def test_a_checkpoint_of_a_family_that_nobody_knows_is_refused(tmp_path):
    path = save("hard", tmp_path / "last.ckpt")
    torch.save({**torch.load(path, weights_only=True), "glimpse_model": "telepathy"}, path)
    with pytest.raises(
        CheckpointError, match=r"of the kind hard.*; .*last.ckpt holds one of the kind 'telepathy'; use"
    ):
        load_training(path)
