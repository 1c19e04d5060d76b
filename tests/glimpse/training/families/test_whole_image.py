"""The training of what takes the image in at once, of each of the three families."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch

from glimpse.data.datamodule import ImageData
from glimpse.training.checkpoint import load_training
from glimpse.training.families import FAMILIES
from tests.support.spellings import rejected

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

SMALL: dict[str, dict[str, Any]] = {
    "self": {"features": 16, "heads": 2, "layers": 2, "learning_rate": 5e-3},
    "cnn": {"widths": [8, 16], "depths": [1, 1], "learning_rate": 1e-2},
    "mlp": {"hidden": 32, "learning_rate": 5e-3},
}
every_family = pytest.mark.parametrize("kind", SMALL)


def training_of(kind: str, shape: tuple[int, ...] = (1, 24, 24), **options: Any) -> Any:
    torch.manual_seed(0)
    return FAMILIES[kind](list("0123456789"), list(shape), **(SMALL[kind] | options))


class Losses(lightning.Callback):
    """Notes the loss of every step."""

    def __init__(self) -> None:
        self.noted: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.noted.append(float(outputs["loss"]))


def fit(training: Any, save: Path) -> tuple[list[float], lightning.Trainer]:
    losses = Losses()
    trainer = lightning.Trainer(
        max_epochs=1,
        limit_train_batches=16,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        callbacks=[losses],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(training, ImageData("digits", batch_size=64))
    trainer.save_checkpoint(save)
    return losses.noted, trainer


@every_family
def test_the_loss_falls_is_noted_and_the_model_comes_back(kind, tmp_path):
    training = training_of(kind)
    losses, trainer = fit(training, tmp_path / "last.ckpt")
    assert np.mean(losses[-5:]) < 0.92 * np.mean(losses[:3])
    assert training.figures == ("train_loss",)
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(np.mean(losses), abs=1e-4)
    assert "gaze_spread" not in trainer.callback_metrics, "there is one glimpse, and no gaze"
    loaded, data = load_training(tmp_path / "last.ckpt")
    assert type(loaded) is FAMILIES[kind]
    images = next(iter(data.test_dataloader()))[0][:5]
    with torch.no_grad():
        assert loaded(images).logits.equal(training.eval()(images).logits)
    assert loaded.observer.model.get_buffer("mean").equal(training.observer.model.get_buffer("mean"))
    assert loaded.observer.model.get_buffer("std").item() != 1


@every_family
def test_the_loss_is_the_cross_entropy_with_smoothed_labels(kind):
    images, labels = next(iter(ImageData("digits", batch_size=16).train_dataloader()))
    training = training_of(kind, smoothing=0.2).eval()
    training.note = lambda *figures: None
    logits = training(images).logits[:, 0].double().detach().numpy()
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = 0.8 * np.eye(10)[labels.numpy()] + 0.02
    loss = training.training_step((images, labels), 0)
    assert loss.item() == pytest.approx(-(targets * log_probability).sum(1).mean(), abs=1e-5)
    loss.backward()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in training.parameters())


@every_family
@pytest.mark.parametrize("shape", [(1, 24, 40), (3, 33, 17)])
def test_images_of_any_shape_are_taken_in_at_one_glimpse(kind, shape):
    training = training_of(kind, shape).eval()
    images = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        trace = training(images)
    assert trace.logits.shape == (2, 1, 10)
    assert training.observer.any_size is (kind != "mlp")
    assert (trace.maps is None) is (kind != "self")
    if kind == "self":
        rows, columns = -(-shape[1] // 8), -(-shape[2] // 8)
        assert trace.maps.shape == (2, 1, rows, columns)
    else:
        assert not trace.locations.any()


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("self", {"stem": "pool"}, "expected --model.stem out of conv, linear; got 'pool'"),
        ("self", {"features": 0}, "expected --model.features of at least 1, got 0; raise it"),
        ("self", {"patch": 0}, "expected --model.patch of at least 1, got 0; raise it"),
        ("self", {"layers": 0}, "expected --model.layers of at least 1, got 0; raise it"),
        ("self", {"features": 18}, "expected features in a multiple of 4, got 18"),
        ("self", {"heads": 3}, "expected heads that divide 16 features, got 3; change one of the two"),
        ("self", {"patch": 6}, "expected a patch of a power of 2 from 2 on for a convolutional stem"),
        ("self", {"mlp_ratio": 0.0}, "expected --model.mlp_ratio from 0.0625 to inf, got 0"),
        ("cnn", {"pooling": "sum"}, "expected --model.pooling out of max, mean; got 'sum'"),
        ("cnn", {"widths": []}, "expected a width and a depth of at least 1 for each of one or more stages"),
        ("mlp", {"hidden": 0}, "expected --model.hidden of at least 1, got 0; raise it"),
        ("mlp", {"layers": 0}, "expected --model.layers of at least 1, got 0; raise it"),
        ("mlp", {"smoothing": -0.1}, "expected --model.smoothing from 0 to 0.99, got -0.1"),
        ("cnn", {"learning_rate": 0.0}, "expected --model.learning_rate above 0, got 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(kind, options, sentence):
    with rejected(sentence):
        training_of(kind, **options)
