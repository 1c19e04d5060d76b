"""The cut as nodes against the cut in torch and in numpy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from glimpse.contract.tensors import FRAME, INPUT, LOCATION
from glimpse.export.graph.builder import GraphBuilder, value
from glimpse.export.graph.retina import Grid, ImageInput, RetinaNodes
from glimpse.export.parity import session_of
from glimpse.images import crop
from glimpse.images.geometry import window_start, windows
from glimpse.nn.retina import extract_glimpse

EDGES = (-1.0, -0.999, -0.4, 0.0, 0.3, 0.999, 1.0)
PLACES = np.array([(x, y) for x in EDGES for y in EDGES] + [(0.123, -0.77), (-1.4, 1.3)], np.float32)


class Cutting:
    """A graph that does nothing but cut."""

    def __init__(
        self,
        form: str,
        dtype: str = "uint8",
        channels: int = 1,
        size: int = 4,
        num_scales: int = 1,
        zoom: int = 2,
        frame: bool = False,
        shaped: bool = True,
    ) -> None:
        self.form, self.retina = form, (size, num_scales, zoom)
        builder = GraphBuilder()
        canvas = ImageInput(INPUT, dtype, channels, FRAME if frame else None)
        pixels = RetinaNodes(builder, canvas, *self.retina, form, shaped)(builder, LOCATION)
        builder("Mul", pixels, builder.floats(canvas.unit), name="glimpse")
        inputs = [
            value(INPUT, dtype, ["batch", channels, "height", "width"]),
            value(LOCATION, np.float32, ["batch", 2]),
            *([value(FRAME, np.float32, [4])] if frame else []),
        ]
        axes = ("batch", "scales", "channels", "rows", "columns") if shaped else ("batch", "planes", "rows", "columns")
        self.model = builder.model(inputs, [value("glimpse", np.float32, axes)], {})
        onnx.checker.check_model(self.model, full_check=True)
        self.session = session_of(self.model.SerializeToString())

    def __call__(self, images: Any, places: Any, **more: Any) -> npt.NDArray[np.float32]:
        """Cut, one by one where the graph takes single images."""
        rows = [slice(row, row + 1) for row in range(len(places))] if self.form == "pad" else [slice(None)]
        found = [self.session.run(None, {INPUT: images[row], LOCATION: places[row], **more})[0] for row in rows]
        return np.concatenate(found)


def noise(channels: int, height: int, width: int, dtype: str = "uint8", batch: int = len(PLACES)) -> Any:
    generator = np.random.default_rng(height * width + channels)
    images = generator.integers(0, 256, (batch, channels, height, width), dtype=np.uint8)
    return images if dtype == "uint8" else (images / np.float32(255)).astype(np.float32)


FORMS = pytest.mark.parametrize("form", ["pad", "gather", "border"])
FRAMED = pytest.mark.parametrize("form", ["pad", "gather"])
SIZES = [(28, 28), (13, 31), (40, 17), (6, 5), (1, 1), (3, 50)]


@FORMS
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "num_scales", "zoom"), [(4, 1, 2), (5, 2, 2), (4, 3, 2), (3, 2, 3), (5, 3, 1)])
def test_the_cut_is_that_of_the_retina_and_of_numpy(form, dtype, channels, size, num_scales, zoom):
    cutting = Cutting(form, dtype, channels, size, num_scales, zoom)
    for height, width in SIZES:
        images = noise(channels, height, width, dtype)
        found = cutting(images, PLACES)
        retina = extract_glimpse(torch.from_numpy(images), torch.from_numpy(PLACES), size, num_scales, zoom)
        np.testing.assert_allclose(found, retina.numpy(), atol=3e-7, rtol=0)
        np.testing.assert_allclose(found, crop.extract_glimpse(images, PLACES, size, num_scales, zoom), atol=3e-7)


@FORMS
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_cut_exactly(form, channels):
    cutting, images = Cutting(form, channels=channels, size=7), noise(channels, 21, 34)
    expected = crop.extract_glimpse(images, PLACES, 7, 1, 2)
    np.testing.assert_array_equal(np.round(cutting(images, PLACES) * 255), np.round(expected * 255))


@FORMS
def test_what_hangs_over_an_edge_or_a_corner_is_black(form):
    images = np.full((9, 1, 10, 12), 255, np.uint8)
    corners = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)], np.float32)
    found = Cutting(form, size=4)(images, corners)[:, 0, 0]
    lit = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
    for row, (x, y) in enumerate(corners.astype(int)):
        np.testing.assert_allclose(found[row], np.outer(lit[y + 1], lit[x + 1]), atol=1e-6)


@FORMS
def test_a_window_beyond_the_image_sees_nothing(form):
    found = Cutting(form, size=3)(np.full((2, 1, 8, 8), 255, np.uint8), np.array([(3, 0), (0, -9)], np.float32))
    assert not found.any()


@FRAMED
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_of_a_larger_image_gives_the_glimpse_of_the_whole(form, dtype, channels):
    height, width, retina = 90, 70, (4, 2, 2)
    cutting, (whole,) = Cutting(form, dtype, channels, *retina, frame=True), noise(channels, height, width, dtype, 1)
    for left, top, right, bottom in ((0, 0, 70, 90), (20, 35, 52, 61), (0, 50, 25, 90), (45, 0, 70, 30)):
        half = 4 + 1
        across = np.linspace(left + half, right - half, 5) / width * 2 - 1
        down = np.linspace(top + half, bottom - half, 5) / height * 2 - 1
        places = np.stack([across, down], 1).astype(np.float32)
        wholes, parts = (np.repeat(image[None], 5, 0) for image in (whole, whole[:, top:bottom, left:right]))
        frame = np.array([left, top, width, height], np.float32)
        expected = crop.extract_glimpse(wholes, places, *retina)
        np.testing.assert_allclose(cutting(parts, places, frame=frame), expected, atol=3e-7, rtol=0)


@FRAMED
def test_a_part_at_the_edge_of_the_larger_image_is_black_beyond_it(form):
    (whole,) = noise(1, 60, 80, batch=1)
    cutting = Cutting(form, size=6, frame=True)
    places = np.array([(1, 1), (0.97, 0.9)], np.float32)
    parts = np.repeat(whole[None, :, 40:, 50:], 2, 0)
    found = cutting(parts, places, frame=np.array([50, 40, 80, 60], np.float32))
    expected = crop.extract_glimpse(np.repeat(whole[None], 2, 0), places, 6, 1, 2)
    np.testing.assert_allclose(found, expected, atol=3e-7, rtol=0)


@FRAMED
def test_without_a_frame_an_image_is_its_own(form):
    images, cutting = noise(1, 15, 22), Cutting(form, size=5, frame=True)
    found = cutting(images, PLACES, frame=np.zeros(4, np.float32))
    np.testing.assert_array_equal(found, Cutting(form, size=5)(images, PLACES))


@FORMS
def test_without_a_shape_scales_and_channels_are_one_axis(form):
    images = noise(3, 15, 22)
    options = {"channels": 3, "size": 4, "num_scales": 2}
    flat, shaped = (Cutting(form, **options, shaped=way)(images, PLACES) for way in (False, True))  # type: ignore[arg-type]
    assert flat.shape == (len(PLACES), 6, 4, 4)
    np.testing.assert_array_equal(flat.reshape(shaped.shape), shaped)


@pytest.mark.parametrize(("form", "kinds"), [("pad", {"Shape", "Pad"}), ("gather", {"Shape", "Reshape"})])
@pytest.mark.parametrize("frame", [True, False])
def test_no_node_touches_the_image_as_a_whole(form, kinds, frame):
    nodes = Cutting(form, channels=3, num_scales=3, frame=frame).model.graph.node
    assert {node.op_type for node in nodes if INPUT in node.input} == kinds
    for flat in (node.output[0] for node in nodes if INPUT in node.input and node.op_type == "Reshape"):
        assert {node.op_type for node in nodes if flat in node.input} == {"GatherElements"}


@FORMS
@pytest.mark.parametrize("width", [4, 5, 12])
def test_windows_start_where_the_geometry_says(form, width):
    builder = GraphBuilder()
    start = Grid(builder, ImageInput(INPUT, "uint8", 1), width, form != "gather").start(builder, LOCATION)
    builder("Identity", start, name="start")
    inputs = [value(INPUT, np.uint8, ["batch", 1, "height", "width"]), value(LOCATION, np.float32, ["batch", 2])]
    session = session_of(builder.model(inputs, [value("start", np.float32, ["batch", 2])], {}).SerializeToString())
    places = np.random.default_rng(width).uniform(-1.2, 1.2, (200, 2)).astype(np.float32)
    for height, across in ((28, 28), (33, 70), (4096, 3000)):
        image = np.zeros((1, 1, height, across), np.uint8)
        for place in places[:50]:
            (found,) = session.run(None, {INPUT: image, LOCATION: place[None]})
            expected = [window_start(place[0:1], across, width)[0], window_start(place[1:2], height, width)[0]]
            np.testing.assert_array_equal(found[0], expected)


def test_the_widest_window_is_cut_once():
    for form, operator in (("pad", "Pad"), ("gather", "GatherElements"), ("border", "GatherElements")):
        nodes = Cutting(form, num_scales=3).model.graph.node
        assert sum(node.op_type == operator for node in nodes) == 1
        assert sum(node.op_type == "AveragePool" for node in nodes) == len(windows(4, 3, 2)) - 1
