import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch

from glimpse.data.datamodule import ImageData
from glimpse.rollout import Trace
from glimpse.training import objectives
from glimpse.training.families import hard as training
from glimpse.training.families.hard import HardAttentionTraining
from tests.support.spellings import rejected

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

SMALL: dict[str, Any] = {
    "num_glimpses": 3,
    "glimpse_size": 6,
    "num_scales": 2,
    "zoom": 2,
    "hidden": 16,
    "what": "mlp",
    "combine": "multiply",
    "core": "gru",
    "policy": "gaussian",
    "relative": True,
    "grid_cells": 3,
    "gaze": "layer",
    "gaze_hidden": 8,
    "first_location": "random",
    "reward": "improvement",
    "discount": 1.0,
    "baseline": "learned",
    "num_rollouts": 1,
    "normalise": True,
    "every_glimpse": True,
    "smoothing": 0.0,
    "spread": 0.4,
    "final_spread": 0.1,
    "policy_weight": 1.0,
    "entropy_weight": 0.0,
    "learning_rate": 1e-3,
    "warm_up": 0.2,
    "weight_decay": 0.01,
    "seed": 3,
}


def data_of(seed: int = 0) -> ImageData:
    return ImageData("digits", canvas_height=30, canvas_width=40, num_pieces=2, piece_size=6, batch_size=16, seed=seed)


def module_of(**changes: Any) -> HardAttentionTraining:
    torch.manual_seed(0)
    return HardAttentionTraining(list("0123456789"), [1, 30, 40], **(SMALL | changes))


class Noted(lightning.Callback):
    """Notes the loss of every step and the exploration at its beginning; saves a checkpoint after the second."""

    def __init__(self, checkpoint: Path | None) -> None:
        self.losses: list[float] = []
        self.spreads: list[float] = []
        self.checkpoint = checkpoint

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.spreads.append(pl_module.current_spread())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        if self.checkpoint and trainer.global_step == 2:
            trainer.save_checkpoint(self.checkpoint)


def fit(
    module: HardAttentionTraining,
    steps: int = 3,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: Path | None = None,
) -> tuple[Noted, lightning.Trainer]:
    noted = Noted(checkpoint)
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
    trainer.fit(module, data_of(seed), ckpt_path=resume, weights_only=bool(resume))
    return noted, trainer


@pytest.mark.parametrize("policy", ["gaussian", "grid"])
def test_the_same_seed_gives_the_same_training(policy):
    first, second = module_of(policy=policy), module_of(policy=policy)
    losses = fit(first)[0].losses
    torch.manual_seed(77)
    assert fit(second)[0].losses == losses
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert fit(module_of(policy=policy, seed=4))[0].losses != losses
    assert fit(module_of(policy=policy), seed=1)[0].losses != losses


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": "leave-one-out", "num_rollouts": 3},
        {"baseline": "none", "reward": "terminal", "first_location": "centre"},
        {"policy": "grid", "core": "lstm", "what": "conv", "entropy_weight": 0.01, "smoothing": 0.1},
        {"gaze": "eyes", "core": "plain", "combine": "add", "relative": False, "every_glimpse": False},
        {"gaze": "nothing", "num_glimpses": 1},
    ],
)
def test_every_recipe_trains(options):
    module = module_of(**options)
    before = [parameter.clone() for parameter in module.observer.model.classifier.parameters()]
    losses = fit(module)[0].losses
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    after = list(module.observer.model.classifier.parameters())
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_exploration_falls_from_one_end_to_the_other_by_a_constant_factor():
    module = module_of()
    noted, _ = fit(module, steps=5)
    assert noted.spreads[0] == pytest.approx(0.4)
    assert module.current_spread() == pytest.approx(0.1)
    ratios = [after / before for before, after in zip(noted.spreads, noted.spreads[1:], strict=False)]
    assert ratios == [pytest.approx(0.25**0.2)] * 4


def test_evaluation_begins_at_the_centre_and_draws_nothing():
    module = module_of()
    images = data_of().source.test.images[:4]
    before = torch.random.get_rng_state()
    trace: Trace = module(images)
    assert trace.logits.shape == (4, 3, 10)
    assert not trace.locations[:, 0].any()
    assert torch.equal(module(images).locations, trace.locations)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("first", ["random", "centre"])
def test_training_begins_where_it_was_told(first, monkeypatch):
    module = module_of(first_location=first)
    monkeypatch.setattr(HardAttentionTraining, "current_spread", lambda self: 0.3)
    images = data_of().source.train.images[:200]
    trace = module.explore(images, torch.Generator().manual_seed(1))
    start = trace.locations[:, 0]
    if first == "centre":
        assert not start.any()
    else:
        assert start.min() < -0.9
        assert start.max() > 0.9
        assert start.abs().max() <= 1
        assert abs(float(start.mean())) < 0.1
    assert not trace.log_prob[:, 0].any()
    assert trace.log_prob[:, 1:].all()


def test_roll_outs_of_an_image_lie_side_by_side_and_differ(monkeypatch):
    module = module_of(baseline="leave-one-out", num_rollouts=4)
    seen: list[Any] = []
    explore = HardAttentionTraining.explore

    def watched(self: Any, images: Any, generator: Any, labels: Any) -> Any:
        seen.append((images, explore(self, images, generator, labels)))
        return seen[-1][1]

    monkeypatch.setattr(HardAttentionTraining, "explore", watched)
    fit(module, steps=1)
    images, trace = seen[0]
    assert len(images) == 64
    assert torch.equal(images[0], images[3])
    assert not torch.equal(images[0], images[4])
    assert not torch.allclose(trace.locations[0, 1], trace.locations[1, 1])


def test_each_step_explores_anew(monkeypatch):
    module = module_of(first_location="random")
    starts: list[Any] = []
    explore = HardAttentionTraining.explore

    def watched(self: Any, images: Any, generator: Any, labels: Any) -> Any:
        trace = explore(self, images, generator, labels)
        starts.append(trace.locations[:, 0])
        return trace

    monkeypatch.setattr(HardAttentionTraining, "explore", watched)
    fit(module, steps=2)
    assert not torch.equal(*starts)


def test_the_loss_is_the_weighted_sum_of_its_parts(monkeypatch):
    weights = {"policy_weight": 0.3, "entropy_weight": 0.05}
    module = module_of(policy="grid", baseline="leave-one-out", num_rollouts=2, **weights)
    seen: list[Any] = []

    def watched(trace: Any, labels: Any, rule: Any, **options: Any) -> Any:
        assert torch.equal(labels[::2], labels[1::2])
        seen.append(objectives.losses(trace, labels, rule, **options))
        return seen[-1]

    monkeypatch.setattr(training, "losses", watched)
    noted, _ = fit(module, steps=2)
    for parts, loss in zip(seen, noted.losses, strict=True):
        values = parts._asdict()
        assert all(abs(values[name].item()) > 1e-3 for name in ("classification", "policy", "baseline", "entropy"))
        expected = parts.classification + 0.3 * parts.policy + parts.baseline - 0.05 * parts.entropy
        assert loss == pytest.approx(expected.item(), abs=1e-5)


def test_a_checkpoint_holds_plain_values_and_the_weights(tmp_path):
    module, path = module_of(), tmp_path / "model.ckpt"
    fit(module, steps=2, checkpoint=path)
    loaded = torch.load(path, weights_only=True)
    assert loaded["glimpse_model"] == HardAttentionTraining.kind == "hard"
    assert loaded["hyper_parameters"]["classes"] == list("0123456789")
    assert loaded["hyper_parameters"]["num_glimpses"] == 3
    again = HardAttentionTraining(**loaded["hyper_parameters"])
    again.load_state_dict(loaded["state_dict"])
    images = data_of().source.test.images[:4]
    with torch.no_grad():
        assert torch.equal(again(images).logits, module(images).logits)
    assert float(again.observer.model.std) < 1


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")
def test_a_training_that_goes_on_keeps_the_mean_it_had(tmp_path):
    path = tmp_path / "model.ckpt"
    fit(module_of(), steps=4, checkpoint=path)
    halfway = torch.load(path, weights_only=True)
    assert halfway["global_step"] == 2
    halfway["state_dict"]["observer.model.mean"] += 0.5
    torch.save(halfway, path)
    again = module_of()
    noted, trainer = fit(again, steps=4, resume=path)
    assert torch.equal(again.observer.model.mean, halfway["state_dict"]["observer.model.mean"])
    assert trainer.global_step == 4
    assert noted.spreads == [pytest.approx(0.2), pytest.approx(0.4 * 0.25**0.75)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"glimpse_size": 31}, r"finest window, 31x31 pixels; got 30x40; lower --model\.glimpse_size, or use larger"),
        ({"first_location": "corner"}, r"expected --model\.first_location out of centre, random; got 'corner'"),
        ({"baseline": "oracle"}, r"expected --model\.baseline out of learned, leave-one-out, none; got 'oracle'"),
        ({"baseline": "leave-one-out"}, r"leave-one-out baseline needs --model\.num_rollouts of at least 2; raise it"),
        ({"spread": 0.1, "final_spread": 0.2}, r"final_spread <= --model\.spread, got 0\.2 and 0\.1"),
        ({"final_spread": 0.0}, r"expected 0 < --model\.final_spread <= --model\.spread"),
        ({"num_glimpses": 0}, r"expected --model\.num_glimpses of at least 1, got 0; raise it"),
        ({"reward": "praise"}, r"expected --model\.reward out of improvement, terminal, dense; got 'praise'"),
        ({"policy": "beta"}, r"expected --model\.policy out of gaussian, grid; got 'beta'"),
        ({"policy": "grid", "grid_cells": 0}, r"expected --model\.grid_cells of at least 1, got 0; raise it"),
        ({"zoom": 0}, r"expected --model\.zoom of at least 1, got 0"),
        ({"num_scales": 0}, r"expected --model\.num_scales of at least 1, got 0"),
        ({"hidden": 0}, r"expected --model\.hidden of at least 1, got 0"),
        ({"learning_rate": 0.0}, r"expected --model\.learning_rate above 0, got 0\.0"),
        ({"discount": 1.5}, r"expected --model\.discount from 0 to 1, got 1\.5"),
        (
            {"entropy_weight": 0.1},
            r"--model\.entropy_weight would do nothing, since a Gaussian's entropy is settled by --model\.spread",
        ),
        ({"what": "conv", "glimpse_size": 1}, r"a conv encoder needs --model\.glimpse_size of at least 2"),
        ({"num_scales": 9}, r"a widest window of at most 4 times the image's longer side, 40 pixels; got"),
        ({"gaze": "evil"}, r"expected --model\.gaze out of eyes, layer, nothing; got 'evil'"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options, sentence):
    with rejected(sentence):
        module_of(**options)


@pytest.mark.parametrize(
    ("policy", "given", "expected"),
    [
        ("gaussian", {}, (0.2, 0.05)),
        ("grid", {}, (1.0, 1.0)),
        ("grid", {"spread": 3.0}, (3.0, 1.0)),
        ("gaussian", {"spread": 0.01}, (0.01, 0.01)),
        ("gaussian", {"spread": 0.3, "final_spread": 0.1}, (0.3, 0.1)),
    ],
)
def test_exploration_has_a_default_for_each_policy(policy, given, expected):
    unset = {name: value for name, value in SMALL.items() if name not in ("spread", "final_spread", "policy")}
    training = HardAttentionTraining(["a", "b"], [1, 30, 40], **unset, policy=policy, **given)
    assert (training.spread, training.final_spread) == expected


def test_rewards_are_made_of_unrounded_logits_under_autocast():
    training = module_of()
    images = torch.randint(0, 255, (4, 1, 30, 40), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        trace = training(images)
    assert {part.dtype for part in trace if part is not None} == {torch.float32}
    assert not torch.equal(trace.logits, trace.logits.bfloat16().float())


def test_validation_begins_where_training_does_and_is_the_same_each_time():
    images = data_of().source.train.images[:40]
    module = module_of(first_location="random")
    start = module.validate(images, 0).locations[:, 0]
    assert start.min() < -0.5 < 0.5 < start.max()
    assert torch.equal(module.validate(images, 0).locations[:, 0], start)
    assert not torch.equal(module.validate(images, 1).locations[:, 0], start)
    assert not module_of(first_location="centre").validate(images, 0).locations[:, 0].any()
