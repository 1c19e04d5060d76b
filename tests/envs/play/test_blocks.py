import re

import numpy as np
import pytest

from glimpse_envs.play.blocks import UPPER_HALF, fitting_scale, join_side_by_side, scaled, to_half_blocks


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_two_rows_are_one_line_of_ink_and_paper():
    picture = np.array([[[1, 2, 3]], [[4, 5, 6]]], np.uint8)
    assert to_half_blocks(picture) == [f"\x1b[38;2;1;2;3m\x1b[48;2;4;5;6m{UPPER_HALF}\x1b[0m"]


def test_a_colour_that_stays_is_not_told_again():
    line = to_half_blocks(np.zeros((2, 30, 3), np.uint8))[0]
    assert line.count("\x1b[38") == line.count("\x1b[48") == 1
    assert plain(line) == UPPER_HALF * 30


def test_an_odd_row_has_black_below():
    lines = to_half_blocks(np.full((3, 1, 3), 9, np.uint8))
    assert len(lines) == 2
    assert "\x1b[48;2;0;0;0m" in lines[1]


def test_marks_stand_on_what_is_behind_them():
    lines = to_half_blocks(np.full((4, 3, 3), 8, np.uint8), {(1, 2): ("7", (255, 0, 0))})
    assert [plain(line) for line in lines] == [UPPER_HALF * 3, UPPER_HALF * 2 + "7"]
    assert lines[1].endswith("\x1b[38;2;255;0;0m7\x1b[0m")


@pytest.mark.parametrize(
    ("shape", "room", "scale"),
    [((28, 28), (20, 48), 1.0), ((28, 28), (45, 100), 3.0), ((60, 60), (21, 48), 0.7), ((10, 100), (40, 50), 0.5)],
)
def test_an_image_is_as_large_as_it_fits(shape, room, scale):
    assert fitting_scale(*shape, *room) == scale
    shown = scaled(np.zeros((*shape, 3), np.uint8), scale)
    assert shown.width <= room[1]
    assert shown.height <= 2 * room[0]


def test_blocks_stand_side_by_side():
    assert join_side_by_side([["ab", "cd"], ["x"]], [2, 1]) == ["ab  x", "cd   "]
