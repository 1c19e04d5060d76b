"""A teacher's checks, and its part in the loss of every family."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch

from glimpse.data.datamodule import ImageData
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families import FAMILIES
from glimpse.training.objectives import distillation_loss
from glimpse.training.transfer.teacher import Teacher
from tests.support.spellings import rejected

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

CLASSES = list("0123456789")
SMALL: dict[str, dict[str, Any]] = {
    "hard": {"num_glimpses": 2, "hidden": 8, "gaze_hidden": 4, "num_rollouts": 2},
    "relaxed": {"num_glimpses": 2, "hidden": 8, "gaze_hidden": 4},
    "soft": {"num_glimpses": 2, "widths": [4], "depths": [1], "hidden": 4},
    "self": {"features": 4, "layers": 1, "heads": 1},
    "cnn": {"widths": [4], "depths": [1]},
    "mlp": {"hidden": 4},
}


def training_of(kind: str, **options: Any) -> ClassifierTraining:
    return FAMILIES[kind](CLASSES, [1, 24, 28], **(SMALL[kind] | options))


def fit(training: Any, checkpoint: Path | None = None, **data: Any) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(training, ImageData("digits", batch_size=8, canvas_height=24, canvas_width=28, **data))
    if checkpoint:
        trainer.save_checkpoint(checkpoint)
    return trainer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that was trained on images of 24 x 28 pixels."""
    path = tmp_path_factory.mktemp("teacher") / "last.ckpt"
    torch.manual_seed(0)
    fit(training_of("cnn", widths=[4, 8], depths=[1, 1]), path)
    return path


@pytest.mark.parametrize("kind", SMALL)
def test_every_family_learns_from_a_teacher(kind, checkpoint, tmp_path):
    def loss_of(**options: Any) -> Any:
        torch.manual_seed(0)
        training = training_of(kind, learning_rate=1e-5, **options)
        trainer = fit(training, tmp_path / "last.ckpt")
        return float(trainer.callback_metrics["train_loss"]), training

    alone, _ = loss_of()
    taught, training = loss_of(teacher=str(checkpoint), teacher_weight=1.0, teacher_temperature=3.0)
    none, _ = loss_of(teacher=str(checkpoint), teacher_weight=0.0)
    assert none == pytest.approx(alone)
    half, _ = loss_of(teacher=str(checkpoint), teacher_weight=0.5, teacher_temperature=3.0)
    assert half == pytest.approx((alone + taught) / 2, rel=1e-4)
    assert 0 < taught != pytest.approx(alone)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert not any("teacher" in name for name in saved["state_dict"])
    assert all(not part.requires_grad for part in training.teacher.observer.parameters())


def test_a_teacher_answers_about_the_whole_image_at_the_size_it_knows(checkpoint):
    teacher = Teacher(checkpoint, CLASSES, 1)
    images = torch.randint(0, 255, (3, 1, 24, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    logits = teacher(images)
    torch.testing.assert_close(logits, teacher.observer(images).logits[:, -1])
    assert not logits.requires_grad
    larger = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    seen: list[tuple[int, ...]] = []
    teacher.observer.register_forward_pre_hook(lambda part, inputs: seen.append(tuple(inputs[0].shape)))
    assert teacher(larger).shape == (3, 10)
    assert seen == [(3, 1, 24, 28)]


def test_a_teacher_of_other_classes_or_channels_is_refused(checkpoint, tmp_path):
    with rejected("expected a teacher of the classes, a, b, got .*last.ckpt, which was trained on 0, 1, 2.*; train it"):
        Teacher(checkpoint, ["a", "b"], 1)
    with rejected("a teacher of images of as many channels, 3, got .*, which was trained on 1; .*out --model.teacher"):
        Teacher(checkpoint, CLASSES, 3)
    with rejected("expected a checkpoint at .*absent.ckpt, found nothing; give a .ckpt file"):
        fit(training_of("mlp", teacher=str(tmp_path / "absent.ckpt")))


@pytest.mark.parametrize("name", ["teacher_weight", "teacher_temperature"])
def test_weights_and_temperatures_have_ranges(name):
    with rejected(f"expected --model.{name} from 0.*, got -1"):
        training_of("mlp", **{name: -1.0})


@pytest.mark.parametrize("every", [True, False])
def test_the_loss_is_the_papers(every):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 5, generator=generator, requires_grad=True)
    taught = torch.randn(3, 5, generator=generator, requires_grad=True)
    loss = distillation_loss(logits, taught, 2.0, every)
    target = (taught / 2).softmax(1).detach()
    counted = (0, 1) if every else (1,)
    expected = 0.0
    for time in counted:
        belief = (logits[:, time] / 2).softmax(1)
        expected += 4 * (target * (target / belief).log()).sum(1).mean().item() / len(counted)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert taught.grad is None
    assert distillation_loss(taught.unsqueeze(1), taught, 2.0).item() == pytest.approx(0, abs=1e-6)
