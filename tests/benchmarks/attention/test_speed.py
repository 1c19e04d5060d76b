"""The benchmark of global and local attention, at sizes at which its figures mean nothing."""

import json
from typing import Any

import pytest
import torch

from benchmarks.attention import speed

EFFORT = speed.Effort(sides=(6, 9), batch=3, features=4, window=2, repetitions=2, seconds=1e-3)


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
