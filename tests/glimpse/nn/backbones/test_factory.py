import importlib.util

import pytest
import torch

from glimpse.nn.backbones import backbone
from glimpse.nn.backbones.factory import resolved


@pytest.fixture
def without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if timm were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "timm" else find(name, *rest))


def test_a_name_is_torchvisions_where_both_have_it():
    assert resolved("resnet18") == ("torchvision", "resnet18")
    assert resolved("torchvision:resnet18") == ("torchvision", "resnet18")


def test_a_name_is_timms_where_it_alone_has_it():
    pytest.importorskip("timm")
    assert resolved("tf_efficientnet_lite0") == ("timm", "tf_efficientnet_lite0")
    assert resolved("timm:resnet18") == ("timm", "resnet18")
    assert resolved("resnet18.a1_in1k") == ("timm", "resnet18.a1_in1k")


def test_torchvision_needs_no_timm(without_timm):
    made = backbone("torchvision:mobilenet_v3_small").eval()
    assert made(torch.zeros(1, 1, 32, 32)).shape == (1, 576, 1, 1)


@pytest.mark.usefixtures("without_timm")
def test_unknown_names_meet_the_nearest():
    with pytest.raises(ValueError, match=r"network of torchvision, got 'resnet8'; the nearest are resnet18, resnet"):
        backbone("resnet8")
    with pytest.raises(ValueError, match=r"got '#'; torchvision.models.list_models\(\) lists them"):
        backbone("#")
    with pytest.raises(ValueError, match=r"expected a layer of resnet18, got 'layer9'; the nearest are layer\d"):
        backbone("resnet18", layer="layer9")


@pytest.mark.usefixtures("without_timm")
def test_where_timm_is_missing_errors_say_how_to_install_it():
    install = r"which is not installed, has more: pip install 'glimpse-attention\[pretrained\]'"
    with pytest.raises(ValueError, match=f"got 'tf_efficientnet_lite0'; the nearest are .*{install}"):
        backbone("tf_efficientnet_lite0")
    with pytest.raises(ValueError, match=r"expected timm, .* not installed; pip install 'glimpse-attention\[pretra"):
        backbone("timm:resnet18")


def test_with_timm_the_nearest_are_of_both_libraries():
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="of torchvision or timm, got 'tf_efficientnet_lite9'; the nearest are tf_eff"):
        backbone("tf_efficientnet_lite9")
    with pytest.raises(ValueError, match="network of timm, got 'mobilenet_v3_smal'; the nearest are "):
        backbone("timm:mobilenet_v3_smal")
    with pytest.raises(ValueError, match="network of torchvision, got 'tf_efficientnet_lite0'; the nearest are "):
        backbone("torchvision:tf_efficientnet_lite0")
