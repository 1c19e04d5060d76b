import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from glimpse.evaluation import attribution, map_metrics


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def believing(images: Tensor) -> Tensor:
    """Probabilities that follow from every pixel's value and place."""
    weights = random(images[0].numel(), 3, seed=9) * 4 - 2
    return (images.flatten(1) @ weights).softmax(1)


def naive_curve(images: Any, maps: Any, labels: Any, steps: int, fill: float, start_full: bool) -> Any:
    """Pixels one by one, for maps without ties."""
    batch, _, height, width = images.shape
    curve = np.zeros((batch, steps + 1))
    for index in range(batch):
        ranked = sorted(np.ndindex(height, width), key=lambda place: -maps[index][place])
        for step in range(steps + 1):
            changed = ranked[: round(step * height * width / steps)]
            image = images[index].copy() if start_full else np.full_like(images[index], fill)
            for row, column in changed:
                image[:, row, column] = fill if start_full else images[index][:, row, column]
            curve[index, step] = believing(torch.tensor(image)[None])[0, labels[index]]
    return curve


@pytest.mark.parametrize(("channels", "height", "width", "steps"), [(1, 5, 8, 40), (3, 6, 4, 7), (1, 1, 1, 1)])
@pytest.mark.parametrize("fill", [0.0, 0.3])
def test_curves_are_those_of_changing_pixels_one_by_one(channels, height, width, steps, fill):
    images, maps = random(4, channels, height, width), random(4, height, width, seed=1)
    labels = torch.tensor([0, 2, 1, 1])
    for score, start_full in ((map_metrics.deletion, True), (map_metrics.insertion, False)):
        curve = score(believing, images, maps, labels, steps, fill)
        naive = naive_curve(images.numpy(), maps.numpy(), labels.tolist(), steps, fill, start_full)
        assert np.allclose(curve.probabilities, naive, atol=1e-6)
        shares = np.array([round(step * height * width / steps) for step in range(steps + 1)]) / (height * width)
        assert np.allclose(curve.shares, shares)
        assert np.allclose(curve.area, ((naive[:, 1:] + naive[:, :-1]) / 2 * np.diff(shares)).sum(1), atol=1e-6)


def share_of_left_half(images: Tensor) -> Tensor:
    """Sure of class 0 as far as the left half is white."""
    seen = images[..., : images.shape[3] // 2].mean((1, 2, 3))
    return torch.stack([seen, 1 - seen], 1)


def test_areas_of_a_good_and_a_bad_map_are_those_computed_by_hand():
    images, labels = torch.ones(2, 1, 10, 10), torch.zeros(2, dtype=torch.long)
    maps = torch.zeros(2, 10, 10)
    maps[0, :, :5] = 1
    maps[1, :, 5:] = 1
    deleted = map_metrics.deletion(share_of_left_half, images, maps, labels, 100).area
    inserted = map_metrics.insertion(share_of_left_half, images, maps, labels, 100).area
    assert deleted.tolist() == pytest.approx([0.25, 0.75])
    assert inserted.tolist() == pytest.approx([0.75, 0.25])


def test_ties_say_nothing_about_where_the_evidence_is():
    # Broken by position, a flat map would delete the upper half first.
    def upper_half(images: Tensor) -> Tensor:
        seen = images[:, :, :10].mean((1, 2, 3))
        return torch.stack([seen, 1 - seen], 1)

    images, flat = torch.ones(3, 1, 20, 20), torch.full((3, 20, 20), 1 / 400)
    labels = torch.zeros(3, dtype=torch.long)
    for score in (map_metrics.deletion, map_metrics.insertion):
        area = score(upper_half, images, flat, labels, 20).area
        assert area.tolist() == pytest.approx([0.5] * 3, abs=0.05)
        assert area.unique().numel() == 1
        assert torch.equal(area, score(upper_half, images, flat, labels, 20).area)
        assert not torch.equal(area, score(upper_half, images, flat, labels, 20, seed=1).area)


def test_ties_go_after_what_is_above_them_and_before_what_is_below():
    maps = torch.tensor([[[0.0, 1.0, 0.5], [0.5, 0.5, 2.0]]])
    seen: list[Tensor] = []

    def watching(images: Tensor) -> Tensor:
        seen.append(images[0, 0].flatten())
        return torch.full((1, 2), 0.5)

    map_metrics.deletion(watching, torch.ones(1, 1, 2, 3), maps, torch.tensor([0]), 6)
    gone = [int((before - after).argmax()) for before, after in itertools.pairwise(seen)]
    assert gone[:2] == [5, 1]
    assert set(gone[2:5]) == {2, 3, 4}
    assert gone[5] == 0


def test_batch_mates_do_not_matter():
    images, labels = random(5, 2, 6, 7), torch.tensor([0, 1, 2, 0, 1])
    maps = (random(5, 6, 7, seed=2) * 3).round()
    for score in (map_metrics.deletion, map_metrics.insertion):
        whole = score(believing, images, maps, labels, 8)
        alone = score(believing, images[3:4], maps[3:4], labels[3:4], 8)
        assert torch.allclose(whole.probabilities[3:4], alone.probabilities, atol=1e-6)
    boxes = torch.tensor([[1, 1, 4, 4]]).expand(5, -1)
    assert torch.equal(map_metrics.agreement(maps, images[:, 0])[3:4], map_metrics.agreement(maps[3:4], images[3:4, 0]))
    assert torch.equal(map_metrics.pointing_game(maps, boxes)[3:4], map_metrics.pointing_game(maps[3:4], boxes[:1]))


@pytest.mark.parametrize("steps", [0, 43])
def test_steps_beyond_the_pixels_are_refused(steps):
    with pytest.raises(ValueError, match=f"from 1 step to as many as the image has pixels, 42; got {steps}"):
        map_metrics.deletion(believing, random(1, 2, 6, 7), random(1, 6, 7), torch.tensor([0]), steps)


def test_values_that_are_no_probabilities_are_refused():
    images, maps, labels = random(2, 1, 3, 3), random(2, 3, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"probabilities, in \[0, 1\], got values from -1 to 2; put a softmax behind"):
        map_metrics.deletion(lambda _: torch.tensor([[-1.0, 2.0], [0.0, 1.0]]), images, maps, labels, 3)
    with pytest.raises(ValueError, match=r"each of 2 images its classes' probabilities, got values of shape \(2,\)"):
        map_metrics.insertion(lambda _: torch.ones(2), images, maps, labels, 3)


def test_pointing_hits_when_the_maximum_is_inside_the_box():
    maps = torch.zeros(6, 4, 9)
    for index, (row, column) in enumerate([(1, 5), (1, 4), (1, 8), (0, 5), (3, 5), (2, 7)]):
        maps[index, row, column] = 1
    box = torch.tensor([[5, 1, 8, 3]]).expand(6, -1)
    assert map_metrics.pointing_game(maps, box).tolist() == [1, 0, 0, 0, 0, 1]


def test_tied_maxima_hit_as_often_as_one_of_them_chosen_at_random_would():
    maps = torch.zeros(3, 4, 6, dtype=torch.float16)
    maps[0, 0, :4] = 0.5
    maps[1] = 0.25
    boxes = torch.tensor([[0, 0, 1, 4], [1, 1, 4, 3], [-2, -2, 3, 2]])
    assert map_metrics.pointing_game(maps, boxes).tolist() == pytest.approx([1 / 4, 6 / 24, 6 / 24])


def test_entropy_is_that_of_the_formula():
    maps = random(4, 3, 5) * 7
    maps[1] = 0.1
    maps[2] = 0
    maps[2, 1, 1] = 3
    shares = maps.double().flatten(1).numpy()
    shares = shares / shares.sum(1, keepdims=True)
    naive = [-sum(share * np.log(share) for share in row if share > 0) for row in shares]
    entropy = map_metrics.map_entropy(maps)
    assert np.allclose(entropy.nats, naive, atol=1e-6)
    assert np.allclose(entropy.share, np.array(naive) / np.log(15), atol=1e-6)
    assert entropy.share[1:3].tolist() == pytest.approx([1, 0])


def test_entropy_of_a_single_place_and_in_half_precision():
    single = map_metrics.map_entropy(torch.full((2, 1, 1), 0.3))
    assert single.nats.tolist() == [0, 0]
    assert single.share.tolist() == [1, 1]
    flat = torch.full((1, 100, 100), 1e-4, dtype=torch.float16)
    assert float(map_metrics.map_entropy(flat).nats) == pytest.approx(np.log(10_000))


@pytest.mark.parametrize("wrong", [-0.1, 0.0, float("nan")])
def test_entropy_of_what_is_no_map_is_refused(wrong):
    with pytest.raises(ValueError, match="weights that are not negative and not all zero; got others"):
        map_metrics.map_entropy(torch.full((1, 2, 2), wrong))


def test_agreement_is_spearmans_with_shared_ranks_for_ties():
    maps, others = random(6, 7, 5), random(6, 7, 5, seed=1)
    maps[1] = (maps[1] * 4).round()
    others[1:3] = (others[1:3] * 3).round()
    others[3] = maps[3] ** 3
    others[4] = -maps[4]
    agreement = map_metrics.agreement(maps, others)
    for index, value in enumerate(agreement.tolist()):
        expected = spearmanr(maps[index].flatten().numpy(), others[index].flatten().numpy()).statistic
        assert value == pytest.approx(expected, abs=1e-6)
    assert agreement[3:5].tolist() == pytest.approx([1, -1])
    assert torch.allclose(agreement, map_metrics.agreement(others, maps))


def test_a_flat_map_agrees_with_nothing():
    flat = attribution.resize_map(torch.full((2, 7, 7), 1 / 49), 20, 30)
    assert map_metrics.agreement(flat, random(2, 20, 30)).tolist() == [0, 0]
    assert map_metrics.agreement(flat, flat).tolist() == [0, 0]
