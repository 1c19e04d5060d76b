from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from glimpse.images import geometry
from glimpse.nn.retina import Retina, extract_glimpse


def naive(image: Tensor, location: Tensor, size: int, num_scales: int, zoom: int) -> Tensor:
    """One pixel at a time, from the definition: the widest window's middle is the nearest to the location."""
    channels, height, width = image.shape
    widest = size * zoom ** (num_scales - 1)
    left = int(torch.floor((location[0] + 1) * width / 2 - widest / 2 + 0.5))
    top = int(torch.floor((location[1] + 1) * height / 2 - widest / 2 + 0.5))
    seen = torch.zeros(num_scales, channels, size, size, dtype=torch.float64)
    for scale in range(num_scales):
        factor = zoom**scale
        offset = (widest - size * factor) // 2
        for row in range(size * factor):
            for column in range(size * factor):
                y, x = top + offset + row, left + offset + column
                if 0 <= y < height and 0 <= x < width:
                    share = image[:, y, x].double() / factor**2
                    seen[scale, :, row // factor, column // factor] += share
    return seen


@pytest.mark.parametrize(
    ("shape", "size", "num_scales", "zoom"),
    [
        ((1, 28, 28), 8, 1, 2),
        ((3, 20, 45), 5, 3, 2),
        ((1, 45, 20), 4, 2, 3),
        ((1, 6, 5), 4, 3, 2),
        ((3, 9, 9), 9, 1, 1),
    ],
)
def test_glimpses_are_those_of_the_naive_loop(shape, size, num_scales, zoom):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, *shape, generator=generator)
    location = torch.rand(8, 2, generator=generator) * 2 - 1
    location[:4] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [0.0, 0.0]])
    seen = Retina(size, num_scales, zoom)(images, location)
    assert seen.shape == (8, num_scales, shape[0], size, size)
    for index in range(8):
        expected = naive(images[index], location[index], size, num_scales, zoom).float()
        torch.testing.assert_close(seen[index], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (21, 9)])
def test_x_moves_along_the_width_and_y_along_the_height(height, width):
    row, column = height // 5, width - 2
    image = torch.zeros(1, 1, height, width)
    image[0, 0, row, column] = 1
    location = torch.tensor([[geometry.to_unit(column + 0.5, width), geometry.to_unit(row + 0.5, height)]])
    assert extract_glimpse(image, location, 1, 1, 2).item() == 1
    assert extract_glimpse(image, location.flip(1), 1, 1, 2).item() == 0


def test_the_images_edges_lie_at_plus_and_minus_one():
    images = torch.ones(4, 1, 12, 20)
    location = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    left, right, top, bottom = extract_glimpse(images, location, 4, 1, 2)[:, 0, 0]
    half = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, 4)
    assert torch.equal(left, half)
    assert torch.equal(right, half.flip(1))
    assert torch.equal(top, half.T)
    assert torch.equal(bottom, half.T.flip(0))


def test_what_is_seen_lies_in_the_boxes():
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(30, 1, 33, 58, generator=generator)
    location = torch.rand(30, 2, generator=generator) * 2 - 1
    seen = extract_glimpse(images, location, 6, 3, 2)
    wide = torch.nn.functional.pad(images, (24, 24, 24, 24))
    for scale, box in enumerate(geometry.boxes(location, 33, 58, 6, 3, 2)):
        for row in range(30):
            left, top, right, bottom = (int(side[row]) + 24 for side in box)
            mean = wide[row, 0, top:bottom, left:right].mean()
            torch.testing.assert_close(seen[row, scale].mean(), mean, atol=1e-6, rtol=0)


def test_beyond_the_edges_all_is_black():
    images = torch.ones(2, 3, 8, 8)
    seen = extract_glimpse(images, torch.tensor([[-4.0, 0.0], [0.0, 7.0]]), 4, 2, 2)
    assert not seen.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_and_fractions_agree(channels):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (16, channels, 19, 30), generator=generator, dtype=torch.uint8)
    location = torch.rand(16, 2, generator=generator) * 2 - 1
    retina = Retina(5, 3, 2)
    seen = retina(images, location)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, retina(images.float() / 255, location), atol=1e-6, rtol=0)
    assert retina(images.double() / 255, location.double()).dtype == torch.float64


def test_channels_are_kept_apart():
    image = torch.stack([torch.full((9, 9), value) for value in (0.1, 0.5, 0.9)])[None]
    seen = extract_glimpse(image, torch.zeros(1, 2), 3, 2, 3)
    torch.testing.assert_close(seen[0].mean((2, 3)), torch.tensor([[0.1, 0.5, 0.9]]).expand(2, -1))


class Largest(TorchDispatchMode):
    """Notes the most elements that any operation makes anew, and how many operations run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        known = {given.untyped_storage().data_ptr() for given in args if isinstance(given, Tensor)}
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in known:
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_cost_does_not_depend_on_the_images_size(dtype):
    costs = []
    for height, width in ((40, 60), (700, 1100)):
        images = torch.zeros(2, 3, height, width, dtype=dtype)
        with Largest() as cost:
            extract_glimpse(images, torch.zeros(2, 2), 6, 2, 2)
        costs.append((cost.elements, cost.operations))
    assert costs[0] == costs[1]
    assert costs[0][0] == 2 * 3 * 12 * 12


def test_no_operation_is_repeated_for_each_image():
    counts = []
    for batch in (1, 64):
        with Largest() as cost:
            extract_glimpse(torch.zeros(batch, 1, 20, 20), torch.zeros(batch, 2), 6, 2, 2)
        counts.append(cost.operations)
    assert counts[0] == counts[1]


def test_a_batch_mate_never_changes_a_glimpse():
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(6, 1, 23, 17, generator=generator)
    location = torch.rand(6, 2, generator=generator) * 2 - 1
    together = extract_glimpse(images, location, 5, 2, 2)
    alone = [extract_glimpse(images[row : row + 1], location[row : row + 1], 5, 2, 2) for row in range(6)]
    assert torch.equal(together, torch.cat(alone))


def test_a_location_gets_no_gradient():
    location = torch.zeros(1, 2, requires_grad=True)
    assert not extract_glimpse(torch.rand(1, 1, 9, 9), location, 4, 1, 2).requires_grad


def test_the_retina_counts_its_pixels():
    assert Retina(7, 3, 2).num_pixels == 3 * 49


@pytest.mark.parametrize("wrong", [(0, 1, 2), (4, 0, 2), (4, 1, 0)])
def test_an_impossible_retina_is_refused(wrong):
    with pytest.raises(ValueError, match="size, num_scales and zoom of at least 1; got size="):
        Retina(*wrong)
