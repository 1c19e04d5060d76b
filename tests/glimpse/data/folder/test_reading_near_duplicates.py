import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.data.datasets import DataError
from glimpse.data.folder import reading
from tests.support.folders import flat, parts_of, read_folder


def burst(root: Path, scenes: int, shots: int, name: str = "{scene}x{shot}.png") -> Path:
    """Scenes of two classes, each photographed several times in another light."""
    random = np.random.default_rng(0)
    for label in ("ant", "bee"):
        (root / label).mkdir(parents=True, exist_ok=True)
        for scene in range(scenes):
            pattern = np.kron(random.uniform(0, 200, (8, 8)), np.ones((6, 6)))
            for shot in range(shots):
                lit = np.clip(pattern * (1 - 0.1 * shot) + 10 * shot, 0, 255)
                Image.fromarray(lit.astype(np.uint8)).save(root / label / name.format(scene=scene, shot=shot))
    return root


def part_of_each(root: Path, **options: Any) -> tuple[dict[tuple[str, ...], set[str]], tuple[str, ...]]:
    """The parts of each scene's shots, and the notes."""
    source = read_folder(root, 48, 48, 1, **options)
    rows = {(np.asarray(Image.open(path)).tobytes(), path.parent.name): path for path in root.rglob("*.png")}
    places: dict[tuple[str, ...], set[str]] = {}
    for part, split in zip(("train", "validation", "test"), parts_of(source), strict=True):
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            path = rows[image[0].numpy().tobytes(), source.classes[label]]
            places.setdefault((path.parent.name, path.stem.split("x")[0]), set()).add(part)
    return places, source.notes


def test_near_duplicates_stay_in_one_part(tmp_path):
    burst(tmp_path, 25, 4)
    parts, notes = part_of_each(tmp_path)
    assert len(parts) == 50
    assert all(len(found) == 1 for found in parts.values())
    assert any(note.startswith("near-duplicates: 200 images are in 50 groups, the largest of 4") for note in notes)
    parts, notes = part_of_each(tmp_path, near_duplicates=False)
    assert any(len(found) > 1 for found in parts.values())
    assert not any("near-duplicates" in note for note in notes)


def test_names_that_agree_with_near_duplicates_tell_the_groups(tmp_path):
    burst(tmp_path, 25, 3, "scene{scene}_{shot}.png")
    random = np.random.default_rng(1)
    for scene in range(25):
        Image.fromarray(random.integers(0, 255, (48, 48), np.uint8)).save(tmp_path / "ant" / f"scene{scene}_back.png")
    parts, notes = part_of_each(tmp_path)
    assert all(len(found) == 1 for found in parts.values())
    assert any("the same name before the last '_'; each of these 50 groups stays" in note for note in notes)


def test_near_duplicates_in_laid_out_parts_are_told_and_stay_where_they_are(tmp_path):
    burst(tmp_path / "train", 10, 2)
    burst(tmp_path / "val", 10, 1)
    for path in (tmp_path / "val").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 2 + 40).save(path)
    flat(tmp_path / "test", range(3))
    source = read_folder(tmp_path, 48, 48, 1)
    assert [len(part) for part in parts_of(source)] == [40, 20, 6]
    assert any("pairs of near-duplicates lie in different parts, such as " in note for note in source.notes)


def test_near_duplicates_of_two_classes_are_told(tmp_path):
    burst(tmp_path, 10, 2)
    for scene in range(10):
        shutil.copy(tmp_path / "ant" / f"{scene}x0.png", tmp_path / "bee" / f"ant{scene}.png")
    assert any("near-duplicates have different classes" in note for note in read_folder(tmp_path, 48, 48, 1).notes)


@pytest.mark.parametrize("skip_unreadable", [False, True])
def test_a_cache_gives_the_same_images_and_lifts_the_limit_of_memory(tmp_path, monkeypatch, skip_unreadable):
    root = burst(tmp_path / "photos", 12, 2)
    if skip_unreadable:
        (root / "ant" / "0x0.png").write_bytes(b"no image")
    options: dict[str, Any] = {"skip_unreadable": skip_unreadable}
    memory = read_folder(root, 20, 24, 3, **options)
    monkeypatch.setattr(reading, "MEMORY_LIMIT", 1000)
    with pytest.raises(DataError, match="image_width, or keep them on a disk, in a folder given with cache"):
        read_folder(root, 20, 24, 3, **options)
    for _ in range(2):
        cached = read_folder(root, 20, 24, 3, cache=tmp_path / "cache", **options)
        assert cached.notes == memory.notes
        assert cached.page == memory.page
        for one, other in zip(parts_of(cached), parts_of(memory), strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)


def test_a_cache_within_the_folder_is_refused(tmp_path):
    flat(tmp_path, range(4))
    with pytest.raises(DataError, match=r"expected cache as a folder outside the images' own, got .*inner within"):
        read_folder(tmp_path, 6, 8, 1, cache=tmp_path / "inner")
