"""Augmentation of training images: a whole batch at once, each image with random numbers of its own.

Moves, sizes, turns and crops of an image are one affine map, so that its pixels are interpolated once. The changes are
those of ``torchvision.transforms.v2``, which draws from the global generator and changes a batch's images all alike.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from glimpse.data.share import drawn_for
from glimpse.errors import Argument, ArgumentError

GREY = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in the grey that a colour is as bright as (ITU-R BT.601)."""
CHUNK = 16
"""Images that are changed at once, so that the numbers in between stay in the processor's cache."""


@dataclass(frozen=True)
class AugmentationPolicy:
    """How much images are changed at most. Every change is drawn evenly from its range.

    Attributes:
        shift: Move along each axis, as a share of the image's side.
        scale: Factor by which what is seen grows, from its inverse to this one.
        stretch: Width relative to height, from the inverse to this one.
        rotation: Turn in degrees, to either side.
        least_area: Smallest share of the image's area that a random crop keeps; 1 for no crop.
        brightness: Relative change of all pixels.
        contrast: Relative change of their distance from the image's mean grey.
        saturation: Relative change of their distance from the grey of the pixel.
    """

    shift: float = 0.0
    scale: float = 1.0
    stretch: float = 1.0
    rotation: float = 0.0
    least_area: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0


AUGMENTATIONS = {
    "none": AugmentationPolicy(),
    "mild": AugmentationPolicy(shift=0.06, scale=1.1, rotation=8.0, brightness=0.2, contrast=0.2),
    "strong": AugmentationPolicy(
        shift=0.12, scale=1.3, stretch=1.15, rotation=15.0, brightness=0.4, contrast=0.4, saturation=0.3
    ),
    "photographs": AugmentationPolicy(stretch=4 / 3, least_area=0.35, brightness=0.3, contrast=0.3, saturation=0.3),
}
"""The policies, by name. None of them mirrors an image: for a sign or a letter that may be another class."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    Attributes:
        name: The policy, one of :data:`AUGMENTATIONS`.
        flips: Whether every other image, on average, is mirrored left to right.

    Raises:
        ArgumentError: When there is no such policy; it names a data set's ``augmentation``.
    """

    name: str = "none"
    flips: bool = False

    def __post_init__(self) -> None:
        if self.name not in AUGMENTATIONS:
            raise ArgumentError(
                "expected ",
                Argument("augmentation"),
                f" out of {', '.join(AUGMENTATIONS)}; got {self.name!r}; choose one of them",
            )

    def draw(
        self, images: UInt8[Tensor, "batch channels height width"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch channels height width"]:
        """Change each image of a batch at random.

        Args:
            images: Pixels in [0, 255].
            generator: Where the randomness comes from; on the images' device.

        Returns:
            Images of the same size, pixels in [0, 255]. What lies beyond the edge of an image is its reflection.
        """
        policy = AUGMENTATIONS[self.name]
        if self.flips:
            images = torch.where(_coin(images, generator)[:, None, None, None], images.flip(3), images)
        if policy == AugmentationPolicy():
            return images
        maps = affine_maps(policy, images, generator)
        most = (policy.brightness, policy.contrast, policy.saturation)
        colours = [1 + each * _evenly(images, generator) for each in most]
        chunks = zip(images.split(CHUNK), maps.split(CHUNK), *(each.split(CHUNK) for each in colours), strict=True)
        return torch.cat([recolour(resample(pixels, each), *factors) for pixels, each, *factors in chunks])

    def draw_boxes(
        self,
        images: UInt8[Tensor, "batch channels height width"],
        boxes: Float[Tensor, "batch most 4"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch most 4"]:
        """Move boxes as :meth:`draw` moves their images, given a generator in the same state.

        Args:
            images: The images, as they were given to :meth:`draw`.
            boxes: (left, top, right, bottom), fractions of the image; NaN where there is none.
            generator: Where the randomness comes from.

        Returns:
            The upright boxes around the moved ones, clipped to the image; NaN where nothing of an object is left.
        """
        policy = AUGMENTATIONS[self.name]
        if self.flips:
            left, top, right, bottom = boxes.unbind(-1)
            mirrored = torch.stack((1 - right, top, 1 - left, bottom), -1)
            boxes = torch.where(_coin(images, generator)[:, None, None], mirrored, boxes)
        if policy == AugmentationPolicy():
            return boxes
        maps = affine_maps(policy, images, generator)
        corners = 2 * torch.stack([boxes[..., [x, y]] for x in (0, 2) for y in (1, 3)], 2) - 1
        back = torch.linalg.inv(maps[:, :, :2])  # from places in the old image to places in the new
        moved = torch.einsum("bij,bmkj->bmki", back, corners - maps[:, None, None, :, 2])
        around = (torch.cat((moved.amin(2), moved.amax(2)), -1) + 1) / 2
        clipped = around.clamp(0, 1)
        seen = (clipped[..., 2:] > clipped[..., :2]).all(-1, keepdim=True)
        return torch.where(seen, clipped, torch.nan)


def affine_maps(
    policy: AugmentationPolicy, images: UInt8[Tensor, "batch channels height width"], generator: torch.Generator
) -> Float[Tensor, "batch 2 3"]:
    """Draw where each image's pixels are read: from (x, y, 1) in the new image to (x, y) in the old, both in [-1, 1].

    Args:
        policy: How far from the identity they may be.
        images: The images.
        generator: Where the randomness comes from.
    """
    height, width = images.shape[2:]
    stretch = math.log(policy.stretch) / 2 * _evenly(images, generator)
    size = math.log(policy.scale) * _evenly(images, generator)
    area = 1 - (1 - policy.least_area) * (_evenly(images, generator) + 1) / 2
    across, down = ((sign * stretch - size).exp() * area.sqrt() for sign in (1, -1))
    if policy.least_area < 1:
        # A crop lies within the image, at a random place.
        across, down = across.clamp(max=1), down.clamp(max=1)
    free = [(1 - side).clamp(min=0) if policy.least_area < 1 else 2 * policy.shift for side in (across, down)]
    right, below = (most * _evenly(images, generator) for most in free)
    angle = math.radians(policy.rotation) * _evenly(images, generator)
    cosine, sine = angle.cos(), angle.sin()
    rows = (
        torch.stack([across * cosine, -down * sine * height / width, right], 1),
        torch.stack([across * sine * width / height, down * cosine, below], 1),
    )
    return torch.stack(rows, 1)


def resample(
    images: UInt8[Tensor, "batch channels height width"], maps: Float[Tensor, "batch 2 3"]
) -> Float[Tensor, "batch channels height width"]:
    """Read each image through its affine map, between pixels by bilinear interpolation.

    Args:
        images: Pixels in [0, 255].
        maps: See :func:`affine_maps`.
    """
    height, width = images.shape[2:]
    x = (2 * torch.arange(width, device=images.device) + 1) / width - 1
    y = (2 * torch.arange(height, device=images.device) + 1) / height - 1
    by_x, by_y, moved = maps[:, None, None].unbind(-1)
    places = by_x * x[:, None] + (by_y * y[:, None, None] + moved)
    read: Tensor = functional.grid_sample(images.float(), places, padding_mode="reflection", align_corners=False)
    return read


def recolour(
    pixels: Float[Tensor, "batch channels height width"],
    brightness: Float[Tensor, " batch"],
    contrast: Float[Tensor, " batch"],
    saturation: Float[Tensor, " batch"],
) -> UInt8[Tensor, "batch channels height width"]:
    """Change brightness, contrast and, of colour images, saturation, in this order.

    Args:
        pixels: In [0, 255].
        brightness: What each image's pixels are multiplied by.
        contrast: What their distance from the image's mean grey is multiplied by.
        saturation: What their distance from their own grey is multiplied by.
    """
    channels = pixels.shape[1]
    grey = pixels.new_tensor(GREY if channels == len(GREY) else [1 / channels] * channels)
    mean = pixels.mean((2, 3)) @ grey
    factor, offset = brightness * contrast, brightness * (1 - contrast) * mean
    changed = pixels * factor[:, None, None, None] + offset[:, None, None, None]
    if channels == len(GREY):
        shades = torch.einsum("bchw,c->bhw", changed, grey).unsqueeze(1)
        changed = torch.lerp(shades, changed, saturation[:, None, None, None])
    return changed.round_().clamp_(0, 255).to(torch.uint8)


def _evenly(images: Tensor, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """One number in [-1, 1) for each image."""
    rows = torch.empty(len(images), device=images.device)
    drawn = drawn_for(generator, rows, lambda whole: torch.rand(len(whole), generator=generator, device=whole.device))
    return drawn * 2 - 1


def _coin(images: Tensor, generator: torch.Generator) -> Bool[Tensor, " batch"]:
    return _evenly(images, generator) < 0
