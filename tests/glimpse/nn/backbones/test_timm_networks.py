import sys

import pytest
import torch
from torch import nn

timm = pytest.importorskip("timm")

from glimpse.nn.backbones.timm_networks import timm_backbone, timm_names  # noqa: E402


@pytest.mark.parametrize(
    ("name", "features"),
    [("test_efficientnet", 256), ("test_resnet", 96), ("test_convnext", 64), ("test_mambaout", 64)],
)
def test_any_convolutional_network_gives_the_map_before_its_pooling(name, features):
    torch.manual_seed(0)
    made = timm_backbone(name).eval()
    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = whole.forward_features(images)
    if expected.shape[-1] == features and expected.shape[1] != features:
        expected = expected.permute(0, 3, 1, 2)
    assert (made.features, made.stride) == (features, 32)
    torch.testing.assert_close(made(images), expected)
    assert made.map_size(64, 96) == (2, 3)
    assert made.normalisation is None


def test_parts_that_the_map_does_not_need_are_removed():
    whole = timm.create_model("mobilenetv3_small_050")
    made = timm_backbone("mobilenetv3_small_050")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    made(images).sum().backward()
    assert [name for name, part in made.named_parameters() if part.grad is None] == []
    assert len(made.state_dict()) < len(whole.state_dict())


@pytest.mark.parametrize(("name", "layer"), [("test_efficientnet", "blocks.2"), ("test_resnet", "layer3")])
def test_an_earlier_layer_may_be_asked_for(name, layer):
    torch.manual_seed(0)
    made = timm_backbone(name, layer=layer).eval()
    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    found: list[torch.Tensor] = []
    whole.get_submodule(layer).register_forward_hook(lambda part, inputs, output: found.append(output))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole(images)
    torch.testing.assert_close(made(images), found[0])
    made(images).sum().backward()
    assert [name for name, part in made.named_parameters() if part.grad is None] == []


def test_what_is_unknown_or_has_no_map_is_refused():
    with pytest.raises(ValueError, match=r"layer of test_efficientnet, got 'blocks.9'; the nearest are blocks.\d"):
        timm_backbone("test_efficientnet", layer="blocks.9")
    with pytest.raises(ValueError, match="keeps a map of features up to its head, got vit_tiny_patch16_224, whic"):
        timm_backbone("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="images of any size, got test_maxvit, which can't take 224 x 224 pixels: "):
        timm_backbone("test_maxvit")


def test_default_weights_are_timms_own(monkeypatch):
    asked = []
    create = timm.create_model

    def create_model(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        model: nn.Module = create(name)
        return model

    monkeypatch.setattr(timm, "create_model", create_model)
    made = timm_backbone("test_efficientnet", "default")
    assert asked == [("test_efficientnet", True)]
    assert made.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("error", [FileNotFoundError("no connection"), RuntimeError("Invalid pretrained tag (x)")])
def test_weights_that_cannot_be_downloaded_say_so(error, monkeypatch):
    def create_model(name: str, pretrained: bool) -> nn.Module:
        raise error

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ValueError, match=r"make test_resnet of timm with its weights, got: .*; go online, or"):
        timm_backbone("test_resnet", "default")


def test_names_are_those_of_timm():
    assert "tf_efficientnet_lite0" in timm_names()
    assert "timm" in sys.modules
