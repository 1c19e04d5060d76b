import numpy as np
import pytest
import torch

from glimpse.images import geometry


def test_units_and_pixels_are_inverse_and_put_the_edges_at_plus_and_minus_one():
    pixels = np.linspace(0, 60, 13)
    assert geometry.to_unit(0, 60) == -1
    assert geometry.to_unit(30, 60) == 0
    assert geometry.to_unit(60, 60) == 1
    np.testing.assert_allclose(geometry.to_pixels(geometry.to_unit(pixels, 60), 60), pixels, atol=1e-12)


@pytest.mark.parametrize(("size", "num_scales", "zoom"), [(8, 1, 2), (12, 3, 2), (5, 2, 3), (7, 3, 1), (1, 4, 2)])
def test_windows_are_nested_and_share_one_middle(size, num_scales, zoom):
    nested = geometry.windows(size, num_scales, zoom)
    assert [window.width for window in nested] == [size * zoom**scale for scale in range(num_scales)]
    largest = nested[-1]
    assert largest.offset == 0
    for window in nested:
        left, right = window.offset, largest.width - window.offset - window.width
        assert 0 <= right - left <= 1, "an odd difference leaves the spare pixel on the right"


@pytest.mark.parametrize("wrong", [(0, 1, 2), (8, 0, 2), (8, 1, 0)])
def test_an_impossible_retina_is_refused(wrong):
    size, num_scales, zoom = wrong
    with pytest.raises(ValueError, match=f"at least 1; got size={size}, num_scales={num_scales}, zoom={zoom}"):
        geometry.windows(*wrong)


@pytest.mark.parametrize("length", [1, 7, 28, 60, 101])
@pytest.mark.parametrize("width", [1, 8, 9, 48])
def test_a_window_starts_where_its_middle_lies_nearest_to_the_location(length, width):
    unit = np.linspace(-1, 1, 41)
    start = geometry.window_start(unit, length, width)
    assert (start == np.floor(start)).all()
    middle = start + width / 2
    assert (np.abs(middle - geometry.to_pixels(unit, length)) <= 0.5 + 1e-9).all()


def test_the_centre_of_an_even_image_lies_in_the_middle_of_an_even_window():
    assert geometry.window_start(0.0, 60, 12) == 24
    assert geometry.window_start(0.0, 28, 8) == 10


def test_boxes_keep_x_with_the_width_and_y_with_the_height():
    (box,) = geometry.boxes(np.array([[1.0, -1.0]]), height=20, width=100, size=8, num_scales=1, zoom=2)
    assert [float(side[0]) for side in box] == [96, -4, 104, 4]


def test_boxes_have_the_windows_widths_and_lie_inside_one_another():
    location = np.random.default_rng(0).uniform(-1, 1, (5, 6, 2))
    fine, middle, coarse = geometry.boxes(location, 40, 60, size=5, num_scales=3, zoom=2)
    for box, width in zip((fine, middle, coarse), (5, 10, 20), strict=True):
        assert box.left.shape == (5, 6)
        np.testing.assert_array_equal(box.right - box.left, width)
        np.testing.assert_array_equal(box.bottom - box.top, width)
    for inner, outer in ((fine, middle), (middle, coarse)):
        assert (outer.left <= inner.left).all()
        assert (inner.right <= outer.right).all()
        assert (outer.top <= inner.top).all()
        assert (inner.bottom <= outer.bottom).all()
    np.testing.assert_array_equal(coarse.left, geometry.window_start(location[..., 0], 60, 20))
    np.testing.assert_array_equal(coarse.top, geometry.window_start(location[..., 1], 40, 20))


def test_arrays_and_tensors_give_the_same_boxes_in_their_own_type():
    location = np.random.default_rng(1).uniform(-1, 1, (50, 2)).astype(np.float32)
    from_array = geometry.boxes(location, 33, 47, size=6, num_scales=2, zoom=2)
    from_tensor = geometry.boxes(torch.from_numpy(location), 33, 47, size=6, num_scales=2, zoom=2)
    stacked = torch.stack([torch.stack(box, dim=-1) for box in from_tensor], dim=-2)
    assert stacked.dtype == torch.float32
    assert stacked.shape == (50, 2, 4)
    np.testing.assert_array_equal(np.stack([np.stack(box, axis=-1) for box in from_array], axis=-2), stacked.numpy())


@pytest.mark.parametrize("count", range(1, 14))
def test_a_grid_is_the_squarest_with_enough_cells_row_by_row(count):
    cells = np.array(geometry.grid(count))
    assert cells.shape == (count, 2)
    columns, rows = (len(np.unique(axis)) for axis in cells.T)
    assert columns * (rows - 1) < count <= columns * rows
    assert 0 <= columns - rows <= 1
    x, y = cells.T
    assert (np.lexsort((x, y)) == np.arange(count)).all(), "row by row, from the left"
    np.testing.assert_allclose(np.unique(x), (2 * np.arange(columns) + 1) / columns - 1)
    np.testing.assert_allclose(np.unique(y), (2 * np.arange(rows) + 1) / rows - 1)


def test_a_grid_of_four_lies_in_the_middles_of_the_quarters():
    assert geometry.grid(4) == [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]
