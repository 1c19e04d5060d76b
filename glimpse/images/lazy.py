"""Images too large for memory: only the windows under a model's glimpses are read.

A model with a retina that is run glimpse by glimpse (``glimpse export --graph adaptive`` or ``--graph step``) reads
nothing but the pixels under its widest window.
"""

import math
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from glimpse.images.pixels import ImageError

Corners = tuple[int, int, int, int]
"""A box in pixels, (left, top, right, bottom), right and bottom exclusive."""
TILE_CACHE = 2**26
"""Bytes of decoded tiles that are kept of an image unless the caller gives another limit: 64 MiB."""


@runtime_checkable
class LazyImage(Protocol):
    """An image of which parts can be read. Threads that share a session may read at once."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        ...

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        ...

    def read(self, box: Corners) -> npt.NDArray[np.uint8]:
        """Read the pixels under a box.

        Args:
            box: Pixels, (left, top, right, bottom), inside the image and not empty.

        Returns:
            uint8 (height, width, channels) of the box's size.
        """
        ...


class ArrayImage:
    """An image that lies in an array: one of numpy, in memory or mapped from a file, or one of Zarr.

    Args:
        array: uint8 (height, width), or (height, width, channels) with 1 or 3 channels. Whatever has a ``shape`` and a
            ``dtype`` and can be sliced will do.
        name: What errors call it.

    Raises:
        ImageError: When the array is no such image.
    """

    def __init__(self, array: Any, name: str = "the image") -> None:
        shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
        if shape is None or dtype is None:
            came, advice = type(array).__name__, "open a file with glimpse.images.lazy.open_lazily"
        elif np.dtype(dtype) != np.uint8:
            came, advice = f"{dtype} {shape}", "convert it to 8 bits and say which value is white"
        elif len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
            came, advice = f"shape {shape}", "move the channels last, and leave out alpha and further planes"
        elif 0 in shape:
            came, advice = f"shape {shape}", "it has no pixels"
        else:
            # A plain array is sliced quicker than one that knows that it is mapped.
            self._array, self._name = np.asarray(array) if isinstance(array, np.ndarray) else array, name
            self._shape: tuple[int, ...] = tuple(shape)
            return
        raise ImageError(
            f"expected {name} as a uint8 array (height, width) or (height, width, 1 or 3 channels), got {came}; "
            f"{advice}"
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self._shape[1], self._shape[0]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return 1 if len(self._shape) == 2 else self._shape[2]

    @property
    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """The image itself, uint8 (height, width, channels), where it is an array of numpy; None where it is not."""
        array = self._array
        return array.reshape(*array.shape[:2], self.channels) if isinstance(array, np.ndarray) else None

    def read(self, box: Corners) -> npt.NDArray[np.uint8]:
        """Read the pixels under a box.

        Args:
            box: Pixels, (left, top, right, bottom), inside the image and not empty.

        Returns:
            uint8 (height, width, channels), a copy.

        Raises:
            ImageError: When the box is empty or not inside the image, or what lies under it can't be read.
        """
        left, top, right, bottom = box
        width, height = self.size
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ImageError(f"expected a box inside the image of {width} x {height} pixels, got {box}; clip it")
        try:
            return np.array(self._array[top:bottom, left:right]).reshape(bottom - top, right - left, self.channels)
        except Exception as error:  # each of the packages and their codecs has its own for damaged pixels
            raise unreadable(self._name, box, error) from error


class TileCache:
    """An array of tiles that keeps those that were read last. Threads may read it at once.

    Args:
        array: Of Zarr, uint8 (height, width) or (height, width, channels); what lies under it must not change.
        limit: Bytes of the tiles that are kept. A larger tile is never kept.
    """

    def __init__(self, array: Any, limit: int) -> None:
        self.shape, self.dtype = tuple(array.shape), array.dtype
        self._array, self._limit = array, limit
        self._tile: tuple[int, int] = tuple(array.chunks[:2])
        self._tiles: OrderedDict[tuple[int, int], npt.NDArray[np.uint8]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def __getitem__(self, key: tuple[slice, slice]) -> npt.NDArray[np.uint8]:
        """Read the pixels of some rows and columns, both with a start and a stop.

        Args:
            key: Of the rows and of the columns.
        """
        (top, bottom), (left, right) = ((part.start, part.stop) for part in key)
        height, width = self._tile
        if height * width * math.prod(self.shape[2:]) > self._limit:
            read: npt.NDArray[np.uint8] = np.asarray(self._array[key])
            return read
        found = np.empty((bottom - top, right - left, *self.shape[2:]), np.uint8)
        for row in range(top // height, (bottom - 1) // height + 1):
            for column in range(left // width, (right - 1) // width + 1):
                tile, y, x = self._read(row, column), row * height, column * width
                first, last = (max(top, y), max(left, x)), (min(bottom, y + height), min(right, x + width))
                part = tile[first[0] - y : last[0] - y, first[1] - x : last[1] - x]
                found[first[0] - top : last[0] - top, first[1] - left : last[1] - left] = part
        return found

    def _read(self, row: int, column: int) -> npt.NDArray[np.uint8]:
        with self._lock:
            tile = self._tiles.get((row, column))
            if tile is not None:
                self._tiles.move_to_end((row, column))
                return tile
        height, width = self._tile
        rows, columns = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        tile = np.asarray(self._array[rows, columns])
        with self._lock:
            if (row, column) not in self._tiles:
                self._tiles[row, column] = tile
                self._held += tile.nbytes
            while self._held > self._limit:
                self._held -= self._tiles.popitem(last=False)[1].nbytes
        return tile


def unreadable(name: str, box: Corners, error: Exception) -> ImageError:
    """Make the error for a part of an image that can't be read.

    Args:
        name: What errors call the image.
        box: Which part.
        error: What came of it.
    """
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ImageError(
        f"expected pixels of {name} under {tuple(box)}, but they can't be read ({reason}); check that the image is "
        "whole and can still be reached, or copy or write it again"
    )


def open_lazily(path: str | Path, cache: int = TILE_CACHE) -> ArrayImage:
    """Open an image file without reading its pixels.

    The tiles of a TIFF or Zarr image that were read last are kept, decoded, for the next glimpse or classification, so
    the file must not change while it is open.

    Args:
        path: A numpy file (``.npy``), which is mapped into memory; a TIFF file (``.tif``, ``.tiff``), of which the
            first page at its full resolution is taken, and which should be tiled; or a Zarr array (``.zarr``, or a
            folder), or the array ``0`` of a Zarr group, as OME-Zarr has it.
        cache: Bytes of the tiles that are kept of this image; 0 keeps none.

    Raises:
        ImageError: When there is no such file, it is of another kind, can't be read, or is no uint8 image; or when
            the package that reads it is missing.
    """
    path = Path(path)
    openers = {".npy": _map_numpy, ".tif": _open_tiff, ".tiff": _open_tiff, ".zarr": _open_zarr}
    opener = openers.get(path.suffix.lower(), _open_zarr if path.is_dir() else None)
    if opener is None:
        raise ImageError(
            f"expected a .npy, .tif, .tiff or .zarr image to read by windows, got {str(path)!r}; read a smaller image "
            "as a whole with glimpse.images.pixels.decode"
        )
    if not path.exists():
        raise ImageError(f"there is no image {str(path)!r}; check the path")
    try:
        array = opener(path)
    except ModuleNotFoundError as error:
        raise ImageError(
            f"reading {str(path)!r} by windows needs {error.name}, which is not installed; "
            "pip install 'glimpse-attention[lazy]'"
        ) from error
    except ImageError:
        raise
    except Exception as error:  # each of the packages has its own exceptions for a damaged file
        raise ImageError(f"the image {str(path)!r} can't be opened ({error}); copy or write it again") from error
    image = ArrayImage(array, repr(str(path)))
    return image if image.pixels is not None else ArrayImage(TileCache(array, cache), repr(str(path)))


def _map_numpy(path: Path) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _open_tiff(path: Path) -> Any:
    import tifffile
    import zarr

    tiff = tifffile.TiffFile(path)
    page = tiff.pages.first
    colours = tifffile.PHOTOMETRIC(page.photometric).name
    if page.is_tiled and page.axes in ("YX", "YXS") and colours in ("MINISBLACK", "RGB", "YCBCR"):
        array = zarr.open_array(page.aszarr(), mode="r")
        weakref.finalize(array, tiff.close)
        return array
    tiff.close()
    if page.is_tiled:
        came, advice = (
            f"the axes {page.axes} and the colours {colours}",
            "write it again as RGB, channels last, or as grey",
        )
    else:
        came, advice = "one in strips", "write it again with tifffile.imwrite(..., tile=(256, 256))"
    raise ImageError(f"expected {str(path)!r} as a tiled TIFF, grey or RGB, got {came}; {advice}")


def _open_zarr(path: Path) -> Any:
    import zarr

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Group):
        if "0" not in node:
            raise ImageError(
                f"expected a Zarr array, or a group with an array '0', got {str(path)!r} with {sorted(node.keys())}; "
                "name the path of one of its arrays"
            )
        return node["0"]
    return node
