"""Many image files decoded to one array by several threads: in memory, or on disk where memory does not hold it.

On disk an array is kept for later runs, in a folder of its own, which is written whole or not at all and is mapped into
memory: what is read of it comes and goes as the system needs. Its name follows from the files (path, size, time of
change), their order and how they were scaled, so that a changed folder is decoded anew.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from glimpse import __version__
from glimpse.contract.card import FIT
from glimpse.data.datasets import DataError
from glimpse.errors import Argument
from glimpse.files import draft_folder, put_in_place
from glimpse.images.pixels import ImageError, decode, fit, placement

_PIXELS, _SIZES, _FAULTS = "pixels", "sizes.npy", "faults.json"
_ENOUGH = 4
"""Times a thumbnail's side that a JPEG file is decoded to at least."""


class Decoded(NamedTuple):
    """The images that could be read, in the order of their files."""

    images: UInt8[Tensor, "images channels height width"]
    """Pixels in [0, 255]."""
    sizes: Int64[np.ndarray, "images 2"]
    """Height and width of each image as it was decoded, pixels."""
    faults: dict[Path, str]
    """Why the other files could not be read."""


@dataclass(frozen=True)
class Scaling:
    """How images are brought to one size.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: 1 for grey, 3 for colour.
        size_policy: How an image of another size comes onto the canvas, one of
            :data:`glimpse.contract.card.SIZE_POLICIES`.
        thumbnail: Whether JPEG files may be decoded at a reduced size.
    """

    height: int
    width: int
    channels: int
    size_policy: str = FIT
    thumbnail: bool = False

    def place(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Where an image lies on its canvas, in pixels: (left, top, right, bottom).

        Args:
            height: Its height, pixels.
            width: Its width, pixels.
        """
        left, top, across, down = placement(height, width, self.height, self.width, self.size_policy)
        return left, top, left + across, top + down

    def read(self, path: Path) -> tuple[UInt8[np.ndarray, "channels height width"], tuple[int, int]]:
        """Decode and scale an image.

        Args:
            path: Its file.

        Returns:
            The pixels, and the image's height and width before it was scaled.

        Raises:
            ImageError: When it can't be read.
        """
        image = decode(path, reduced_to=_ENOUGH * max(self.height, self.width) if self.thumbnail else None)
        scaled = fit(image, self.height, self.width, self.channels, self.size_policy)
        return scaled.transpose(2, 0, 1), (image.shape[0], image.shape[1])


def decode_files(files: Sequence[Path], scaling: Scaling, cache: Path | None = None) -> Decoded:
    """Decode image files.

    Args:
        files: The files, each once.
        scaling: What they are brought to.
        cache: A folder in which the result is kept on disk, and found again; None to decode into memory.

    Raises:
        DataError: When the cache can't be written, or has no room.
    """
    shape = (len(files), scaling.channels, scaling.height, scaling.width)
    if cache is None:
        images = torch.empty(shape, dtype=torch.uint8)
        sizes, faults = _fill(images.numpy(), files, scaling)
        return Decoded(images[: len(sizes)], sizes, faults)
    entry = cache / _key(files, scaling)
    if not entry.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            _write(entry, shape, files, scaling)
        except OSError as error:
            raise DataError(
                "expected ",
                Argument("cache"),
                f" as a folder with room for {np.prod(shape) / 2**30:.1f} GiB of decoded images, got: {error}; name a "
                "folder on a larger disk, or lower the images' size",
            ) from error
    faults = {Path(os.fsdecode(bytes.fromhex(name))): fault for name, fault in _read_json(entry / _FAULTS).items()}
    return Decoded(_mapped(entry / _PIXELS, shape[1:]), np.load(entry / _SIZES), faults)


def _write(entry: Path, shape: tuple[int, ...], files: Sequence[Path], scaling: Scaling) -> None:
    """Decode files to a new entry of the cache."""
    length = int(np.prod(shape))
    with draft_folder(entry.parent) as drafts:
        draft = drafts / entry.name
        draft.mkdir()
        with (draft / _PIXELS).open("wb") as stream:
            # A map into a file with holes would end the process when the disk is full. Not every system can avoid them.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, length)
            else:
                stream.truncate(length)
        pixels = np.memmap(draft / _PIXELS, np.uint8, "r+", shape=shape)
        sizes, faults = _fill(pixels, files, scaling)
        pixels.flush()
        del pixels
        os.truncate(draft / _PIXELS, length // shape[0] * len(sizes))
        np.save(draft / _SIZES, sizes)
        named = {os.fsencode(path).hex(): fault for path, fault in faults.items()}
        (draft / _FAULTS).write_text(json.dumps(named), encoding="utf-8")
        if not entry.is_dir():  # another run may have been faster
            put_in_place(draft, entry)


def _fill(
    pixels: UInt8[np.ndarray, "files channels height width"], files: Sequence[Path], scaling: Scaling
) -> tuple[Int64[np.ndarray, "images 2"], dict[Path, str]]:
    """Decode files into the first rows of an array; return the images' sizes, and why the other files can't be read."""
    sizes = np.zeros((len(files), 2), np.int64)
    faults: dict[Path, str] = {}

    def read(place: int) -> None:
        try:
            pixels[place], sizes[place] = scaling.read(files[place])
        except ImageError as error:
            faults[files[place]] = str(error)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read, range(len(files))):
            pass
    kept = [place for place, path in enumerate(files) if path not in faults]
    if faults:
        for to, place in enumerate(kept):
            pixels[to] = pixels[place]
    return sizes[kept], {path: faults[path] for path in files if path in faults}


def _mapped(path: Path, shape: tuple[int, ...]) -> UInt8[Tensor, "images channels height width"]:
    """The images in a file, mapped into memory."""
    count = path.stat().st_size // int(np.prod(shape))
    if count == 0:
        return torch.empty((0, *shape), dtype=torch.uint8)
    # Mapped for writing, which nobody does: torch has no tensors that can't be written.
    return torch.from_numpy(np.memmap(path, np.uint8, "r+", shape=(count, *shape)))


def _key(files: Sequence[Path], scaling: Scaling) -> str:
    """A name that follows from the files and how they are scaled."""
    digest = hashlib.sha256(f"{__version__} {scaling}".encode())
    for path in files:
        try:
            status = path.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            state = "gone"
        digest.update(os.fsencode(path.absolute()) + f"\0{state}\0".encode())
    return digest.hexdigest()[:32]


def _read_json(path: Path) -> dict[str, str]:
    content: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return content
