"""All frames of an environment have one size with even sides, so that video writers take them."""

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from glimpse.drawing import scanpath
from glimpse.models.hard import HardAttention
from glimpse_envs.classification.actions import ACTION_MODES
from glimpse_envs.classification.scenes import Pictures
from glimpse_envs.registration import MAZE, NAMESPACE

DIGITS: dict[str, Any] = {"id": f"{NAMESPACE}/Digits-v0"}
LONG = ("Nepenthes rafflesiana, the pitcher plant", "two\nlines\n", "\u4e00\u4e8c\u4e09\u56db", "", "d")


@pytest.fixture(autouse=True)
def coarse_lines(monkeypatch) -> None:
    """Lines without supersampling: the sizes are the same, in a fraction of the time."""
    monkeypatch.setattr(scanpath, "_SUPERSAMPLING", 1)


def frames_of(env: Any, episodes: int = 3) -> Iterator[np.ndarray]:
    env.action_space.seed(0)
    for episode in range(episodes):
        env.reset(seed=episode)
        yield env.render()
        over = False
        while not over:
            _, _, over, _, _ = env.step(env.action_space.sample())
            yield env.render()
    env.close()


def the_size_of(frames: Iterator[np.ndarray]) -> tuple[int, ...]:
    shapes = {frame.shape for frame in frames}
    (shape,) = shapes
    assert shape[0] % 2 == shape[1] % 2 == 0
    assert shape[2] == 3
    return shape


@pytest.mark.slow
@pytest.mark.parametrize("num_glimpses", [None, 3, 12])
@pytest.mark.parametrize("mode", ACTION_MODES)
def test_every_id_has_frames_of_one_size_in_every_mode(options, mode, num_glimpses):
    budget = {} if num_glimpses is None else {"num_glimpses": num_glimpses}
    the_size_of(frames_of(gymnasium.make(**options, action_mode=mode, render_mode="rgb_array", **budget)))


@pytest.mark.parametrize("num_glimpses", [1, 2, 5])
@pytest.mark.parametrize("mode", ["declare", "joint", "box"])
def test_the_last_answer_of_an_episode_leaves_the_size_as_it_is(mode, num_glimpses):
    env = gymnasium.make(**DIGITS, action_mode=mode, num_glimpses=num_glimpses, render_mode="rgb_array")
    the_size_of(frames_of(env, 2))


def pictures(height: int, width: int) -> Pictures:
    images = torch.randint(256, (4, 1, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Pictures(images, torch.tensor([0, 1, 2, 3]), LONG)


@pytest.mark.parametrize(("height", "width"), [(7, 31), (31, 7), (1200, 1200), (1201, 1500)])
@pytest.mark.parametrize("mode", ["joint", "box"])
def test_images_of_any_size_and_classes_of_any_name_have_frames_of_one_size(height, width, mode):
    env = gymnasium.make(
        f"{NAMESPACE}/MNIST-v0",
        dataset=pictures(height, width),
        action_mode=mode,
        num_glimpses=4,
        grid_cells=13,
        render_mode="rgb_array",
    )
    the_size_of(frames_of(env))


def test_a_classifier_leaves_the_size_as_it_is():
    classifier = HardAttention(10, glimpse_size=12, num_scales=3, hidden=8)
    env = gymnasium.make(**DIGITS, action_mode="location", classifier=classifier, render_mode="rgb_array")
    the_size_of(frames_of(env, 2))


@pytest.mark.parametrize("autoreset_mode", ["SameStep", "NextStep"])
def test_all_episodes_of_a_vector_environment_have_frames_of_one_size(autoreset_mode):
    envs: Any = gymnasium.make_vec(
        **DIGITS, num_envs=3, action_mode="joint", autoreset_mode=autoreset_mode, render_mode="rgb_array"
    )
    envs.action_space.seed(0)
    envs.reset(seed=0)

    def frames() -> Iterator[np.ndarray]:
        yield from envs.render()
        for _ in range(6):
            envs.step(envs.action_space.sample())
            yield from envs.render()

    the_size_of(frames())


@pytest.mark.parametrize(("num_junctions", "sight"), [(1, 1), (2, 4), (3, 5), (11, 3)])
def test_a_maze_has_frames_of_one_size(num_junctions, sight):
    options = {"num_junctions": num_junctions, "sight": sight, "num_looks": 4}
    the_size_of(frames_of(gymnasium.make(f"{NAMESPACE}/{MAZE.id}", **options, render_mode="rgb_array")))


@pytest.mark.parametrize("mode", ACTION_MODES)
def test_gymnasium_records_a_video_that_has_every_frame(mode, tmp_path):
    moviepy = pytest.importorskip("moviepy", reason="RecordVideo needs moviepy")
    options = {"action_mode": mode, "num_glimpses": 5}
    env = gymnasium.make(**DIGITS, **options, render_mode="rgb_array")
    recorded: Any = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "films"), episode_trigger=lambda episode: True)
    recorded.action_space.seed(0)
    counts = [0, 0]
    for episode in range(2):
        recorded.reset(seed=episode)
        over = False
        for count in itertools.count(2):
            _, _, over, _, _ = recorded.step(recorded.action_space.sample())
            if over:
                counts[episode] = count
                break
    recorded.close()
    for episode, count in enumerate(counts):
        film = moviepy.VideoFileClip(str(tmp_path / "films" / f"rl-video-episode-{episode}.mp4"))
        assert tuple(film.size) == recorded.unwrapped.render().shape[1::-1]
        assert film.n_frames == count
        film.close()
