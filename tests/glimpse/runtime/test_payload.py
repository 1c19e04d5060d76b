import json

import numpy as np
import pytest

from glimpse.runtime.payload import glimpse_payloads, image_payload
from glimpse.runtime.prediction import Prediction

CLASSES = ("cat", "dog")
BELIEFS = np.array([[[0.75, 0.25], [0.125, 0.875]]], np.float32)
LOCATIONS = np.array([[[0, 0], [0.5, -0.25]]], np.float32)
BOXES = np.arange(16, dtype=np.float32).reshape(1, 2, 2, 4)
MAPS = np.array([[[[0.5, 0.5]], [[1, 0]]]], np.float32)
PREDICTION = Prediction(BELIEFS, LOCATIONS, None, None, np.array([2]), ("confident",))


def test_an_image_has_the_last_belief_and_every_glimpse():
    payload = image_payload(PREDICTION, CLASSES, 20, 30)
    glimpses = [{"time": 0, "class": "cat", "confidence": 0.75}, {"time": 1, "class": "dog", "confidence": 0.875}]
    assert payload == {
        "class": "dog",
        "confidence": 0.875,
        "probabilities": {"cat": 0.125, "dog": 0.875},
        "width": 30,
        "height": 20,
        "reason": "confident",
        "glimpses": glimpses,
    }
    assert image_payload(PREDICTION._replace(reasons=()), CLASSES, 20, 30)["reason"] is None


def test_a_model_with_a_retina_has_locations_and_boxes():
    _, last = glimpse_payloads(PREDICTION._replace(boxes=BOXES), CLASSES)
    assert last.keys() == {"time", "class", "confidence", "location", "boxes"}
    assert (last["location"].tolist(), last["boxes"].tolist()) == ([0.5, -0.25], BOXES[0, 1].tolist())


@pytest.mark.parametrize("maps", [False, True])
def test_a_model_with_maps_has_locations_and_its_maps_where_they_are_requested(maps):
    first, _ = glimpse_payloads(PREDICTION._replace(maps=MAPS), CLASSES, maps)
    assert first.keys() == {"time", "class", "confidence", "location"} | ({"map"} if maps else set())
    assert not maps or first["map"].tolist() == [[0.5, 0.5]]


def test_the_numbers_are_float32_which_are_written_short():
    payload = image_payload(PREDICTION, CLASSES, 20, 30)
    assert {type(value) for value in payload["probabilities"].values()} == {np.float32}
    assert json.loads(json.dumps(payload, default=float))["glimpses"][0]["confidence"] == 0.75
