import numpy as np
import pytest

from glimpse.runtime.limits import Limits
from glimpse.runtime.prediction import Glance, Prediction, concatenate, from_glances, truncate

BELIEFS = np.array(
    [
        [[0.5, 0.5], [0.1, 0.9], [0.6, 0.4]],
        [[0.5, 0.5], [0.6, 0.4], [0.7, 0.3]],
        [[0.8, 0.2], [0.5, 0.5], [0.5, 0.5]],
    ],
    np.float32,
)
PLACES = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
EVERY = Prediction(BELIEFS, PLACES)


def test_an_image_stops_at_its_first_confident_glimpse():
    found = truncate(EVERY, Limits(3, 0.8))
    assert found.glimpses is not None
    assert found.glimpses.tolist() == [2, 3, 1]
    assert found.reasons == ("confident", "budget", "confident")
    np.testing.assert_array_equal(found.locations[0], PLACES[0, [0, 1, 1]])
    np.testing.assert_array_equal(found.locations[2], PLACES[2, [0, 0, 0]])


def test_the_time_axis_is_as_long_as_the_image_with_the_most_glimpses():
    found = truncate(EVERY, Limits(3, 0.5))
    assert found.probabilities.shape == (3, 1, 2)
    assert found.reasons == ("confident",) * 3


@pytest.mark.parametrize("confidence", [None, 0.95])
def test_a_number_of_glimpses_is_a_limit_by_itself(confidence):
    found = truncate(EVERY, Limits(2, confidence))
    assert found.glimpses is not None
    assert found.glimpses.tolist() == [2, 2, 2]
    assert found.reasons == ("budget",) * 3
    np.testing.assert_array_equal(found.probabilities, BELIEFS[:, :2])
    np.testing.assert_array_equal(found.locations, PLACES[:, :2])


def test_boxes_and_maps_are_cut_as_well():
    boxes, maps = np.zeros((3, 3, 1, 4), np.float32), np.zeros((3, 3, 2, 2), np.float32)
    for limit in (Limits(1), Limits(3, 0.5)):
        found = truncate(EVERY._replace(boxes=boxes, maps=maps), limit)
        assert found.boxes is not None
        assert found.maps is not None
        assert (found.boxes.shape, found.maps.shape) == ((3, 1, 1, 4), (3, 1, 2, 2))


def test_predictions_are_joined_along_an_axis():
    parts = [Prediction(BELIEFS[:, time : time + 1], PLACES[:, time : time + 1]) for time in range(3)]
    np.testing.assert_array_equal(concatenate(parts, axis=1).probabilities, BELIEFS)
    images = [Prediction(BELIEFS[index : index + 1], PLACES[index : index + 1]) for index in range(3)]
    np.testing.assert_array_equal(concatenate(images, axis=0).locations, PLACES)


def test_a_function_is_applied_to_every_array_that_is_there():
    assert EVERY.map_arrays(np.shape) == ((3, 3, 2), (3, 3, 2), None, None)
    whole = EVERY._replace(boxes=np.ones((3, 3, 1, 4), np.float32), maps=np.ones((3, 3, 2, 2), np.float32))
    doubled = Prediction(*whole.map_arrays(np.add, whole))
    for array, twice in zip(whole[:4], doubled[:4], strict=True):
        np.testing.assert_array_equal(twice, 2 * np.asarray(array))


def test_the_part_of_an_image_has_the_glimpses_that_it_took():
    boxes = np.arange(36, dtype=np.float32).reshape(3, 3, 1, 4)
    batch = EVERY._replace(boxes=boxes, glimpses=np.array([3, 2, 1]), reasons=("budget", "time", "confident"))
    part = batch.select(1)
    np.testing.assert_array_equal(part.probabilities, BELIEFS[1:2, :2])
    np.testing.assert_array_equal(part.locations, PLACES[1:2, :2])
    np.testing.assert_array_equal(part.boxes, boxes[1:2, :2])
    assert (part.maps, np.asarray(part.glimpses).tolist(), part.reasons) == (None, [2], ("time",))
    every = EVERY.select(2)
    np.testing.assert_array_equal(every.probabilities, BELIEFS[2:])
    assert (every.glimpses, every.reasons) == (None, ())


@pytest.mark.parametrize("reason", [None, "budget"])
def test_glances_make_a_prediction_for_one_image(reason):
    boxes = np.arange(12, dtype=np.float32).reshape(3, 1, 4)
    glances = [
        Glance(time, PLACES[0, time], boxes[time], None, BELIEFS[0, time], 0, 0.5, 0.1, reason if time == 2 else None)
        for time in range(3)
    ]
    found = from_glances(glances)
    np.testing.assert_array_equal(found.probabilities, BELIEFS[:1])
    np.testing.assert_array_equal(found.locations, PLACES[:1])
    np.testing.assert_array_equal(found.boxes, boxes[None])
    assert found.maps is None
    assert np.asarray(found.glimpses).tolist() == [3]
    assert found.reasons == (() if reason is None else (reason,))
