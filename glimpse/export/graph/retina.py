"""The retina as ONNX nodes: the same crops as :mod:`glimpse.nn.retina`.

There are three forms, which tests compare with the retina:

- ``pad``, for a single image: a ``Pad`` crops the window, by negative numbers inside the image, by positive ones where
  the window extends beyond its edge. It takes one window at a time, and its numbers must lie in the processor's memory.
- ``gather``, for any batch and every device: the pixels of the windows are gathered by their indices, and those beyond
  the edge are multiplied by zero. In this form and in ``pad``, no node reads an image as a whole.
- ``border``, for any batch on a processor: the images get a black border as wide as a window, once, so that every index
  is one of a pixel. A glimpse then needs nearly as few nodes as with ``pad``; the images are copied once. They can't be
  parts of larger ones.
"""

from dataclasses import dataclass

import numpy as np

from glimpse.export.graph.builder import GraphBuilder, onnx_type, value
from glimpse.images.geometry import windows
from glimpse.nn.retina import PIXEL_MAX


@dataclass(frozen=True)
class ImageInput:
    """The images that glimpses are cropped from.

    Attributes:
        images: Name of the images, (batch, channels, height, width).
        dtype: Their type, ``uint8`` or ``float32``.
        channels: How many they have.
        frame: Name of left, top, width and height, float32 (4,), of the images within a larger one; zeros where they
            are part of none, and None where the graph has no such input.
        channels_last: Name of an int64 that is 1 where the channels of a single image lie last in memory; None where
            the graph has no such input.
    """

    images: str
    dtype: str
    channels: int
    frame: str | None = None
    channels_last: str | None = None

    @property
    def unit(self) -> float:
        """The factor that brings the pixels to [0, 1]."""
        return 1 / PIXEL_MAX if self.dtype == "uint8" else 1.0


class RetinaNodes:
    """The nodes of one graph that crop glimpses from images.

    Values that depend on the size of the images alone are computed once, before the first crop.

    Args:
        builder: The graph.
        image_input: The images.
        size: Side of a glimpse in pixels.
        num_scales: Windows in a glimpse.
        zoom: How many times wider each window is than the one before it.
        form: ``pad``, ``gather`` or ``border``.
        shaped: Whether a glimpse must have its five axes; if not, scales and channels may be one axis.
    """

    def __init__(
        self,
        builder: GraphBuilder,
        image_input: ImageInput,
        size: int,
        num_scales: int,
        zoom: int,
        form: str,
        shaped: bool = True,
    ) -> None:
        self.shaped = shaped
        self.image_input, self.size, self.nested, self.form = (
            image_input,
            size,
            windows(size, num_scales, zoom),
            form,
        )
        self.widest = self.nested[-1].width
        self.grid = Grid(builder, image_input, self.widest, form != "gather")
        if form == "pad":
            # At the start of rows and columns, and at their end: by how much the window extends beyond the image.
            beyond = builder("Sub", builder.floats(*(float(self.widest),) * 2), self.grid.own_size)
            if image_input.frame is None:
                self.pads = builder("Concat", builder.floats(0.0, 0.0), beyond, axis=0)
            else:
                origin = builder("Gather", self.grid.origin, builder.integers(1, 0), axis=0)
                self.pads = builder("Concat", origin, builder("Sub", beyond, origin), axis=0)
            self.to_pads = builder.constant([[0, -1, 0, 1], [-1, 0, 1, 0]], np.float32)
        elif form == "border":
            side = self.widest
            border = builder.integers(0, 0, side, side, 0, 0, side, side)
            bordered = builder("Pad", image_input.images, border, builder.constant(0, image_input.dtype))
            self.flat = builder("Reshape", bordered, builder.integers(0, -1))
            shape = builder("Slice", builder("Shape", bordered), builder.integers(2), builder.integers(4))
            height, width = builder.several("Split", (shape, builder.integers(1, 1)), 2, axis=0)
            self.strides = builder("Concat", builder.integers(1), width, axis=0)
            ramp = np.arange(side, 2 * side)
            rows = builder("Mul", builder.constant(ramp[:, None], np.int64), width)
            pixels = builder("Add", rows, builder.constant(ramp, np.int64))
            if image_input.channels > 1:
                numbers = builder.constant(np.arange(image_input.channels).reshape(-1, 1, 1), np.int64)
                pixels = builder("Add", pixels, builder("Mul", numbers, builder("Mul", height, width)))
            self.pixels = builder("Reshape", pixels, builder.integers(1, -1))
        else:
            self.flat = builder("Reshape", image_input.images, builder.integers(0, -1))
            height, width = builder.several(
                "Split",
                (builder("Cast", self.grid.own_size, to=onnx_type(np.int64)), builder.integers(1, 1)),
                2,
                axis=0,
            )
            self.strides = builder(
                "Reshape", builder("Concat", builder.integers(1), width, axis=0), builder.integers(2, 1)
            )
            last = builder(
                "Sub", builder("Gather", self.grid.own_size, builder.integers(1, 0), axis=0), builder.floats(1.0)
            )
            self.last = builder("Reshape", last, builder.integers(2, 1))
            self.ramp = builder.constant(np.arange(self.widest), np.float32)
            if image_input.frame is not None:
                self.ramp = builder("Sub", self.ramp, builder("Reshape", self.grid.origin, builder.integers(2, 1)))
            if image_input.channels > 1:
                numbers = builder.constant(np.arange(image_input.channels).reshape(-1, 1, 1), np.int64)
                self.planes = builder("Mul", numbers, builder("Mul", height, width))

    def __call__(self, builder: GraphBuilder, location: str, clamped: bool = False) -> str:
        """Crop one glimpse from every image.

        Args:
            builder: The graph, or a part of it.
            location: Name of the locations, (batch, 2).
            clamped: Whether they are known to lie within the image, as those of a policy do.

        Returns:
            Name of the pixels, float32 (batch, scales, channels, size, size), in the unit of the images; without
            ``shaped``, scales and channels may be one axis.
        """
        start = self.grid.start(builder, location)
        if self.form == "pad":
            window = self._pad(builder, start)
        elif self.form == "gather":
            window = self._gather(builder, start)
        else:
            window = self._gather_bordered(builder, start if clamped else self._within_border(builder, start))
        scales = [self._pool(builder, window, offset, side) for offset, side in self.nested]
        pixels = scales[0] if len(scales) == 1 else builder("Concat", *scales, axis=1)
        if not self.shaped:
            return pixels
        shape = (len(scales), self.image_input.channels, self.size, self.size)
        return builder("Reshape", pixels, builder.integers(0, *shape))

    def _pad(self, builder: GraphBuilder, start: str) -> str:
        pads = builder("Cast", builder("Gemm", start, self.to_pads, self.pads), to=onnx_type(np.int64))
        black = builder.constant(0, self.image_input.dtype)
        flat = builder("Reshape", pads, builder.integers(4))
        return self._as_float(builder, self._cut(builder, flat, black))

    def _cut(self, builder: GraphBuilder, pads: str, black: str) -> str:
        """The widest window, from either layout of the pixels. Reading planes as pixels copies nothing."""
        image_input, side = self.image_input, self.widest
        if image_input.channels_last is None:
            return builder("Pad", image_input.images, pads, black, builder.integers(2, 3))
        planes, pixels = builder.nested(), builder.nested()
        of_planes = planes("Pad", image_input.images, pads, black, planes.integers(2, 3))
        shape = pixels(
            "Concat", pixels.integers(1), self.grid.own_length, pixels.integers(image_input.channels), axis=0
        )
        window = pixels("Pad", pixels("Reshape", image_input.images, shape), pads, black, pixels.integers(1, 2))
        of_pixels = pixels("Transpose", window, perm=[0, 3, 1, 2])
        branches = [
            branch.subgraph(name, [value(cut, image_input.dtype, (1, image_input.channels, side, side))])
            for name, branch, cut in (("pixels", pixels, of_pixels), ("planes", planes, of_planes))
        ]
        is_last = builder("Cast", image_input.channels_last, to=onnx_type(np.bool_))
        return builder("If", is_last, then_branch=branches[0], else_branch=branches[1])

    def _gather(self, builder: GraphBuilder, start: str) -> str:
        side, channels = self.widest, self.image_input.channels
        across = builder("Add", builder("Reshape", start, builder.integers(0, 2, 1)), self.ramp)
        inside = builder("Min", builder("Relu", across), self.last)
        has = builder("Cast", builder("Equal", across, inside), to=onnx_type(np.float32))
        halves = builder.integers(1, 1)
        steps = builder("Mul", builder("Cast", inside, to=onnx_type(np.int64)), self.strides)
        columns, rows = builder.several("Split", (steps, halves), 2, axis=1)
        has_columns, has_rows = builder.several("Split", (has, halves), 2, axis=1)
        upright = builder.integers(0, side, 1)
        indices = builder("Add", builder("Reshape", rows, upright), columns)
        mask = builder("MatMul", builder("Reshape", has_rows, upright), has_columns)
        mask = builder("Reshape", mask, builder.integers(0, 1, side, side))
        if channels > 1:
            indices = builder("Add", builder("Reshape", indices, builder.integers(0, 1, side, side)), self.planes)
        gathered = builder("GatherElements", self.flat, builder("Reshape", indices, builder.integers(0, -1)), axis=1)
        window = builder("Reshape", gathered, builder.integers(0, channels, side, side))
        return builder("Mul", self._as_float(builder, window), mask)

    def _within_border(self, builder: GraphBuilder, start: str) -> str:
        """Upper left corners, moved so that windows lie within the border; those that are moved stay all black."""
        start = builder("Max", start, builder.floats(-float(self.widest)))
        return builder("Min", start, builder("Gather", self.grid.own_size, builder.integers(1, 0), axis=0))

    def _gather_bordered(self, builder: GraphBuilder, start: str) -> str:
        steps = builder("Mul", builder("Cast", start, to=onnx_type(np.int64)), self.strides)
        first = builder("ReduceSum", steps, builder.integers(1))
        gathered = builder("GatherElements", self.flat, builder("Add", first, self.pixels), axis=1)
        shape = (0, self.image_input.channels, self.widest, self.widest)
        return self._as_float(builder, builder("Reshape", gathered, builder.integers(*shape)))

    def _as_float(self, builder: GraphBuilder, pixels: str) -> str:
        return builder("Cast", pixels, to=onnx_type(np.float32)) if self.image_input.dtype == "uint8" else pixels

    def _pool(self, builder: GraphBuilder, window: str, offset: int, side: int) -> str:
        if side < self.widest:
            begin, end = builder.integers(offset, offset), builder.integers(offset + side, offset + side)
            window = builder("Slice", window, begin, end, builder.integers(2, 3))
        factor = side // self.size
        if factor == 1:
            return window
        return builder("AveragePool", window, kernel_shape=[factor, factor], strides=[factor, factor])


class Grid:
    """The positions of windows on images: :func:`glimpse.images.geometry.window_start` as nodes.

    Args:
        builder: The graph.
        image_input: The images.
        width: The widest window's extent, pixels.
        as_product: Whether locations are always (rows, 2), on a processor. One product by a diagonal matrix, which also
            adds, is then faster than two operations and rounds as they do. A GPU would compute it with fewer digits.
    """

    def __init__(self, builder: GraphBuilder, image_input: ImageInput, width: int, as_product: bool = False) -> None:
        self.width = width
        shape = builder("Shape", image_input.images)
        self.own_length = builder("Slice", shape, builder.integers(2), builder.integers(4))
        self.own_size = builder("Cast", self.own_length, to=onnx_type(np.float32))
        """Height and width of the images, pixels."""
        size = builder("Gather", self.own_size, builder.integers(1, 0), axis=0)
        if image_input.frame is not None:
            self.origin, frame_size = builder.several("Split", (image_input.frame, builder.integers(2, 2)), 2, axis=0)
            """Left and top of the images within the larger one, pixels."""
            size = builder("Max", size, frame_size)
        self.half = builder("Mul", size, builder.floats(0.5))
        self.shift = builder("Sub", self.half, builder.floats((width - 1) / 2))
        self.stretch = builder("Mul", builder.constant(np.eye(2), np.float32), self.half) if as_product else None

    def start(self, builder: GraphBuilder, location: str) -> str:
        """Upper left corners, (x, y) in pixels of the larger image, of the widest windows at locations (..., 2)."""
        if self.stretch is not None:
            return builder("Floor", builder("Gemm", location, self.stretch, self.shift))
        return builder("Floor", builder("Add", builder("Mul", location, self.half), self.shift))
