import numpy as np
import pytest

from glimpse_envs.classification.reset_options import check_reset_options, parse_image_indices, parse_locations
from glimpse_envs.classification.task import TaskError


def test_nothing_is_forced_where_nothing_is_said():
    assert parse_image_indices({}, 3, 10) is None
    assert parse_locations({}, 3) is None


def test_images_and_locations_are_taken_over():
    images = parse_image_indices({"image": [3, 0]}, 2, 4)
    assert images is not None
    assert images.tolist() == [3, 0]
    alone = parse_image_indices({"image": 2}, 1, 4)
    assert alone is not None
    assert alone.tolist() == [2]
    locations = parse_locations({"location": np.array([[0.5, -1], [0, 1]])}, 2)
    assert locations is not None
    assert locations.tolist() == [[0.5, -1], [0, 1]]


@pytest.mark.parametrize("image", [4, -1, 1.5, [0, 1]])
def test_an_image_that_is_not_there_is_refused(image):
    with pytest.raises(TaskError, match="expected image to be 1 whole number from 0 to 3, the images of the split"):
        parse_image_indices({"image": image}, 1, 4)


@pytest.mark.parametrize("location", [(0.0, 1.5), (0.0,), (0.0, float("nan")), "middle", [(0.0,), (1.0, 0.0)]])
def test_a_place_beyond_the_image_is_refused(location):
    with pytest.raises(TaskError, match=r"expected location to be 1 \(x, y\) in \[-1, 1\]"):
        parse_locations({"location": location}, 1)


def test_an_unknown_option_is_refused():
    with pytest.raises(TaskError, match="expected reset options out of image, location, reset_mask; got 'images'"):
        check_reset_options({"images": 3}, ("image", "location", "reset_mask"))
    assert check_reset_options(None, ("image",)) == {}
