"""Attribution maps: implicit attention by the Jacobian, and explicit attention as a map over the image's pixels.

A model's *implicit* attention is how much each pixel would change an output: the Jacobian of that output with respect
to the image (Simonyan et al. 2014), for any model, with or without an attention mechanism. The *function* that is
explained maps images, floats in [0, 1], to a row of outputs for each image: logits, log-probabilities, or others. It is
always called with the whole batch in its order, so that it may keep something fixed for each image, such as the
fixations of a hard model. It must not mix images: the outputs of an image must not depend on the other images of the
batch, as they would under batch normalisation in training mode.
"""

from collections.abc import Callable
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from glimpse.images.geometry import to_pixels

Function = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch outputs"]]

CENTRE_WIDTH = 0.25
"""Standard deviation of the centre map, as a share of the image's shorter side."""


def jacobian(
    function: Function, images: Float[Tensor, "batch channels height width"], outputs: Int64[Tensor, " batch"]
) -> Float[Tensor, "batch channels height width"]:
    """Differentiate one output of each image with respect to its pixels, exactly, in one backward pass.

    Simonyan, Vedaldi, Zisserman 2014, equation 4: ``w = dS_c / dI``, one row of the Jacobian. Rows of different images
    come from the same pass, for the sum of the outputs has each image's row as its derivative so long as the function
    does not mix images.

    Args:
        function: Maps images to a row of outputs each, without mixing images.
        images: Pixels in [0, 1].
        outputs: Index of the explained output, for each image.

    Returns:
        Change of the output for each unit of a pixel.

    Raises:
        ValueError: When the function's outputs aren't a row for each image, have no such output, or do not depend on
            the images in a way that can be differentiated.
    """
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        values = _outputs(function, pixels)
        _check_choice(values, outputs)
        return _gradient(values.gather(1, outputs.unsqueeze(1)).sum(), pixels)


def full_jacobian(
    function: Function, image: Float[Tensor, "channels height width"]
) -> Float[Tensor, "outputs channels height width"]:
    """Differentiate every output of one image with respect to its pixels, exactly, in a backward pass for each output.

    Args:
        function: Maps images to a row of outputs each; called with a batch of this one image.
        image: Pixels in [0, 1].

    Raises:
        ValueError: As :func:`jacobian`.
    """
    with torch.enable_grad():
        pixels = image.detach().unsqueeze(0).requires_grad_()
        values = _outputs(function, pixels)
        return torch.cat([_gradient(value, pixels) for value in values[0]])


def smoothed(
    function: Function,
    images: Float[Tensor, "batch channels height width"],
    outputs: Int64[Tensor, " batch"],
    samples: int = 32,
    noise: float = 0.15,
    seed: int = 0,
) -> Float[Tensor, "batch channels height width"]:
    """Average the Jacobian's row over noisy copies of each image.

    SmoothGrad, Smilkov et al. 2017: ``1/n sum_i M_c(x + e_i)`` with ``e_i`` normal. Noisy pixels may leave [0, 1].
    Every image gets the same noise, so that its map is the same alone, in any batch and in any order.

    Args:
        function: Maps images to a row of outputs each, without mixing images; called once for each sample.
        images: Pixels in [0, 1].
        outputs: Index of the explained output, for each image.
        samples: Noisy copies of each image, at least 1.
        noise: Standard deviation of the noise, in units of a pixel's range.
        seed: Fixes the noise, on every device; torch's own random state is left as it was.

    Raises:
        ValueError: As :func:`jacobian`, and when there are no samples or the noise is negative.
    """
    if samples < 1 or noise < 0:
        raise ValueError(f"expected at least 1 sample and noise of at least 0, got samples={samples}, noise={noise}")
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(images, dtype=torch.promote_types(images.dtype, torch.float32))
    for _ in range(samples):
        drawn = torch.randn(images.shape[1:], generator=generator)
        total += jacobian(function, images + noise * drawn.to(images), outputs)
    return (total / samples).to(images.dtype)


def integrated(
    function: Function,
    images: Float[Tensor, "batch channels height width"],
    outputs: Int64[Tensor, " batch"],
    steps: int = 32,
) -> Float[Tensor, "batch channels height width"]:
    """Divide an output among the pixels: the contribution of each, on the straight path from a black image to this one.

    Integrated gradients, Sundararajan et al. 2017, equation 1: ``x * integral_0^1 dF(a x)/dx da``, by Gauss-Legendre
    quadrature. The shares of an image sum to ``F(x) - F(0)`` (completeness), as nearly as the steps allow.

    Args:
        function: Maps images to a row of outputs each, without mixing images; called once for each step, and once
            before for checks.
        images: Pixels in [0, 1].
        outputs: Index of the explained output, for each image.
        steps: Number of images on the path, at least 1.

    Returns:
        Each pixel's share, in units of the output. A black pixel has none.

    Raises:
        ModuleNotFoundError: When captum is not installed.
        ValueError: As :func:`jacobian`, and when there are no steps.
    """
    if steps < 1:
        raise ValueError(f"expected at least 1 step, got {steps}; raise it")
    attr = _captum()
    jacobian(function, images, outputs)  # so that it raises the same errors
    with torch.enable_grad():
        shares: Tensor = attr.IntegratedGradients(function).attribute(
            images.detach().requires_grad_(),
            baselines=0.0,
            target=outputs,
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=len(images),
        )
    return shares.detach()


def saliency(gradients: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch height width"]:
    """Turn gradients, or shares of an output, into a map: sizes summed over the channels, each map summing to one.

    Where all gradients are zero, all pixels have the same weight.
    """
    return _normalised(gradients.abs().float().sum(1))


def resize_map(
    maps: Float[Tensor, "*batch map_height map_width"], height: int, width: int
) -> Float[Tensor, "*batch {height} {width}"]:
    """Resize maps of cells to an image's pixels, bilinearly; each map keeps its sum.

    Cells and pixels cover the same area (``align_corners=False``). A map finer than the image is averaged down. The
    arithmetic is done in double precision, so that a flat map stays exactly flat.

    Args:
        maps: Weights of the cells, not negative.
        height: The image's height, pixels.
        width: The image's width, pixels.

    Returns:
        float32.
    """
    cells = maps.double().reshape(-1, 1, *maps.shape[-2:])
    pixels = F.interpolate(cells, (height, width), mode="bilinear", align_corners=False, antialias=True)
    before, after = cells.sum((2, 3), keepdim=True), pixels.sum((2, 3), keepdim=True)
    scaled = pixels * (before / after.where(after > 0, 1))
    return scaled.float().reshape(*maps.shape[:-2], height, width)


def fixation_density(
    locations: Float[Tensor, "batch time 2"], height: int, width: int, sigma: float
) -> Float[Tensor, "batch {height} {width}"]:
    """Map where fixations lie: a Gaussian around each, all of equal weight, summing to one over image and time.

    A Gaussian that extends beyond the image's edge is cut off there, and the rest is scaled to keep its weight.

    Args:
        locations: Fixations, (x, y) in [-1, 1].
        height: The image's height, pixels.
        width: The image's width, pixels.
        sigma: Standard deviation, pixels.

    Raises:
        ValueError: When sigma is not above 0.
    """
    if not sigma > 0:
        raise ValueError(f"expected a sigma above 0 pixels, got {sigma}; raise it")
    profiles = []
    for unit, length in ((locations[..., 0], width), (locations[..., 1], height)):
        middles = torch.arange(length, device=locations.device) + 0.5
        distances = (middles - to_pixels(unit.float(), length).unsqueeze(-1)) / sigma
        profiles.append((-0.5 * distances.square()).softmax(-1))
    across, down = profiles
    return torch.einsum("bth,btw->bhw", down, across) / locations.shape[1]


def random_map(
    batch: int, height: int, width: int, generator: torch.Generator
) -> Float[Tensor, "{batch} {height} {width}"]:
    """Control: weights drawn uniformly and independently for each pixel, on the generator's device; they sum to one."""
    return _normalised(torch.rand(batch, height, width, generator=generator, device=generator.device))


def centre_map(batch: int, height: int, width: int) -> Float[Tensor, "{batch} {height} {width}"]:
    """Control: a Gaussian at the image's centre, a quarter of the shorter side wide; it sums to one."""
    return fixation_density(torch.zeros(batch, 1, 2), height, width, CENTRE_WIDTH * min(height, width))


def _outputs(function: Function, images: Tensor) -> Tensor:
    values = function(images)
    if values.ndim != 2 or len(values) != len(images):
        raise ValueError(
            f"expected a function that gives each of {len(images)} images a row of outputs, got outputs of shape "
            f"{tuple(values.shape)}; let it return (batch, outputs)"
        )
    return values


def _check_choice(values: Tensor, outputs: Tensor) -> None:
    if int(outputs.min()) < 0 or int(outputs.max()) >= values.shape[1]:
        raise ValueError(
            f"expected outputs from 0 to {values.shape[1] - 1}, got {int(outputs.min())} to {int(outputs.max())}; "
            "choose among those that the function has"
        )


def _gradient(value: Tensor, pixels: Tensor) -> Tensor:
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, pixels, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "expected outputs that can be differentiated with respect to the images, got ones that do not depend on "
            "them; take care that the function neither rounds, detaches nor ignores its images"
        )
    return gradient


def _captum() -> ModuleType:
    """Captum's attributions; imported late, since only the extra ``explain`` brings it."""
    try:
        import captum.attr
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "expected captum to be installed, which integrated gradients need; got none; "
            "install it with: pip install 'glimpse-attention[explain]'",
            name="captum",
        ) from error
    attributions: ModuleType = captum.attr
    return attributions


def _normalised(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    """Scale maps to sum to one; they are divided by their maximum first, so that small weights don't underflow."""
    peak = maps.amax((1, 2), keepdim=True)
    scaled = torch.where(peak > 0, maps / peak.where(peak > 0, 1), 1.0)
    return scaled / scaled.sum((1, 2), keepdim=True)
