import re

import gymnasium
import numpy as np
import pytest
import torch

from glimpse_envs.classification.actions import LARGEST_LOGIT, Actions

HERE = torch.tensor([[0.5, -0.5], [0.0, 0.9]])


def test_a_cell_is_looked_at_in_its_middle_row_by_row():
    actions = Actions("declare", 3, grid_cells=2, relative=False, largest_step=1.0)
    assert actions.space == gymnasium.spaces.MultiDiscrete([4, 4])
    move = actions.decode(torch.tensor([[1, 3], [2, 0]]), HERE)
    assert move.location.tolist() == [[0.5, -0.5], [-0.5, 0.5]]
    assert move.answer is not None
    assert move.answer.tolist() == [3, 0]
    assert move.log_probability is None


def test_a_relative_cell_is_a_saccade_that_ends_at_the_edge():
    actions = Actions("joint", 3, grid_cells=3, relative=True, largest_step=0.6)
    assert actions.space == gymnasium.spaces.MultiDiscrete([9, 3])
    move = actions.decode(torch.tensor([[4, 0], [8, 1]]), HERE)
    torch.testing.assert_close(move.location, torch.tensor([[0.5, -0.5], [0.4, 1.0]]))


def test_scores_become_log_probabilities_and_the_highest_is_the_answer():
    actions = Actions("box", 3, grid_cells=1, relative=False, largest_step=1.0)
    action = torch.tensor([[0.1, 0.2, -1.0, 0.5, 0.0], [0.3, -0.4, 1.0, 1.0, -1.0]])
    move = actions.decode(action, HERE)
    torch.testing.assert_close(move.location, action[:, :2])
    assert move.answer is not None
    assert move.log_probability is not None
    assert move.answer.tolist()[0] == 1
    torch.testing.assert_close(move.log_probability, (action[:, 2:] * LARGEST_LOGIT).log_softmax(1))


def test_what_lies_beyond_the_image_is_looked_at_from_its_edge():
    actions = Actions("location", 3, grid_cells=1, relative=False, largest_step=1.0)
    assert actions.decode(torch.tensor([[1.2, -3.0], [0.5, 1.0]]), HERE).location.tolist() == [[1.0, -1.0], [0.5, 1.0]]


def test_a_location_alone_says_nothing():
    actions = Actions("location", 3, grid_cells=1, relative=True, largest_step=0.5)
    move = actions.decode(torch.tensor([[1.0, 1.0], [-1.0, 0.2]]), HERE)
    torch.testing.assert_close(move.location, torch.tensor([[1.0, 0.0], [-0.5, 1.0]]))
    assert move.answer is None


@pytest.mark.parametrize(
    ("mode", "action", "sentence"),
    [
        ("declare", [[0.0, 1.0]], r"expected whole numbers of shape \(2,\), .*; got float64 of shape \(2,\)"),
        ("declare", [[0, 1, 2]], r"expected whole numbers of shape \(2,\), .*; got int64 of shape \(3,\)"),
        ("declare", [["a", "b"]], "expected whole numbers .* got <U1"),
        ("location", [[0.0, 1.5]], r"expected an action in Box\(-1.0, 1.0, \(2,\), float32\), got \[0.0, 1.5\]"),
        ("location", [[0.0, float("nan")]], r"got \[0.0, nan\]"),
        ("box", [[0.0, 0.0, 0.0]], r"expected floating-point numbers of shape \(5,\)"),
    ],
)
def test_what_is_no_action_is_refused(mode, action, sentence):
    actions = Actions(mode, 3, grid_cells=2, relative=False, largest_step=1.0)
    with pytest.raises(gymnasium.error.InvalidAction, match=sentence):
        actions.check(action, 1)


def test_the_one_wrong_action_of_many_is_named():
    actions = Actions("declare", 3, grid_cells=2, relative=False, largest_step=1.0)
    for outside in ([1, 9], [4, 0], [0, -1]):
        given = actions.check(np.array([[0, 0], outside, [2, 2]]), 3)
        with pytest.raises(gymnasium.error.InvalidAction, match=re.escape(f"in MultiDiscrete([4 4]), got {outside}")):
            actions.decode(given, torch.zeros(3, 2))
    with pytest.raises(gymnasium.error.InvalidAction, match=r"numbers of shape \(3, 2\).* got int64 of shape \(2, 2\)"):
        actions.check(np.zeros((2, 2), int), 3)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_whole_numbers_of_any_type_are_actions(dtype):
    actions = Actions("declare", 3, grid_cells=2, relative=False, largest_step=1.0)
    assert actions.check(np.array([[3, 3]], dtype), 1).tolist() == [[3, 3]]
