"""The figures of several calls in one file."""

import json
from typing import Any

import pytest

from benchmarks.learning.photographs.results import merge_results, read_result


def result(seeds: dict[str, Any], **other) -> dict[str, Any]:
    return {"quick": False, "set": "signs", "machine": "new", "seeds": seeds, **other}


def test_figures_of_earlier_calls_are_kept_by_seed_and_rival(tmp_path):
    earlier = result(
        {"0": {"product": {"test": 1, "looking": 2}, "rivals": {"probe": 3, "cnn": 4}}, "10": {"product": {}}},
        machine="old",
    )
    file = tmp_path / "result.json"
    file.write_text(json.dumps(earlier))
    assert read_result(tmp_path / "none.json") == read_result(None) == {}
    latest = result({"2": {"product": {"test": 5}}, "0": {"rivals": {"cnn": 6}}})
    merged = merge_results(read_result(file), latest)
    assert merged["machine"] == "new"
    assert list(merged["seeds"]) == ["0", "2", "10"]
    assert merged["seeds"]["0"] == {"product": {"test": 1, "looking": 2}, "rivals": {"probe": 3, "cnn": 6}}
    again = merge_results(merged, result({"0": {"product": {"training": 7}}}))
    assert again["seeds"]["0"]["product"] == {"training": 7}


@pytest.mark.parametrize("other", [{"set": "tiles"}, {"quick": True}, {"cut": {"images": 300, "classes": []}}])
def test_figures_of_other_images_are_not_mixed_in(other):
    latest = result({"0": {"product": {}}}, **other)
    assert merge_results(result({"1": {"product": {}}}), latest) == latest
    assert merge_results({}, latest) == latest
