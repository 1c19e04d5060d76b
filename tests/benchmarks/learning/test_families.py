"""The benchmarks of families, at sizes at which their figures mean nothing: what they measure must be what they say."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor

from benchmarks.attention import graph_symmetry, map_worth, speed
from glimpse.data.datamodule import ImageData
from glimpse.models.self_attention import SelfAttention
from glimpse.training.callbacks import LAST_FILE
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families import FAMILIES

SIDE, BOX = 48, 24  # the sides of a canvas and of a digit, pixels
DATA: dict[str, Any] = {"dataset": "digits", "canvas_height": SIDE, "canvas_width": SIDE, "num_pieces": 1}
SMALL: dict[str, dict[str, Any]] = {
    "hard": {"num_glimpses": 3, "glimpse_size": 4, "num_scales": 2, "hidden": 16, "gaze_hidden": 8},
    "soft": {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 16},
    "self": {"features": 8, "heads": 2, "layers": 2},
    "cnn": {"widths": [4, 8], "depths": [1, 1]},
}
EFFORT = speed.Effort(sides=(6, 9), batch=3, features=4, window=2, repetitions=2, seconds=1e-3)


def small(kind: str) -> ClassifierTraining:
    torch.manual_seed(3)
    return FAMILIES[kind](list("0123456789"), [1, SIDE, SIDE], **SMALL[kind])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a checkpoint each, as training writes them, of models that have not learned."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in SMALL:
        trainer = lightning.Trainer(
            max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
        )
        trainer.fit(small(kind), datamodule=ImageData(**DATA, batch_size=8))
        trainer.save_checkpoint(folder / kind / LAST_FILE)
    return {kind: folder / kind for kind in SMALL}


@pytest.fixture(scope="module")
def shown() -> map_worth.Shown:
    data = ImageData(**DATA)
    images, labels = next(iter(data.test_dataloader()))
    return map_worth.Shown(images[:12].float() / 255, labels[:12], data.test_boxes()[:12])


def box_masks(boxes: Tensor) -> Tensor:
    masks = torch.zeros(len(boxes), SIDE, SIDE)
    for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
        mask[top:bottom, left:right] = 1.0
    return masks


@pytest.mark.parametrize("score", EFFORT.scores)
def test_a_step_of_local_attention_sees_what_global_attention_sees_within_its_window(score):
    steps = speed.attention_steps(EFFORT, score, 6)
    everywhere = steps["global"]
    local = steps["local-m"]
    centres = local.around["centres"]
    assert centres.shape == (3, 2)
    middles = (centres + 1) / 2 * 6 - 0.5
    cells = torch.stack(torch.meshgrid(torch.arange(6), torch.arange(6), indexing="xy"), dim=-1).flatten(0, 1)
    inside = ((cells - middles.unsqueeze(1)).abs() <= 2).all(2)
    assert 0 < int(inside.sum()) < inside.numel()
    with torch.no_grad():
        expected = everywhere.attention(
            everywhere.queries, everywhere.keys, everywhere.values, prepared=True, mask=inside
        ).context
    torch.testing.assert_close(local.look(), expected)


def test_all_attentions_are_timed_on_the_same_numbers():
    steps = speed.attention_steps(EFFORT, "additive", 6)
    for step in steps.values():
        assert step.look().shape == (3, 4)
        assert torch.equal(step.keys, steps["global"].keys)
        assert step.attention.score is steps["global"].attention.score
        named = dict(zip((name for name, _ in step.named_parameters()), step.learn(), strict=True))
        # The keys have been prepared, so their matrix takes no part.
        missing = {name for name, gradient in named.items() if gradient is None}
        assert missing == {"attention.score.from_key.weight"}
        for name in ("queries", "keys", "values"):
            gradient = named[name]
            assert gradient is not None
            assert bool(gradient.any())
    assert not steps["global"].look().requires_grad


def test_local_attention_pays_from_the_size_after_which_it_never_loses():
    def rows(*ratios: float) -> list[dict[str, Any]]:
        return [
            {"score": "dot", "pass": "forward", "side": side, "times_local": {"local-p": ratio}}
            for side, ratio in zip((8, 16, 32, 64), ratios, strict=True)
        ]

    assert speed.pays_from(rows(0.5, 1.2, 1.5, 3.0), "dot", "forward", "local-p") == 16
    assert speed.pays_from(rows(1.5, 0.9, 1.5, 3.0), "dot", "forward", "local-p") == 32
    assert speed.pays_from(rows(1.5, 1.5, 1.5, 0.9), "dot", "forward", "local-p") is None


def test_speeds_are_written_ratios_first(tmp_path, capsys):
    file = tmp_path / "speed.json"
    assert speed.main(["--quick", "--output", str(file)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert {"command", "seed", "machine", "effort", "rows", "local_pays_from"} <= result.keys()
    assert len(result["rows"]) == 2 * 2 * 2
    for row in result["rows"]:
        assert set(row["times_local"]) == set(speed.LOCAL)
        assert all(ratio > 0 for ratio in row["times_local"].values())
    assert "a quick run: the figures mean nothing" in capsys.readouterr().out


def graph(*rows: list[float]) -> Tensor:
    return torch.tensor([rows])


def test_a_symmetric_graph_is_found_symmetric():
    weights = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(0))
    found = graph_symmetry.symmetry(weights + weights.transpose(1, 2))
    for measure, value in {"asymmetry": 0.0, "one_way": 0.0, "pearson": 1.0, "spearman": 1.0}.items():
        torch.testing.assert_close(found[measure].float(), torch.full((4,), value))


def test_a_graph_of_one_way_edges_is_found_as_asymmetric_as_can_be():
    found = graph_symmetry.symmetry(torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1)).triu(1))
    torch.testing.assert_close(found["asymmetry"].float(), torch.full((2,), math.sqrt(2)))
    torch.testing.assert_close(found["one_way"].float(), torch.ones(2))
    assert bool((found["pearson"] < 0).all())
    assert bool((found["spearman"] < 0).all())


def test_measures_of_symmetry_are_those_of_their_formulas():
    weights = graph([0.5, 0.2, 0.1], [0.4, 0.1, 0.3], [0.3, 0.0, 0.7])
    found = {name: float(values) for name, values in graph_symmetry.symmetry(weights).items()}
    there = torch.tensor([0.2, 0.1, 0.4, 0.3, 0.3, 0.0])
    back = torch.tensor([0.4, 0.3, 0.2, 0.0, 0.1, 0.3])
    squares = 0.5**2 + 0.1**2 + 0.7**2 + float(there.square().sum())
    assert found["asymmetry"] == pytest.approx(math.sqrt(2 * (0.2**2 + 0.2**2 + 0.3**2) / squares))
    assert found["one_way"] == pytest.approx((0.2 + 0.2 + 0.3) / (0.6 + 0.4 + 0.3))
    assert found["pearson"] == pytest.approx(float(torch.corrcoef(torch.stack([there, back]))[0, 1]), abs=1e-6)
    ranks = torch.tensor([3.0, 2.0, 6.0, 4.5, 4.5, 1.0]), torch.tensor([6.0, 4.5, 3.0, 1.0, 2.0, 4.5])
    assert found["spearman"] == pytest.approx(float(torch.corrcoef(torch.stack(ranks))[0, 1]), abs=1e-6)


def test_symmetry_does_not_depend_on_how_nodes_are_numbered():
    weights = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    first, second = graph_symmetry.symmetry(weights), graph_symmetry.symmetry(weights[:, order][:, :, order])
    for measure in graph_symmetry.MEASURES:
        torch.testing.assert_close(first[measure], second[measure])


def test_an_even_graph_has_no_order_to_correlate():
    found = graph_symmetry.symmetry(torch.full((2, 5, 5), 0.2))
    assert found["pearson"].tolist() == found["spearman"].tolist() == [0, 0]
    assert found["one_way"].tolist() == [0, 0]


def test_the_shuffled_graph_has_the_same_weights_on_other_edges():
    weights = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(4))
    weights = weights + weights.transpose(1, 2)
    mixed = graph_symmetry.shuffled(weights, torch.Generator().manual_seed(5))
    assert torch.equal(mixed.diagonal(dim1=1, dim2=2), weights.diagonal(dim1=1, dim2=2))
    assert torch.equal(mixed.flatten(1).sort(1).values, weights.flatten(1).sort(1).values)
    assert bool((graph_symmetry.symmetry(mixed)["one_way"] > 0.05).all())


def test_graphs_are_between_patches_alone(shown):
    model = small("self").observer.model
    assert isinstance(model, SelfAttention)
    found = graph_symmetry.graphs(model, shown.pixels.mul(255).byte())
    assert list(found) == [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2)] + ["roll-out"]
    with torch.no_grad():
        weights = model(shown.pixels).weights
    assert found["roll-out"].shape == (12, 36, 36)
    torch.testing.assert_close(found["layer 2, head 1"], weights[1][:, 0, 1:, 1:], atol=1e-4, rtol=0)


def test_the_untrained_model_has_the_same_options_and_pixels_but_other_weights():
    trained = small("self")
    trained.normalise_by(torch.tensor([0.3]), torch.tensor([0.4]))
    fresh = graph_symmetry.untrained(trained)
    assert dict(fresh.hparams) == dict(trained.hparams)
    own, other = trained.observer.model.state_dict(), fresh.observer.model.state_dict()
    assert torch.equal(own["mean"], other["mean"])
    assert torch.equal(own["std"], other["std"])
    assert not torch.equal(own["layers.0.attention.project.weight"], other["layers.0.attention.project.weight"])


def test_the_symmetry_of_a_run_is_written_with_its_controls(runs, tmp_path, capsys):
    file = tmp_path / "symmetry.json"
    assert graph_symmetry.main([str(runs["self"]), "--quick", "--output", str(file)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["command"] == "python -m benchmarks.attention.graph_symmetry self --images 20"
    assert result["images"] == 20
    for model in graph_symmetry.MODELS:
        assert [(row["graph"], row["shuffled"]) for row in result[model]][-2:] == [
            ("roll-out", False),
            ("roll-out", True),
        ]
        assert len(result[model]) == 2 * (2 * 2 + 1)
        assert all(0 <= row["one_way"]["mean"] <= 1 for row in result[model])
    assert "The trained graph is " in capsys.readouterr().out
    assert str(runs["self"].parent) not in file.read_text(encoding="utf-8")


def test_the_verdict_follows_the_numbers():
    def rows(one_way: float) -> list[dict[str, Any]]:
        return [
            {"graph": "roll-out", "shuffled": mixed}
            | {measure: {"mean": 0.5 if mixed else one_way, "spread": 0.0} for measure in graph_symmetry.MEASURES}
            for mixed in (False, True)
        ]

    lopsided = graph_symmetry.verdict({"trained": rows(0.25), "untrained": rows(0.01)})
    assert "not symmetric" in lopsided
    assert "25% goes one way alone (1% in the untrained model)" in lopsided
    assert "0.50 times that of the same weights on shuffled edges" in lopsided
    assert "as good as symmetric" in graph_symmetry.verdict({"trained": rows(0.01), "untrained": rows(0.01)})


def test_only_self_attention_has_a_graph(runs):
    with pytest.raises(ValueError, match="expected a run of the family self, whose weights are a graph, got soft"):
        graph_symmetry.measure(runs["soft"], 20)


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
