from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.data.datasets import DataError
from glimpse.data.folder import decoding
from glimpse.data.folder.decoding import Scaling, decode_files

SMALL = Scaling(6, 8, 3)


def write(folder: Path, count: int, broken: tuple[int, ...] = ()) -> list[Path]:
    random = np.random.default_rng(0)
    files = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (12, 9 + number, 3), np.uint8)).save(path)
        if number in broken:
            path.write_bytes(b"no image")
        files.append(path)
    return files


@pytest.mark.parametrize("broken", [(), (0, 3)])
def test_a_cache_holds_the_same_bits_as_memory(tmp_path, broken):
    files = write(tmp_path, 7, broken)
    memory = decode_files(files, SMALL)
    for _ in range(2):
        cached = decode_files(files, SMALL, tmp_path / "deep" / "cache")
        assert torch.equal(cached.images, memory.images)
        assert np.array_equal(cached.sizes, memory.sizes)
        assert cached.faults == memory.faults
    assert list(memory.faults) == [files[number] for number in broken]
    kept = [number for number in range(7) if number not in broken]
    assert memory.sizes.tolist() == [[12, 9 + number] for number in kept]


def test_a_cache_is_read_and_no_file(tmp_path, monkeypatch):
    files = write(tmp_path, 3)
    before = decode_files(files, SMALL, tmp_path / "cache")
    monkeypatch.setattr(decoding, "decode", None)
    assert torch.equal(decode_files(files, SMALL, tmp_path / "cache").images, before.images)


def test_changed_files_and_other_sizes_are_decoded_anew(tmp_path):
    files = write(tmp_path, 3)
    cache = tmp_path / "cache"
    before = decode_files(files, SMALL, cache)
    Image.new("RGB", (9, 12), (1, 2, 3)).save(files[0])
    assert not torch.equal(decode_files(files, SMALL, cache).images[0], before.images[0])
    assert torch.equal(decode_files(files[::-1], SMALL, cache).images[0], before.images[2])
    assert decode_files(files, Scaling(4, 4, 1), cache).images.shape == (3, 1, 4, 4)
    assert len(list(cache.iterdir())) == 4


def test_nothing_is_left_of_a_cache_that_could_not_be_written(tmp_path, monkeypatch):
    files = write(tmp_path, 3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DataError, match=r"expected cache as a folder with room for .* got: .*No space left.*; name a"):
        decode_files(files, SMALL, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "cache").write_text("x")
    with pytest.raises(DataError, match="expected cache as a folder with room for"):
        decode_files(write(tmp_path, 2), SMALL, tmp_path / "cache")


def test_a_thumbnail_is_squashed(tmp_path):
    picture = np.zeros((40, 200, 3), np.uint8)
    picture[:, 100:] = 200
    Image.fromarray(picture).save(tmp_path / "wide.png")
    Image.fromarray(picture).resize((4000, 800), Image.Resampling.NEAREST).save(tmp_path / "large.jpg", quality=95)
    files = [tmp_path / "wide.png", tmp_path / "large.jpg"]
    small = decode_files(files, Scaling(16, 16, 1, "squash", thumbnail=True))
    assert small.images.shape == (2, 1, 16, 16)
    assert (small.images[:, :, :, :7] < 3).all()
    assert (small.images[:, :, :, 9:].int() - 200).abs().max() < 4
    assert small.sizes[1].tolist() == [100, 500], "a JPEG file is decoded at an eighth of its size"


def test_of_no_readable_file_nothing_comes(tmp_path):
    files = write(tmp_path, 2, broken=(0, 1))
    for cache in (None, tmp_path / "cache"):
        assert decode_files(files, SMALL, cache).images.shape == (0, 3, 6, 8)
