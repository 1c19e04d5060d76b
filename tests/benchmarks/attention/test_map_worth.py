"""The scores of attention maps, of maps for which they are known."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.attention import map_worth
from glimpse.data.datamodule import ImageData
from tests.support.families import BOX, SIDE, SMALL, small


def box_masks(boxes: Tensor) -> Tensor:
    masks = torch.zeros(len(boxes), SIDE, SIDE)
    for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
        mask[top:bottom, left:right] = 1.0
    return masks


def test_a_map_that_is_the_digits_box_points_at_it_with_all_its_weight(shown):
    found = map_worth.pointing_scores(box_masks(shown.boxes), shown.boxes)
    assert found["pointing"].tolist() == [1.0] * 12
    assert found["inside"].tolist() == [1.0] * 12
    torch.testing.assert_close(found["entropy"], torch.full((12,), math.log(BOX**2) / math.log(SIDE**2)))


def test_a_map_of_all_but_the_digits_box_misses_it(shown):
    found = map_worth.pointing_scores(1 - box_masks(shown.boxes), shown.boxes)
    assert found["pointing"].tolist() == found["inside"].tolist() == [0.0] * 12


def test_an_even_map_has_the_boxs_share_of_the_image_inside(shown):
    found = map_worth.pointing_scores(torch.ones(12, SIDE, SIDE), shown.boxes)
    torch.testing.assert_close(found["inside"], torch.full((12,), BOX**2 / SIDE**2, dtype=torch.float64))
    torch.testing.assert_close(found["pointing"], torch.full((12,), BOX**2 / SIDE**2))
    torch.testing.assert_close(found["entropy"], torch.ones(12))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_each_model_has_its_maps_and_the_controls(kind, shown):
    observer, pixels = small(kind).eval().observer, shown.pixels[:3]
    maps = map_worth.maps_of(observer, pixels, 0)
    names = ["jacobian", "smoothed", "integrated", "random", "centre"]
    assert list(maps) == (names if kind == "cnn" else ["explicit", *names])
    for drawn in maps.values():
        assert drawn.shape == (3, SIDE, SIDE)
        torch.testing.assert_close(drawn.sum((1, 2)), torch.ones(3))
    down = across = torch.arange(SIDE).flip(0)
    torch.testing.assert_close(maps["centre"], maps["centre"][:, down][:, :, across])
    assert {int(place) for place in maps["centre"][0].flatten().topk(4).indices} == {1127, 1128, 1175, 1176}
    assert torch.equal(maps["random"], map_worth.maps_of(observer, pixels, 0)["random"])
    assert not torch.equal(maps["random"], map_worth.maps_of(observer, pixels, 1)["random"])
    assert not torch.equal(maps["random"][0], maps["random"][1])


class Judge(torch.nn.Module):
    """Believes in class 1 by the share of an image's light that lies in the boxes, and in class 0 by the rest."""

    def __init__(self, shown: map_worth.Shown) -> None:
        super().__init__()
        self.masks = box_masks(shown.boxes)
        self.light = (shown.pixels[:, 0] * self.masks).sum((1, 2))

    def forward(self, pixels: Tensor) -> Any:
        share = (pixels[:, 0] * self.masks).sum((1, 2)) / self.light
        logits = torch.stack([torch.zeros_like(share), 12 * share - 6], dim=1)
        return type("Seen", (), {"logits": logits.unsqueeze(1)})


def test_deletion_falls_and_insertion_rises_fastest_for_a_map_of_what_decides(shown):
    judge: Any = Judge(shown)
    masks = box_masks(shown.boxes)
    best, worst = (map_worth.all_scores(judge, shown, maps, steps=4) for maps in (masks, 1 - masks))
    # A quarter of the pixels is the box: it goes, or comes, in the first step.
    sure, unsure = 1 / (1 + math.exp(-6)), 1 / (1 + math.exp(6))
    first = (sure + unsure) / 2 / 4
    torch.testing.assert_close(best["deletion"], torch.full((12,), first + unsure * 3 / 4))
    torch.testing.assert_close(best["insertion"], torch.full((12,), first + sure * 3 / 4))
    torch.testing.assert_close(worst["deletion"], torch.full((12,), first + sure * 3 / 4))
    torch.testing.assert_close(worst["insertion"], torch.full((12,), first + unsure * 3 / 4))


def test_a_summary_is_a_mean_and_its_standard_error():
    found = map_worth.summary(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert found["mean"] == 3
    assert found["error"] == pytest.approx(math.sqrt(14 / 3) / 2)


@pytest.mark.slow
def test_the_worth_of_maps_is_written_model_by_model(runs, tmp_path, capsys):
    file = tmp_path / "worth.json"
    assert map_worth.main([str(runs["hard"]), str(runs["cnn"]), "--quick", "--output", str(file)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["command"] == "python -m benchmarks.attention.map_worth hard cnn --images 8"
    assert result["box_share_of_image"] == pytest.approx(BOX**2 / SIDE**2)
    hard, cnn = result["models"]
    assert (hard["kind"], cnn["kind"]) == ("hard", "cnn")
    assert "held" in hard["fixations"]
    assert cnn["fixations"] is None
    assert cnn[map_worth.AGREEMENT] is None
    assert -1 <= hard[map_worth.AGREEMENT]["mean"] <= 1
    assert set(hard["maps"]) == {*cnn["maps"], "explicit"}
    for scores in (*hard["maps"].values(), *cnn["maps"].values()):
        assert set(scores) == set(map_worth.SCORES)
        assert all(0 <= score["mean"] <= 1 for score in scores.values())
    assert "deletion: the lower the better" in capsys.readouterr().out


def test_pointing_alone_is_of_attention_weights(runs, capsys):
    assert map_worth.main([str(runs["soft"]), "--quick", "--pointing-only"]) == 0
    text = capsys.readouterr().out
    assert "mean over glimpses" in text
    assert "last glimpse" in text
    assert "deletion  " not in text
    with pytest.raises(ValueError, match="expected a model with attention weights, got one without"):
        map_worth.measure([runs["cnn"]], 8, 1, True)


def test_runs_on_other_data_are_not_compared(runs, monkeypatch):
    described = iter(["digits", "mnist", "digits", "mnist"])
    monkeypatch.setattr(ImageData, "describe", lambda self: next(described))
    with pytest.raises(ValueError, match="expected runs on the same data, got digits; mnist; compare them apart"):
        map_worth.measure([runs["cnn"], runs["soft"]], 8, 1, True)
