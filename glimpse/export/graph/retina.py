"""The retina as ONNX nodes: the same cut as :mod:`glimpse.nn.retina`, out of images that no node touches as a whole.

There are two forms. A single image's window is a ``Pad`` by negative numbers, which cuts, and by positive ones, where
it hangs over the edge: nothing is faster on a processor, but it takes one window at a time, and its numbers lie in the
processor's memory. A batch's windows are gathered by their pixels' places, which works on every device. Both are
measured in benchmarks/runtime/speed.py, and held to the retina by tests.
"""

from dataclasses import dataclass

import numpy as np

from glimpse.export.graph.builder import GraphBuilder, onnx_type
from glimpse.images.geometry import windows
from glimpse.nn.retina import PIXEL_MAX


@dataclass(frozen=True)
class ImageInput:
    """What there is to cut from.

    Attributes:
        images: Name of the images, (batch, channels, height, width).
        dtype: Their type, ``uint8`` or ``float32``.
        channels: How many they have.
        frame: Name of left, top, width and height, float32 (4,), of the larger image that they are a part of, with
            zeros where they are none; None where there is no such input.
    """

    images: str
    dtype: str
    channels: int
    frame: str | None = None

    @property
    def unit(self) -> float:
        """What its pixels have to be multiplied by to lie in [0, 1]."""
        return 1 / PIXEL_MAX if self.dtype == "uint8" else 1.0


class RetinaNodes:
    """Cuts glimpses out of images, within one graph.

    What depends on the images' size alone is computed once, before the first cut.

    Args:
        build: The graph.
        canvas: The images.
        size: Side of a glimpse in pixels.
        num_scales: Windows in a glimpse.
        zoom: How many times wider each window is than the one before it.
        single: Whether there is never more than one image.
        shaped: Whether a glimpse has to have its five axes; without, scales and channels may be one axis.
    """

    def __init__(
        self,
        build: GraphBuilder,
        canvas: ImageInput,
        size: int,
        num_scales: int,
        zoom: int,
        single: bool,
        shaped: bool = True,
    ) -> None:
        self.shaped = shaped
        self.canvas, self.size, self.nested, self.single = canvas, size, windows(size, num_scales, zoom), single
        self.widest = self.nested[-1].width
        self.grid = Grid(build, canvas, self.widest, single)
        if single:
            # Begin of rows and columns, end of rows and columns: how far the image reaches beyond the window there.
            beyond = build("Sub", build.floats(*(float(self.widest),) * 2), self.grid.own_size)
            if canvas.frame is None:
                self.pads = build("Concat", build.floats(0.0, 0.0), beyond, axis=0)
            else:
                origin = build("Gather", self.grid.origin, build.integers(1, 0), axis=0)
                self.pads = build("Concat", origin, build("Sub", beyond, origin), axis=0)
            self.to_pads = build.constant([[0, -1, 0, 1], [-1, 0, 1, 0]], np.float32)
        else:
            self.flat = build("Reshape", canvas.images, build.integers(0, -1))
            height, width = build.several(
                "Split", (build("Cast", self.grid.own_size, to=onnx_type(np.int64)), build.integers(1, 1)), 2, axis=0
            )
            self.strides = build("Reshape", build("Concat", build.integers(1), width, axis=0), build.integers(2, 1))
            last = build("Sub", build("Gather", self.grid.own_size, build.integers(1, 0), axis=0), build.floats(1.0))
            self.last = build("Reshape", last, build.integers(2, 1))
            self.ramp = build.constant(np.arange(self.widest), np.float32)
            if canvas.frame is not None:
                self.ramp = build("Sub", self.ramp, build("Reshape", self.grid.origin, build.integers(2, 1)))
            if canvas.channels > 1:
                numbers = build.constant(np.arange(canvas.channels).reshape(-1, 1, 1), np.int64)
                self.planes = build("Mul", numbers, build("Mul", height, width))

    def __call__(self, build: GraphBuilder, location: str) -> str:
        """Cut one glimpse out of every image.

        Args:
            build: The graph, or a part of it.
            location: Name of the places, (batch, 2).

        Returns:
            Name of the pixels, float32 (batch, scales, channels, size, size), in the canvas's unit; see ``shaped``.
        """
        start = self.grid.start(build, location)
        window = self._pad(build, start) if self.single else self._gather(build, start)
        scales = [self._pool(build, window, offset, side) for offset, side in self.nested]
        pixels = scales[0] if len(scales) == 1 else build("Concat", *scales, axis=1)
        if not self.shaped:
            return pixels
        shape = (len(scales), self.canvas.channels, self.size, self.size)
        return build("Reshape", pixels, build.integers(0, *shape))

    def _pad(self, build: GraphBuilder, start: str) -> str:
        pads = build("Cast", build("Gemm", start, self.to_pads, self.pads), to=onnx_type(np.int64))
        black = build.constant(0, self.canvas.dtype)
        flat = build("Reshape", pads, build.integers(4))
        return self._as_float(build, build("Pad", self.canvas.images, flat, black, build.integers(2, 3)))

    def _gather(self, build: GraphBuilder, start: str) -> str:
        side, channels = self.widest, self.canvas.channels
        across = build("Add", build("Reshape", start, build.integers(0, 2, 1)), self.ramp)
        inside = build("Min", build("Relu", across), self.last)
        has = build("Cast", build("Equal", across, inside), to=onnx_type(np.float32))
        halves = build.integers(1, 1)
        steps = build("Mul", build("Cast", inside, to=onnx_type(np.int64)), self.strides)
        columns, rows = build.several("Split", (steps, halves), 2, axis=1)
        has_columns, has_rows = build.several("Split", (has, halves), 2, axis=1)
        upright = build.integers(0, side, 1)
        places = build("Add", build("Reshape", rows, upright), columns)
        mask = build("MatMul", build("Reshape", has_rows, upright), has_columns)
        mask = build("Reshape", mask, build.integers(0, 1, side, side))
        if channels > 1:
            places = build("Add", build("Reshape", places, build.integers(0, 1, side, side)), self.planes)
        gathered = build("GatherElements", self.flat, build("Reshape", places, build.integers(0, -1)), axis=1)
        window = build("Reshape", gathered, build.integers(0, channels, side, side))
        return build("Mul", self._as_float(build, window), mask)

    def _as_float(self, build: GraphBuilder, pixels: str) -> str:
        return build("Cast", pixels, to=onnx_type(np.float32)) if self.canvas.dtype == "uint8" else pixels

    def _pool(self, build: GraphBuilder, window: str, offset: int, side: int) -> str:
        if side < self.widest:
            begin, end = build.integers(offset, offset), build.integers(offset + side, offset + side)
            window = build("Slice", window, begin, end, build.integers(2, 3))
        factor = side // self.size
        if factor == 1:
            return window
        return build("AveragePool", window, kernel_shape=[factor, factor], strides=[factor, factor])


class Grid:
    """Where windows lie on images: :func:`glimpse.images.geometry.window_start` as nodes.

    Args:
        build: The graph.
        canvas: The images.
        width: The widest window's extent, pixels.
        single: Whether locations are always (1, 2). One product by a diagonal matrix, which adds, is then quicker than
            two operations and rounds as they do. Of larger ones a GPU would compute it with fewer digits.
    """

    def __init__(self, build: GraphBuilder, canvas: ImageInput, width: int, single: bool = False) -> None:
        self.width = width
        shape = build("Shape", canvas.images)
        own = build("Slice", shape, build.integers(2), build.integers(4))
        self.own_size = build("Cast", own, to=onnx_type(np.float32))
        """Height and width of the images, pixels."""
        size = build("Gather", self.own_size, build.integers(1, 0), axis=0)
        if canvas.frame is not None:
            self.origin, frame_size = build.several("Split", (canvas.frame, build.integers(2, 2)), 2, axis=0)
            """Left and top of the images within the larger one, pixels."""
            size = build("Max", size, frame_size)
        self.half = build("Mul", size, build.floats(0.5))
        self.shift = build("Sub", self.half, build.floats((width - 1) / 2))
        self.stretch = build("Mul", build.constant(np.eye(2), np.float32), self.half) if single else None

    def start(self, build: GraphBuilder, location: str) -> str:
        """Upper left corners, (x, y) in pixels of the larger image, of the widest windows at locations (..., 2)."""
        if self.stretch is not None:
            return build("Floor", build("Gemm", location, self.stretch, self.shift))
        return build("Floor", build("Add", build("Mul", location, self.half), self.shift))
