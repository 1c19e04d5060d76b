"""Objectives that boxes teach: where the evidence lies, and what a window shows."""

import math

import pytest
import torch

from glimpse.models.focus import FocusState, GlanceAndFocus
from glimpse.training.box_objectives import (
    Windows,
    known_first,
    placed_loss,
    places_on_objects,
    window_loss,
)


def test_the_glance_is_told_the_place_and_the_class() -> None:
    state = FocusState(torch.zeros(2, 3), torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))
    state.places[0, 2, 1, 3] = 30.0  # the second image has no object: its class is in no place
    state.nowhere[1, 1] = 30.0
    boxes = torch.full((2, 1, 4), math.nan)
    boxes[0, 0] = torch.tensor([0.8, 0.3, 0.9, 0.4])
    told = torch.tensor([True, True])
    right, wrong = torch.tensor([2, 1]), torch.tensor([1, 1])
    assert placed_loss(state, right, boxes, told).max() < 1e-6
    assert placed_loss(state, wrong, boxes, told)[0] > 10
    boxes[0, 0] = torch.tensor([0.1, 0.3, 0.2, 0.4])
    assert placed_loss(state, right, boxes, told)[0] > 10


def test_where_the_place_is_not_known_the_label_alone_teaches() -> None:
    state = FocusState(torch.randn(2, 3), torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))
    labels, boxes = torch.tensor([2, 0]), torch.full((2, 1, 4), math.nan)
    found = placed_loss(state, labels, boxes, torch.tensor([False, False]))
    logits = GlanceAndFocus.believe(state).logits
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))


def test_a_window_is_told_what_it_shows_and_one_that_cuts_an_object_nothing() -> None:
    boxes = torch.tensor([[[0.4, 0.4, 0.5, 0.5]]])
    locations = torch.tensor([[[-0.1, -0.1], [0.8, 0.8], [0.12, -0.1]]])  # shows it, shows nothing, cuts it
    evidence = torch.zeros(1, 3, 3)
    evidence[0, 0, 2] = 30
    evidence[0, 1] = -30
    covered = torch.zeros(1, 3, 4, 4, dtype=torch.bool)
    assert (
        window_loss(Windows(locations, evidence, covered), torch.tensor([2]), boxes, torch.tensor([True]), 0.2, 0.2)
        < 1e-6
    )
    wrong = evidence.clone()
    wrong[0, 2] = 99  # what cuts an object doesn't count
    assert (
        window_loss(Windows(locations, wrong, covered), torch.tensor([2]), boxes, torch.tensor([True]), 0.2, 0.2) < 1e-6
    )
    wrong[0, 1, 0] = 30
    assert (
        window_loss(Windows(locations, wrong, covered), torch.tensor([2]), boxes, torch.tensor([True]), 0.2, 0.2) > 10
    )


def test_boxes_that_are_known_come_first() -> None:
    boxes = torch.full((2, 3, 4), math.nan)
    boxes[0, 1], boxes[0, 2], boxes[1, 0] = 0.1, 0.2, 0.3
    ordered = known_first(boxes)
    assert ordered[0, :2, 0].tolist() == pytest.approx([0.1, 0.2])
    assert ordered[1, 0, 0] == pytest.approx(0.3)
    assert ordered[0, 2].isnan().all()
    assert ordered[1, 1:].isnan().all()


def test_an_object_lies_on_the_places_in_its_middle_or_on_the_nearest() -> None:
    boxes = torch.full((3, 2, 4), math.nan)
    boxes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes[1, 0], boxes[1, 1] = torch.tensor([0.30, 0.05, 0.31, 0.06]), torch.tensor([0.9, 0.9, 0.99, 0.99])
    on, known = places_on_objects(boxes, 4, 4)
    assert known.tolist() == [True, True, False]
    assert on[0].unflatten(0, (4, 4))[1:3, 1:3].all()
    assert on[0].sum() == 4
    assert on[1].nonzero().flatten().tolist() == [1, 15]
    assert not on[2].any()
