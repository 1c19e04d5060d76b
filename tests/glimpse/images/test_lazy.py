import builtins
import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from glimpse.images.lazy import ArrayImage, LazyImage, TileCache, open_lazily
from glimpse.images.pixels import ImageError
from glimpse.runtime.session import GlimpseSession
from tests.support import toys
from tests.support.toys import alike, noise

BOX = (30, 50, 170, 90)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, GlimpseSession]:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


def write_npy(path: Path, image: Any) -> Path:
    np.save(path.with_suffix(".npy"), image)
    return path.with_suffix(".npy")


def write_tiff(path: Path, image: Any, **options: Any) -> Path:
    options = {"tile": (64, 64), "photometric": "rgb" if image.ndim == 3 else "minisblack"} | options
    tifffile.imwrite(path.with_suffix(".tif"), image, **options)
    return path.with_suffix(".tif")


def write_deflated_tiff(path: Path, image: Any) -> Path:
    return write_tiff(path, image, compression="zlib")


def write_zarr(path: Path, image: Any) -> Path:
    array = zarr.create_array(
        path.with_suffix(".zarr"), shape=image.shape, chunks=(64, 64, 3)[: image.ndim], dtype="u1"
    )
    array[:] = image
    return path.with_suffix(".zarr")


def write_ome_zarr(path: Path, image: Any) -> Path:
    write_zarr(path / "0", image).rename(path / "0")
    zarr.open_group(path, mode="a")
    return path


@pytest.mark.parametrize("write", [write_npy, write_tiff, write_deflated_tiff, write_zarr, write_ome_zarr])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_is_read_by_windows(tmp_path, write, channels):
    image = noise(200, 300, channels)
    opened = open_lazily(write(tmp_path / "image", image if channels == 3 else image[..., 0]))
    assert isinstance(opened, LazyImage)
    assert (opened.size, opened.channels) == ((300, 200), channels)
    part = opened.read(BOX)
    assert part.dtype == np.uint8
    np.testing.assert_array_equal(part, image[50:90, 30:170])
    np.testing.assert_array_equal(opened.read((299, 199, 300, 200)), image[199:, 299:])


@pytest.mark.parametrize("graph", ["adaptive", "step"])
@pytest.mark.parametrize("write", [write_npy, write_deflated_tiff, write_zarr])
def test_a_session_answers_for_a_file_as_for_its_array(tmp_path, kinds, write, graph):
    image = noise(200, 300, 3)
    opened = open_lazily(write(tmp_path / "image", image))
    expected = kinds[graph].predict_one(image, size="native")
    alike(kinds[graph].predict_one(opened), expected)
    assert [glance.time for glance in kinds[graph].scan(opened)] == list(range(5))
    batch = kinds[graph].predict([opened, opened])
    np.testing.assert_array_equal(batch.probabilities[1], expected.probabilities)


@pytest.mark.parametrize("write", [write_npy, write_deflated_tiff, write_zarr])
def test_threads_may_read_at_once(tmp_path, write):
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    opened = open_lazily(write(tmp_path / "image", image))
    corners = np.random.default_rng(1).integers(0, 200, (60, 2)).tolist()
    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(lambda corner: opened.read((*corner, corner[0] + 90, corner[1] + 90)), corners))
    for (left, top), part in zip(corners, parts, strict=True):
        np.testing.assert_array_equal(part, image[top : top + 90, left : left + 90])


@pytest.mark.child
def test_of_a_huge_tiled_tiff_only_the_tiles_under_the_windows_are_loaded(tmp_path):
    """A 16384 x 16384 RGB image takes 768 MB; looking at it takes a fiftieth."""
    path, side, tile = tmp_path / "huge.tif", 16384, zlib.compress(noise(512, 512, 3).tobytes())
    kind: dict[str, Any] = {"tile": (512, 512), "photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(path, (tile for _ in range((side // 512) ** 2)), shape=(side, side, 3), dtype=np.uint8, **kind)
    toys.write_toy(tmp_path / "adaptive.onnx", toys.ADAPTIVE)
    toys.write_toy(tmp_path / "step.onnx", toys.STEP)
    program = f"""
import resource
from glimpse.images.lazy import open_lazily
from glimpse.runtime.session import GlimpseSession
sessions = [GlimpseSession({str(tmp_path)!r} + name) for name in ("/adaptive.onnx", "/step.onnx")]
import tifffile, zarr
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = open_lazily({str(path)!r})
assert image.size == (16384, 16384)
labels = [int(session.predict_one(image).probabilities[-1].argmax()) for session in sessions]
assert labels[0] == labels[1]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 16_000, "kilobytes"


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (-1, 0, 4, 4), (0, 0, 31, 4), (0, 0, 4, 21), (5, 5, 4, 6)])
def test_a_box_that_is_not_inside_the_image_is_refused(box):
    with pytest.raises(ImageError, match=r"expected a box inside the image of 30 x 20 pixels, got .*; clip it"):
        ArrayImage(noise(20, 30, 1)).read(box)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 5), np.uint16), r"got uint16 \(4, 5\); convert it to 8 bits and say which value is white"),
        (np.zeros((4, 5), np.float32), r"got float32 \(4, 5\); convert it to 8 bits"),
        (np.zeros((4, 5, 4), np.uint8), r"got shape \(4, 5, 4\); move the channels last, and leave out alpha"),
        (np.zeros((3, 40, 50), np.uint8), r"got shape \(3, 40, 50\); move the channels last"),
        (np.zeros(4, np.uint8), r"got shape \(4,\)"),
        (np.zeros((0, 5), np.uint8), r"got shape \(0, 5\); it has no pixels"),
        ("image.tif", "got str; open a file with glimpse.images.lazy.open_lazily"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array, sentence):
    with pytest.raises(ImageError, match=r"expected the image as a uint8 array \(height, width\) or .*" + sentence):
        ArrayImage(array)


@pytest.mark.parametrize("write", [write_npy, write_tiff])
def test_a_file_of_16_bits_is_refused_by_name(tmp_path, write):
    path = write(tmp_path / "deep", np.zeros((64, 64), np.uint16))
    with pytest.raises(ImageError, match=rf"expected '.*{path.name}' as a uint8 array .* got (>|<)?u?int16"):
        open_lazily(path)


@pytest.mark.parametrize(
    ("options", "came"),
    [
        ({"tile": None}, r"got one in strips; write it again with tifffile\.imwrite\(\.\.\., tile=\(256, 256\)\)"),
        ({"planarconfig": "separate"}, "got the axes SYX and the colours RGB; write it again as RGB, channels last"),
        ({"photometric": "miniswhite"}, "got the axes .* and the colours MINISWHITE"),
    ],
)
def test_a_tiff_that_can_not_be_read_by_windows_is_refused(tmp_path, options, came):
    grey = options.get("photometric") == "miniswhite"
    image = noise(100, 80, 3)[..., 0] if grey else noise(100, 80, 3)
    image = np.moveaxis(image, -1, 0) if "planarconfig" in options else image
    path = write_tiff(tmp_path / "image", image, **options)
    with pytest.raises(ImageError, match=r"expected '.*image\.tif' as a tiled TIFF, grey or RGB, " + came):
        open_lazily(path)


def spoil_tiles(path: Path) -> Path:
    """Overwrite all the pixels of a tiled TIFF."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    content = bytearray(path.read_bytes())
    for start, length in places:
        content[start : start + length] = b"junk" * (length // 4) + b"!" * (length % 4)
    path.write_bytes(content)
    return path


def spoil_chunks(path: Path) -> Path:
    """Overwrite all the chunks of a Zarr array."""
    chunks = [file for file in path.rglob("*") if file.is_file() and not file.name.endswith(".json")]
    assert chunks
    for chunk in chunks:
        chunk.write_bytes(b"junk" * 50)
    return path


@pytest.mark.parametrize(("write", "spoil"), [(write_deflated_tiff, spoil_tiles), (write_zarr, spoil_chunks)])
def test_pixels_that_can_not_be_read_are_named_with_their_box(tmp_path, kinds, write, spoil):
    path = spoil(write(tmp_path / "image", noise(200, 300, 3)))
    opened = open_lazily(path)
    sentence = rf"expected pixels of '.*{path.name}' under \({{}}\), but they can't be read \(\w+: .*\); check that"
    with pytest.raises(ImageError, match=sentence.format("30, 50, 170, 90")):
        opened.read(BOX)
    for graph in ("adaptive", "step", "episode"):
        with pytest.raises(ImageError, match=sentence.format(r"\d+, \d+, \d+, \d+")):
            kinds[graph].predict_one(opened)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"there is no image '.*gone\.npy'; check the path"):
        open_lazily(tmp_path / "gone.npy")
    with pytest.raises(
        ImageError, match=r"expected a \.npy, \.tif, \.tiff or \.zarr" r" image .* glimpse\.images\.pixels\.decode"
    ):
        open_lazily(tmp_path / "cat.png")
    for name in ("broken.npy", "broken.tif"):
        (tmp_path / name).write_bytes(b"hello, I am a text")
        with pytest.raises(ImageError, match=rf"the image '.*{name}' can't be opened \(.*\); copy or write it again"):
            open_lazily(tmp_path / name)
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageError, match=r"pickled\.npy' can't be opened"):
        open_lazily(tmp_path / "pickled.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty' can't be opened"):
        open_lazily(tmp_path / "empty")
    zarr.open_group(tmp_path / "group.zarr", mode="w").create_array("levels", shape=(5, 5), dtype="u1")
    with pytest.raises(ImageError, match=r"a group with an array '0', got .* with \['levels'\]; name the path of one"):
        open_lazily(tmp_path / "group.zarr")


@pytest.mark.parametrize(("write", "package"), [(write_tiff, "tifffile"), (write_zarr, "zarr")])
def test_a_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch, write, package):
    path, real = write(tmp_path / "image", noise(64, 64, 3)), builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ImageError, match=rf"needs {package}, which is not installed; pip install 'glimpse-attention\[l"
    ):
        open_lazily(path)


class Counted:
    """An array of tiles that counts which of them are read."""

    def __init__(self, array: Any, chunks: tuple[int, ...]) -> None:
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, chunks
        self.read: list[tuple[int, int]] = []

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        self.read.append((key[0].start, key[1].start))
        return self.array[key]


@pytest.mark.parametrize("limit", [0, 2000, 10_000, 10**9])
@pytest.mark.parametrize("shape", [(200, 300), (200, 300, 3), (64, 30, 3), (1, 700)])
def test_kept_tiles_hold_the_pixels_of_the_array(shape, limit):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    kept = ArrayImage(TileCache(Counted(image, (24, 40, *shape[2:])), limit))
    rng = np.random.default_rng(1)
    for _ in range(60):
        left, top = int(rng.integers(0, shape[1])), int(rng.integers(0, shape[0]))
        right, bottom = int(rng.integers(left, shape[1])) + 1, int(rng.integers(top, shape[0])) + 1
        part = kept.read((left, top, right, bottom))
        np.testing.assert_array_equal(part.reshape(*part.shape[:2], *shape[2:]), image[top:bottom, left:right])


def test_neighbouring_windows_share_their_tiles_and_the_oldest_go_first():
    tiles = Counted(noise(40, 400, 1)[..., 0], (40, 40))
    kept = ArrayImage(TileCache(tiles, 3 * 1600))
    for left in (0, 30, 60, 90):  # tiles 0, 0 and 1, 1 and 2, 2
        kept.read((left, 5, left + 20, 30))
    assert tiles.read == [(0, 0), (0, 40), (0, 80)]
    kept.read((0, 0, 10, 10))  # so that tile 1 is now the oldest
    kept.read((120, 0, 130, 10))
    kept.read((0, 0, 10, 10))
    assert tiles.read[3:] == [(0, 120)]
    kept.read((40, 0, 50, 10))
    assert tiles.read[4:] == [(0, 40)]


def test_of_tiles_that_are_larger_than_the_cache_the_window_alone_is_read():
    tiles = Counted(noise(40, 400, 1)[..., 0], (40, 400))
    kept = ArrayImage(TileCache(tiles, 1600))
    for _ in range(2):
        kept.read((33, 7, 50, 30))
    assert tiles.read == [(7, 33), (7, 33)]


@pytest.mark.parametrize("write", [write_deflated_tiff, write_zarr])
def test_a_second_look_reads_nothing(tmp_path, kinds, write):
    path = write(tmp_path / "image", noise(200, 300, 3))
    opened, without = open_lazily(path), open_lazily(path, cache=0)
    first = kinds["adaptive"].predict_one(opened)
    (spoil_tiles if path.suffix == ".tif" else spoil_chunks)(path)
    second = kinds["adaptive"].predict_one(opened)
    np.testing.assert_array_equal(second.probabilities, first.probabilities)
    with pytest.raises(ImageError, match="can't be read"):
        kinds["adaptive"].predict_one(without)
