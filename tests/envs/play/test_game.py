import json
from typing import Any

import numpy as np
import pytest
import torch

from glimpse.images.geometry import grid
from glimpse_envs.classification.single import GlimpseEnv
from glimpse_envs.classification.task import Task
from glimpse_envs.play.game import Game, GameError, Round, image_order, next_images
from glimpse_envs.play.record import AlreadyRecordedError, GameRecord, GameSettings, score_players

OPTIONS: dict[str, Any] = {
    "split": "test",
    "canvas_height": 28,
    "canvas_width": 30,
    "num_glimpses": 3,
    "glimpse_size": 6,
}


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def begin(image: int = 7, clock: Clock | None = None, **options) -> Round:
    return Round(Task.of(**{**OPTIONS, **options}).core(), image, 0, clock or Clock())


def sit_down(folder, images=(4, 9), **options) -> Game:
    core = Task.of(**{**OPTIONS, **options}).core()
    settings = GameSettings("Glimpse/Digits-v0", {}, 0, core.scenes.classes, len(core.scenes), None)
    return Game(core, images, 0, GameRecord(folder / "played.json", settings), None, Clock())


@pytest.mark.parametrize("reward", ["terminal", "dense"])
@pytest.mark.parametrize("right", [True, False])
def test_it_is_the_environments_own_episode(reward, right):
    options = {"reward": reward, "glimpse_cost": 0.01}
    env = GlimpseEnv(**OPTIONS, **options)
    observed, info = env.reset(seed=1, options={"image": 7})
    played = begin(7, **options)
    total = 0.0
    for cell in (3, 18):
        observed, reward_, over, _, info = env.step([cell, len(env.classes)])
        total += reward_
        seen = played.look(grid(25)[cell])
        assert not over
        assert np.allclose(seen.location, observed["location"])
        assert (seen.pixels == (observed["glimpse"] * 255).round().transpose(0, 2, 3, 1)).all()
        assert played.glimpses_taken / 3 == pytest.approx(observed["time"].item())
    answer = info["label"] if right else (info["label"] + 1) % 10
    _, reward_, over, _, info = env.step([0, answer])
    played.declare(answer)
    assert over
    assert (played.correct, played.label) == (info["correct"], info["label"])
    assert played.reward == pytest.approx(total + reward_)
    assert played.glimpses_taken == info["glimpses"]


def test_the_budget_is_the_environments():
    played = begin()
    assert (played.glimpses_taken, played.glimpses_left) == (1, 2)
    played.look((0.5, 0.5))
    played.look((-1.0, 1.0))
    with pytest.raises(GameError, match="all 3 glimpses are taken; answer with one of the classes"):
        played.look((0.0, 0.0))
    assert played.glimpses_left == 0


@pytest.mark.parametrize("place", [(1.1, 0.0), (0.0, float("nan"))])
def test_a_place_beside_the_image_costs_nothing(place):
    played = begin()
    with pytest.raises(GameError, match="expected a place on the image"):
        played.look(place)
    assert played.glimpses_taken == 1


def test_label_and_image_are_told_after_the_answer_alone():
    played = begin()
    for secret in (lambda: played.label, played.full_image):
        with pytest.raises(GameError, match="answer first"):
            secret()
    with pytest.raises(GameError, match="expected a class from 0 to 9, got 10"):
        played.declare(10)
    played.declare(3)
    assert played.full_image().shape == (28, 30, 1)
    with pytest.raises(GameError, match="go on to the next image"):
        played.declare(3)
    with pytest.raises(GameError, match="no more glimpses after the answer"):
        played.look((0.0, 0.0))


def test_what_is_seen_is_what_the_image_is():
    played = begin()
    played.look((0.4, -0.4))
    view = played.revealed()
    left, top, right, bottom = (int(side) for side in played.glimpses[1].boxes[0].clip(0, 28))
    played.declare(0)
    assert (view.image[top:bottom, left:right, 0] == played.full_image()[top:bottom, left:right, 0]).all()


def test_canvases_that_are_drawn_follow_from_seed_and_image():
    first, second = begin(split="train"), begin(split="train")
    other = Round(first.core, 7, 1, Clock())
    for played in (first, second, other):
        played.declare(0)
    assert (first.full_image() == second.full_image()).all()
    assert not (first.full_image() == other.full_image()).all()


def test_times_count_from_when_the_image_is_shown():
    clock = Clock()
    played = begin(clock=clock)
    clock.now += 60
    played.restart_clock()
    clock.now += 1.5
    played.look((0.1, 0.1))
    played.restart_clock()
    clock.now += 0.25
    played.declare(1)
    assert [seen.time for seen in played.glimpses] == [0.0, 1.5]
    assert played.answered == 1.75


def test_the_order_follows_from_the_seed_and_repeats_nothing():
    assert sorted(image_order(50, 3)) == list(range(50))
    assert image_order(50, 3) == image_order(50, 3) != image_order(50, 4)
    first = next_images(50, 3, (), 10)
    assert next_images(50, 3, first, 10) == image_order(50, 3)[10:20]
    with pytest.raises(GameError, match="all 50 of this split have"):
        next_images(50, 3, range(50), 1)


def test_every_answer_is_kept_at_once(tmp_path):
    game = sit_down(tmp_path)
    with pytest.raises(GameError, match="answer first"):
        game.next_image()
    game.round.look((0.25, -0.5))
    game.answer(2)
    kept = json.loads((tmp_path / "played.json").read_text())["played"]
    assert [entry["image"] for entry in kept] == [4]
    assert kept[0]["fixations"] == [[0.0, 0.0], [0.25, -0.5]]
    assert kept[0]["correct"] == (kept[0]["label"] == 2)
    assert game.next_image()
    assert game.round.image == 9
    game.answer(0)
    assert not game.next_image()
    assert game.finished
    assert len(json.loads((tmp_path / "played.json").read_text())["played"]) == 2


def test_an_answer_that_could_not_be_kept_is_kept_later(tmp_path, monkeypatch):
    game = sit_down(tmp_path)
    full = OSError(28, "No space left on device", "played.json")

    def fail(entry):
        raise full

    with monkeypatch.context() as disk:
        disk.setattr(game.record, "add", fail)
        with pytest.raises(OSError, match="No space left"):
            game.answer(1)
        with pytest.raises(OSError, match="No space left"):
            game.next_image()
        assert game.position == 0
    game.next_image()
    assert [entry.image for entry in game.record.entries] == [4]


def test_two_sittings_on_one_record_count_an_image_once(tmp_path):
    first, second = sit_down(tmp_path), sit_down(tmp_path)
    first.answer(3)
    with pytest.raises(AlreadyRecordedError, match="image 4 was answered in another game meanwhile"):
        second.answer(5)
    assert second.next_image()
    second.answer(1)
    assert [(entry.image, entry.answer) for entry in second.record.entries] == [(4, 3), (9, 1)]
    assert score_players(second.record.entries)[0].images == 2


def test_a_random_first_fixation_is_the_same_again():
    locations = [begin(first_location="random").glimpses[0].location for _ in range(2)]
    assert locations[0] == locations[1] != (0.0, 0.0)
    assert torch.tensor(locations[0]).abs().max() <= 1
