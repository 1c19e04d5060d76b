import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glimpse.evaluation import attribution


def images(batch: int = 3, channels: int = 2, height: int = 6, width: int = 9) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network(channels: int = 2, pixels: int = 54, outputs: int = 4) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(3 * pixels, outputs), nn.LogSoftmax(1)
    )
    return net.double().eval()


def differences(function: Any, image: Tensor, step: float = 1e-5) -> Tensor:
    """The full Jacobian by central differences, one pixel at a time."""
    columns = []
    for place in range(image.numel()):
        moved = torch.zeros(image.numel(), dtype=image.dtype)
        moved[place] = step
        up, down = (function((image.flatten() + sign * moved).view(1, *image.shape))[0] for sign in (1, -1))
        columns.append((up - down) / (2 * step))
    return torch.stack(columns, 1).detach().view(-1, *image.shape)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 7, 4), (3, 4, 7), (1, 1, 1)])
def test_the_full_jacobian_is_that_of_finite_differences(channels, height, width):
    net = network(channels, height * width)
    image = images(1, channels, height, width)[0]
    exact = attribution.full_jacobian(net, image)
    assert exact.shape == (4, channels, height, width)
    assert torch.allclose(exact, differences(net, image), atol=1e-8)


def test_a_row_for_each_image_is_the_row_of_its_full_jacobian():
    net, batch, outputs = network(), images(), torch.tensor([2, 0, 3])
    rows = attribution.jacobian(net, batch, outputs)
    for row, image, output in zip(rows, batch, outputs, strict=True):
        assert torch.allclose(row, attribution.full_jacobian(net, image)[output], atol=1e-12)


def test_explaining_leaves_images_weights_and_random_state_alone():
    net, batch, outputs = network(), images(), torch.tensor([2, 0, 3])
    before, state = batch.clone(), torch.get_rng_state()
    with torch.no_grad():
        attribution.jacobian(net, batch, outputs)
        attribution.smoothed(net, batch, outputs, samples=2)
        attribution.integrated(net, batch, outputs, steps=2)
    assert torch.equal(batch, before)
    assert not batch.requires_grad
    assert all(weight.grad is None for weight in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_is_explained_in_half_precision():
    net = network().to(torch.bfloat16)
    exact = attribution.jacobian(network(), images(), torch.tensor([2, 0, 3]))
    rough = attribution.jacobian(net, images().bfloat16(), torch.tensor([2, 0, 3]))
    assert rough.dtype == torch.bfloat16
    assert torch.allclose(rough.double(), exact, atol=0.02 * float(exact.abs().max()) + 1e-3)


def test_without_noise_smoothed_is_the_jacobian():
    net, batch, outputs = network(), images(), torch.tensor([2, 0, 3])
    still = attribution.smoothed(net, batch, outputs, samples=3, noise=0.0)
    assert torch.allclose(still, attribution.jacobian(net, batch, outputs), atol=1e-12)


def test_smoothed_averages_over_the_noise():
    # f = sum of x^3: the expected derivative is 3 (x^2 + noise^2).
    def cubic(pixels: Tensor) -> Tensor:
        return pixels.pow(3).flatten(1).sum(1, keepdim=True)

    batch = images(2, 1, 3, 4)
    smooth = attribution.smoothed(cubic, batch, torch.zeros(2, dtype=torch.long), samples=4000, noise=0.5)
    assert torch.allclose(smooth, 3 * (batch.square() + 0.25), atol=0.25)
    assert float((smooth - 3 * (batch.square() + 0.25)).mean().abs()) < 0.05


def test_the_seed_alone_decides_the_noise():
    net, batch, outputs = network(), images(), torch.tensor([2, 0, 3])
    torch.manual_seed(5)
    first = attribution.smoothed(net, batch, outputs, samples=4, seed=1)
    torch.manual_seed(6)
    assert torch.equal(first, attribution.smoothed(net, batch, outputs, samples=4, seed=1))
    assert not torch.equal(first, attribution.smoothed(net, batch, outputs, samples=4, seed=2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["jacobian", "smoothed", "integrated"])
def test_the_map_of_an_image_does_not_depend_on_the_images_beside_it(kind, dtype):
    net, batch, outputs = network().to(dtype), images(5).to(dtype), torch.tensor([2, 0, 3, 1, 2])
    method, order = getattr(attribution, kind), torch.tensor([3, 0, 4, 2, 1])
    together, turned = method(net, batch, outputs), method(net, batch[order], outputs[order])
    alone = torch.cat([method(net, batch[index : index + 1], outputs[index : index + 1]) for index in range(5)])
    within = 1e-5 * float(together.abs().max())
    assert torch.allclose(together, alone, atol=within, rtol=0)
    assert torch.allclose(together[order], turned, atol=within, rtol=0)


def test_integrated_gradients_share_out_the_whole_change_from_black():
    net, batch, outputs = network(), images(), torch.tensor([2, 0, 3])
    batch[:, :, 2] = 0
    shares = attribution.integrated(net, batch, outputs, steps=20)
    change = (net(batch) - net(torch.zeros_like(batch))).detach().gather(1, outputs[:, None])[:, 0]
    assert float(change.abs().min()) > 0.01
    assert torch.allclose(shares.sum((1, 2, 3)), change, atol=1e-8)
    assert (shares[:, :, 2] == 0).all()


def test_integrated_gradients_of_a_square_are_the_square():
    def square(pixels: Tensor) -> Tensor:
        return pixels.square().flatten(1).sum(1, keepdim=True)

    batch = images()
    shares = attribution.integrated(square, batch, torch.zeros(3, dtype=torch.long), steps=2)
    assert torch.allclose(shares, batch.square(), atol=1e-12)


@pytest.mark.parametrize("kind", ["jacobian", "smoothed", "integrated"])
def test_a_function_sees_the_batch_in_its_order_and_may_hold_something_for_each_image(kind):
    # As a hard model whose fixations are held: what is fixed for one image must meet that image and no other.
    held = torch.rand(3, 2, 6, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def function(pixels: Tensor) -> Tensor:
        assert pixels.shape == held.shape
        return (pixels * held).flatten(1).sum(1, keepdim=True)

    batch = images()
    explained = getattr(attribution, kind)(function, batch, torch.zeros(3, dtype=torch.long))
    assert torch.allclose(explained, held * batch if kind == "integrated" else held, atol=1e-12)


@pytest.mark.parametrize("kind", ["jacobian", "smoothed", "integrated"])
@pytest.mark.parametrize(
    ("function", "output", "sentence"),
    [
        (lambda pixels: pixels.sum((1, 2, 3)), 0, r"a row of outputs, got outputs of shape \(3,\); let it return"),
        (
            lambda pixels: pixels.flatten(1)[:1],
            0,
            r"each of 3 images a row of outputs, got outputs of shape \(1, 108\)",
        ),
        (lambda pixels: pixels[:, 0, 0], 9, "expected outputs from 0 to 8, got 9 to 9; choose among those"),
        (lambda pixels: pixels[:, 0, 0], -1, "expected outputs from 0 to 8, got -1 to -1"),
        (lambda pixels: pixels.detach()[:, 0, 0], 0, "do not depend on them; take care that the function neither"),
        (lambda pixels: torch.ones(3, 2, requires_grad=True) * 2, 0, "do not depend on them; take care that the func"),
    ],
)
def test_a_function_that_can_not_be_explained_is_refused(kind, function, output, sentence):
    with pytest.raises(ValueError, match=sentence):
        getattr(attribution, kind)(function, images(), torch.full((3,), output))


def test_numbers_that_make_no_sense_are_refused():
    batch, outputs = images(), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"at least 1 sample and noise of at least 0, got samples=0, noise=0.1"):
        attribution.smoothed(network(), batch, outputs, samples=0, noise=0.1)
    with pytest.raises(ValueError, match=r"got samples=3, noise=-0.1"):
        attribution.smoothed(network(), batch, outputs, samples=3, noise=-0.1)
    with pytest.raises(ValueError, match="expected at least 1 step, got 0; raise it"):
        attribution.integrated(network(), batch, outputs, steps=0)
    with pytest.raises(ValueError, match=r"expected a sigma above 0 pixels, got 0.0; raise it"):
        attribution.fixation_density(torch.zeros(1, 1, 2), 3, 3, 0.0)


def test_without_captum_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    batch, outputs = images(), torch.zeros(3, dtype=torch.long)
    for method in (attribution.jacobian, attribution.smoothed):
        assert method(network(), batch, outputs).abs().sum() > 0
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'glimpse-attention\[explain\]'") as raised:
        attribution.integrated(network(), batch, outputs)
    assert raised.value.name == "captum"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_saliency_is_the_size_of_gradients_over_channels(dtype):
    gradients = (images(channels=3) - 0.5).to(dtype)
    sizes = np.abs(gradients.double().numpy()).sum(1)
    maps = attribution.saliency(gradients)
    assert maps.dtype == torch.float32
    assert np.allclose(maps, sizes / sizes.sum((1, 2), keepdims=True), rtol=1e-5)


def test_saliency_of_the_least_gradients_and_of_none():
    gradients = images(4, 1).float()
    gradients[1] *= 1e-42
    gradients[2] = 0
    maps = attribution.saliency(gradients)
    assert torch.allclose(maps.sum((1, 2)), torch.ones(4))
    assert torch.allclose(maps[1], attribution.saliency(images(4, 1).float())[1], rtol=0.05, atol=1e-4)
    assert maps[2].unique().tolist() == pytest.approx([1 / 54])


def bilinear(cells: Any, height: int, width: int) -> Any:
    """Bilinear interpolation whose cells and pixels cover the same area, by numpy's linear one along each axis."""
    for axis, length in ((0, height), (1, width)):
        count = cells.shape[axis]
        places = (np.arange(length) + 0.5) * count / length - 0.5
        lines = [np.interp(places, np.arange(count), line) for line in np.moveaxis(cells, axis, -1)]
        cells = np.moveaxis(np.array(lines), -1, axis)
    return cells


@pytest.mark.parametrize(
    ("cells", "pixels"), [((3, 5), (12, 17)), ((1, 1), (4, 6)), ((2, 3), (2, 3)), ((1, 4), (5, 4))]
)
def test_cells_are_spread_bilinearly_and_keep_their_sum(cells, pixels):
    maps = images(2, 3, *cells)
    resized = attribution.resize_map(maps, *pixels)
    assert resized.shape == (2, 3, *pixels)
    assert torch.allclose(resized.double().sum((2, 3)), maps.sum((2, 3)))
    for one, other in zip(maps.flatten(0, 1), resized.flatten(0, 1), strict=True):
        naive = bilinear(one.numpy(), *pixels)
        assert np.allclose(other, naive * one.sum().item() / naive.sum(), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_flat_map_stays_exactly_flat(dtype):
    for count in (3, 7, 15):
        flat = torch.full((2, count, count), 1 / count**2, dtype=dtype)
        resized = attribution.resize_map(flat, 61, 100)
        assert (resized == resized[0, 0, 0]).all()
        assert torch.allclose(resized.sum((1, 2)), flat.float().sum((1, 2)))


def test_maps_finer_than_the_image_lose_no_peak_and_empty_ones_stay_empty():
    maps = torch.zeros(101, 1, 101)
    maps[torch.arange(100), 0, torch.arange(100)] = 2.0
    resized = attribution.resize_map(maps, 1, 7)
    assert torch.allclose(resized[:100].sum((1, 2)), torch.full((100,), 2.0))
    assert (resized[100] == 0).all()


def test_fixation_density_is_the_mean_of_gaussians_inside_the_image():
    locations = torch.tensor([[[0.2, -0.6], [-1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    density = attribution.fixation_density(locations, 8, 13, sigma=1.7)
    row, column = np.mgrid[:8, :13] + 0.5
    for one, places in zip(density, locations.tolist(), strict=True):
        naive = 0.0
        for x, y in places:
            squares = (column - (x + 1) / 2 * 13) ** 2 + (row - (y + 1) / 2 * 8) ** 2
            gaussian = np.exp(-squares / (2 * 1.7**2))
            naive = naive + gaussian / gaussian.sum() / 2
        assert np.allclose(one, naive, atol=1e-7)


def test_the_narrowest_density_is_the_pixel_that_is_fixated():
    density = attribution.fixation_density(torch.tensor([[[1.0, -1.0]]], dtype=torch.float16), 5, 4, sigma=1e-3)
    assert float(density[0, 0, 3]) == 1.0
    assert float(density.sum()) == 1.0


def test_controls_sum_to_one_and_are_what_they_say():
    noise = attribution.random_map(3, 5, 7, torch.Generator().manual_seed(0))
    centre = attribution.centre_map(3, 5, 7)
    for maps in (noise, centre):
        assert maps.shape == (3, 5, 7)
        assert torch.allclose(maps.sum((1, 2)), torch.ones(3))
    assert len(noise.unique()) == noise.numel()
    assert torch.equal(noise, attribution.random_map(3, 5, 7, torch.Generator().manual_seed(0)))
    assert (centre.flatten(1).argmax(1) == 17).all()
    assert torch.allclose(centre, centre.flip(1).flip(2), atol=1e-7)
    assert float(centre[0, 2, 4] / centre[0, 2, 3]) == pytest.approx(np.exp(-0.5 / 1.25**2), rel=1e-5)
