import copy

import numpy as np
import pytest
import torch

from glimpse.data.canvas import Canvas
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import embedded_digits
from glimpse.data.held_out import TEST_CANVASES
from glimpse.nn.retina import Retina
from glimpse_envs.classification import scenes
from glimpse_envs.classification.prefiltered import PrefilteredRetina
from glimpse_envs.classification.scenes import DrawnScenes, FixedScenes, Pictures, SceneError

IMAGES = torch.arange(4 * 6 * 5).to(torch.uint8).view(4, 1, 6, 5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pictures_of_ones_own_are_numbered_and_named():
    pictures = Pictures(IMAGES, torch.tensor([0, 2, 1, 2]))
    assert pictures.classes == ("0", "1", "2")
    fixed = FixedScenes(pictures)
    assert (len(fixed), fixed.image_shape, fixed.num_targets) == (4, (1, 6, 5), 1)
    dealt = fixed.fetch(torch.tensor([3, 1]), generator())
    assert dealt.labels.tolist() == [[2], [2]]
    assert torch.equal(fixed.images(dealt.scene), IMAGES[[3, 1]])
    assert copy.deepcopy(pictures) is pictures


def test_pictures_may_be_arrays():
    pictures = Pictures(IMAGES.numpy(), np.array([0, 1, 0, 1]), ("ant", "bee"))
    assert torch.equal(pictures.images, IMAGES)
    assert pictures.labels.tolist() == [[0], [1], [0], [1]]


@pytest.mark.parametrize(
    ("images", "labels", "classes", "sentence"),
    [
        (IMAGES[:0], [], (), r"at least one image of at least one pixel, got shape \(0, 1, 6, 5\)"),
        (IMAGES[:, :, :0], [0] * 4, (), r"at least one image of at least one pixel, got shape \(4, 1, 0, 5\)"),
        (IMAGES.float(), [0] * 4, (), "expected images as uint8 .*, got torch.float32 .*; convert them to bytes"),
        (
            IMAGES[0],
            [0],
            (),
            r"expected images as uint8 \(images, channels, height, width\), got torch.uint8 \(1, 6, 5",
        ),
        (IMAGES, [0] * 3, (), r"a label, or a row of them, for each of 4 images, got shape \(3,\)"),
        (IMAGES, [0, 1, 2, 1], ("ant", "bee"), "labels from 0 to 1, the numbers of 2 classes, got 2; fix the label"),
        (IMAGES, [0, -1, 0, 1], (), "labels from 0 to 1, the numbers of 2 classes, got -1"),
    ],
)
def test_images_and_labels_that_cannot_be_shown_are_refused(images, labels, classes, sentence):
    with pytest.raises(SceneError, match=sentence):
        Pictures(images, torch.tensor(labels), classes)


def test_held_out_canvases_are_those_of_the_library():
    source = embedded_digits(None, download=False)
    canvas = Canvas(60, 60, 4)
    frozen = DrawnScenes(source.test, source.classes, canvas).freeze(TEST_CANVASES)
    data = ImageData("digits", canvas_height=60, canvas_width=60, num_pieces=4)
    images, labels = next(iter(data.test_dataloader()))
    assert torch.equal(frozen.images, images)
    assert torch.equal(frozen.labels[:, 0], labels)


def test_drawn_canvases_are_new_each_time_and_follow_from_the_generator():
    source = embedded_digits(None, download=False)
    drawn = DrawnScenes(source.train, source.classes, Canvas(40, 44, 2))
    indices = torch.tensor([5, 5])
    first, again = drawn.fetch(indices, generator(1)), drawn.fetch(indices, generator(1))
    assert torch.equal(first.scene, again.scene)
    assert not torch.equal(first.scene[0], first.scene[1])
    assert first.labels.tolist() == [[int(source.train.labels[5])]] * 2
    assert drawn.image_shape == (1, 40, 44)


def test_a_sequence_shows_its_targets_from_left_to_right():
    source = embedded_digits(None, download=False)
    drawn = DrawnScenes(source.train, source.classes, Canvas(24, 24), num_targets=3)
    dealt = drawn.fetch(torch.arange(50), generator(2))
    assert dealt.scene.shape == (50, 1, 24, 72)
    assert drawn.image_shape == (1, 24, 72)
    assert torch.equal(dealt.labels[:, 0], source.train.labels[:50])
    for target in range(3):
        for row in range(50):
            part = dealt.scene[row, :, :, 24 * target : 24 * target + 24]
            same = (source.train.images == part).flatten(1).all(1).nonzero().flatten()
            assert source.train.labels[same].tolist() == [int(dealt.labels[row, target])]


def test_fixed_images_are_filtered_beforehand_once_where_memory_allows_it(monkeypatch):
    fixed = FixedScenes(Pictures(IMAGES, torch.tensor([0, 1, 0, 1])))
    sees = fixed.sensor(Retina(4, 2, 2))
    assert isinstance(sees, PrefilteredRetina)
    assert fixed.sensor(Retina(4, 2, 2)) is sees
    monkeypatch.setattr(scenes, "PREFILTER_LIMIT", 10)
    plain = FixedScenes(Pictures(IMAGES, torch.tensor([0, 1, 0, 1]))).sensor(Retina(4, 2, 2))
    assert not isinstance(plain, PrefilteredRetina)
    location = torch.rand(4, 2, generator=generator()) * 2 - 1
    scene = torch.tensor([0, 3, 3, 1])
    torch.testing.assert_close(plain(scene, location), sees(scene, location), atol=0.51 / 255, rtol=0)


def test_random_images_and_places_cover_what_there_is():
    chosen = scenes.random_indices(5, 400, generator(), "cpu")
    assert sorted(set(chosen.tolist())) == [0, 1, 2, 3, 4]
    indices = scenes.random_locations(400, generator(), "cpu")
    assert -1 <= float(indices.min()) < -0.95
    assert 0.95 < float(indices.max()) <= 1
