"""Training of glance and focus: what boxes teach, what labels alone do, and the crops that a training begins with."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from glimpse.data.datasets import Split
from glimpse.data.held_out import generator_for
from glimpse.errors import ArgumentError
from glimpse.training.box_objectives import empty_class
from glimpse.training.families.focus import FocusTraining

SIDE = 64
SMALL: dict[str, Any] = {
    "window": 16,
    "reduction": 2,
    "num_glimpses": 3,
    "candidates": 2,
    "widths": [8, 16],
    "depths": [1, 2],
    "focus_widths": [8, 16],
    "focus_depths": [1, 1],
    "dropout": 0.0,
}


def training_of(**options: Any) -> FocusTraining:
    torch.manual_seed(0)
    training = FocusTraining(["bar", "none", "post"], [1, SIDE, SIDE], **(SMALL | options))
    training.normalise_by(torch.tensor([0.5]), torch.tensor([0.3]))
    training.empty_class = 1
    return training


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with a small bar, a small post or nothing, and the boxes of them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 160, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (count,), generator=generator)
    corners = torch.randint(2, SIDE - 10, (count, 2), generator=generator)
    boxes = torch.full((count, 2, 4), math.nan)
    for place, (label, (x, y)) in enumerate(zip(labels.tolist(), corners.tolist(), strict=True)):
        if label == 1:
            continue
        across, down = (8, 2) if label == 0 else (2, 8)
        images[place, 0, y : y + down, x : x + across] = 255
        boxes[place, 0] = torch.tensor([x, y, x + across, y + down]) / SIDE
    return images, labels, boxes


def fit(training: FocusTraining, steps: int, told: bool) -> None:
    optimizer = torch.optim.AdamW(training.parameters(), 4e-3)
    training.train()
    for step in range(steps):
        images, labels, boxes = scenes(32, step)
        found = training.losses(images, labels, boxes if told else None, generator_for("cpu", step), 2)
        total = found["glance"] + found["answer"] + found["windows"] + 0.1 * found["policy"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    training.eval()


def test_boxes_teach_to_find_and_to_name_small_objects() -> None:
    training = training_of()
    fit(training, 100, told=True)
    images, labels, boxes = scenes(200, 9999)
    with torch.no_grad():
        trace = training(images)
    wrong = (trace.logits[:, -1].argmax(1) != labels).float().mean()
    assert wrong < 0.12
    has_object = labels != 1
    middle = boxes[has_object, 0, :2] + boxes[has_object, 0, 2:] - 1
    near = ((trace.locations[has_object, 1] - middle).abs() <= 16 / SIDE).all(1)
    assert near.float().mean() > 0.85


def test_labels_alone_train_all_parts() -> None:
    training = training_of()
    images, labels, _ = scenes(8, 0)
    for _ in range(3):  # heads begin at zero, so that the first steps reach no encoder
        found = training.losses(images, labels, None, generator_for("cpu", 1), 2)
        (found["glance"] + found["answer"] + found["policy"]).backward()
        with torch.no_grad():
            for parameter in training.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.1 * parameter.grad)
    assert found["windows"] == 0
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in training.parameters())


@pytest.mark.parametrize("empty", [None, 1])
def test_crops_hold_objects_and_their_boxes_go_with_them(empty: int | None) -> None:
    training = training_of(crop=24, crops=3)
    training.empty_class = empty
    images, labels, boxes = scenes(40, 5)
    told = training.is_told(labels, boxes)
    assert told.equal((labels != 1) | torch.tensor(empty is not None))
    images, labels, boxes = images[told], labels[told], boxes[told]
    pixels, of_crops, moved = training.cropped(images, labels, boxes, generator_for("cpu", 3))
    assert pixels.shape == (3 * len(labels), 1, 24, 24)
    shown = 0
    for crop, label, box, truth in zip(pixels[:, 0], of_crops, moved, labels.repeat_interleave(3), strict=True):
        if box.isnan().all():
            assert (empty, label) == (1, 1)
            continue
        shown += 1
        assert label == truth
        left, top, right, bottom = (box[0] * 24).round().long().tolist()
        assert (crop[top:bottom, left:right] == 1).all()
        assert (crop == 1).sum() == (right - left) * (bottom - top)
    has_object = int((labels != 1).sum())
    assert shown >= (0.6 if empty else 1) * 3 * has_object


def test_the_class_of_nothing_is_the_one_that_never_has_an_object() -> None:
    _, labels, boxes = scenes(60, 1)
    images = torch.zeros(60, 1, 1, 1, dtype=torch.uint8)
    assert empty_class(Split(images, labels, boxes), 3) == 1
    assert empty_class(Split(images, labels, torch.full_like(boxes, math.nan)), 3) is None
    assert empty_class(Split(images, labels, torch.zeros_like(boxes)), 3) is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 80}, "at least as large as a window of 80x80 pixels, got 64x64"),
        ({"crop": 8}, "expected crop of 0, or from a window's 16 to the images' 64 pixels, got 8"),
        ({"crop": 65}, "expected crop of 0, or from a window's 16"),
        ({"crop_share": 1.0}, "expected crop_share from 0 to 0.99"),
        ({"candidates": 0}, "expected candidates of at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        training_of(**options)
