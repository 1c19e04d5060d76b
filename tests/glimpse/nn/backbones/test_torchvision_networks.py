from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from glimpse.nn.backbones.torchvision_networks import torchvision_backbone, torchvision_names


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """Random weights, the running averages among them, so that nothing is as it was made."""
    torch.manual_seed(1)
    model: nn.Module = torchvision.models.resnet18(weights=None)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet18", 512), ("mobilenet_v3_small", 576), ("vgg11_bn", 512), ("efficientnet_b0", 1280)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_convolutional_network_gives_a_map(name, features, channels):
    backbone = torchvision_backbone(name).eval()
    images = torch.randn(2, channels, 64, 96, generator=torch.Generator().manual_seed(0))
    maps = backbone(images)
    assert backbone.features == features
    assert backbone.stride == 32
    assert maps.shape == (2, features, 2, 3)
    assert backbone.map_size(64, 96) == (2, 3)


def test_an_earlier_layer_may_be_asked_for():
    backbone = torchvision_backbone("resnet18", layer="layer2.1.relu_1")
    assert (backbone.features, backbone.stride) == (128, 8)
    assert not any(name.startswith("body.layer3") for name, _ in backbone.named_parameters())
    assert backbone(torch.randn(2, 1, 30, 17)).shape == (2, 128, 4, 3)


def test_default_weights_are_torchvisions_own(resnet, monkeypatch):
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return resnet

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    backbone = torchvision_backbone("resnet18", "default")
    assert asked == [("resnet18", "DEFAULT")]
    assert backbone.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torchvision_backbone("resnet18").normalisation is None
    assert backbone.body.conv1.weight.equal(resnet.conv1.weight)  # type: ignore[union-attr, operator]


def test_weights_that_cannot_be_downloaded_say_so(monkeypatch):
    def get_model(name, weights):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    with pytest.raises(
        ValueError, match=r"download torchvision's weights of resnet18, got: .*no route.*; go online, or"
    ):
        torchvision_backbone("resnet18", "default")


def test_what_has_no_map_is_refused():
    with pytest.raises(ValueError, match="keeps a map of features up to its head, got vit_b_32, of whose 39 layers"):
        torchvision_backbone("vit_b_32")
    with pytest.raises(ValueError, match=r"gives a map .* got 'fc' of resnet18, which gives \(1, 1000\); choose an"):
        torchvision_backbone("resnet18", layer="fc")


def test_every_name_is_a_classification_networks():
    names = torchvision_names()
    assert {"resnet18", "mobilenet_v3_small"} <= set(names)
    assert "fasterrcnn_resnet50_fpn" not in names
