import numpy as np

from glimpse.drawing import charts
from glimpse.drawing.palette import WRONG


def test_learning_curves_have_a_panel_for_each_title_and_skip_what_was_not_measured():
    epochs = np.arange(4)
    one = charts.draw_learning_curves(epochs, {"error": {"train": [0.9, 0.5, 0.3, 0.2]}})
    curves = {"train": [0.9, 0.5, 0.3, 0.2], "validation": [np.nan, 0.6, np.nan, 0.3]}
    two = charts.draw_learning_curves(epochs, {"error": curves, "reward": {"reward": [0, 1, 2, 3]}}, "steps")
    assert two.width == 2 * one.width
    assert (np.asarray(two) == (64, 190, 255)).all(-1).any(), "the second line"
    assert not (np.asarray(one) == (64, 190, 255)).all(-1).any()


def test_the_policys_line_leads_the_baselines():
    picture = charts.draw_baselines({"own": [0.5, 0.1], "random": [0.6, 0.4], "centre": np.array([0.4, 0.4])})
    pixels = np.asarray(picture)
    policy = (pixels == (255, 188, 76)).all(-1).sum()
    assert policy > (pixels == (64, 190, 255)).all(-1).sum() > 0


def test_wrong_predictions_are_red_and_right_ones_green():
    picture = np.asarray(charts.draw_confusion(np.array([[9, 0], [4, 5]]), ["cat", "dog"])).astype(int)
    assert (picture == WRONG).all(-1).sum() > 1000
    green = (picture[..., 1] > picture[..., 0] + 40) & (picture[..., 1] > picture[..., 2] + 20)
    assert green.sum() > 2000
    faultless = np.asarray(charts.draw_confusion(np.array([[9, 0], [0, 5]]), ["cat", "dog"]))
    assert not (faultless == WRONG).all(-1).any()


def test_many_classes_and_none_tested_are_drawn_too():
    assert charts.draw_confusion(np.eye(100, dtype=int), [f"class {i}" for i in range(100)]).width <= 12 * 130
    assert charts.draw_confusion(np.zeros((2, 2), int), ["a", "b"]).width > 0
