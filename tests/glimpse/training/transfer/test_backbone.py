"""Options of a backbone, under every family that can stand on one."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
import torchvision
from torch import Tensor, nn

from glimpse.data.datamodule import ImageData
from glimpse.nn.backbones import Normalisation
from glimpse.training.checkpoint import load_training
from glimpse.training.families import FAMILIES
from glimpse.training.families.whole_image import ConvolutionalTraining
from glimpse.training.transfer.backbone import BackboneTraining
from tests.support.spellings import rejected

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    # Lightning supposes that a frozen part was forgotten.
    pytest.mark.filterwarnings("ignore:Found .* module.s. in eval mode at the start of training"),
]

CLASSES = list("0123456789")
RETINA: dict[str, Any] = {"num_glimpses": 2, "glimpse_size": 32, "num_scales": 2, "hidden": 16, "gaze_hidden": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "hard": RETINA,
    "relaxed": RETINA,
    "soft": {"num_glimpses": 2, "hidden": 8},
    "cnn": {},
    "focus": {"num_glimpses": 2, "window": 16, "reduction": 1},
}
FAMILY = pytest.mark.parametrize("kind", OPTIONS)
NETWORK: dict[str, Any] = {"backbone": "resnet18", "backbone_layer": "layer1.1.relu_1"}


def training_of(kind: str, **options: Any) -> BackboneTraining:
    torch.manual_seed(0)
    made = FAMILIES[kind](CLASSES, [1, 40, 36], **(NETWORK | OPTIONS[kind] | options))
    assert isinstance(made, BackboneTraining)
    return made


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    model: nn.Module = torchvision.models.resnet18(weights=None)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(model.state_dict(), path)
    return path


class Beginning(lightning.Callback):
    """Keeps what a fit began with."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.state: dict[str, Tensor] = {name: part.clone() for name, part in pl_module.state_dict().items()}
        self.rates = [group["initial_lr"] for group in trainer.optimizers[0].param_groups]


def fit(training: BackboneTraining, save: Path | None = None) -> Beginning:
    beginning = Beginning()
    trainer = lightning.Trainer(
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        callbacks=[beginning],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(training, ImageData("digits", batch_size=8, canvas_height=40, canvas_width=36))
    if save:
        trainer.save_checkpoint(save)
    return beginning


def changed(training: BackboneTraining, since: dict[str, Tensor]) -> set[str]:
    return {name for name, part in training.state_dict().items() if not part.equal(since[name])}


@FAMILY
def test_a_frozen_backbone_begins_with_its_weights_and_pixels_and_keeps_them(kind, weights, tmp_path):
    training = training_of(kind, backbone_weights=str(weights), freeze="all")
    began = fit(training, tmp_path / "last.ckpt").state
    inner = {name for name in began if ".body." in name}
    given = torch.load(weights, weights_only=True)
    assert inner
    assert all(began[name].equal(given[name.split(".body.")[1]]) for name in inner)
    # Grey pixels are standardised by the mean over ImageNet's channels, not by the data's own.
    torch.testing.assert_close(began["observer.model.mean"], torch.tensor([0.449]))
    torch.testing.assert_close(began["observer.model.std"], torch.tensor([0.226]))
    moved = changed(training, began)
    assert moved
    assert moved.isdisjoint(inner)
    weights_left = tmp_path / "last.ckpt"
    loaded, _ = load_training(weights_left)
    images = torch.randint(0, 255, (3, 1, 40, 36), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images).logits, training.eval()(images).logits)


@FAMILY
def test_a_backbone_is_fine_tuned_at_a_rate_of_its_own(kind, weights):
    training = training_of(kind, backbone_weights=str(weights), learning_rate=1e-2)
    beginning = fit(training)
    assert beginning.rates == pytest.approx([1e-2 / 25, 1e-3 / 25])
    moved = changed(training, beginning.state)
    assert {name for name in moved if "layer1.1.conv2.weight" in name}
    assert {name for name in moved if "conv1.weight" in name and ".layer1" not in name}


def test_the_first_stages_may_be_frozen(weights):
    training = training_of("cnn", backbone_weights=str(weights), freeze=1)
    moved = changed(training, fit(training).state)
    assert {name.split(".")[4] for name in moved if ".body." in name} == {"layer1"}


def test_averages_that_were_trained_before_stay(weights):
    kept = training_of("focus", backbone_weights=str(weights), close="glance")
    moved = changed(kept, fit(kept).state)
    assert any(".body." in name for name in moved)
    assert not any("running" in name for name in moved)
    own = training_of("focus", close="glance")
    assert any("running" in name for name in changed(own, fit(own).state))


def test_a_fitted_head_is_fitted_before_the_first_step(weights):
    training = training_of("cnn", backbone_weights=str(weights), head="fitted", fit_images=200)
    began = fit(training).state
    assert began["observer.model.classifier.bias"].abs().max() > 0
    assert {name for name in changed(training, began) if ".body." in name}


@pytest.mark.parametrize(("given", "pretrained", "factor"), [(None, True, 0.1), (None, False, 1.0), (0.5, False, 0.5)])
def test_the_rate_follows_from_the_weights(given, pretrained, factor):
    options = {"backbone_weights": "default"} if pretrained else {}
    training = training_of("cnn", backbone_rate=given, learning_rate=1e-2, **options)
    groups = training.parameter_groups()
    assert training.trunk is not None
    inner = {id(part) for part in training.trunk.parameters()}
    rates = {id(part): group["lr"] for group in groups for part in group["params"]}
    assert rates.keys() == {id(part) for part in training.parameters()}
    for part, rate in rates.items():
        assert rate == pytest.approx(1e-2 * (factor if part in inner else 1))


def test_coloured_images_take_each_channels_own_numbers():
    training = ConvolutionalTraining(CLASSES, [3, 40, 36], **NETWORK)
    assert training.trunk is not None
    training.trunk.normalisation = Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    statistics = training.pixel_statistics()
    assert statistics is not None
    training.normalise_by(*statistics)
    torch.testing.assert_close(training.observer.model.get_buffer("mean"), torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(training.observer.model.get_buffer("std"), torch.tensor([0.4, 0.5, 0.6]))


@pytest.mark.parametrize("gaze", ["eyes", "layer"])
def test_the_policys_loss_never_reaches_the_backbone(gaze):
    model: Any = training_of("hard", gaze=gaze).observer.model
    glimpse = torch.rand(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    step = model(glimpse, torch.zeros(2, 2), model.initial_state(2))
    (step.policy.sum() + step.value.sum()).backward()
    assert all(part.grad is None for part in model.backbone.parameters())
    step = model(glimpse, torch.zeros(2, 2), model.initial_state(2))
    step.logits.sum().backward()
    assert all(part.grad is not None for part in model.backbone.parameters())


def test_a_relaxed_models_location_learns_through_a_frozen_backbone():
    training: Any = training_of("relaxed")
    training.trunk.freeze()
    glimpse = torch.rand(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    model = training.observer.model
    model(glimpse, torch.zeros(2, 2), model.initial_state(2)).logits.sum().backward()
    assert glimpse.grad is not None
    assert glimpse.grad.abs().max() > 0


@FAMILY
def test_without_a_backbone_there_is_no_trunk(kind):
    training = training_of(kind, backbone=None, backbone_layer=None)
    assert training.trunk is None
    assert len(training.parameter_groups()) == 1


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (
            "hard",
            {"glimpse_size": 24, "backbone_layer": None},
            "expected --model.glimpse_size of at least 32 pixels",
        ),
        (
            "relaxed",
            {"glimpse_size": 2},
            "of at least 4 pixels a side, the stride of resnet18, got 2; raise it, or",
        ),
        (
            "hard",
            {"what": "conv"},
            "--model.what[= ]'?conv'? would do nothing, since --model.backbone sees the windows",
        ),
        (
            "cnn",
            {"freeze": "all"},
            "expected --model.backbone_weights with --model.freeze[= ]'?all'?, got none: random",
        ),
        ("cnn", {"freeze": "some"}, "expected --model.freeze out of none, all, or a number of stages .*; got 'some'"),
        (
            "soft",
            {"freeze": -1},
            "expected --model.freeze out of none, all, or a number of stages of at least 1; got",
        ),
        (
            "cnn",
            {"backbone_rate": 0.0},
            "expected --model.backbone_rate above 0, got 0.0; .* set --model.freeze[= ]'?all",
        ),
        (
            "hard",
            {"backbone": None, "backbone_layer": None, "freeze": 2},
            "expected --model.freeze with --model.backbone alone, got 2 without one",
        ),
        (
            "cnn",
            {"backbone": None, "backbone_layer": None, "backbone_rate": 0.2},
            "expected --model.backbone_rate with --model.backbone alone, got 0.2 without one",
        ),
        ("cnn", {"freeze": 9, "backbone_weights": "default"}, "0 to 2 stages of resnet18 to freeze, got 9"),
    ],
)
def test_options_that_make_no_sense_are_refused(kind, options, sentence):
    with rejected(sentence):
        training_of(kind, **options)


def test_images_that_a_backbone_cannot_see_are_refused():
    for shape, sentence in (
        ([3, 20, 60], "expected images of at least 32 pixels a side, the stride of mobilenet_v3_small, got 20"),
        (
            [4, 60, 60],
            "expected images of 1 or 3 channels with a backbone, got 4; convert them, or leave",
        ),
    ):
        with rejected(sentence):
            ConvolutionalTraining(CLASSES, shape, backbone="mobilenet_v3_small")
