"""Differentiable forms of the two discrete operations of hard attention: cutting a crop, and choosing a cell.

A crop in whole pixels has no gradient with respect to its location. :func:`bilinear_glimpse` interpolates and so has
one; :func:`gaussian_glimpse` blurs, and its gradient depends on a wider surrounding. A choice among cells has no
gradient either: :func:`gumbel_softmax` turns it into weights for the :func:`grid_glimpses` at those cells (relaxed
glimpse = sum over c of weight_c * glimpse_c).
"""

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn import functional

from glimpse.images.geometry import boxes, to_pixels, window_start, windows
from glimpse.nn.retina import extract_glimpse, fractions

# Distance outside the image, in sigmas, from which on a Gaussian filter is faded out.
FADING = 5.0


def bilinear_glimpse(
    images: Shaped[Tensor, "batch channels height width"],
    location: Float[Tensor, "batch 2"],
    size: int,
    num_scales: int,
    zoom: int,
) -> Float[Tensor, "batch scales channels size size"]:
    """Cut one multi-scale glimpse out of every image at a sub-pixel place, by bilinear interpolation.

    Jaderberg et al., Spatial Transformer Networks (NIPS 2015), equation 5. Its kernel max(0, 1 - |x - m|) is separable
    and, on a grid as fine as the image, the same at every place of a window. So one window, a pixel wider than the
    widest, is cut in whole pixels and blended with itself a pixel further along each axis; pooling then averages over
    the zoom**k bilinear taps along each axis. As with the hard cut, the cost does not depend on the image's size.

    Where the location puts the widest window on whole pixels, this is :func:`glimpse.nn.retina.extract_glimpse`;
    between them that function rounds to the nearest, the upper one on a tie, and this one blends the two. Smaller
    windows keep their whole-pixel offsets from the widest one, hence lie half a pixel left of and above the location
    where the widths differ by an odd number.

    Args:
        images: uint8 in [0, 255], or floating point in [0, 1].
        location: Middle of the glimpse, (x, y) in [-1, 1]. It gets the gradient of equations 6 and 7; on whole pixels,
            where interpolation has a kink, that is the slope to the right of it and below.
        size: Side of the finest window and of every pooled scale, pixels.
        num_scales: Number of windows.
        zoom: How many times wider each window is than the one before it.

    Returns:
        Pixels in [0, 1], finest scale first; beyond the image's edge all is 0.

    Raises:
        ValueError: When the size, the number of scales or the zoom is below 1.
    """
    nested = windows(size, num_scales, zoom)
    widest = nested[-1].width
    location = _exact(location)
    # A window one pixel wider, with the same middle, starts at the whole pixel at or before the sub-pixel start.
    window = extract_glimpse(images, location.detach(), widest + 1, 1, 1).squeeze(1)
    right = _fraction(location[:, 0], images.shape[-1], widest).to(window.dtype)[:, None, None, None]
    down = _fraction(location[:, 1], images.shape[-2], widest).to(window.dtype)[:, None, None, None]
    pixels = torch.lerp(window[:, :, :-1], window[:, :, 1:], down)
    pixels = torch.lerp(pixels[..., :-1], pixels[..., 1:], right)
    scales = []
    for offset, side in nested:
        patch = pixels[:, :, offset : offset + side, offset : offset + side]
        scales.append(functional.avg_pool2d(patch, side // size) if side > size else patch)
    return torch.stack(scales, dim=1)


def _exact(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert half precision to float32, which can distinguish neighbouring pixels of a wide image."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _fraction(unit: Float[Tensor, " batch"], length: int, width: int) -> Float[Tensor, " batch"]:
    """The distance, in [0, 1) pixels, of a window's start from the whole pixel before it; differentiable."""
    fraction: Tensor = to_pixels(unit, length) - width / 2 - window_start(unit.detach(), length, width + 1)
    return fraction


def gaussian_glimpse(
    images: Shaped[Tensor, "batch channels height width"],
    location: Float[Tensor, "batch 2"],
    size: int,
    num_scales: int,
    zoom: int,
    sigma: float | Float[Tensor, " batch"],
    stride: float | Float[Tensor, " batch"] = 1.0,
) -> Float[Tensor, "batch scales channels size size"]:
    """Read one multi-scale glimpse out of every image through grids of Gaussian filters.

    Gregor et al., DRAW: A Recurrent Neural Network for Image Generation (ICML 2015), equation 27 without its gain: the
    patch is F_Y x F_X^T, for each scale with a bank of its own (see :func:`filter_bank`), whose stride and sigma are
    ``zoom**k`` times the finest. The cost is that of two matrix products with the whole image.

    The grids have the middles of the windows of :func:`bilinear_glimpse`. At stride 1 and sigma towards 0, the finest
    scale tends to the hard cut wherever that lies on whole pixels. Coarser scales do not: they tend to samples of
    single pixels (means of the two nearest along each axis, where zoom is even), not to means over ``zoom**k``. A sigma
    of sqrt(1 / 12) = 0.29 gives a wide filter the variance of such a mean. Beyond the image's edge a filter shows the
    pixels at the edge, and black only from about five sigmas on.

    Args:
        images: uint8 in [0, 255], or floating point in [0, 1].
        location: Middle of the glimpse, (x, y) in [-1, 1].
        size: Filters along each axis, the same at every scale.
        num_scales: Number of filter banks.
        zoom: How many times wider the grid of each scale is than the one before it.
        sigma: Standard deviation of the filters in pixels of each scale's grid at stride 1, that is ``sigma * zoom**k``
            pixels of the image; above 0.
        stride: Distance between neighbouring filters, in the same unit; above 0.

    Returns:
        Means of pixels, in [0, 1], finest scale first. The location, sigma and stride get gradient.

    Raises:
        ValueError: When the size, the number of scales or the zoom is below 1, or sigma or stride is not above 0.
    """
    nested = windows(size, num_scales, zoom)
    location = _exact(location)
    pixels = fractions(images)
    factors = torch.tensor([side / size for _, side in nested], dtype=location.dtype, device=location.device)
    middles = torch.tensor([offset + side / 2 for offset, side in nested], dtype=location.dtype, device=location.device)

    def bank(unit: Float[Tensor, " batch"], length: int) -> Float[Tensor, "batch scales size length"]:
        centres = (to_pixels(unit, length) - nested[-1].width / 2).unsqueeze(1) + middles
        strides, sigmas = ((_per_image(value, unit).unsqueeze(1) * factors).flatten() for value in (stride, sigma))
        filters = filter_bank(centres.flatten(), strides, sigmas, size, length).to(pixels.dtype)
        return filters.view(*centres.shape, size, length)

    columns, rows = bank(location[:, 0], images.shape[-1]), bank(location[:, 1], images.shape[-2])
    read = rows.flatten(1, 2).unsqueeze(1) @ pixels
    patches: Tensor = read.unflatten(2, (num_scales, size)) @ columns.unsqueeze(1).mT
    return patches.transpose(1, 2)


def filter_bank(
    centre: Float[Tensor, " batch"],
    stride: float | Float[Tensor, " batch"],
    sigma: float | Float[Tensor, " batch"],
    count: int,
    length: int,
) -> Float[Tensor, "batch count length"]:
    """Gaussian filters at regular distances along one axis of an image.

    Gregor et al. (DRAW, 2015), equations 19 and 20 for the means, mu_i = centre + (i - count / 2 - 0.5) * stride with i
    from 1, and 25 and 26 for the filters, F[i, a] = exp(-(a - mu_i)**2 / (2 sigma**2)) / Z_i. Pixel a has its middle at
    a + 0.5 with a from 0, as everywhere in this library; the paper numbers pixels from 1, half a pixel further.

    Z_i makes each filter sum to one over the image's pixels, however narrow it is. Z_i of a filter wholly outside
    tends to 0, and the paper divides by it. Here a filter is faded out once its value at the image's nearest pixel is
    below exp(-5**2 / 2) of that at the nearest pixel of an endless row: a wide filter from about five sigmas beyond the
    last pixel on, a narrow one as soon as it leaves the image.

    Args:
        centre: Middle of the grid in pixels, [0, length] from the image's left or upper edge.
        stride: Distance between neighbouring filters, pixels; above 0.
        sigma: Their standard deviation, pixels; above 0.
        count: Number of filters.
        length: The image's extent along the axis, pixels.

    Raises:
        ValueError: When stride or sigma is not above 0, or count or length is below 1.
    """
    if count < 1 or length < 1:
        raise ValueError(f"expected at least 1 filter and 1 pixel, got count={count}, length={length}; raise them")
    _check_positive("stride", stride)
    _check_positive("sigma", sigma)
    centre = _exact(centre)
    steps = torch.arange(count, device=centre.device) - (count - 1) / 2
    means = centre.unsqueeze(1) + steps * _per_image(stride, centre).unsqueeze(1)
    width = _per_image(sigma, centre)[:, None, None]
    pixels = torch.arange(length, device=centre.device) + 0.5
    filters = -((pixels - means.unsqueeze(2)) / width).square() / 2
    return filters.softmax(2) * _fade(means - 0.5, width.squeeze(2), length).unsqueeze(2)


def _fade(
    places: Float[Tensor, "batch count"], sigma: Float[Tensor, "batch 1"], length: int
) -> Float[Tensor, "batch count"]:
    """The factors, in [0, 1], by which filters around these places are faded out.

    Places are in pixels from the middle of the first pixel.
    """
    nearest = places.detach().round()
    beyond, within = places - nearest.clamp(0, length - 1), places - nearest
    # A difference of squares as a product: exactly 0 inside the image, where a tiny sigma would magnify its rounding.
    drop = (beyond - within) / sigma * ((beyond + within) / sigma) / 2
    return (FADING**2 / 2 - drop).clamp(max=0).exp()


def _per_image(value: float | Float[Tensor, " batch"], like: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Expand one value for all images to one for each; one for each stays as it is."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand_as(like)


def _check_positive(name: str, value: float | Float[Tensor, " batch"]) -> None:
    """Reject values that are not above 0, NaN included."""
    if not torch.as_tensor(value).gt(0).all():
        least = torch.as_tensor(value).min().item()
        raise ValueError(f"expected a {name} above 0, got {least:g}; raise it, or learn its logarithm")


def gumbel_softmax(
    scores: Float[Tensor, "*batch cells"],
    temperature: float,
    generator: torch.Generator | None = None,
    hard: bool = False,
) -> Float[Tensor, "*batch cells"]:
    """Draw a relaxed one-hot choice.

    Jang et al., Categorical Reparameterization with Gumbel-Softmax (ICLR 2017), equation 2, and Maddison et al., The
    Concrete Distribution (ICLR 2017): softmax((scores + g) / temperature), g standard Gumbel noise. The largest weight
    falls on a cell with the probability that the softmax of the scores gives it, whatever the temperature.

    Args:
        scores: Unnormalised log-probabilities; -inf for a cell that can't be chosen.
        temperature: Above 0. Towards 0 a sample becomes one-hot, and its gradient's variance grows.
        generator: Source of the noise, on the device of the scores; None takes torch's own.
        hard: Return the one-hot vector of the largest weight, with the gradient of the weights (straight-through).

    Returns:
        Weights that sum to one, in the type of the scores. Half precision is computed in float32.

    Raises:
        ValueError: When the temperature is not above 0.
    """
    _check_positive("temperature", temperature)
    exact = _exact(scores)
    noise = exact.new_empty(exact.shape).exponential_(generator=generator)
    perturbed = exact - noise.clamp(min=torch.finfo(noise.dtype).tiny).log()
    # The largest is subtracted before the division, which therefore can't overflow at low temperatures.
    largest = perturbed.detach().amax(-1, keepdim=True)
    soft = ((perturbed - largest) / temperature).softmax(-1)
    if not hard:
        return soft.to(scores.dtype)
    one_hot = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return (one_hot + (soft - soft.detach())).to(scores.dtype)


def grid_glimpses(
    images: Shaped[Tensor, "batch channels height width"],
    centres: Float[Tensor, "cells 2"],
    size: int,
    num_scales: int,
    zoom: int,
) -> Float[Tensor, "batch cells scales channels size size"]:
    """Cut the hard glimpse out of every image at each of several fixed places.

    Each glimpse equals that of :func:`glimpse.nn.retina.extract_glimpse`. The places are the same for all images, so
    every block of pixels that any glimpse pools is averaged once, by two matrix products a scale, and the glimpses are
    gathered from these averages. The cost grows with the image's size and, for places on a grid, hardly with their
    overlap.

    Args:
        images: uint8 in [0, 255], or floating point in [0, 1].
        centres: Middles of the glimpses, (x, y) in [-1, 1]. They get no gradient.
        size: Side of the finest window and of every pooled scale, pixels.
        num_scales: Number of windows.
        zoom: How many times wider each window is than the one before it.

    Returns:
        Pixels in [0, 1], finest scale first; 0 where a window hangs over the image's edge.

    Raises:
        ValueError: When the size, the number of scales or the zoom is below 1.
    """
    pixels = fractions(images)
    height, width = images.shape[-2:]
    pooled, places, known = [], [], 0
    for box, (_, side) in zip(
        boxes(_exact(centres), height, width, size, num_scales, zoom), windows(size, num_scales, zoom), strict=True
    ):
        block = side // size
        in_rows, row = _blocks(box.top, size, block, height)
        in_columns, column = _blocks(box.left, size, block, width)
        sums = in_rows.to(pixels.dtype) @ (pixels @ in_columns.to(pixels.dtype).T)
        pooled.append((sums / block**2).flatten(2))
        places.append(known + row.unsqueeze(2) * len(in_columns) + column.unsqueeze(1))
        known += pooled[-1].shape[2]
    place = torch.stack(places, dim=1)
    glimpses: Tensor = torch.cat(pooled, dim=2).index_select(2, place.flatten()).unflatten(2, place.shape)
    return glimpses.permute(0, 2, 3, 1, 4, 5)


def _blocks(
    starts: Float[Tensor, " cells"], size: int, block: int, length: int
) -> tuple[Bool[Tensor, "blocks length"], Int64[Tensor, "cells size"]]:
    """The pixels along one axis in every distinct block, as a mask, and the blocks in every cell's window."""
    first = starts.long().unsqueeze(1) + block * torch.arange(size, device=starts.device)
    distinct, held = first.unique(return_inverse=True)
    within = torch.arange(length, device=starts.device) - distinct.unsqueeze(1)
    return (within >= 0) & (within < block), held
