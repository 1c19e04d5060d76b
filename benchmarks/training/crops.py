"""How fast a glimpse is cut, beside other ways to cut it, and from images of any size."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from benchmarks.harness.machine import Samples, interleave, threads
from glimpse.images.geometry import to_pixels, to_unit, windows
from glimpse.nn.retina import PIXEL_MAX, extract_glimpse

ZOOM = 2
OURS = "extract_glimpse, float32"


def whole_locations(batch: int, side: int, size: int, num_scales: int) -> Float[Tensor, "batch 2"]:
    """Random locations at which every window covers whole pixels, so that all ways to cut agree.

    Args:
        batch: How many.
        side: Of the square images, pixels.
        size: Side of the finest window, pixels.
        num_scales: How many windows.

    Returns:
        (x, y) in [-1, 1].
    """
    widest = windows(size, num_scales, ZOOM)[-1].width
    first = -(widest // 2)
    starts = torch.randint(first, side + first + 1, (batch, 2), generator=torch.Generator().manual_seed(0))
    located: Tensor = to_unit(starts + widest / 2, side)
    return located


def by_grid_sample(
    images: Float[Tensor, "batch channels height width"],
    location: Float[Tensor, "batch 2"],
    size: int,
    num_scales: int,
    mode: str,
) -> Float[Tensor, "batch scales channels size size"]:
    """Cut glimpses with torch's ``grid_sample``, once for each scale at full resolution, and pool.

    Args:
        images: Pixels in [0, 1].
        location: Middles of the glimpses, (x, y) in [-1, 1].
        size: Side of every pooled scale, pixels.
        num_scales: How many windows.
        mode: ``nearest`` or ``bilinear``.
    """
    height, width = images.shape[-2:]
    scales = []
    for _, side in windows(size, num_scales, ZOOM):
        offsets = torch.arange(side) - (side - 1) / 2
        columns = location[:, :1] + offsets * (2 / width)
        rows = location[:, 1:] + offsets * (2 / height)
        grid = torch.stack(
            [columns.unsqueeze(1).expand(-1, side, -1), rows.unsqueeze(2).expand(-1, -1, side)],
            dim=3,
        )
        patch = functional.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)
        scales.append(functional.avg_pool2d(patch, side // size) if side > size else patch)
    return torch.stack(scales, dim=1)


def by_loop(
    images: Float[Tensor, "batch channels height width"],
    location: Float[Tensor, "batch 2"],
    size: int,
    num_scales: int,
) -> Float[Tensor, "batch scales channels size size"]:
    """Cut glimpses with a Python loop over the batch, slicing padded images.

    Args:
        images: Pixels in [0, 1].
        location: Middles of the glimpses, (x, y) in [-1, 1].
        size: Side of every pooled scale, pixels.
        num_scales: How many windows.
    """
    nested = windows(size, num_scales, ZOOM)
    widest = nested[-1].width
    padded = functional.pad(images, [widest] * 4)
    height, width = images.shape[-2:]
    found: list[list[Tensor]] = [[] for _ in nested]
    for image, (x, y) in zip(padded, location.tolist(), strict=True):
        left = round(to_pixels(x, width) + widest / 2)
        top = round(to_pixels(y, height) + widest / 2)
        for patches, (offset, side) in zip(found, nested, strict=True):
            patches.append(image[:, top + offset : top + offset + side, left + offset : left + offset + side])
    pooled = [functional.avg_pool2d(torch.stack(patches), nested[at].width // size) for at, patches in enumerate(found)]
    return torch.stack(pooled, dim=1)


def ways_to_cut(batch: int, side: int, size: int, num_scales: int) -> dict[str, Callable[[], Tensor]]:
    """Each way to cut the same glimpses out of the same images.

    Args:
        batch: How many images.
        side: Of the square grey images, pixels.
        size: Side of every pooled scale, pixels.
        num_scales: How many windows.
    """
    location = whole_locations(batch, side, size, num_scales)
    stored = torch.randint(0, 256, (batch, 1, side, side), generator=torch.Generator().manual_seed(1)).byte()
    images = stored.float() / PIXEL_MAX
    return {
        OURS: lambda: extract_glimpse(images, location, size, num_scales, ZOOM),
        "extract_glimpse, uint8": lambda: extract_glimpse(stored, location, size, num_scales, ZOOM),
        "grid_sample, nearest": lambda: by_grid_sample(images, location, size, num_scales, "nearest"),
        "grid_sample, bilinear": lambda: by_grid_sample(images, location, size, num_scales, "bilinear"),
        "loop over the batch": lambda: by_loop(images, location, size, num_scales),
    }


def crops(batch: int, side: int, size: int, num_scales: int, repetitions: int, seconds: float) -> dict[str, Any]:
    """Time every way to cut, on one thread.

    Args:
        batch: How many images.
        side: Of the square grey images, pixels.
        size: Side of every pooled scale, pixels.
        num_scales: How many windows.
        repetitions: Samples of each way.
        seconds: CPU time of a sample.
    """
    with threads(1), torch.no_grad():
        samples = interleave(ways_to_cut(batch, side, size, num_scales), repetitions, seconds)
    return {
        "batch": batch,
        "image": side,
        "size": size,
        "scales": num_scales,
        "ways": [
            {
                "way": name,
                "times_ours": taken.over(samples[OURS]),
                "times_ours_wall": taken.over(samples[OURS], "wall"),
                "cpu_microseconds": taken.median() * 1e6,
                "wall_microseconds": taken.median("wall") * 1e6,
            }
            for name, taken in samples.items()
        ],
    }


def one_glimpse(
    sides: tuple[int, ...], size: int, num_scales: int, repetitions: int, seconds: float
) -> list[dict[str, Any]]:
    """Time one glimpse at one square grey uint8 image, for images of several sizes, on one thread.

    Args:
        sides: Of the images, pixels; the first is what the others are compared with.
        size: Side of every pooled scale, pixels.
        num_scales: How many windows.
        repetitions: Samples of each size.
        seconds: CPU time of a sample.
    """
    with threads(1), torch.no_grad():
        samples = interleave(
            {str(side): _wandering_glimpse(side, size, num_scales) for side in sides}, repetitions, seconds
        )
    return [_size_row(side, samples[str(side)], samples[str(sides[0])]) for side in sides]


def _size_row(side: int, taken: Samples, smallest: Samples) -> dict[str, Any]:
    return {
        "image": side,
        "times_smallest": taken.over(smallest),
        "times_smallest_wall": taken.over(smallest, "wall"),
        "cpu_microseconds": taken.median() * 1e6,
        "wall_microseconds": taken.median("wall") * 1e6,
    }


def _wandering_glimpse(side: int, size: int, num_scales: int) -> Callable[[], Shaped[Tensor, "..."]]:
    """A glimpse that is cut somewhere else at each call, so that no cache holds what it needs."""
    image = torch.randint(0, 256, (1, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    places = whole_locations(256, side, size, num_scales).split(1)
    calls = 0

    def look() -> Tensor:
        nonlocal calls
        calls += 1
        return extract_glimpse(image, places[calls % len(places)], size, num_scales, ZOOM)

    return look
