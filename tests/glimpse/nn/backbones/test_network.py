import pytest
import torch
from torch import nn

from glimpse.nn.backbones.network import Backbone
from glimpse.nn.backbones.torchvision_networks import torchvision_backbone


def test_grey_is_three_equal_channels():
    backbone = torchvision_backbone("mobilenet_v3_small").eval()
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(backbone(grey), backbone(grey.repeat(1, 3, 1, 1)))
    with pytest.raises(ValueError, match="images of 1 or 3 channels, got 4; convert them to grey or RGB"):
        backbone(torch.zeros(2, 4, 64, 64))


def test_trying_a_size_changes_nothing():
    backbone = torchvision_backbone("mobilenet_v3_small").train()
    before = {key: part.clone() for key, part in backbone.state_dict().items()}
    assert backbone.map_size(100, 40) == (4, 2)
    assert all(part.training for part in backbone.modules() if isinstance(part, nn.BatchNorm2d))
    assert all(part.equal(before[key]) for key, part in backbone.state_dict().items())


def test_images_that_vanish_are_refused():
    with pytest.raises(
        ValueError, match=r"images that squeezenet1_1 can take, got 8 x 40 pixels \(height x width\): .*scale"
    ):
        torchvision_backbone("squeezenet1_1").map_size(8, 40)


def test_a_network_that_cannot_be_tried_is_refused():
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            raise AssertionError("height must be 160")

    with pytest.raises(ValueError, match=r"images that narrow can take, got 224 x 224 .*height must be 160; scale"):
        Backbone(Narrow(), "narrow")
