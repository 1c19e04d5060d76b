import json
import math
from pathlib import Path

import pytest

from benchmarks.envs import speed

RESULT = Path(speed.__file__).parents[1] / "results" / "env-speed.json"


def test_a_quick_run_measures_every_side_and_tells_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "available_dataset", lambda: "digits")
    monkeypatch.setattr(speed, "version_of", lambda package: None if package == "ap_gym" else "1")
    assert speed.main(["--quick", "--output", str(tmp_path / "speed.json")]) == 0
    told = capsys.readouterr().out
    assert "the figures mean nothing" in told
    result = json.loads((tmp_path / "speed.json").read_text())
    rates = [rate for clocks in result["steps_per_second"].values() for rate in clocks.values()]
    assert len(rates) == 2 * 16
    assert all(math.isfinite(rate) and rate > 0 for rate in rates)
    assert set(result["times_slower_than_ours"]) >= {"sync-64", "sync-1024"}
    assert result["data"] == "digits"
    assert result["images"] == 500


def test_both_sides_of_a_ratio_play_the_same_game():
    sides = (speed.vector(3, "digits", split="test"), speed.synchronous(3, "digits"))
    ends = []
    for side in sides:
        ends.append([side()[2].tolist() for _ in range(13)])
    assert ends[0] == ends[1]
    assert [all(ended) for ended in ends[0]] == [(step + 1) % speed.BUDGET == 0 for step in range(13)]


def test_ap_gym_looks_at_the_same_images():
    pytest.importorskip("ap_gym")
    seen, reward, terminated, *_ = speed.ap_gym(3, "digits", 2)()
    assert seen["glimpse"].shape == (3, 12, 12, 1)
    assert 0 <= seen["glimpse"].min() <= seen["glimpse"].max() <= 1
    assert reward.shape == (3,)
    assert not terminated.any()


def test_the_committed_figures_are_of_a_full_run_over_real_data():
    result = json.loads(RESULT.read_text())
    assert result["quick"] is False
    assert result["data"] == "mnist"
    for name in ("sync-64", "sync-1024", "ap_gym-64", "ap_gym_long-64"):
        assert result["times_slower_than_ours"][name] > 1
