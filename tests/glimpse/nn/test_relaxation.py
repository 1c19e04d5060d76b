import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck

from glimpse.images import geometry
from glimpse.nn.relaxation import bilinear_glimpse, filter_bank, gaussian_glimpse, grid_glimpses, gumbel_softmax
from glimpse.nn.retina import extract_glimpse

RETINAS = [(8, 1, 2), (5, 3, 2), (4, 2, 3), (4, 3, 2), (3, 3, 3), (9, 1, 1), (5, 2, 1)]
SHAPES = [(1, 23, 40), (3, 31, 12)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def blurred(images: Tensor, location: Tensor, size: int, num_scales: int, zoom: int, sigma: float = 1.5) -> Tensor:
    return gaussian_glimpse(images, location, size, num_scales, zoom, sigma)


def start_at(left: Tensor, top: Tensor, shape: tuple[int, int, int], retina: tuple[int, int, int]) -> Tensor:
    """Locations whose widest window starts at these, perhaps broken, pixels."""
    half = geometry.windows(*retina)[-1].width / 2
    x, y = geometry.to_unit(left + half, shape[2]), geometry.to_unit(top + half, shape[1])
    return torch.stack((x, y), dim=-1)


def whole_starts(
    shape: tuple[int, int, int], retina: tuple[int, int, int], count: int, inside: bool = False
) -> tuple[Tensor, Tensor]:
    """Whole-pixel starts of the widest window, all over the image and beyond its edges, or with all scales inside."""
    widest = geometry.windows(*retina)[-1].width
    over = 0 if inside else widest + 2
    room = torch.tensor([shape[2], shape[1]]) - widest + 2 * over + 1
    left, top = ((draw(count, 2) * room).floor() - over).unbind(1)
    return left, top


def hats(start: float, offset: int, size: int, factor: int, length: int) -> NDArray[np.float64]:
    """Equation 5 of Jaderberg et al. along one axis, averaged over the taps of each pooled pixel."""
    weights = np.zeros((size, length))
    for row in range(size):
        for tap in range(factor):
            place = start + offset + row * factor + tap
            for pixel in range(length):
                weights[row, pixel] += max(0.0, 1 - abs(place - pixel)) / factor
    return weights


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("retina", RETINAS)
def test_on_whole_pixels_the_bilinear_glimpse_is_the_hard_one(shape, retina):
    images = draw(40, *shape)
    location = start_at(*whole_starts(shape, retina, 40), shape, retina)
    # A hair to the right and below, lest the hard cut's own rounding decides on a place that is whole but for an ulp.
    hard = extract_glimpse(images, location + 1e-12, *retina)
    torch.testing.assert_close(bilinear_glimpse(images, location, *retina), hard, atol=1e-6, rtol=0)
    single = bilinear_glimpse(images.float(), location.float(), *retina)
    torch.testing.assert_close(single, hard.float(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("retina", [(5, 3, 2), (4, 2, 3), (4, 1, 2)])
def test_between_pixels_the_bilinear_glimpse_is_two_products_with_hats(shape, retina):
    images, location = draw(6, *shape), draw(6, 2, seed=1) * 2.6 - 1.3
    seen = bilinear_glimpse(images, location, *retina)
    nested = geometry.windows(*retina)
    for index in range(6):
        left = geometry.to_pixels(location[index, 0].item(), shape[2]) - nested[-1].width / 2
        top = geometry.to_pixels(location[index, 1].item(), shape[1]) - nested[-1].width / 2
        for scale, (offset, side) in enumerate(nested):
            rows = hats(top, offset, retina[0], side // retina[0], shape[1])
            columns = hats(left, offset, retina[0], side // retina[0], shape[2])
            expected = rows @ images[index].numpy() @ columns.T
            np.testing.assert_allclose(seen[index, scale].numpy(), expected, atol=1e-12)


def test_half_way_the_bilinear_glimpse_is_the_mean_of_four_hard_ones():
    shape, retina = (1, 20, 27), (4, 2, 2)
    images, (left, top) = draw(12, *shape), whole_starts(shape, retina, 12)
    corners = [
        extract_glimpse(images, start_at(left + right, top + down, shape, retina) + 1e-12, *retina)
        for right in (0, 1)
        for down in (0, 1)
    ]
    seen = bilinear_glimpse(images, start_at(left + 0.5, top + 0.5, shape, retina), *retina)
    torch.testing.assert_close(seen, torch.stack(corners).mean(0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("retina", [(3, 2, 2), (2, 2, 3)])
def test_the_bilinear_gradient_is_that_of_finite_differences(retina):
    shape = (2, 7, 9)
    left, top = torch.tensor([2.3, -1.6, 9.25]).double(), torch.tensor([0.7, 3.5, -2.4]).double()
    images, location = draw(3, *shape).requires_grad_(), start_at(left, top, shape, retina).requires_grad_()
    assert gradcheck(lambda pixels, place: bilinear_glimpse(pixels, place, *retina), (images, location))


def test_on_whole_pixels_the_slope_is_that_to_the_right_and_below():
    # At a window that starts dead on a pixel, as at the centre of most images, the slope is one of the two, never 0.
    images = torch.tensor([[0.0, 0.1, 0.4, 1.0], [0.2, 0.2, 0.2, 0.2]])[:, None, None].expand(2, 1, 4, 4).contiguous()
    location = torch.zeros(2, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(bilinear_glimpse(images, location, 2, 1, 2)[:, 0, 0, 0, 0].sum(), location)
    torch.testing.assert_close(slope, torch.tensor([[(0.4 - 0.1) * 2, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("glimpse", [bilinear_glimpse, blurred])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_and_halves_give_the_glimpse_of_fractions(glimpse, channels):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (9, channels, 19, 30), generator=generator, dtype=torch.uint8)
    location = draw(9, 2, dtype=torch.float32) * 2 - 1
    expected = glimpse(images.double() / 255, location.double(), 5, 3, 2)
    assert expected.shape == (9, 3, channels, 5, 5)
    seen = glimpse(images, location, 5, 3, 2)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, expected.float(), atol=1e-5, rtol=0)
    half = glimpse((images.float() / 255).bfloat16(), location, 5, 3, 2)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, atol=0.02, rtol=0)
    # Half precision has too few digits for the places on a wide image; what it does say is taken exactly.
    coarse = location.half()
    assert torch.equal(glimpse(images, coarse, 5, 3, 2), glimpse(images, coarse.float(), 5, 3, 2))


@pytest.mark.parametrize("glimpse", [bilinear_glimpse, blurred])
def test_a_batch_mate_never_changes_a_glimpse(glimpse):
    images, location = draw(5, 1, 23, 17), draw(5, 2, seed=3) * 2 - 1
    together = glimpse(images, location, 5, 2, 2)
    alone = torch.cat([glimpse(images[row : row + 1], location[row : row + 1], 5, 2, 2) for row in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-14, rtol=0)


def naive_filters(centre: float, stride: float, sigma: float, count: int, length: int) -> NDArray[np.float64]:
    """Equations 19 and 25 of Gregor et al., in the paper's count of pixels and filters from 1."""
    filters = np.zeros((count, length))
    for i in range(1, count + 1):
        mean = (centre + 0.5) + (i - count / 2 - 0.5) * stride
        for a in range(1, length + 1):
            filters[i - 1, a - 1] = math.exp(-((a - mean) ** 2) / (2 * sigma**2))
        filters[i - 1] /= filters[i - 1].sum()
    return filters


@pytest.mark.parametrize(("count", "length"), [(5, 11), (4, 30), (1, 1), (3, 2)])
def test_filters_are_those_of_the_papers_equations(count, length):
    centre = torch.tensor([0.3, 0.5, 1.0]).double() * length
    stride, sigma = torch.tensor([1.0, 0.4, 2.5]).double(), torch.tensor([0.8, 2.0, 1.3]).double()
    filters = filter_bank(centre, stride, sigma, count, length)
    for index in range(3):
        given = (centre[index].item(), stride[index].item(), sigma[index].item())
        np.testing.assert_allclose(filters[index].numpy(), naive_filters(*given, count, length), atol=1e-12)
    same = filter_bank(centre, 0.7, 1.1, count, length)
    np.testing.assert_allclose(same[1].numpy(), naive_filters(centre[1].item(), 0.7, 1.1, count, length), atol=1e-12)


@pytest.mark.parametrize("sigma", [1e-6, 0.02, 0.5, 3.0, 1e6])
def test_filters_inside_the_image_sum_to_one_however_narrow(sigma):
    filters = filter_bank(torch.linspace(0, 20, 81), 1.0, sigma, 1, 20)
    torch.testing.assert_close(filters.sum(2), torch.ones(81, 1))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 4.0])
def test_filters_outside_the_image_fade_out(sigma):
    sigmas_out = torch.tensor([0.0, 1.0, 3.0, 6.0, 9.0, 1e4])
    total = filter_bank(20 + sigmas_out * sigma, 1.0, sigma, 1, 20).sum((1, 2))
    torch.testing.assert_close(total[:2], torch.ones(2))
    assert (total.diff() <= 1e-6).all()
    assert total[4] < 1e-3
    assert total[5] == 0


def test_a_filter_far_outside_has_a_gradient_without_nan():
    centre, sigma = (
        torch.tensor([-1e4, -30.0, 5.0], requires_grad=True),
        torch.tensor([1e-3, 1.0, 1.0]).requires_grad_(),
    )
    weight = draw(3, 4, 10, dtype=torch.float32)
    gradients = torch.autograd.grad((filter_bank(centre, 1.0, sigma, 4, 10) * weight).sum(), (centre, sigma))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient[2] != 0 for gradient in gradients)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("retina", [(5, 2, 2), (4, 1, 2), (3, 2, 3), (5, 2, 1)])
def test_narrow_gaussians_see_the_hard_glimpse_at_the_finest_scale(shape, retina: tuple[int, int, int]):
    images = draw(20, *shape)
    location = start_at(*whole_starts(shape, retina, 20, inside=True), shape, retina)
    hard = extract_glimpse(images, location + 1e-12, *retina)[:, 0]
    errors = [
        (blurred(images, location, *retina, sigma)[:, 0] - hard).abs().max().item() for sigma in (0.5, 0.3, 0.1, 1e-3)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.01
    assert errors[-1] < 1e-9
    location = start_at(*whole_starts(shape, retina, 20), shape, retina)
    hard = extract_glimpse(images, location + 1e-12, *retina)[:, 0]
    torch.testing.assert_close(blurred(images, location, *retina, 1e-3)[:, 0], hard, atol=1e-9, rtol=0)


def test_narrow_gaussians_sample_the_coarse_scales_and_wide_ones_average_them():
    shape, retina = (1, 40, 40), (4, 2, 3)
    images = draw(20, *shape)
    location = start_at(*whole_starts(shape, retina, 20, inside=True), shape, retina) + 1e-12
    every_pixel = extract_glimpse(images, location, 12, 1, 1)[:, 0]
    narrow = blurred(images, location, *retina, 1e-3)[:, 1]
    torch.testing.assert_close(narrow, every_pixel[:, :, 1::3, 1::3], atol=1e-9, rtol=0)
    mean = extract_glimpse(images, location, *retina)[:, 1]
    wide = blurred(images, location, *retina, 1 / math.sqrt(12))[:, 1]
    assert (wide - mean).abs().mean() < 0.3 * (narrow - mean).abs().mean()


@pytest.mark.parametrize("stride", [1.0, 0.6, 1.7])
def test_the_gaussian_glimpse_is_one_bank_a_scale(stride):
    images, location = draw(4, 3, 14, 21), draw(4, 2, seed=2) * 2 - 1
    seen = gaussian_glimpse(images, location, 4, 3, 2, 0.7, stride)
    for index in range(4):
        x, y = (location[index, 0] + 1).item() * 21 / 2, (location[index, 1] + 1).item() * 14 / 2
        for scale in range(3):
            columns = naive_filters(x, stride * 2**scale, 0.7 * 2**scale, 4, 21)
            rows = naive_filters(y, stride * 2**scale, 0.7 * 2**scale, 4, 14)
            expected = rows @ images[index].numpy() @ columns.T
            np.testing.assert_allclose(seen[index, scale].numpy(), expected, atol=1e-9)


def test_the_gaussian_gradient_is_that_of_finite_differences():
    images, location = draw(2, 1, 7, 9).requires_grad_(), (draw(2, 2, seed=4) * 1.6 - 0.8).requires_grad_()
    sigma, stride = torch.tensor([0.5, 1.2]).double(), torch.tensor([0.8, 1.1]).double()
    given = (images, location, sigma.requires_grad_(), stride.requires_grad_())
    assert gradcheck(
        lambda pixels, place, *widths: gaussian_glimpse(pixels, place, 3, 2, 2, widths[0], widths[1]), given
    )


def test_the_gaussian_glimpse_has_a_slope_where_the_bilinear_one_has_none():
    images = torch.zeros(1, 1, 20, 20)
    images[..., 16:] = 1
    slopes = []
    for glimpse in (bilinear_glimpse, blurred):
        location = torch.zeros(1, 2, requires_grad=True)
        glimpse(images, location, 4, 1, 2).sum().backward()
        assert location.grad is not None
        slopes.append(location.grad[0, 0].item())
    assert slopes[0] == 0
    assert slopes[1] > 0.1


def test_choices_follow_the_softmax_of_the_scores():
    scores = torch.tensor([0.5, -1.0, 2.0, 0.0, -math.inf])
    count = 20_000
    samples = gumbel_softmax(scores.expand(count, 5), 0.7, torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.sum(1), torch.ones(count))
    observed = samples.argmax(1).bincount(minlength=5)
    expected = scores.softmax(0) * count
    assert observed[4] == 0
    chi_square = ((observed - expected) ** 2 / expected)[:4].sum()
    assert chi_square < 16.27  # its 99.9th percentile at 3 degrees of freedom


def test_the_noise_comes_from_the_generator():
    scores = draw(6, 5, dtype=torch.float32)
    state = torch.get_rng_state()
    first, second, other = (gumbel_softmax(scores, 1.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    strided = gumbel_softmax(scores.T.contiguous().T, 1.0, torch.Generator().manual_seed(1))
    assert torch.equal(first, strided)


@pytest.mark.parametrize("temperature", [1e-5, 1e-40])
def test_a_low_temperature_gives_one_hot_vectors(temperature):
    scores = draw(50, 7, dtype=torch.float32) * 4
    soft = gumbel_softmax(scores, temperature, torch.Generator().manual_seed(3))
    one_hot = gumbel_softmax(scores, 1.0, torch.Generator().manual_seed(3), hard=True)
    torch.testing.assert_close(soft, one_hot)


def test_a_sample_is_equation_2_of_its_noise():
    scores = draw(4, 6)
    sample = gumbel_softmax(scores, 0.8, torch.Generator().manual_seed(5))
    noise = torch.empty(4, 6).double().exponential_(generator=torch.Generator().manual_seed(5))
    powers = np.exp((scores.numpy() - np.log(noise.numpy())) / 0.8)
    np.testing.assert_allclose(sample.numpy(), powers / powers.sum(1, keepdims=True), atol=1e-12)


def test_straight_through_goes_forward_hard_and_backward_soft():
    weight = draw(8, 5, seed=6, dtype=torch.float32)
    outcomes, gradients = [], []
    for hard in (False, True):
        scores = draw(8, 5, dtype=torch.float32).requires_grad_()
        outcomes.append(gumbel_softmax(scores, 0.5, torch.Generator().manual_seed(1), hard))
        gradients.append(torch.autograd.grad((outcomes[-1] * weight).sum(), scores)[0])
    soft, hard_choice = outcomes
    assert torch.equal(hard_choice, torch.nn.functional.one_hot(soft.argmax(1), 5).float())
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_full(dtype):
    scores = (draw(30, 9, dtype=torch.float32) * 6).to(dtype)
    sample = gumbel_softmax(scores, 0.1, torch.Generator().manual_seed(2))
    assert sample.dtype == dtype
    full = gumbel_softmax(scores.float(), 0.1, torch.Generator().manual_seed(2))
    assert torch.equal(sample, full.to(dtype))


def test_one_cell_is_always_chosen():
    scores = torch.tensor([[3.0], [-50.0]], requires_grad=True)
    for hard in (False, True):
        assert torch.equal(gumbel_softmax(scores, 0.5, hard=hard), torch.ones(2, 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("retina", RETINAS)
def test_grid_glimpses_are_the_hard_ones_at_each_centre(shape, retina):
    images, centres = draw(5, *shape, dtype=torch.float32), draw(9, 2, seed=1, dtype=torch.float32) * 2.4 - 1.2
    centres[:4] = torch.tensor([[0.0, 0.0], [-1.0, 1.0], [0.0, 0.0], [9.0, -9.0]])
    seen = grid_glimpses(images, centres, *retina)
    assert seen.shape == (5, 9, retina[1], shape[0], retina[0], retina[0])
    for cell in range(9):
        hard = extract_glimpse(images, centres[cell].expand(5, 2), *retina)
        torch.testing.assert_close(seen[:, cell], hard, atol=1e-6, rtol=0)
    in_bytes = (images * 255).byte()
    torch.testing.assert_close(
        grid_glimpses(in_bytes, centres, *retina)[:, 1],
        extract_glimpse(in_bytes, centres[1].expand(5, 2), *retina),
        atol=1e-6,
        rtol=0,
    )


def test_one_hot_weights_pick_a_glimpse_and_pass_gradient_to_the_scores():
    images, centres = draw(3, 1, 16, 16, dtype=torch.float32), draw(6, 2, dtype=torch.float32) * 2 - 1
    glimpses = grid_glimpses(images, centres, 4, 2, 2)
    scores = torch.zeros(3, 6, requires_grad=True)
    weights = gumbel_softmax(scores, 1.0, torch.Generator().manual_seed(0), hard=True)
    relaxed = torch.einsum("bc,bc...->b...", weights, glimpses)
    chosen = extract_glimpse(images, centres[weights.argmax(1)], 4, 2, 2)
    torch.testing.assert_close(relaxed, chosen, atol=1e-6, rtol=0)
    relaxed.square().sum().backward()
    assert scores.grad is not None
    assert (scores.grad != 0).all()


@pytest.mark.parametrize("wrong", [(0, 1, 2), (4, 0, 2), (4, 1, 0)])
@pytest.mark.parametrize("glimpse", [bilinear_glimpse, grid_glimpses, blurred])
def test_an_impossible_retina_is_refused(glimpse, wrong):
    with pytest.raises(ValueError, match="size, num_scales and zoom of at least 1; got size="):
        glimpse(torch.rand(2, 1, 8, 8), torch.zeros(2, 2), *wrong)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, torch.tensor([1.0, 0.0]), torch.tensor([1.0, math.nan])])
def test_widths_and_temperatures_must_be_above_0(wrong):
    images, location = torch.rand(2, 1, 8, 8), torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"expected a sigma above 0, got (0|-1|nan); raise it"):
        gaussian_glimpse(images, location, 4, 1, 2, wrong)
    with pytest.raises(ValueError, match=r"expected a stride above 0, got (0|-1|nan); raise it"):
        gaussian_glimpse(images, location, 4, 1, 2, 1.0, wrong)
    if isinstance(wrong, float):
        with pytest.raises(ValueError, match=r"expected a temperature above 0, got (0|-1|nan); raise it"):
            gumbel_softmax(torch.zeros(2, 3), wrong)


@pytest.mark.parametrize(("count", "length"), [(0, 5), (5, 0)])
def test_a_bank_without_filters_or_pixels_is_refused(count, length):
    with pytest.raises(ValueError, match=f"expected at least 1 filter and 1 pixel, got count={count}, length={length}"):
        filter_bank(torch.zeros(1), 1.0, 1.0, count, length)
