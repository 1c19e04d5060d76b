import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.rendering import EpisodeRecorder, ansi, letters, picture
from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.task import Task
from glimpse_envs.window import check_render_mode

IMAGES = torch.zeros(2, 1, 16, 20, dtype=torch.uint8)
IMAGES[0, 0, :8] = 255
CLASSES = ("ant", "bee", "cow")


def course_of(labels: Any = (1, 2), **options: Any) -> tuple[EpisodeRecorder, Any]:
    pictures = Pictures(IMAGES, torch.tensor(labels), CLASSES)
    given = {"dataset": pictures, "glimpse_size": 4, "num_scales": 2, "num_glimpses": 3} | options
    looking = Task.of(**given).looking()
    course = EpisodeRecorder(looking)
    state = looking.begin(2, torch.Generator().manual_seed(0), torch.tensor([0, 1]))
    course.begin(state)
    return course, state


def act(course: EpisodeRecorder, state: Any, move: Move) -> Any:
    outcome = course.looking.step(state, move)
    course.add(move, outcome.state, bool(outcome.terminated[0]))
    return outcome.state


def at(x: float, y: float, *answers: int) -> Move:
    return Move(torch.tensor([[x, y]] * 2), torch.tensor(answers * 2) if answers else None)


def test_a_course_tells_how_it_stands_and_how_it_ended():
    course, state = course_of()
    assert course.verdict() == ("glimpse 1 of 3", None)
    state = act(course, state, at(0.5, 0.5, 3))
    assert course.verdict() == ("glimpse 2 of 3", None)
    act(course, state, at(0, 0, 1))
    assert course.verdict() == ("bee: correct, 2 of 3 glimpses", True)
    course, state = course_of()
    act(course, state, at(0, 0, 2))
    assert course.verdict() == ("cow: wrong, it is bee, 1 of 3 glimpses", False)


def test_a_course_without_an_answer_says_so():
    course, state = course_of(num_glimpses=1)
    act(course, state, at(0, 0, 3))
    assert course.verdict() == ("looked 1 time at bee; nothing was said", False)


def test_of_a_sequence_all_answers_are_told():
    course, state = course_of(labels=((1, 2), (0, 0)))
    state = act(course, state, at(0.5, 0, 1))
    act(course, state, at(0.5, 0, 2))
    assert course.verdict() == ("bee cow: correct, 2 of 3 glimpses", True)
    course, state = course_of(labels=((1, 2), (0, 0)), num_glimpses=4, action_mode="joint")
    for answer in (0, 1, 1, 0):
        state = act(course, state, at(0.1, 0, answer))
    assert course.verdict() == ("bee ant: wrong, it is bee cow, 4 of 4 glimpses", False)


def test_scores_and_classifiers_show_how_sure_they_are():
    course, state = course_of(action_mode="box")
    told = torch.tensor([[0.1, 0.7, 0.2]] * 2).log()
    act(course, state, Move(torch.zeros(2, 2), told.argmax(1), told))
    assert course.said[0] == "bee\n70%"


def test_pictures_of_an_episode_have_one_size_and_show_windows_and_path():
    course, state = course_of()
    frames = [np.asarray(picture(course))]
    for x, y, answer in ((-1.0, 1.0, 3), (1.0, -1.0, 3), (0.0, 0.0, 1)):
        state = act(course, state, at(x, y, answer))
        frames.append(np.asarray(picture(course)))
    assert {frame.shape for frame in frames} == {frames[0].shape}
    for one, other in itertools.pairwise(frames):
        assert not np.array_equal(one, other)


def test_a_text_shows_the_image_its_fixations_and_what_was_said():
    course, state = course_of()
    act(course, state, at(0.9, 0.9, 3))
    told = ansi(course).splitlines()
    assert told[0] == "glimpse 2 of 3"
    assert told[2] == "|" + "@" * 20 + "|"
    assert told[6][11] == "1"
    assert told[9][19] == "2"
    assert told[11] == "seen at (+0.90, +0.90), finest scale first:"
    assert told[-1] == "said: nothing yet"


def test_letters_are_darker_where_the_image_is():
    ramp = np.arange(0, 250, 25, dtype=np.uint8)[None, :, None].repeat(2, 0)
    # Each shade has a tenth of the greys: 25 is the last of the first one, 225 is in the ninth.
    assert letters(ramp, 2, 10) == ["  .:-=+*#%"] * 2
    assert letters(np.full((4, 4, 3), 255, np.uint8), 1, 3) == ["@@@"]


def test_only_known_render_modes_are_taken():
    assert check_render_mode(None, ["ansi"]) is None
    assert check_render_mode("ansi", ["ansi"]) == "ansi"
    with pytest.raises(gymnasium.error.UnsupportedMode, match="expected render_mode out of ansi, or none; got 'x'"):
        check_render_mode("x", ["ansi"])
