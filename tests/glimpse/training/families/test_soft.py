"""The training of soft attention: its penalty, where its encoder comes from, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
import torchvision
from torch import Tensor, nn

from glimpse.cli.train.command import main
from glimpse.data.datamodule import ImageData
from glimpse.training.checkpoint import load_training
from glimpse.training.families.soft import SoftAttentionTraining, coverage_penalty
from tests.support.spellings import rejected

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

SMALL: dict[str, Any] = {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 8, "learning_rate": 1e-2}
LAYER = "layer1.1.relu_1"


def training_of(**options: Any) -> SoftAttentionTraining:
    torch.manual_seed(0)
    return SoftAttentionTraining(list("0123456789"), [1, 24, 24], **(SMALL | options))


class Noted(lightning.Callback):
    """Notes the loss of every step, and what the first one began with."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.began: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.began = {name: part.clone() for name, part in pl_module.state_dict().items()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def fit(
    training: SoftAttentionTraining, epochs: int = 1, batches: int = 2, save: Path | None = None, **options: Any
) -> tuple[Noted, lightning.Trainer]:
    noted = Noted()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        limit_train_batches=batches,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        callbacks=[noted],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(training, ImageData("digits", batch_size=64), **options)
    if save:
        trainer.save_checkpoint(save)
    return noted, trainer


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a whole resnet18's weights, its head of 1000 classes included."""
    torch.manual_seed(5)
    model: nn.Module = torchvision.models.resnet18(weights=None)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("time", [1, 3])
def test_the_penalty_is_the_papers(time):
    maps = torch.rand(4, time, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = maps / maps.sum((2, 3), keepdim=True)
    expected = 0.0
    for image in maps.numpy():
        for place in np.ndindex(3, 5):
            expected += (time / 15 - sum(weights[place] for weights in image)) ** 2 / 4
    assert coverage_penalty(maps).item() == pytest.approx(expected)


def test_what_tau_is_changes_no_gradient():
    scores = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    maps = scores.softmax(2).unflatten(2, (4, 5))
    papers = (1 - maps.sum(1)).square().sum((1, 2)).mean()
    ours = coverage_penalty(maps)
    gradients = [torch.autograd.grad(penalty, scores, retain_graph=True)[0] for penalty in (papers, ours)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 1e-3
    assert not papers.isclose(ours)


def test_the_penalty_is_least_when_every_place_has_its_turn():
    even = torch.full((2, 4, 2, 2), 0.25)
    turns = torch.eye(4).reshape(1, 4, 2, 2).expand(2, -1, -1, -1)
    stuck = turns[:, :1].expand(-1, 4, -1, -1)
    assert coverage_penalty(even) == coverage_penalty(turns) == 0
    assert coverage_penalty(stuck) == 3**2 + 3


def test_the_penalty_spreads_the_attention():
    images, labels = next(iter(ImageData("digits", batch_size=64).train_dataloader()))
    received = {}
    for coverage in (0.0, 30.0):
        training = training_of(coverage=coverage, score="location", num_glimpses=3)
        training.note = lambda *figures: None  # type: ignore[method-assign]
        optimiser = torch.optim.Adam(training.parameters(), lr=1e-2)
        torch.nn.init.normal_(training.observer.model.attention.score.out.weight)  # type: ignore[union-attr, arg-type]
        for step in range(15):
            optimiser.zero_grad()
            training.training_step((images, labels), step).backward()
            optimiser.step()
        maps = training.observer(images).maps
        received[coverage] = coverage_penalty(maps).item()
    assert received[30.0] < 0.5 * received[0.0]


def test_a_fit_lowers_the_loss_notes_its_figures_and_comes_back(tmp_path):
    training = training_of(coverage=0.1, gate=True, widths=[8, 16], hidden=32)
    noted, trainer = fit(training, epochs=3, batches=20, save=tmp_path / "last.ckpt")
    assert np.mean(noted.losses[-5:]) < 0.8 * np.mean(noted.losses[:5])
    assert set(training.figures) < set(trainer.callback_metrics)
    assert 0 < float(trainer.callback_metrics["attention_entropy"]) <= np.log(36)
    assert 0 <= float(trainer.callback_metrics["coverage_penalty"]) <= 2**2
    loaded, _ = load_training(tmp_path / "last.ckpt")
    images = next(iter(ImageData("digits").test_dataloader()))[0][:5]
    with torch.no_grad():
        expected, trace = training.eval()(images), loaded(images)
    assert trace.logits.equal(expected.logits)
    assert trace.maps.equal(expected.maps)
    assert not loaded.observer.model.get_buffer("mean").equal(torch.zeros(1)), "of the pixels, from the data"


def test_only_the_last_belief_may_be_trained():
    images, labels = next(iter(ImageData("digits", batch_size=16).train_dataloader()))
    found = {}
    for every in (True, False):
        training = training_of(every_glimpse=every)
        training.note = lambda *figures: None  # type: ignore[method-assign]
        found[every] = training.training_step((images, labels), 0)
        logits = training(images).logits
        counted = logits if every else logits[:, -1:]
        expected = -counted.log_softmax(2)[torch.arange(16), :, labels].mean()
        torch.testing.assert_close(found[every], expected)


BACKBONE: dict[str, Any] = {"backbone": "resnet18", "backbone_layer": LAYER}


@pytest.mark.filterwarnings("ignore:Found .* module.s. in eval mode at the start of training")
@pytest.mark.slow
def test_a_backbone_begins_with_the_weights_of_a_local_file_and_never_again(pretrained, tmp_path):
    given = tmp_path / "gone.pth"
    given.write_bytes(pretrained.read_bytes())
    training = training_of(**BACKBONE, backbone_weights=str(given))
    weights = torch.load(given, weights_only=True)
    layer = "observer.model.encoder.body.layer1.0.conv1.weight"
    theirs = weights["layer1.0.conv1.weight"]
    assert not training.state_dict()[layer].equal(theirs), "nothing is read before a fit begins"
    noted, _ = fit(training, epochs=2, batches=1, save=tmp_path / "last.ckpt")
    assert noted.began[layer].equal(theirs)
    trained = training.state_dict()[layer].clone()
    assert not trained.equal(theirs)
    given.unlink()
    loaded, _ = load_training(tmp_path / "last.ckpt")
    assert loaded.state_dict()[layer].equal(trained)
    again, _ = fit(training)
    assert again.began[layer].equal(trained), "another fit of the same object goes on from what it learned"
    resumed = training_of(**BACKBONE, backbone_weights=str(given))
    noted, _ = fit(resumed, epochs=3, batches=1, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert noted.began[layer].equal(trained)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"backbone_weights": "default"},
            "expected --model.backbone_weights with --model.backbone alone, got 'default'",
        ),
        ({"backbone_layer": LAYER}, "expected --model.backbone_layer with --model.backbone alone, got 'layer1"),
        ({"backbone": "resnet81"}, "expected a classification network of torchvision.*, got 'resnet81'; the near"),
        ({**BACKBONE, "backbone_layer": "layer9"}, "expected a layer of resnet18, got 'layer9'; the nearest are"),
        (
            {"attention": "local-p", "window": 6},
            "expected --model.window of at most 5 cells to each side on a map of 6 x 6",
        ),
        (
            {"score": "dot", "hidden": 9},
            "expected --model.hidden as long as the map's features, 8, for .*; got 9; make it 8, widen the last "
            "of --model.widths",
        ),
        ({"score": "cosine"}, "expected --model.score out of dot, scaled-dot, .*; got 'cosine'"),
        ({"attention": "near"}, "expected --model.attention out of global, local-m, local-p; got 'near'"),
        ({"core": "rnn"}, "expected --model.core out of gru, lstm, plain; got 'rnn'"),
        ({"coverage": -1.0}, "expected --model.coverage from 0 to inf, got -1"),
        ({"num_glimpses": 0}, "expected --model.num_glimpses of at least 1, got 0; raise it"),
        ({"widths": [8], "depths": [1, 1]}, "expected a width and a depth of at least 1 for each of one or more stage"),
        ({"smoothing": 1.0}, "expected --model.smoothing from 0 to 0.99, got 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, sentence):
    with rejected(sentence):
        training_of(**options)


RECIPE = f"""
data: {{class_path: ImageData, init_args: {{dataset: digits, batch_size: 32}}}}
model:
  class_path: SoftAttentionTraining
  init_args: {{num_glimpses: 2, hidden: 8, backbone: resnet18, backbone_layer: {LAYER}}}
trainer: {{max_epochs: 1, limit_train_batches: 1, limit_val_batches: 1, accelerator: cpu}}
"""


@pytest.mark.slow
def test_weights_that_do_not_fit_are_told_in_a_line_before_anything_is_written(
    pretrained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained.yaml").write_text(RECIPE)
    torch.save({**torch.load(pretrained, weights_only=True), "conv1.weight": torch.zeros(3)}, tmp_path / "odd.pth")
    for file, sentence in (
        (
            "nowhere.pth",
            "expected weights of resnet18: none, 'default', 'package' or a file, got 'nowhere.pth', which is no file",
        ),
        ("odd.pth", "in odd.pth, got others: conv1.weight should be (64, 3, 7, 7) and is (3,); give a file of"),
    ):
        arguments = ["--config", "pretrained.yaml", "--model.backbone_weights", file]
        assert main(arguments, "glimpse train") == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert told.count("\n") == 1
        assert not (tmp_path / "runs").exists()
    assert main(["--config", "pretrained.yaml", "--model.backbone_weights", str(pretrained)], "glimpse train") == 0
    assert (tmp_path / "runs" / "pretrained" / "last.ckpt").is_file()
