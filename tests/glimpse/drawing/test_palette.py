import numpy as np

from glimpse.drawing.palette import time_colours


def test_time_runs_from_blue_to_amber_without_a_repeat():
    colours = time_colours(8).astype(int)
    assert colours[0].tolist() == [64, 190, 255]
    assert colours[-1].tolist() == [255, 188, 76]
    distances = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(8, dtype=int)
    assert distances.min() > 40
    assert time_colours(1).shape == (1, 3)
