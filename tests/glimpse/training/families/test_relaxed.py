from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
import yaml

from glimpse.data.datamodule import ImageData
from glimpse.models.hard import HardObserver, rollout_hard
from glimpse.models.relaxed import POLICY_OF, RELAXATIONS, rollout_relaxed
from glimpse.rollout import sample_from
from glimpse.training.checkpoint import load_training
from glimpse.training.families import FAMILIES, relaxed
from glimpse.training.families.hard import SPREADS, HardAttentionTraining
from glimpse.training.families.relaxed import SOFTNESS, RelaxedAttentionTraining
from glimpse.training.objectives import classification_loss, losses
from tests.support.spellings import rejected

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

SMALL: dict[str, Any] = {"num_glimpses": 3, "glimpse_size": 6, "hidden": 12, "gaze_hidden": 8, "grid_cells": 3}
CLASSES = list("0123456789")
ROOT = Path(__file__).parents[3]
RECIPES = [
    path
    for path in (*ROOT.glob("glimpse/cli/train/configs/*.yaml"), *ROOT.glob("benchmarks/recipes/*.yaml"))
    if "class_path: RelaxedAttentionTraining" in path.read_text(encoding="utf-8")
]


def data_of() -> ImageData:
    return ImageData("digits", canvas_height=30, canvas_width=40, num_pieces=2, piece_size=6, batch_size=16)


def training_of(relaxation: str = "bilinear", **changes: Any) -> RelaxedAttentionTraining:
    torch.manual_seed(0)
    return RelaxedAttentionTraining(CLASSES, [1, 30, 40], **({**SMALL, "relaxation": relaxation} | changes))


class Noted(lightning.Callback):
    """Notes each step's loss, softness and spread at its beginning, and what had a gradient after it."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.softness: list[float] = []
        self.spreads: list[float] = []
        self.reached: set[str] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.softness.append(pl_module.annealed(pl_module.softness))
        self.spreads.append(pl_module.annealed(pl_module.spread))

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.reached |= {
            name.split(".")[0]
            for name, parameter in pl_module.observer.model.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def fit(
    training: lightning.LightningModule, steps: int = 2, checkpoint: Path | None = None
) -> tuple[Noted, lightning.Trainer]:
    noted = Noted()
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[noted],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(training, data_of())
    if checkpoint:
        trainer.save_checkpoint(checkpoint)
    return noted, trainer


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_one_step_trains_the_policy_by_the_classifiers_loss(relaxation, monkeypatch):
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("no policy gradient is asked for")

    monkeypatch.setattr(relaxed, "losses", refuse)
    training = training_of(relaxation)
    before = [parameter.clone() for parameter in training.observer.model.policy.parameters()]  # type: ignore[attr-defined]
    noted, _ = fit(training)
    after = list(training.observer.model.policy.parameters())  # type: ignore[attr-defined]
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert noted.reached == {"encoder", "core", "classifier", "gaze_encoder", "gaze_core", "policy"}
    assert len(noted.losses) == 2
    assert all(0 < loss < 10 for loss in noted.losses)


def test_the_hard_models_own_loss_of_classification_does_not_reach_its_policy():
    training = HardAttentionTraining(CLASSES, [1, 30, 40], **{**SMALL, "policy": "gaussian"})
    images = data_of().draw(data_of().source.train.images[:8])
    choose = sample_from(training.observer.model.policy, 0.2, torch.Generator().manual_seed(0))
    trace = rollout_hard(training.observer.model, training.observer.retina, images, 3, choose)
    classification_loss(trace.logits, torch.arange(8)).backward()
    assert all(parameter.grad is None for parameter in training.observer.model.policy.parameters())  # type: ignore[attr-defined]
    assert all(parameter.grad is not None for parameter in training.observer.model.classifier.parameters())


@pytest.mark.parametrize("relaxation", ["gaussian", "bilinear"])
def test_mixed_adds_the_policys_and_the_baselines_loss(relaxation, monkeypatch):
    seen: list[Any] = []

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(losses(*args, **options))
        assert options["discount"] == 0.4
        return seen[-1]

    monkeypatch.setattr(relaxed, "losses", watched)
    noted, _ = fit(training_of(relaxation, mixed=True, policy_weight=0.3, discount=0.4))
    assert "baseline" in noted.reached
    for parts, loss in zip(seen, noted.losses, strict=True):
        expected = parts.classification + 0.3 * parts.policy + parts.baseline
        assert abs(float(parts.policy.detach())) > 1e-3
        assert loss == pytest.approx(float(expected.detach()), abs=1e-5)


@pytest.mark.parametrize("relaxation", ["gumbel", "bilinear"])
def test_the_same_seed_gives_the_same_training(relaxation):
    once = fit(training_of(relaxation))[0].losses
    torch.manual_seed(77)
    assert fit(training_of(relaxation))[0].losses == once
    assert fit(training_of(relaxation, seed=5))[0].losses != once


def test_what_is_smooth_is_annealed_from_one_end_to_the_other_by_a_constant_factor():
    training = training_of("gaussian", softness=1.6, final_softness=0.1, spread=0.4, final_spread=0.1)
    noted, _ = fit(training, steps=4)
    assert noted.softness == [pytest.approx(value) for value in (1.6, 0.8, 0.4, 0.2)]
    assert noted.spreads == [pytest.approx(0.4 * 0.25 ** (step / 4)) for step in range(4)]
    assert training.annealed(training.softness) == pytest.approx(0.1)
    assert training.annealed(training.spread) == pytest.approx(0.1)


@pytest.mark.parametrize("relaxation", ["gumbel", "gumbel-st", "gaussian"])
def test_softness_has_ends_for_each_relaxation(relaxation):
    assert training_of(relaxation).softness == SOFTNESS[relaxation]
    start, end = SOFTNESS[relaxation]
    assert training_of(relaxation, softness=start + 1).softness == (start + 1, end)
    # A start below the usual end stays where it is.
    assert training_of(relaxation, softness=end / 2).softness == (end / 2, end / 2)
    assert training_of(relaxation, final_softness=end / 2).softness == (start, end / 2)


def test_spread_has_usual_ends():
    assert training_of().spread == SPREADS["gaussian"]
    assert training_of(spread=0.02).spread == (0.02, 0.02)


def test_hyperparameters_are_what_was_given():
    given = dict(training_of("gaussian", softness=1.2).hparams)
    assert given["softness"] == 1.2
    left_out = ("final_softness", "spread", "final_spread", "policy_weight", "pathwise_weight", "discount")
    assert [given[name] for name in left_out] == [None] * 6
    # As a checkpoint gives them back.
    assert RelaxedAttentionTraining(**given).softness == (1.2, SOFTNESS["gaussian"][1])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_relaxed_models_are_valid(path):
    options = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["init_args"]
    training = RelaxedAttentionTraining(CLASSES, [1, 100, 100], **options | {"hidden": 8})
    assert training.mixed == options.get("mixed", False)
    assert training.relaxation == options["relaxation"]


def test_a_cold_end_trains_without_a_nan():
    noted, _ = fit(training_of("gumbel", softness=1e-4, final_softness=1e-4), steps=3)
    assert all(0 < loss < 10 for loss in noted.losses)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_it_is_evaluated_as_the_hard_model_that_it_is(relaxation):
    training = training_of(relaxation)
    observer = training.observer
    assert type(observer) is HardObserver
    images = data_of().draw(data_of().source.test.images[:4])
    before = torch.random.get_rng_state()
    trace = training(images)
    assert torch.equal(torch.random.get_rng_state(), before)
    again = HardObserver(observer.model, observer.retina, 3)(images)
    assert torch.equal(trace.logits, again.logits)
    assert not trace.locations[:, 0].any()
    if POLICY_OF[relaxation] == "grid":
        centres = observer.model.policy.centres  # type: ignore[attr-defined]
        apart = (trace.locations[:, 1:, None] - centres).abs().sum(3)
        assert not apart.amin(2).any()


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_a_checkpoint_gives_the_model_back(relaxation, tmp_path):
    training, path = training_of(relaxation), tmp_path / "last.ckpt"
    fit(training, checkpoint=path)
    assert FAMILIES["relaxed"] is RelaxedAttentionTraining
    assert torch.load(path, weights_only=True)["glimpse_model"] == "relaxed"
    loaded, data = load_training(path)
    assert type(loaded) is RelaxedAttentionTraining
    assert (loaded.relaxation, loaded.softness) == (relaxation, SOFTNESS[relaxation])
    images = data.draw(data.source.test.images[:4])
    assert torch.equal(loaded(images).logits, training.eval()(images).logits)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"relaxation": "blur"}, r"--model\.relaxation out of gumbel, gumbel-st, gaussian, bilinear; got 'blur'"),
        (
            {"relaxation": "gumbel", "mixed": True},
            r"expected --model\.mixed with --model\.relaxation gaussian or bilinear, got gumbel, whose choice is no "
            r"sample with a log-probability; leave it out, or choose another relaxation",
        ),
        ({"relaxation": "gumbel-st", "mixed": True}, r"expected --model\.mixed with .* got gumbel-st"),
        (
            {"relaxation": "gumbel", "softness": 0.1, "final_softness": 0.2},
            r"expected 0 < --model\.final_softness <= --model\.softness, got 0\.2 and 0\.1",
        ),
        ({"relaxation": "gaussian", "final_softness": 0.0}, r"0 < --model\.final_softness <= --model\.softness"),
        ({"relaxation": "gaussian", "softness": -1.0}, r"expected 0 < --model\.final_softness <= --model\.softness"),
        ({"spread": 0.1, "final_spread": 0.2}, r"final_spread <= --model\.spread, got 0\.2 and 0\.1"),
        ({"final_spread": 0.0}, r"expected 0 < --model\.final_spread <= --model\.spread, got 0\.0 and 0\.2"),
        (
            {"softness": 1.0},
            r"--model\.softness would do nothing, since bilinear interpolation has no width; leave it out, or take "
            r"gaussian",
        ),
        ({"final_softness": 0.5}, r"--model\.final_softness would do nothing"),
        (
            {"relaxation": "gumbel", "pathwise_weight": 1.0},
            r"--model\.pathwise_weight would do nothing, since the choice of gumbel is no mean plus noise; leave it "
            r"out, or take gaussian or bilinear",
        ),
        (
            {"relaxation": "gumbel-st", "spread": 0.2},
            r"--model\.spread would do nothing, since the choice of gumbel-st is ",
        ),
        ({"relaxation": "gumbel", "final_spread": 0.1}, r"--model\.final_spread would do nothing"),
        (
            {"policy_weight": 1.0},
            r"--model\.policy_weight would do nothing, since there is a policy gradient with --model\.mixed alone; "
            r"leave it out, or set that",
        ),
        ({"relaxation": "gumbel", "discount": 0.0}, r"--model\.discount would do nothing"),
        ({"policy_weight": -1.0}, r"expected --model\.policy_weight from 0 to inf, got -1\.0"),
        ({"discount": 1.5}, r"expected --model\.discount from 0 to 1, got 1\.5"),
        ({"what": "eyes"}, r"expected --model\.what out of .*; got 'eyes'"),
        ({"combine": "divide"}, r"expected --model\.combine out of .*; got 'divide'"),
        ({"core": "apple"}, r"expected --model\.core out of .*; got 'apple'"),
        ({"gaze": "evil"}, r"expected --model\.gaze out of eyes, layer, nothing; got 'evil'"),
        ({"num_glimpses": 0}, r"expected --model\.num_glimpses of at least 1, got 0; raise it"),
        ({"glimpse_size": 0}, r"expected --model\.glimpse_size of at least 1, got 0"),
        ({"num_scales": 0}, r"expected --model\.num_scales of at least 1, got 0"),
        ({"zoom": 0}, r"expected --model\.zoom of at least 1, got 0"),
        ({"hidden": 0}, r"expected --model\.hidden of at least 1, got 0"),
        ({"gaze_hidden": 0}, r"expected --model\.gaze_hidden of at least 1, got 0"),
        ({"relaxation": "gumbel", "grid_cells": 0}, r"expected --model\.grid_cells of at least 1, got 0; raise it"),
        ({"smoothing": 1.0}, r"expected --model\.smoothing from 0 to 0\.99, got 1\.0"),
        ({"learning_rate": 0.0}, r"expected --model\.learning_rate above 0, got 0\.0"),
        ({"glimpse_size": 31}, r"finest window, 31x31 pixels; got 30x40; lower --model\.glimpse_size, or use larger"),
        ({"num_scales": 9}, r"a widest window of at most 4 times the image's longer side, 40 pixels; got"),
        ({"what": "conv", "glimpse_size": 1}, r"a conv encoder needs --model\.glimpse_size of at least 2"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options, sentence):
    with rejected(sentence):
        training_of(**options)


def test_one_class_is_too_few():
    with pytest.raises(ValueError, match="expected at least 2 classes, got 1"):
        RelaxedAttentionTraining(["a"], [1, 30, 40], **SMALL)


@pytest.mark.parametrize(("share", "expected"), [(0.0, [False] * 4), (0.5, [False, False, True, True])])
def test_it_sees_hard_in_the_last_share_of_the_training(share, expected, monkeypatch):
    seen = []

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(options["hard"])
        return rollout_relaxed(*args, **options)

    monkeypatch.setattr(relaxed, "rollout_relaxed", watched)
    fit(training_of("bilinear", hard_share=share), steps=4)
    assert seen == expected
