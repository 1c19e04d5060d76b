from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from glimpse.drawing import animation
from glimpse.drawing.heatmap import legend
from glimpse.drawing.palette import BACKGROUND, RIGHT, WRONG, time_colours
from glimpse.images.geometry import boxes as windows_of

CLASSES = ("cat", "dog", "a name that is far longer than the room that a heading has for it")
LOCATIONS = np.array([[-0.5, 0.25], [0.5, -0.75], [1.4, 0.0], [0.1, 0.1]], np.float32)
BELIEFS = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.05, 0.9, 0.05], [0.01, 0.98, 0.01]], np.float32)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def gaze(height: int = 20, width: int = 30, channels: int = 1, **options: str) -> list[Image.Image]:
    image = noise(height, width, channels)
    boxes = np.stack([np.stack(box, -1) for box in windows_of(LOCATIONS, height, width, 4, 2, 2)], -2)
    seen = np.random.default_rng(1).random((4, 2, channels, 4, 4)).astype(np.float32)
    return animation.animate_gaze(image, boxes.astype(np.float32), LOCATIONS, seen, BELIEFS, CLASSES, **options)


def maps(height: int = 20, width: int = 30, time: int = 4) -> list[Image.Image]:
    weights = np.random.default_rng(1).dirichlet(np.ones(6), time).reshape(time, 2, 3).astype(np.float32)
    beliefs = np.resize(BELIEFS, (time, 3))
    return animation.animate_maps(noise(height, width, 3), weights, beliefs, CLASSES)


def has(frame: Image.Image, colour: object) -> bool:
    return bool((np.asarray(frame) == colour).all(-1).any())


@pytest.mark.parametrize(("height", "width", "channels"), [(20, 30, 1), (300, 40, 3), (30, 1200, 3)])
def test_the_frames_of_a_film_are_of_one_size(height, width, channels):
    for frames in (gaze(height, width, channels), maps(height, width)):
        assert len(frames) == 4
        assert len({frame.size for frame in frames}) == 1
        assert {frame.mode for frame in frames} == {"RGB"}


@pytest.mark.parametrize("film", [gaze, maps])
def test_each_frame_adds_the_colour_of_its_glimpse(film):
    colours = time_colours(4)
    for time, frame in enumerate(film()):
        assert [has(frame, colour) for colour in colours] == [index <= time for index in range(4)]


def test_what_was_drawn_in_one_frame_stays_in_its_place():
    first, *_, last = (np.asarray(frame).astype(int) for frame in gaze())
    blue = (first == time_colours(4)[0]).all(-1)
    assert (last[blue] == first[blue]).all(-1).mean() > 0.9


def test_the_heading_is_the_belief_after_each_glimpse():
    headings = [np.asarray(frame)[:60] for frame in gaze()]
    assert all((before != after).any() for before, after in pairwise(headings))
    assert has(gaze(truth="dog")[0], WRONG)
    assert has(gaze(truth="dog")[-1], RIGHT)


def test_many_glimpses_fit_under_the_maps():
    frames = maps(time=40)
    assert frames[0].width == maps()[0].width
    assert all(has(frames[-1], colour) for colour in time_colours(40))


def test_the_last_frame_stays_longest():
    assert animation.milliseconds(3) == [900, 900, 3000]
    assert animation.milliseconds(1) == [3000]


def test_exact_colours_are_those_of_time_and_of_the_scale():
    assert len(animation.exact_colours(300, of_maps=True)) <= 128
    colours = animation.exact_colours(6, of_maps=False)
    assert {*colours} >= {BACKGROUND, *map(tuple, time_colours(6).tolist())}
    scale = {*animation.exact_colours(6, of_maps=True)} - {*colours}
    assert len(scale) > 20
    assert all(np.abs(np.asarray(legend(400))[3].astype(int) - colour).sum(-1).min() < 12 for colour in scale)
