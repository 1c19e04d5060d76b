"""What looking earns, and what pixels alone get."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from glimpse.cli.automatic import measures
from glimpse.cli.automatic.measures import (
    WINDOW_PLACES,
    Everywhere,
    Looking,
    keep_glimpses,
    look_everywhere,
    measure_looking,
    pixel_regression,
)
from glimpse.data.datamodule import ImageData
from glimpse.evaluation.evaluate import beliefs, costs_of
from glimpse.evaluation.scores import scores_of
from glimpse.models.focus import FocusObserver
from glimpse.training.checkpoint import load_training
from glimpse.training.families.focus import FocusTraining
from glimpse.training.families.whole_image import FullyConnectedTraining

SMALL: dict[str, Any] = {
    "widths": [8],
    "depths": [1],
    "focus_widths": [8],
    "focus_depths": [1],
    "reduction": 1,
    "num_glimpses": 3,
}


def test_looking_is_measured_under_each_gaze_and_after_each_glimpse() -> None:
    data = ImageData()
    torch.manual_seed(0)
    training = FocusTraining(data.classes, data.image_shape, **SMALL).eval()
    found = measure_looking(training, data, balanced=False)
    assert found is not None
    assert tuple(found.errors) == WINDOW_PLACES
    assert all(len(errors) == len(found.costs) == 3 for errors in found.errors.values())
    assert len({errors[0] for errors in found.errors.values()}) == 1  # the glance, without a window
    assert found.costs[0] < found.costs[1] < found.costs[2]
    own = found.errors["own"]
    assert own[found.kept - 1] == min(own)
    whole = FullyConnectedTraining(data.classes, data.image_shape)
    assert measure_looking(whole, data, balanced=False) is None


def test_looking_everywhere_is_looking_at_each_place_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageData()
    torch.manual_seed(0)
    training = FocusTraining(data.classes, data.image_shape, **SMALL | {"window": 20, "num_glimpses": 2}).eval()
    model, side = training.observer.model, data.image_shape[1]
    with torch.no_grad():
        model.window_classifier.weight.normal_()
    found = look_everywhere(training.observer, data, balanced=False)
    count = math.ceil(side / 20) ** 2
    assert (found.windows, found.images) == (count, len(data.source.validation))
    costs = costs_of(training.observer, tuple(data.image_shape))
    assert found.cost == costs[0] + count * (costs[1] - costs[0])
    observer = FocusObserver(model, 1 + count)  # its own gaze visits every place, too, if in another order
    logits, labels = beliefs(observer, data.val_dataloader())
    assert found.error == pytest.approx(scores_of(logits[:, -1], labels).error, abs=0.1)
    monkeypatch.setattr(measures, "MOST_LOOKS", 20 * count)
    fewer = look_everywhere(training.observer, data, balanced=False)
    assert 10 <= fewer.images <= 30


def test_looking_in_words() -> None:
    errors = {gaze: [0.2, 0.1, 0.05] for gaze in WINDOW_PLACES}
    everywhere = Everywhere(9, 0.1, 100, 280)
    assert Looking(errors, (100, 120, 140), 2, everywhere).describe() == (
        "looking earns 10.0 points over the glance's error of 20.0 % on validation images, for 0.20 times its cost "
        "more: 1 window kept"
    )
    assert "more: 2 windows kept" in Looking(errors, (100, 120, 140), 3, everywhere).describe()
    assert (
        "earns nothing over the glance's error of 20.0 %" in Looking(errors, (100, 120, 140), 1, everywhere).describe()
    )


def test_windows_that_earn_nothing_are_left_out_of_the_model(tmp_path: Path) -> None:
    data = ImageData()
    training = FocusTraining(data.classes, data.image_shape, **SMALL)
    path = tmp_path / "last.ckpt"
    content = {
        "glimpse_model": "focus",
        "state_dict": training.state_dict(),
        "hyper_parameters": dict(training.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
    }
    torch.save(content, path)
    keep_glimpses(path, 2)
    kept, _ = load_training(path)
    assert kept.observer.num_glimpses == 2
    for name, weight in training.state_dict().items():
        assert weight.equal(kept.state_dict()[name])


def test_pixels_alone_classify_digits() -> None:
    held_out, test = pixel_regression(ImageData(), balanced=False)
    assert held_out.error < 0.1
    assert test.error == pytest.approx(0.05, abs=0.05)
