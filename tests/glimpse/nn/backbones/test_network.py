import pytest
import torch
from torch import nn

from glimpse.nn.backbones.network import Backbone
from glimpse.nn.backbones.timm_networks import timm_backbone
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


def trained_parts(made: Backbone) -> set[str]:
    """The first level of the network's parts that would change in training: by gradient, or as an average."""
    before = {key: part.clone() for key, part in made.state_dict().items()}
    made.train()
    maps = made(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    if maps.requires_grad:
        maps.square().sum().backward()
    moved = {key for key, part in made.state_dict().items() if not part.equal(before[key])}
    learnt = {key for key, part in made.named_parameters() if part.grad is not None}
    return {key.split(".")[1] for key in moved | learnt}


def test_frozen_stages_learn_nothing_and_keep_their_averages():
    def fresh() -> Backbone:
        return torchvision_backbone("resnet18", layer="layer2.1.relu_1")

    every = {"conv1", "bn1", "layer1", "layer2"}
    assert trained_parts(fresh()) == every
    for stages, left in ((0, every), (1, {"layer1", "layer2"}), (2, {"layer2"}), (3, set())):
        made = fresh()
        made.freeze(stages)
        assert trained_parts(made) == left
        assert made.map_size(64, 64) == (8, 8)
        assert trained_parts(made) == left, "trying a size must not wake what is frozen"
    with pytest.raises(ValueError, match="expected 0 to 3 stages of resnet18 to freeze, got 4; give such a number"):
        fresh().freeze(4)


def test_a_frozen_network_computes_as_in_evaluation_and_passes_gradients_on():
    made = torchvision_backbone("mobilenet_v3_small")
    made.freeze()
    made.train()
    assert not any(part.training for part in made.body.modules() if isinstance(part, nn.BatchNorm2d | nn.Dropout))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    maps = made(images)
    torch.testing.assert_close(maps, made.eval()(images))
    maps.square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert all(part.grad is None for part in made.parameters())


def test_windows_of_all_scales_are_seen_by_the_same_weights():
    made = torchvision_backbone("mobilenet_v3_small").eval()
    glimpse = torch.randn(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    features = made.glimpse_features(glimpse)
    assert features.shape == (2, 3, 576, 1, 1)
    for scale in range(3):
        torch.testing.assert_close(features[:, scale, :, 0, 0], made(glimpse[:, scale]).mean((2, 3)))


def test_a_network_that_pads_as_tensorflow_does_has_graphs_of_one_size():
    assert torchvision_backbone("mobilenet_v3_small").any_size
    pytest.importorskip("timm")
    assert timm_backbone("test_efficientnet").any_size
    assert not timm_backbone("tf_efficientnet_lite0").any_size
