"""The retina: a small multi-scale window onto a large image.

Mnih et al., Recurrent Models of Visual Attention (NIPS 2014), section 3.1, the glimpse sensor rho(x, l): several square
patches around one location, each wider than the one before it, all reduced to the resolution of the finest.
"""

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional

from glimpse.images.geometry import window_start, windows

PIXEL_MAX = 255


def fractions(images: Shaped[Tensor, "*shape"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*shape"]:
    """Bring pixels to [0, 1]: bytes take the type given, what is floating point already stays as it is."""
    return images if images.is_floating_point() else images.to(dtype) / PIXEL_MAX


def extract_glimpse(
    images: Shaped[Tensor, "batch channels height width"],
    location: Float[Tensor, "batch 2"],
    size: int,
    num_scales: int,
    zoom: int,
) -> Float[Tensor, "batch scales channels size size"]:
    """Cut one multi-scale glimpse out of every image.

    It is the same function as :func:`glimpse.images.crop.extract_glimpse`, which computes with numpy.

    The widest window is gathered once; the finer ones are its middle, and each is average-pooled to the same size. The
    cost depends on the window, never on the image: pixels are cut before they are pooled, scaled or cast.

    Args:
        images: uint8 in [0, 255], or floating point in [0, 1].
        location: Middle of the glimpse, (x, y) in [-1, 1]. It gets no gradient: the cut is in whole pixels.
        size: Side of the finest window and of every pooled scale, pixels.
        num_scales: How many windows.
        zoom: How many times wider each window is than the one before it.

    Returns:
        Pixels in [0, 1], finest scale first; 0 where a window hangs over the image's edge.

    Raises:
        ValueError: When the size, the number of scales or the zoom is below 1.
    """
    nested = windows(size, num_scales, zoom)
    widest = nested[-1].width
    height, width = images.shape[-2:]
    columns = _span(location[:, 0], width, widest)
    rows = _span(location[:, 1], height, widest)
    near_rows, near_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    places = (near_rows * width).unsqueeze(2) + near_columns.unsqueeze(1)
    gathered = images.flatten(2).gather(2, places.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1))
    window = gathered.unflatten(2, (widest, widest))
    # Rows and columns beyond the edge are multiplied by 0, and bytes brought to [0, 1], in the same two products.
    unit, dtype = (1 / PIXEL_MAX, torch.float32) if images.dtype == torch.uint8 else (1.0, images.dtype)
    row_weight = (near_rows == rows).to(dtype) * unit
    column_weight = (near_columns == columns).to(dtype)
    pixels = window * row_weight[:, None, :, None] * column_weight[:, None, None, :]
    scales = []
    for offset, side in nested:
        patch = pixels[:, :, offset : offset + side, offset : offset + side]
        scales.append(functional.avg_pool2d(patch, side // size) if side > size else patch)
    return torch.stack(scales, dim=1)


def _span(unit: Float[Tensor, " batch"], length: int, width: int) -> Int64[Tensor, "batch width"]:
    """Row or column numbers that a window covers, negative or too large where it hangs over the edge."""
    start: Tensor = window_start(unit, length, width).long()
    return start.unsqueeze(1) + torch.arange(width, device=unit.device)


class Retina(nn.Module):
    """A retina of fixed shape; see :func:`extract_glimpse`.

    Args:
        size: Side of a glimpse in pixels, the same at every scale.
        num_scales: Windows in a glimpse.
        zoom: How many times wider each window is than the one before it.

    Raises:
        ValueError: When one of them is below 1.
    """

    def __init__(self, size: int, num_scales: int = 1, zoom: int = 2) -> None:
        super().__init__()
        windows(size, num_scales, zoom)
        self.size = size
        self.num_scales = num_scales
        self.zoom = zoom

    def forward(
        self,
        images: Shaped[Tensor, "batch channels height width"],
        location: Float[Tensor, "batch 2"],
    ) -> Float[Tensor, "batch scales channels size size"]:
        """Cut the glimpses; shapes, units and ranges as in :func:`extract_glimpse`."""
        return extract_glimpse(images, location, self.size, self.num_scales, self.zoom)

    @property
    def num_pixels(self) -> int:
        """Pixels sensed by one glimpse, per channel."""
        return self.num_scales * self.size**2
