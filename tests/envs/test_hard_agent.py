"""Trained in the environment or by the fused roll-out, the model is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from glimpse.cli.app import main
from glimpse.data.datamodule import ImageData
from glimpse.data.held_out import generator_for
from glimpse.training.checkpoint import load_training
from glimpse.training.families.hard import HardAttentionTraining
from glimpse_envs.hard_agent import BatchScenes, rollout_in_environment

UPDATES = 100
MODEL: dict[str, Any] = {"num_glimpses": 4, "glimpse_size": 6, "num_scales": 2, "hidden": 24, "gaze_hidden": 12}


class Alone(HardAttentionTraining):
    """The training step without a trainer."""

    def current_spread(self) -> float:
        return self.spread

    def note(self, *figures: torch.Tensor) -> None:
        pass


def train(roll_out: Any, updates: int, **options: Any) -> tuple[list[float], Alone]:
    data = ImageData("digits", canvas_height=32, canvas_width=40, num_pieces=2, batch_size=16)
    torch.manual_seed(0)
    training = Alone(data.classes, data.image_shape, **(MODEL | options))
    training.roll_out = roll_out
    optimizer = torch.optim.AdamW(training.parameters(), lr=1e-3)
    part, losses = data.source.train, []
    for update in range(updates):
        chosen = torch.randint(len(part), (16,), generator=generator_for("cpu", 1, update))
        batch = data.draw(part.images[chosen], 0, update), part.labels[chosen]
        loss = training.training_step(batch, update)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, training


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"reward": "improvement", "discount": 0.0},
        {"reward": "terminal", "first_location": "random", "policy": "grid"},
        {"reward": "dense", "num_rollouts": 2, "baseline": "leave-one-out"},
    ],
)
def test_losses_are_equal_over_a_hundred_updates(monkeypatch, options):
    monkeypatch.setattr(Alone, "current_epoch", 0, raising=False)
    fused, one = train(None, UPDATES, **options)
    in_environment, other = train(rollout_in_environment, UPDATES, **options)
    torch.testing.assert_close(torch.tensor(in_environment), torch.tensor(fused), atol=1e-5, rtol=0)
    assert len(set(fused)) == UPDATES, "every update should have changed the model"
    for name, weights in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weights, atol=1e-5, rtol=0)


def test_the_rewards_are_the_environments(monkeypatch):
    monkeypatch.setattr(Alone, "current_epoch", 0, raising=False)
    seen: list[Any] = []

    def double(*args: Any) -> Any:
        trace: Any = rollout_in_environment(*args)
        seen.append(trace.rewards)
        return trace._replace(rewards=trace.rewards * 0)

    _, training = train(double, 1, reward="improvement", baseline="none")
    assert seen[0].shape == (16, 4)
    policy: Any = training.observer.model.policy
    assert all(weight.grad is None or not weight.grad.any() for weight in policy.parameters())


def test_a_batch_deals_its_images_with_their_labels():
    images = torch.arange(2 * 3 * 4 * 5).to(torch.uint8).view(2, 3, 4, 5)
    scenes = BatchScenes(images, torch.tensor([1, 0]), 3)
    dealt = scenes.fetch(torch.tensor([1]), torch.Generator())
    assert torch.equal(scenes.images(dealt.scene), images[1:])
    assert dealt.labels.tolist() == [[0]]
    assert (len(scenes), scenes.image_shape, scenes.classes) == (2, (3, 4, 5), ("0", "1", "2"))


def run_of(folder: Path, *options: str) -> int:
    sizes = ["--model.hidden", "16", "--model.gaze_hidden", "8", "--trainer.max_epochs", "1", "--data.passes", "1"]
    limits = ["--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "1"]
    return main(["train", "--config", "digits", "--output", str(folder), *sizes, *limits, *options])


@pytest.mark.slow
def test_the_command_trains_the_same_model_in_the_environment(tmp_path):
    for name in ("fused", "env"):
        assert run_of(tmp_path / name, "--rollout", name) == 0
    weights = [load_training(tmp_path / name / "last.ckpt")[0].state_dict() for name in ("fused", "env")]
    for name, values in weights[0].items():
        torch.testing.assert_close(weights[1][name], values, atol=1e-6, rtol=0)
    assert "rollout: env" in (tmp_path / "env" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rollout", "enviroment"], "--rollout: expected one of fused, env; got 'enviroment'"),
        (["--rollout", "env", "--model", "ConvolutionalTraining"], "--rollout env: expected the family HardAttentionT"),
    ],
)
def test_a_roll_out_that_cannot_be_is_refused(tmp_path, capsys, options, sentence):
    sizes = [] if "Conv" in str(options) else ["--model.hidden", "8"]
    recipe = tmp_path / "small.yaml"
    recipe.write_text("data:\n  class_path: ImageData\ntrainer:\n  max_epochs: 1\n")
    assert main(["train", "--config", str(recipe), "--output", str(tmp_path / "run"), *sizes, *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
