"""A first look at a folder of images: their sizes, colours and number, from which the candidates follow. No torch."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageStat, UnidentifiedImageError

SURVEYED = 200
"""Images that are opened."""
GREY_MODES = ("1", "L", "I;16", "I", "F", "LA")
GREY_DIFFERENCE = 4.0
"""Largest mean difference between the channels of an image, of 255, that counts as grey."""


@dataclass(frozen=True)
class Survey:
    """What was found in a folder.

    Attributes:
        width: Median width of the images, pixels.
        height: Median height of the images, pixels.
        smallest: The least of all their sides, pixels.
        largest: The greatest of all their sides, pixels.
        is_grey: Whether none of them has colour.
        has_boxes: Whether boxes or masks tell where the objects are.
    """

    width: int
    height: int
    smallest: int
    largest: int
    is_grey: bool
    has_boxes: bool

    @property
    def side(self) -> int:
        """The shorter of the median sides, pixels."""
        return min(self.width, self.height)

    def describe(self) -> str:
        """The survey in words."""
        colours = "grey" if self.is_grey else "colour"
        told = ", with boxes that tell where the objects are" if self.has_boxes else ""
        return (
            f"{colours} images of {self.smallest} to {self.largest} pixels a side, {self.width}x{self.height} in the "
            f"median{told}"
        )


def survey_images(files: Iterable[Path], has_boxes: bool = False) -> Survey:
    """Open a sample of images, spread evenly over the files.

    Args:
        files: All files; those that can't be read are passed over: reading the folder reports them.
        has_boxes: Whether there are boxes or masks.

    Raises:
        ValueError: When no image can be read.
    """
    listed = sorted(files)
    sizes: list[tuple[int, int]] = []
    grey = True
    for file in listed[:: max(1, len(listed) // SURVEYED)]:
        try:
            with Image.open(file) as image:
                sizes.append(image.size)
                grey = grey and _is_grey(image)
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    if not sizes:
        raise ValueError(f"expected images that can be read, found none among {len(listed)} files; check the folder")
    sides = [side for size in sizes for side in size]
    return Survey(
        width=round(statistics.median(width for width, _ in sizes)),
        height=round(statistics.median(height for _, height in sizes)),
        smallest=min(sides),
        largest=max(sides),
        is_grey=grey,
        has_boxes=has_boxes,
    )


def _is_grey(image: Image.Image) -> bool:
    if image.mode in GREY_MODES:
        return True
    image.thumbnail((32, 32))
    red, green, blue = image.convert("RGB").split()
    differences = (ImageChops.difference(red, other) for other in (green, blue))
    return all(ImageStat.Stat(difference).mean[0] <= GREY_DIFFERENCE for difference in differences)
