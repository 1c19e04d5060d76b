import numpy as np
import pytest
from PIL import Image

from glimpse.data.folder.near_duplicates import THUMBNAIL_SIDE, Pairs, gradient_descriptors, join_pairs, similar_pairs


def scenes(count: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, each like no other, 64x64."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 8, 8)).astype(np.float32)
    return np.stack([np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)) for small in coarse])


def thumbnails(pictures: np.ndarray) -> np.ndarray:
    block = pictures.shape[1] // THUMBNAIL_SIDE
    means = pictures.reshape(len(pictures), THUMBNAIL_SIDE, block, THUMBNAIL_SIDE, block).mean((2, 4))
    return np.asarray(np.clip(means, 0, 255), np.uint8)


def bursts(scene_count: int, shots: int) -> np.ndarray:
    """Each scene several times: darker, with less contrast, moved by a pixel, with noise."""
    random = np.random.default_rng(1)
    shown = []
    for scene in scenes(scene_count):
        for shot in range(shots):
            moved = np.roll(scene, shot % 2, axis=1)
            shown.append(moved * (0.5 + 0.1 * shot) + 10 * shot + random.normal(0, 3, scene.shape))
    return thumbnails(np.stack(shown))


@pytest.mark.parametrize("scene_count", [5, 20, 60])
def test_shots_of_one_scene_are_pairs_and_those_of_two_are_not(scene_count):
    shots = 4
    pairs = similar_pairs(gradient_descriptors(bursts(scene_count, shots)))
    assert np.array_equal(pairs.first // shots, pairs.second // shots)
    groups, refused = join_pairs(pairs, [0] * (scene_count * shots))
    assert refused == 0
    assert groups == [list(range(shots * scene, shots * scene + shots)) for scene in range(scene_count)]


def test_pictures_that_have_nothing_in_common_are_no_pairs():
    for count in (1, 2, 3, 30, 300):
        assert len(similar_pairs(gradient_descriptors(thumbnails(scenes(count)))).first) == 0


def test_pictures_of_one_value_are_like_no_other():
    flat = np.full((50, THUMBNAIL_SIDE, THUMBNAIL_SIDE), 7, np.uint8)
    descriptors = gradient_descriptors(flat)
    assert not descriptors.any()
    assert len(similar_pairs(descriptors).first) == 0


def test_exposure_and_contrast_leave_descriptors_as_they_are():
    picture = thumbnails(scenes(3)).astype(np.float32)
    bright = np.round(picture * 0.5 + 100).astype(np.uint8)
    one, other = gradient_descriptors(picture.astype(np.uint8)), gradient_descriptors(bright)
    assert np.einsum("if,if->i", one, other) == pytest.approx(1, abs=0.02)


def test_pairs_do_not_depend_on_the_order_and_come_once():
    shown = bursts(150, 3)
    order = np.random.default_rng(2).permutation(len(shown))
    plain, mixed = (similar_pairs(gradient_descriptors(images)) for images in (shown, shown[order]))
    as_sets = {frozenset((int(order[a]), int(order[b]))) for a, b in zip(*mixed, strict=True)}
    assert as_sets == {frozenset((int(a), int(b))) for a, b in zip(*plain, strict=True)}
    assert len(as_sets) == len(mixed.first)
    assert (plain.first < plain.second).all()


def test_descriptors_of_a_network_serve_as_well():
    features = np.repeat(np.random.default_rng(3).normal(5, 1, (40, 300)), 2, axis=0).astype(np.float32)
    features += np.random.default_rng(4).normal(0, 0.2, features.shape).astype(np.float32)
    pairs = similar_pairs(features)
    assert {(int(a), int(b)) for a, b in zip(*pairs, strict=True)} == {(2 * n, 2 * n + 1) for n in range(40)}


def test_a_chain_does_not_take_up_a_class():
    chain = Pairs(np.arange(99), np.arange(1, 100))
    groups, refused = join_pairs(chain, [0] * 100)
    assert max(map(len, groups)) == 20
    assert refused >= 4
    groups, _ = join_pairs(chain, [0] * 50 + [1] * 50)
    assert all(sum(place < 50 for place in group) <= 16 for group in groups)


@pytest.mark.parametrize("count", [3, 4, 6, 9, 30, 300])
def test_a_class_of_near_duplicates_alone_can_still_be_in_three_parts(count):
    alike = Pairs(*(np.array(places, np.int64) for places in np.triu_indices(count, 1)))
    groups, _ = join_pairs(alike, [0] * count)
    assert count - sum(len(group) - 1 for group in groups) >= 3


def test_more_images_than_a_block_are_compared_with_all():
    count = 1100
    shown = thumbnails(scenes(count))
    shown[count - 1] = shown[3]
    pairs = similar_pairs(gradient_descriptors(shown))
    assert (3, count - 1) in {(int(a), int(b)) for a, b in zip(*pairs, strict=True)}
