from typing import Any

import pytest
import torch
from PIL import Image

from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import DataError
from glimpse.models.hard import HardAttention
from glimpse_envs.classification.scenes import FixedScenes, Pictures
from glimpse_envs.classification.task import Task, TaskError

SMALL = HardAttention(3, glimpse_size=4, num_scales=1, hidden=4)
PICTURES = Pictures(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dataset": "mnist2"}, "expected dataset out of digits, .*; got 'mnist2'; did you mean 'mnist'?"),
        ({"split": "tset"}, "expected split out of train, validation, test; got 'tset'; did you mean 'test'?"),
        ({"action_mode": "fly"}, "expected action_mode out of declare, joint, box, location; got 'fly'"),
        ({"reward": "praise"}, "expected reward out of improvement, terminal, dense; got 'praise'"),
        ({"first_location": "corner"}, "expected first_location out of centre, random; got 'corner'"),
        ({"num_glimpses": 0}, "expected num_glimpses of at least 1, got 0; raise it"),
        ({"glimpse_cost": -0.1}, "expected glimpse_cost of at least 0, got -0.1"),
        ({"glimpse_cost": float("nan")}, "expected glimpse_cost of at least 0, got nan"),
        ({"largest_step": 0.5}, "expected largest_step with relative=True alone, got 0.5"),
        ({"channels": 2}, "expected channels to be 1 .grey. or 3 .colour., got 2"),
        ({"largest_step": 0.0, "relative": True}, "expected largest_step above 0 and up to 2, .*, got 0"),
        ({"canvas_height": 60}, "a canvas needs both its sides.* got canvas_height=60, canvas_width=0"),
        ({"num_targets": 3}, "expected a canvas for each of num_targets=3 images, got none"),
        ({"dataset": PICTURES, "canvas_height": 9, "canvas_width": 9}, "pictures of your own are shown as they are"),
        ({"action_mode": "location", "num_glimpses": 1}, "num_glimpses of at least 2 in location mode.* got 1"),
        ({"action_mode": "location", "reward": "terminal"}, "expected a classifier with reward='terminal'"),
        ({"classifier": SMALL}, "expected a classifier in location mode alone, got one with action_mode='declare'"),
        ({"reward": "improvement"}, "expected reward='improvement' where probabilities are told.*'declare'"),
        ({"glimpse_sise": 3}, "an environment has no option 'glimpse_sise'; did you mean glimpse_size?"),
        ({"xyz": 3}, "an environment has no option 'xyz'; there are dataset, split, root"),
    ],
)
def test_what_makes_no_environment_is_refused_by_name(options, sentence):
    with pytest.raises(TaskError, match=sentence):
        Task.of(**options)


def test_numpys_numbers_are_numbers(without_hook):
    # In a process of its own: the tests' own check of types takes none but Python's.
    program = (
        "import numpy as np; from glimpse_envs.classification.task import Task;"
        "task = Task.of(num_glimpses=np.int64(3), glimpse_cost=np.float32(0.5));"
        "print(task.core().rule.num_glimpses, task.glimpse_cost)"
    )
    assert without_hook(program).split() == ["3", "0.5"]


def test_environments_of_the_same_images_share_their_memory():
    assert Task(dataset=PICTURES).scenes() is Task(dataset=PICTURES, num_glimpses=3).scenes()
    one, other = (Task(dataset="digits", split="test", grid_cells=cells).scenes() for cells in (3, 4))
    assert one is other
    assert one is not Task(dataset="digits", split="validation").scenes()


def test_a_split_holds_its_own_images():
    counts = [len(Task(dataset="digits", split=split).scenes()) for split in ("train", "validation", "test")]
    assert counts == [1097, 200, 500]


def test_training_canvases_are_drawn_and_held_out_ones_are_fixed():
    canvas: dict[str, Any] = {"dataset": "digits", "canvas_height": 30, "canvas_width": 30}
    assert not isinstance(Task(**canvas, split="train").scenes(), FixedScenes)
    assert isinstance(Task(**canvas, split="test").scenes(), FixedScenes)


def test_data_that_are_not_there_are_told_of_in_our_words(tmp_path):
    with pytest.raises(
        DataError, match=r"expected MNIST under .*; give its folder with root or GLIMPSE_DATA, or have it"
    ) as told:
        Task(dataset="mnist", root=str(tmp_path)).core()
    assert "--" not in str(told.value)
    with pytest.raises(DataError, match=r"expected a folder of images at .*, found none; give one with root"):
        Task(dataset="folder", root=str(tmp_path / "none")).core()
    with pytest.raises(DataError, match="expected a canvas of at least 24x24 pixels, the images' size, got 20x20"):
        Task(dataset="digits", canvas_height=20, canvas_width=20).core()


def test_a_budget_must_be_shared_out_evenly():
    options: dict[str, Any] = {
        "dataset": "digits",
        "canvas_height": 24,
        "canvas_width": 24,
        "num_targets": 3,
        "num_glimpses": 7,
    }
    with pytest.raises(TaskError, match=r"expected num_glimpses to be a multiple of the 3 targets.* got 7"):
        Task(**options, action_mode="joint").core()
    assert Task(**options).core().rule.num_glimpses == 7


def test_a_folder_of_images_is_an_environment(tmp_path):
    for name, shade in (("ant", 20), ("bee", 200)):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", (20, 30), (shade, number, 0)).save(tmp_path / name / f"{number}.png")
    core = Task(dataset="folder", root=str(tmp_path), image_height=16, image_width=24, split="train").core()
    assert core.scenes.classes == ("ant", "bee")
    assert core.scenes.image_shape == (3, 16, 24)


def test_a_folders_images_are_those_of_the_library(tmp_path):
    for name, shade in (("ant", 20), ("bee", 200)):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.new("RGB", (60, 90), (shade, 5 * number + 5, 9)).save(tmp_path / name / f"{number}.png")
    for options in ({}, {"fit": "letterbox", "image_height": 30, "image_width": 70}, {"channels": 1}):
        scenes = Task(dataset="folder", root=str(tmp_path), split="validation", **options).scenes()
        expected = ImageData("folder", str(tmp_path), **options).source.validation.images
        assert isinstance(scenes, FixedScenes)
        assert torch.equal(scenes.images(torch.arange(len(scenes))), expected)
    with pytest.raises(TaskError, match="expected both image_height and image_width, or neither, got 30 and None"):
        Task(dataset="folder", image_height=30)
    with pytest.raises(TaskError, match="expected image_width of at least 1, got 0"):
        Task(dataset="folder", image_height=30, image_width=0)
    with pytest.raises(TaskError, match=r"expected fit out of squash, letterbox; got 'squas'; did you mean 'squash'"):
        Task(dataset="folder", fit="squas")
