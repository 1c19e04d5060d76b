import numpy as np
import pytest

from glimpse.images.frames import Frames

SIZES = [(20, 30), (40, 20), (10, 60), (7, 7)]


def test_an_image_between_black_bars_has_its_edges_and_corners():
    frames = Frames([(40, 20)], 20, 30)  # drawn 10 x 20, at 10 from the left
    for own, canvas in (((-1, -1), (-1 / 3, -1)), ((1, 1), (1 / 3, 1)), ((0, 0.5), (0, 0.5))):
        np.testing.assert_allclose(frames.locations_on_canvas(np.array(own)), [canvas], atol=1e-6)
        np.testing.assert_allclose(frames.locations_on_images(np.array([[canvas]])), [[own]], atol=1e-6)
    boxes = frames.boxes_on_images(np.array([[[[10, 0, 20, 20], [9, -1, 15, 10]]]], np.float32))
    np.testing.assert_array_equal(boxes, [[[[0, 0, 20, 40], [-2, -2, 10, 20]]]])


@pytest.mark.parametrize("canvas", [(20, 30), (64, 9)])
def test_the_way_there_and_back_changes_nothing(canvas):
    frames = Frames(SIZES, *canvas)
    own = np.random.default_rng(0).uniform(-1, 1, (len(SIZES), 2))
    there = frames.locations_on_canvas(own)
    assert there.dtype == np.float32
    np.testing.assert_allclose(frames.locations_on_images(there[:, None])[:, 0], own, atol=1e-5)
    for corner in ([-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]):
        assert np.abs(frames.locations_on_canvas(np.array(corner))).max() <= 1


def test_an_image_of_the_canvass_size_keeps_its_frame():
    frames, locations = Frames([(20, 30)] * 2, 20, 30), np.array([[0.25, -0.5], [1.0, 0.0]])
    np.testing.assert_array_equal(frames.locations_on_canvas(locations), locations)
    np.testing.assert_array_equal(frames.locations_on_canvas(locations[0]), locations[[0, 0]])


@pytest.mark.parametrize("canvas", [(20, 30), (64, 9)])
def test_a_squashed_image_is_the_whole_canvas(canvas):
    height, width = canvas
    frames = Frames(SIZES, height, width, "squash")
    locations = np.random.default_rng(0).uniform(-1, 1, (len(SIZES), 2)).astype(np.float32)
    np.testing.assert_allclose(frames.locations_on_canvas(locations), locations, atol=1e-6)
    np.testing.assert_allclose(frames.locations_on_images(locations[:, None])[:, 0], locations, atol=1e-6)
    boxes = np.tile(np.array([[0, 0, width, height], [0, 0, width / 2, height / 4]], np.float32), (len(SIZES), 1, 1, 1))
    expected = np.array([[[[0, 0, w, h], [0, 0, w / 2, h / 4]]] for h, w in SIZES])
    np.testing.assert_allclose(frames.boxes_on_images(boxes), expected, rtol=1e-5)


def test_a_glance_is_the_whole_image_without_the_black_beside_it():
    frames = Frames([(40, 20), (20, 30)], 20, 30)
    boxes = np.array([[[[0, 0, 30, 20]], [[10, 0, 20, 10]]]] * 2, np.float32)
    found = frames.boxes_on_images(boxes, glances=True)
    np.testing.assert_array_equal(found[0], [[[0, 0, 20, 40]], [[0, 0, 20, 20]]])
    np.testing.assert_array_equal(found[1], boxes[1])
    np.testing.assert_array_equal(frames.boxes_on_images(boxes)[0, 0], [[-20, 0, 40, 40]])
