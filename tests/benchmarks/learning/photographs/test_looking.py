"""What looking earns: the shares of objects that are found, and what is asked of it."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.learning.photographs.looking import (
    WINDOWS,
    covered,
    found_shares,
    judge,
    measure_looking,
    oracle_locations,
    roll_out,
)
from glimpse.data.datasets import Split
from glimpse.training.families.focus import FocusTraining

HEIGHT, WIDTH, WINDOW = 96, 128, 32


def some_boxes(images: int, most: int, generator: torch.Generator) -> torch.Tensor:
    """Boxes of any size; the last rows of every second image are empty."""
    corners = torch.rand(images, most, 2, 2, generator=generator).sort(dim=2).values.flatten(2)
    corners[::2, 1:] = torch.nan
    corners[3] = torch.nan
    return corners


def naive_shares(boxes, locations, chosen) -> tuple[list[float], list[float]]:
    """The definition, in pixels, one object and one window at a time."""
    objects, images = [], []
    for of_image, of_gaze, counts in zip(boxes.tolist(), locations.tolist(), chosen.tolist(), strict=True):
        rows = []
        for left, top, right, bottom in of_image:
            if not counts or math.isnan(left):
                continue
            x, y = (left + right) / 2 * WIDTH, (top + bottom) / 2 * HEIGHT
            row, found = [], False
            for across, down in of_gaze:
                middle_x, middle_y = (across + 1) / 2 * WIDTH, (down + 1) / 2 * HEIGHT
                in_window = abs(x - middle_x) <= WINDOW / 2 and abs(y - middle_y) <= WINDOW / 2
                in_box = left * WIDTH <= middle_x <= right * WIDTH and top * HEIGHT <= middle_y <= bottom * HEIGHT
                found = found or in_window or in_box
                row.append(found)
            rows.append(row)
        if rows:
            objects += rows
            images.append([any(column) for column in zip(*rows, strict=True)])
    return tuple(np.mean(rows, axis=0).tolist() for rows in (objects, images))


def test_shares_of_what_is_found_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    boxes = some_boxes(40, 3, generator)
    locations = torch.rand(40, 4, 2, generator=generator) * 2 - 1
    for chosen in (torch.ones(40, dtype=torch.bool), torch.arange(40) % 3 == 0):
        shares = found_shares(covered(boxes, locations, WINDOW, HEIGHT, WIDTH), boxes, chosen)
        objects, images = naive_shares(boxes, locations, chosen)
        assert shares["objects"] == pytest.approx(objects)
        assert shares["images"] == pytest.approx(images)
        assert 0 < objects[0] < objects[-1] < 1
        assert shares["number_of_images"] == int((~boxes[chosen][:, 0, 0].isnan()).sum())


def test_without_objects_there_is_no_share():
    boxes = torch.full((5, 2, 4), torch.nan)
    shares = found_shares(torch.zeros(5, 2, 4, dtype=torch.bool), boxes, torch.ones(5, dtype=torch.bool))
    assert (shares["objects"], shares["images"], shares["number_of_objects"]) == (None, None, 0)


def test_an_oracle_looks_at_the_boxes_in_turn_and_elsewhere_where_there_are_none():
    boxes = torch.full((2, 3, 4), torch.nan)
    boxes[0, 0], boxes[0, 1] = torch.tensor([0.0, 0.5, 0.5, 1.0]), torch.tensor([0.75, 0.0, 1.0, 0.5])
    own = torch.tensor([[0.0, 0.0], [0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]).expand(2, -1, -1)
    found = oracle_locations(boxes, own)
    torch.testing.assert_close(found[1], own[1])
    torch.testing.assert_close(found[0], torch.tensor([[0.0, 0.0], [-0.5, 0.5], [0.75, -0.5], [-0.5, 0.5]]))


@pytest.fixture
def looking() -> tuple[FocusTraining, Split]:
    torch.manual_seed(0)
    training = FocusTraining(
        ["none", "spot"], [1, 128, 128], widths=[4], depths=[1], focus_widths=[4], focus_depths=[1], window=32
    ).eval()
    for layer in (training.observer.model.place_classifier, training.observer.model.window_classifier):
        torch.nn.init.normal_(layer.weight)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (12, 1, 128, 128), dtype=torch.uint8, generator=generator)
    return training, Split(images, torch.arange(12) % 2, some_boxes(12, 2, generator))


def test_looking_is_measured_under_every_gaze_and_the_model_is_left_as_it_was(looking):
    training, test = looking
    training.observer.num_glimpses = 2
    found = measure_looking(training.observer, test, list("abcabcabcabc"), [True, False] * 6, balanced=True)
    assert (training.observer.num_glimpses, found["kept"]) == (2, 2)
    assert list(found["gazes"]) == ["own", "random", "centre", "oracle"]
    for of_gaze in found["gazes"].values():
        assert len(of_gaze["accuracy"]) == len(of_gaze["standard_error"]) == 1 + WINDOWS
        assert of_gaze["accuracy"][0] == found["gazes"]["own"]["accuracy"][0]
        assert len(of_gaze["found"]["small"]["images"]) == WINDOWS
    assert found["gazes"]["oracle"]["found"]["all"]["images"][0] == 1.0
    assert found["multiply_accumulates"] == sorted(found["multiply_accumulates"])
    assert found["random_less_glance"][1] == pytest.approx(
        found["gazes"]["random"]["accuracy"][2] - found["gazes"]["random"]["accuracy"][0]
    )
    json.dumps(found | judge(found))
    without = measure_looking(training.observer, Split(test.images, test.labels), ["a"] * 12, [False] * 12, False)
    assert list(without["gazes"]) == ["own", "random", "centre"]
    assert judge(without)["possible"] is None


def test_own_locations_followed_are_the_own_roll_out(looking):
    training, test = looking
    logits, seen = roll_out(training.observer, test.images)
    again, same = roll_out(training.observer, test.images, seen)
    torch.testing.assert_close(again, logits)
    torch.testing.assert_close(same, seen)


def test_all_windows_of_a_model_that_takes_more_are_measured(looking):
    training, test = looking
    training.observer.num_glimpses = 7
    found = measure_looking(training.observer, test, ["a", "b"] * 6, [False] * 12, balanced=False)
    assert len(found["gazes"]["own"]["accuracy"]) == len(found["multiply_accumulates"]) == 7
    assert judge(found)["windows"] == 6


def gazes(own: list[float], oracle: list[float], random: list[float], error: float = 0.0) -> dict[str, Any]:
    return {
        "kept": len(own),
        "gazes": {"own": {"accuracy": own}, "oracle": {"accuracy": oracle}},
        "random_less_glance": random,
        "random_less_glance_standard_error": [error] * len(random),
    }


def test_looking_is_judged_by_half_of_an_oracle_and_by_random_windows():
    good = judge(gazes([0.5, 0.6, 0.7], [0.5, 0.7, 0.8], [0.0, 0.01]))
    assert (good["windows"], good["earns_half"], good["random_lowers"]) == (2, True, False)
    assert good["earned"] == pytest.approx(20)
    assert "looking earns 20.0 points over the glance alone with 2 windows" in good["sentences"][0]
    assert "would earn 30.0: at least half" in good["sentences"][0]
    poor = judge(gazes([0.5, 0.55, 0.6], [0.5, 0.7, 0.8], [-0.05, 0.01], 0.01))
    assert (poor["earns_half"], poor["random_lowers"]) == (False, True)
    assert "the worst is -5.0 (standard error 1.0): lower by more" in poor["sentences"][1]
    assert not judge(gazes([0.5, 0.6], [0.5, 0.7], [-0.05], 0.03))["random_lowers"]
    nothing = judge(gazes([0.5, 0.5], [0.5, 0.4], [0.0]))
    assert nothing["earns_half"] is None
    assert "would earn -10.0: so that there is nothing to earn" in nothing["sentences"][0]
