from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from glimpse.nn.encoders import ImageEncoder, middles, standardise


def pictures(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), [(60, 60), (44, 61), (9, 30), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("widths", "depths"), [((16,), (1,)), ((8, 16), (1, 3)), ((4, 8, 12), (2, 1, 2))])
def test_the_map_has_the_size_that_was_said(widths, depths, channels, height, width):
    encoder = ImageEncoder(channels, widths, depths)
    features = encoder.eval()(pictures(2, channels, height, width))
    assert features.shape == (2, encoder.features, *encoder.map_size(height, width))
    assert encoder.features == widths[-1]
    assert features.min() >= 0


def test_a_layer_is_convolution_normalisation_and_rectifier():
    torch.manual_seed(0)
    encoder = ImageEncoder(2, (3, 5), (2, 1)).double().eval()
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            for numbers in (part.weight, part.bias, part.running_mean, part.running_var):
                nn.init.uniform_(numbers, 0.5, 1.5)  # type: ignore[arg-type]
    expected = images = pictures(2, 2, 11, 14).double()
    parts: list[Any] = list(encoder.layers)
    for number, (kernel, stride) in enumerate([(5, 2), (3, 1), (3, 2)]):
        convolution, norm = parts[3 * number : 3 * number + 2]
        assert convolution.weight.shape[2:] == (kernel, kernel)
        expected = F.conv2d(expected, convolution.weight, stride=stride, padding=kernel // 2)
        shift, scale = norm.running_mean, torch.sqrt(norm.running_var + norm.eps)
        normal = (expected - shift[:, None, None]) / scale[:, None, None]
        expected = (norm.weight[:, None, None] * normal + norm.bias[:, None, None]).clamp_min(0)
    torch.testing.assert_close(encoder(images), expected)


def test_a_place_lies_stride_pixels_from_the_next():
    torch.manual_seed(0)
    encoder = ImageEncoder(1, (4, 8), (1, 2)).double().eval()
    images = pictures(1, 1, 64, 64).double()
    moved = images.roll((encoder.stride, 2 * encoder.stride), (2, 3))
    torch.testing.assert_close(
        encoder(moved).roll((-1, -2), (2, 3))[:, :, 5:-5, 5:-5], encoder(images)[:, :, 5:-5, 5:-5]
    )


def test_every_channel_matters_and_no_batch_mate_does():
    torch.manual_seed(0)
    encoder = ImageEncoder(3, (4, 8), (1, 2)).double().eval()
    images = pictures(4, 3, 20, 13).double()
    features = encoder(images)
    torch.testing.assert_close(torch.cat([encoder(image[None]) for image in images]), features)
    for channel in range(3):
        changed = images.clone()
        changed[:, channel] *= -1
        assert not encoder(changed).allclose(features, atol=1e-3)


def test_bytes_and_fractions_are_standardised_alike():
    numbers = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    mean, std = np.array([0.1, 0.5, 0.3]), np.array([0.2, 0.4, 1.0])
    expected = (numbers / 255 - mean[:, None, None]) / std[:, None, None]
    images, pixels = torch.from_numpy(numbers), torch.from_numpy(numbers / 255)
    for given in (images, pixels):
        np.testing.assert_allclose(standardise(given, torch.from_numpy(mean), torch.from_numpy(std)), expected)


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="expected images of 3 channels, got 1; convert them, or build the model for"):
        standardise(torch.zeros(2, 1, 4, 4), torch.zeros(3), torch.ones(3))


@pytest.mark.parametrize(("widths", "depths"), [((), ()), ((8,), (1, 1)), ((8, 0), (1, 1)), ((8,), (0,))])
def test_stages_that_cannot_be_are_refused(widths, depths):
    with pytest.raises(ValueError, match=r"width and a depth of at least 1 for each .*; give equally many of both"):
        ImageEncoder(1, widths, depths)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (4, 2)])
def test_middles_go_row_by_row_and_x_goes_with_the_width(height, width):
    expected = [
        ((2 * column + 1) / width - 1, (2 * row + 1) / height - 1) for row in range(height) for column in range(width)
    ]
    places = middles(height, width, torch.device("cpu"))
    assert places.dtype == torch.float32
    np.testing.assert_allclose(places.numpy(), expected, atol=1e-7)
