"""Canvases: digits at random places among clutter, drawn for a whole batch at once, on whatever device holds it.

Mnih et al. 2014, section 4.1: *translated* digits lie at a uniformly random place on a black canvas; *cluttered* ones
besides have pieces, 8x8 sub-patches of other random images, at random places. Everything is combined by maximum.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from glimpse.data.share import drawn_for
from glimpse.errors import Argument, ArgumentError, Setting


@dataclass(frozen=True)
class Canvas:
    """How a canvas is drawn.

    Attributes:
        height: Of the canvas, pixels.
        width: Of the canvas, pixels.
        num_pieces: Pieces of clutter.
        piece_size: Side of a piece, pixels.

    Raises:
        ArgumentError: When the canvas has no pixels or the pieces have none.
    """

    height: int
    width: int
    num_pieces: int = 0
    piece_size: int = 8

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.piece_size) < 1 or self.num_pieces < 0:
            raise ArgumentError(
                "expected a canvas and pieces of at least 1 pixel and a count of pieces that isn't negative; got "
                f"height={self.height}, width={self.width}, ",
                Setting("num_pieces", self.num_pieces),
                ", ",
                Setting("piece_size", self.piece_size),
            )

    def boxes(self, batch: int, height: int, width: int, generator: torch.Generator) -> Int64[Tensor, "batch 4"]:
        """Choose where the images lie, each place as likely as any other.

        These are the first random numbers of :meth:`draw`: from a generator in the same state it lays the images into
        the same boxes.

        Args:
            batch: How many images.
            height: Of an image, pixels.
            width: Of an image, pixels.
            generator: Where the randomness comes from.

        Returns:
            Boxes in pixels of the canvas, (left, top, right, bottom), on the generator's device.

        Raises:
            ArgumentError: When the canvas is smaller than the images; it names a data set's ``canvas_height`` and
                ``canvas_width``.
        """
        if height > self.height or width > self.width:
            raise ArgumentError(
                f"expected a canvas of at least {height}x{width} pixels, the images' size, got "
                f"{self.height}x{self.width}; enlarge ",
                Argument("canvas_height"),
                " and ",
                Argument("canvas_width"),
            )
        top = _uniform(self.height - height + 1, batch, generator)
        left = _uniform(self.width - width + 1, batch, generator)
        return torch.stack([left, top, left + width, top + height], dim=1)

    def draw(
        self,
        images: UInt8[Tensor, "batch channels height width"],
        pool: UInt8[Tensor, "images channels height width"],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "batch channels canvas_height canvas_width"]:
        """Draw one canvas for each image.

        Args:
            images: What is to be found on the canvases.
            pool: Where the clutter is cut from.
            generator: Where the randomness comes from; on the images' device.

        Returns:
            Pixels in [0, 255].

        Raises:
            ArgumentError: When the canvas is smaller than the images, or the images are smaller than a piece.
        """
        batch, channels, height, width = images.shape
        left, top = self.boxes(batch, height, width, generator).unbind(1)[:2]
        if self.num_pieces and (self.piece_size > pool.shape[2] or self.piece_size > pool.shape[3]):
            raise ArgumentError(
                f"expected pieces no larger than the images they are cut from, {pool.shape[2]}x{pool.shape[3]} pixels, "
                "got ",
                Setting("piece_size", self.piece_size),
                "; lower it",
            )
        canvas = images.new_zeros(batch, channels, self.height * self.width)
        _paste(canvas, images.flatten(2), _places(top, left, height, width, self.width))
        size = self.piece_size
        for _ in range(self.num_pieces):
            source = _uniform(len(pool), batch, generator)
            cut_top = _uniform(pool.shape[2] - size + 1, batch, generator)
            cut_left = _uniform(pool.shape[3] - size + 1, batch, generator)
            cut = _places(cut_top, cut_left, size, size, pool.shape[3])
            pieces = pool.flatten(2)[source[:, None], :, cut].transpose(1, 2)
            top = _uniform(self.height - size + 1, batch, generator)
            left = _uniform(self.width - size + 1, batch, generator)
            _paste(canvas, pieces, _places(top, left, size, size, self.width))
        drawn: Tensor = canvas.unflatten(2, (self.height, self.width))
        return drawn


def _uniform(below: int, batch: int, generator: torch.Generator) -> Int64[Tensor, " batch"]:
    rows = torch.empty(batch, device=generator.device)
    return drawn_for(
        generator, rows, lambda rows: torch.randint(below, (len(rows),), generator=generator, device=rows.device)
    )


def _places(
    top: Int64[Tensor, " batch"],
    left: Int64[Tensor, " batch"],
    height: int,
    width: int,
    stride: int,
) -> Int64[Tensor, "batch pixels"]:
    """Numbers of a box's pixels in an image whose rows are ``stride`` pixels long, row by row."""
    rows: Tensor = top[:, None, None] + torch.arange(height, device=top.device)[:, None]
    columns = left[:, None, None] + torch.arange(width, device=left.device)
    return (rows * stride + columns).flatten(1)


def _paste(
    canvas: UInt8[Tensor, "batch channels canvas_pixels"],
    pixels: UInt8[Tensor, "batch channels pixels"],
    places: Int64[Tensor, "batch pixels"],
) -> None:
    """Lay pixels onto the canvas in place, by maximum."""
    index = places.unsqueeze(1).expand(-1, canvas.shape[1], -1)
    canvas.scatter_(2, index, torch.maximum(canvas.gather(2, index), pixels))


def jittered(
    images: UInt8[Tensor, "batch channels height width"], most: int, generator: torch.Generator
) -> UInt8[Tensor, "batch channels height width"]:
    """Move each image by up to some pixels along each axis; what comes into view is black."""
    height, width = images.shape[2:]
    wide = Canvas(height + 2 * most, width + 2 * most).draw(images, images, generator)
    return wide[:, :, most : most + height, most : most + width].contiguous()
