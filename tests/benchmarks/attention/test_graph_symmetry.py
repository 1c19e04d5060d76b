"""The symmetry of the graph of self-attention: its measures have the values of their formulas."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.attention import graph_symmetry
from glimpse.models.self_attention import SelfAttention
from tests.support.families import small


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
