import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.rendering import EpisodeRecorder, draw_episode, shade_as_text, write_episode
from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.classification.task import Task
from glimpse_envs.window import check_render_mode

IMAGES = torch.zeros(2, 1, 16, 20, dtype=torch.uint8)
IMAGES[0, 0, :8] = 255
CLASSES = ("ant", "bee", "cow")


def course_of(labels: Any = (1, 2), **options: Any) -> tuple[EpisodeRecorder, Any]:
    pictures = Pictures(IMAGES, torch.tensor(labels), CLASSES)
    given = {"dataset": pictures, "glimpse_size": 4, "num_scales": 2, "num_glimpses": 3} | options
    core = Task.of(**given).core()
    recorder = EpisodeRecorder(core)
    state = core.reset(2, torch.Generator().manual_seed(0), torch.tensor([0, 1]))
    recorder.reset(state)
    return recorder, state


def act(recorder: EpisodeRecorder, state: Any, move: Move) -> Any:
    outcome = recorder.core.step(state, move)
    recorder.add(move, outcome.state, bool(outcome.terminated[0]))
    return outcome.state


def at(x: float, y: float, *answers: int) -> Move:
    return Move(torch.tensor([[x, y]] * 2), torch.tensor(answers * 2) if answers else None)


def test_a_course_tells_how_it_stands_and_how_it_ended():
    recorder, state = course_of()
    assert recorder.summary() == ("glimpse 1 of 3", None)
    state = act(recorder, state, at(0.5, 0.5, 3))
    assert recorder.summary() == ("glimpse 2 of 3", None)
    act(recorder, state, at(0, 0, 1))
    assert recorder.summary() == ("bee: correct, 2 of 3 glimpses", True)
    recorder, state = course_of()
    act(recorder, state, at(0, 0, 2))
    assert recorder.summary() == ("cow: wrong, it is bee, 1 of 3 glimpses", False)


def test_a_course_without_an_answer_says_so():
    recorder, state = course_of(num_glimpses=1)
    act(recorder, state, at(0, 0, 3))
    assert recorder.summary() == ("1 glimpse of bee; no answer", False)


def test_of_a_sequence_all_answers_are_told():
    recorder, state = course_of(labels=((1, 2), (0, 0)))
    state = act(recorder, state, at(0.5, 0, 1))
    act(recorder, state, at(0.5, 0, 2))
    assert recorder.summary() == ("bee cow: correct, 2 of 3 glimpses", True)
    recorder, state = course_of(labels=((1, 2), (0, 0)), num_glimpses=4, action_mode="joint")
    for answer in (0, 1, 1, 0):
        state = act(recorder, state, at(0.1, 0, answer))
    assert recorder.summary() == ("bee ant: wrong, it is bee cow, 4 of 4 glimpses", False)


def test_scores_and_classifiers_show_how_sure_they_are():
    recorder, state = course_of(action_mode="box")
    told = torch.tensor([[0.1, 0.7, 0.2]] * 2).log()
    act(recorder, state, Move(torch.zeros(2, 2), told.argmax(1), told))
    assert recorder.predictions[0] == "bee\n70%"


def test_pictures_of_an_episode_have_one_size_and_show_windows_and_path():
    recorder, state = course_of()
    frames = [np.asarray(draw_episode(recorder))]
    for x, y, answer in ((-1.0, 1.0, 3), (1.0, -1.0, 3), (0.0, 0.0, 1)):
        state = act(recorder, state, at(x, y, answer))
        frames.append(np.asarray(draw_episode(recorder)))
    assert {frame.shape for frame in frames} == {frames[0].shape}
    for one, other in itertools.pairwise(frames):
        assert not np.array_equal(one, other)


def test_a_text_shows_the_image_its_fixations_and_what_was_said():
    recorder, state = course_of()
    act(recorder, state, at(0.9, 0.9, 3))
    told = write_episode(recorder).splitlines()
    assert told[0] == "glimpse 2 of 3"
    assert told[2] == "|" + "@" * 20 + "|"
    assert told[6][11] == "1"
    assert told[9][19] == "2"
    assert told[11] == "glimpse at (+0.90, +0.90), finest scale first:"
    assert told[-1] == "predictions: none yet"


def test_letters_are_darker_where_the_image_is():
    ramp = np.arange(0, 250, 25, dtype=np.uint8)[None, :, None].repeat(2, 0)
    # Each shade has a tenth of the greys: 25 is the last of the first one, 225 is in the ninth.
    assert shade_as_text(ramp, 2, 10) == ["  .:-=+*#%"] * 2
    assert shade_as_text(np.full((4, 4, 3), 255, np.uint8), 1, 3) == ["@@@"]


def test_only_known_render_modes_are_taken():
    assert check_render_mode(None, ["ansi"]) is None
    assert check_render_mode("ansi", ["ansi"]) == "ansi"
    with pytest.raises(gymnasium.error.UnsupportedMode, match="expected render_mode out of ansi, or none; got 'x'"):
        check_render_mode("x", ["ansi"])
