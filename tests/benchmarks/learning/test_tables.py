import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.learning import tables


def cell(error: float, images: int = 1000, **more: Any) -> dict[str, Any]:
    return {
        "test_error": error,
        "test_errors_after_each_glimpse": {"own": [0.5, error]},
        "multiply_accumulates": 2_500_000,
        "parameters": 1234,
        "pixels_sensed": 300,
        "pixels_of_image": 400,
        "cpu_seconds": 90.0,
        "wall_seconds": 120.0,
        "images_seen": images,
        **more,
    }


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    (folder / f"{name}-seed0.json").write_text(json.dumps(result))


def test_families_stand_best_first_with_what_they_cost(tmp_path):
    write(tmp_path, "families-60-cnn", cell(0.03))
    errors = {"own": [0.5, 0.02], "random": [0.5, 0.25]}
    write(tmp_path, "families-60-hard", cell(0.02, test_errors_after_each_glimpse=errors))
    text = tables.text(tmp_path)
    first, second = (line for line in text.splitlines() if line.startswith(("| hard", "| convolutional")))
    assert first == (
        "| hard attention | 2.00% | 25.00% | 2.50 M | 1,234 | 300 of 400 | 1.5 CPU-min (2.0 on the wall) |"
    )
    assert second.startswith("| convolutional | 3.00% | - |")
    assert "(4 pieces), 1,000 training images each" in text


def test_cells_of_unequal_budgets_are_no_table(tmp_path):
    write(tmp_path, "families-60-cnn", cell(0.03))
    write(tmp_path, "families-60-hard", cell(0.02, images=2000))
    with pytest.raises(ValueError, match="expected cells of one budget, got 1,000 and 2,000 images"):
        tables.text(tmp_path)


def test_scores_stand_beside_their_pointing_game(tmp_path):
    write(tmp_path, "scores-60-dot", cell(0.04))
    write(tmp_path, "scores-60-general", cell(0.05))
    scored = {"pointing": {"mean": 0.875}, "inside": {"mean": 0.5}, "entropy": {"mean": 0.25}}
    pointing = {"run": "scores-60-dot-seed0", "maps": {"mean over glimpses": scored}}
    (tmp_path / "pointing-scores.json").write_text(json.dumps({"models": [pointing]}))
    lines = tables.text(tmp_path).splitlines()
    assert "| dot | 4.00% | 87.5% | 50.0% | 25.0% | 1.5 CPU-min (2.0 on the wall) |" in lines
    assert "| general | 5.00% | - | - | - | 1.5 CPU-min (2.0 on the wall) |" in lines


def test_global_and_local_attention_stand_side_by_side(tmp_path):
    write(tmp_path, "growth-100-local-p", cell(0.06))
    assert "| local-p | - | 6.00%, 1.5 CPU-min (2.0 on the wall) | - |" in tables.text(tmp_path).splitlines()
