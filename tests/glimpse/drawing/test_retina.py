import numpy as np
import pytest

from glimpse.drawing.palette import BACKGROUND
from glimpse.drawing.retina import draw_retina, retina_grid


def test_the_windows_stand_in_a_grid_of_time_and_scales():
    glimpses = np.linspace(0.1, 0.9, 6).reshape(3, 2, 1, 1, 1).repeat(4, axis=3).repeat(4, axis=4)
    picture = draw_retina(glimpses, ["a", "b", "c"], cell=50)
    assert picture.width == 3 * 58 - 8
    for time in range(3):
        for scale in range(2):
            place = (time * 58 + 25, 26 + scale * 54 + 25)
            assert picture.getpixel(place) == (round(255 * glimpses[time, scale, 0, 0, 0]),) * 3


def test_the_retinas_colours_are_shown_the_right_way_round():
    glimpse = np.zeros((1, 1, 3, 2, 2))
    glimpse[0, 0, :, 0, 1] = (1, 0.5, 0)
    picture = draw_retina(glimpse, ["x"], cell=40)
    assert picture.getpixel((30, 26 + 10)) == (255, 128, 0)
    assert picture.getpixel((10, 26 + 30)) == (0, 0, 0)


def test_many_glimpses_go_on_in_the_next_row():
    glimpses = np.zeros((5, 1, 1, 4, 4))
    one = draw_retina(glimpses, ["x"] * 5)
    three = draw_retina(glimpses, ["x"] * 5, columns=2)
    assert three.width < one.width
    assert three.height > 2.5 * one.height


def test_captions_have_room_even_when_they_are_long():
    glimpses = np.zeros((2, 1, 1, 4, 4))
    picture = draw_retina(glimpses, ["a name much wider than one window is", "b"], cell=60)
    gap = np.asarray(picture)[26 + 64 :, 60:68]
    assert (gap == BACKGROUND).all()


def test_a_missing_caption_raises_an_error():
    with pytest.raises(ValueError, match="expected a caption for each of 2 glimpses, got 1"):
        draw_retina(np.zeros((2, 1, 1, 4, 4)), ["x"])


def test_the_retina_keeps_a_place_for_what_is_to_come():
    glimpses = np.full((3, 1, 1, 4, 4), 0.5, np.float32)
    part = np.asarray(draw_retina(glimpses, ["a", "b", "c"], shown=1))
    whole = np.asarray(draw_retina(glimpses, ["a", "b", "c"]))
    assert part.shape == whole.shape
    assert ((part == 128).all(-1).sum(), (whole == 128).all(-1).sum()) == (94 * 94, 3 * 94 * 94)


@pytest.mark.parametrize("room", [(640, 480), (400, 900), (1200, 300)])
def test_a_grid_fits_its_room_with_windows_of_a_size_to_see(room):
    captions = ["a class\n50%"] * 6
    columns, cell = retina_grid(captions, 2, room)
    assert 1 <= columns <= 6
    assert 40 <= cell <= 150
    picture = draw_retina(np.zeros((6, 2, 1, 4, 4)), captions, columns=columns, cell=cell)
    assert picture.width <= room[0]
    assert picture.height <= room[1]


def test_a_grid_without_room_has_the_smallest_windows():
    assert retina_grid(["x"] * 3, 4, (100, 10))[1] == 40
