"""Groups of similar photographs, and the table that states them."""

from pathlib import Path

import pytest
import torch

from benchmarks.learning.photographs import similar
from benchmarks.learning.photographs.sets import SETS, make_up
from benchmarks.learning.photographs.similar import similar_groups
from glimpse.data.folder import labelled_files


def test_similar_photographs_are_those_of_one_direction_from_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(3, 64, generator=generator)
    features = 5 + middles[[0, 1, 0, 2, 1, 2]] + 0.05 * torch.randn(6, 64, generator=generator)
    first, second, third = (similar_groups(features)[place] for place in (0, 1, 3))
    assert similar_groups(features) == [first, second, first, third, second, third]
    assert len({first, second, third}) == 3
    assert len(set(similar_groups(features, threshold=0.99999))) == 6


def test_a_table_of_similar_groups_is_one_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_up(SETS["tiles"], tmp_path)
    monkeypatch.setattr(similar, "features_of", lambda files: torch.eye(len(files))[: len(files)].repeat(1, 2))
    assert similar.write_similar_groups(folder, tmp_path / "table.csv") > 1
    table = labelled_files(folder, str(tmp_path / "table.csv"))
    laid_out = labelled_files(folder)
    assert set(table.tree.classes) == set(laid_out.tree.classes)
    assert len(table.groups) == sum(len(paths) for parts in laid_out.tree.parts.values() for paths in parts.values())
