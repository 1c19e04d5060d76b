"""What every training shares, at the smallest family there can be: one layer on the mean pixel, seen twice."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse.data.datamodule import ImageData
from glimpse.errors import ArgumentError
from glimpse.models.observer import Observer
from glimpse.rollout import Choice, Trace, fixed, rollout
from glimpse.training.classifier import (
    OPTIMISATION,
    ClassifierTraining,
    arguments_of,
    check_training_options,
    schedule_steps,
)
from tests.support.spellings import rejected

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

SMALL: dict[str, Any] = {
    "smoothing": 0.0,
    "learning_rate": 1e-2,
    "warm_up": 0.2,
    "weight_decay": 0.0,
    "teacher_weight": 0.3,
    "teacher_temperature": 2.0,
    "seed": 0,
    "class_weights": "none",
}
FIT: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class MeanStep(NamedTuple):
    state: Tensor
    logits: Tensor
    value: None = None


class MeanPixel(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels, classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, pixels: Tensor, choice: Choice, state: Tensor) -> MeanStep:
        return MeanStep(state, self.layer((pixels - self.mean) / self.std))


class MeanObserver(Observer):
    def forward(self, images: Tensor) -> Trace:
        seen = images.float().mean((2, 3)) / (1 if images.is_floating_point() else 255)
        centre = fixed(torch.zeros(len(images), 2))
        # The second fixation is as bright as the image: where it looks depends on what it sees.
        bright = fixed(torch.stack([seen[:, 0], -seen[:, 0]], dim=1))
        return rollout(self.model, lambda _: seen, lambda *_: bright, centre, seen, self.num_glimpses)


class MeanTraining(ClassifierTraining):
    kind = "mean"
    figures = ("train_loss", "train_error")

    def __init__(self, classes: list[str], image_shape: list[int], num_glimpses: int = 2, **options: Any) -> None:
        super().__init__(classes, image_shape, **(SMALL | options))
        self.save_hyperparameters()
        self.observer = MeanObserver(MeanPixel(len(classes), image_shape[0]), num_glimpses)
        self.noted: list[list[float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images).logits[:, -1]
        loss = F.cross_entropy(logits, labels)
        error = (logits.argmax(1) != labels).float().mean()
        self.noted.append([loss.item(), error.item()])
        self.note(loss, error)
        return loss


def data_of() -> ImageData:
    return ImageData("digits", canvas_height=24, canvas_width=32, batch_size=64)


def module_of(**options: Any) -> MeanTraining:
    torch.manual_seed(0)
    return MeanTraining(list("0123456789"), [1, 24, 32], **options)


def fit(module: MeanTraining, **options: Any) -> lightning.Trainer:
    trainer = lightning.Trainer(logger=False, **(FIT | {"limit_val_batches": 0} | options))
    trainer.fit(module, data_of())
    return trainer


def test_the_arguments_of_a_family_and_of_its_bases_are_saved_by_name():
    data = {"classes": list("0123456789"), "image_shape": [1, 24, 32]}
    saved = dict(module_of(warm_up=0.3).hparams)
    assert saved == data | SMALL | {"num_glimpses": 2, "warm_up": 0.3, "teacher": None}
    assert saved.keys() == arguments_of(MeanTraining).keys()


def test_the_arguments_of_a_class_are_listed_with_their_defaults():
    assert next(iter(arguments_of(ImageData))) == "dataset"
    assert "options" not in arguments_of(MeanTraining)
    assert arguments_of(MeanTraining)["num_glimpses"].default == 2
    assert arguments_of(MeanTraining)["smoothing"].default == 0.0


@pytest.mark.parametrize(("steps", "warm_up"), [(1, 0.2), (2, 0.5), (5, 0.2), (4, 0.25)])
def test_the_shortest_training_has_a_schedule(steps, warm_up):
    module = module_of(warm_up=warm_up)
    trainer = fit(module, max_steps=steps)
    assert len(module.noted) == steps
    assert schedule_steps(trainer) == max(3, steps)
    assert module.progress() == steps / max(3, steps)


def test_the_rate_rises_and_falls_as_it_was_told():
    module, rates = module_of(learning_rate=0.5, warm_up=0.3), []

    class Rates(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            assert pl_module.progress() == pytest.approx(batch_idx / 10)

    fit(module, max_steps=10, callbacks=[Rates()])
    assert rates.index(max(rates)) == 2
    assert max(rates) == pytest.approx(0.5)
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[9]


def test_mean_and_standard_deviation_are_the_training_canvases():
    module = module_of()
    assert float(module.observer.model.get_buffer("std")) == 1
    fit(module, max_steps=1)
    data = data_of()
    pixels = data.draw(data.source.train.images[:2000]).double() / 255
    assert float(module.observer.model.get_buffer("mean")) == pytest.approx(float(pixels.mean()), rel=0.01)
    assert float(module.observer.model.get_buffer("std")) == pytest.approx(float(pixels.std()), rel=0.01)


def test_what_is_logged_is_the_epochs_mean_of_what_was_noted():
    module = module_of()
    trainer = fit(module, max_epochs=2, limit_train_batches=4)
    second = torch.tensor(module.noted[4:])
    assert len(second) == 4
    for name, mean in zip(module.figures, second.mean(0), strict=True):
        assert float(trainer.callback_metrics[name]) == pytest.approx(float(mean), rel=1e-5)
    assert module.figures_of_steps == []


def test_figures_without_a_name_are_refused(monkeypatch):
    module = module_of()
    monkeypatch.setattr(module, "figures", ("train_loss",))
    with pytest.raises(ValueError, match="zip"):
        fit(module, max_steps=1, limit_train_batches=1)


def validated(module: MeanTraining, data: ImageData | None = None) -> dict[str, float]:
    trainer = lightning.Trainer(logger=False, **FIT)
    trainer.validate(module, data or data_of(), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_validation_measures_the_last_beliefs_error_and_how_the_gaze_varies():
    module, part = module_of(), data_of()
    found = validated(module)
    batches = list(part.val_dataloader())
    with torch.no_grad():
        wrong = torch.cat([module(images).logits[:, -1].argmax(1) != labels for images, labels in batches])
        sizes = torch.tensor([len(labels) for _, labels in batches], dtype=torch.float32)
        spreads = torch.stack([module(images).locations[:, 1, 0].std(correction=0) for images, _ in batches])
    assert found["val_error"] == pytest.approx(float(wrong.float().mean()))
    # One fixation is chosen, along a diagonal: over images and time it varies as it does over the images.
    assert found["gaze_spread"] == pytest.approx(float((spreads * sizes).sum() / sizes.sum()), rel=1e-4)
    assert found["gaze_reaction"] == pytest.approx(found["gaze_spread"], rel=1e-4)
    assert found["gaze_spread"] > 0.01


def test_a_single_glimpse_chooses_nothing_so_that_there_is_no_gaze_to_measure():
    assert validated(module_of(num_glimpses=1)).keys() == {"val_error", "val_balanced_error"}


def unbalanced_data() -> ImageData:
    data = data_of()
    source = data.source
    order = source.train.labels.argsort()[:500]
    data._source = replace(source, train=source.train.take(order))
    return data


def test_balanced_weights_are_of_the_training_images_and_lie_in_the_checkpoint(tmp_path):
    module, data = module_of(class_weights="balanced"), unbalanced_data()
    trainer = lightning.Trainer(logger=False, max_steps=1, limit_val_batches=0, **FIT)
    trainer.fit(module, data)
    counts = data.class_counts
    assert counts.min() == 0
    weights = module.class_weights
    assert weights is not None
    torch.testing.assert_close(weights * counts, torch.where(counts > 0, 500 / (counts > 0).sum(), 0.0))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    assert torch.equal(torch.load(tmp_path / "one.ckpt", weights_only=True)["state_dict"]["class_weights"], weights)
    assert "class_weights" not in module_of().state_dict()


def test_classes_of_data_that_can_not_be_counted_are_not_weighed():
    trainer = lightning.Trainer(logger=False, max_steps=1, limit_val_batches=0, **FIT)
    part, module = data_of(), module_of(class_weights="balanced")
    sentence = r"of the class ImageData, .* with class_weights='balanced'; got NoneType; leave it out"
    with pytest.raises(ArgumentError, match=sentence):
        trainer.fit(module, part.train_dataloader(), part.val_dataloader())


def test_the_balanced_error_counts_each_class_alike():
    module, part = module_of(), data_of()
    part._source = replace(
        part.source, validation=part.source.validation.take(part.source.validation.labels.argsort()[:95])
    )
    found = validated(module, part)
    (images, labels) = next(iter(part.val_dataloader()))
    with torch.no_grad():
        wrong = (module(images).logits[:, -1].argmax(1) != labels).float()
    by_class = [float(wrong[labels == label].mean()) for label in labels.unique()]
    assert len(by_class) < 10
    assert found["val_balanced_error"] == pytest.approx(sum(by_class) / len(by_class))


def test_a_checkpoint_says_of_which_family_it_is():
    checkpoint: dict[str, Any] = {}
    module_of().on_save_checkpoint(checkpoint)
    assert checkpoint == {"glimpse_model": "mean"}


def options_of(**changes: Any) -> dict[str, Any]:
    return {"classes": ["a", "b"], **SMALL, "steps": 3, "weight": 0.5, "score": "dot", **changes}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"classes": ["a"]}, "expected at least 2 classes, got 1"),
        ({"steps": 0}, r"expected --model\.steps of at least 1, got 0; raise it"),
        ({"weight": 1.5}, r"expected --model\.weight from 0 to 1, got 1\.5"),
        ({"score": "cosine"}, r"expected --model\.score out of dot, additive; got 'cosine'"),
        ({"smoothing": 1.0}, r"expected --model\.smoothing from 0 to 0\.99, got 1\.0"),
        ({"smoothing": -0.1}, r"expected --model\.smoothing from 0 to 0\.99"),
        ({"warm_up": 1.5}, r"expected --model\.warm_up from 0 to 1, got 1\.5"),
        ({"warm_up": 1.0}, r"expected --model\.warm_up above 0 and below 1, got 1\.0"),
        ({"learning_rate": 0.0}, r"expected --model\.learning_rate above 0, got 0\.0"),
        ({"learning_rate": math.nan}, r"expected --model\.learning_rate from 0 to inf, got nan"),
        ({"weight_decay": -1.0}, r"expected --model\.weight_decay from 0 to inf, got -1\.0"),
        ({"class_weights": "even"}, r"expected --model\.class_weights out of none, balanced; got 'even'"),
        ({"seed": -1}, r"expected --model\.seed from 0 to inf, got -1"),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_name(changes, sentence):
    with rejected(sentence):
        check_training_options(
            options_of(**changes), ("steps",), {"weight": (0.0, 1.0)}, {"score": ("dot", "additive")}
        )


def test_options_that_make_sense_pass():
    check_training_options(options_of(), ("steps",), {"weight": (0.0, 1.0)}, {"score": ("dot", "additive")})
    check_training_options(options_of(smoothing=0.99, weight_decay=0.0))
    assert SMALL.keys() == OPTIMISATION.keys() | {"class_weights"}
