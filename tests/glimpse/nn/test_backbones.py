from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from glimpse.nn.backbones import torchvision_backbone


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


def test_grey_is_three_equal_channels():
    backbone = torchvision_backbone("mobilenet_v3_small").eval()
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(backbone(grey), backbone(grey.repeat(1, 3, 1, 1)))
    with pytest.raises(ValueError, match="images of 1 or 3 channels, got 4; convert them to grey or RGB"):
        backbone(torch.zeros(2, 4, 64, 64))


@pytest.mark.slow
def test_a_file_of_weights_makes_the_network_that_wrote_it(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "whole.pth")
    headless = {key: part for key, part in resnet.state_dict().items() if not key.startswith("fc.")}
    old = {key: part for key, part in headless.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "headless.pth")
    torch.save({**headless, "fc.weight": torch.zeros(10, 512)}, tmp_path / "ten.pth")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = resnet.relu(resnet.bn1(resnet.conv1(images)))
        expected = resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(resnet.maxpool(expected)))))
        for file in ("whole", "headless", "ten"):
            backbone = torchvision_backbone("resnet18", str(tmp_path / f"{file}.pth")).eval()
            torch.testing.assert_close(backbone(images), expected)
        inner = torchvision_backbone("resnet18", str(tmp_path / "whole.pth"), "layer2.0.relu")
        assert inner.state_dict()["body.layer2.0.conv1.weight"].equal(resnet.state_dict()["layer2.0.conv1.weight"])


def test_trying_a_size_changes_nothing():
    backbone = torchvision_backbone("mobilenet_v3_small").train()
    before = {key: part.clone() for key, part in backbone.state_dict().items()}
    assert backbone.map_size(100, 40) == (4, 2)
    assert all(part.training for part in backbone.modules() if isinstance(part, nn.BatchNorm2d))
    assert all(part.equal(before[key]) for key, part in backbone.state_dict().items())


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
    assert backbone.body.conv1.weight.equal(resnet.conv1.weight)  # type: ignore[union-attr, operator]


def test_weights_that_cannot_be_downloaded_say_so(monkeypatch):
    def get_model(name, weights):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    with pytest.raises(
        ValueError, match=r"download torchvision's weights of resnet18, got: .*no route.*; go online, or"
    ):
        torchvision_backbone("resnet18", "default")


def test_unknown_names_meet_the_nearest():
    with pytest.raises(ValueError, match=r"network of torchvision, got 'resnet8'; the nearest are resnet18, resnet"):
        torchvision_backbone("resnet8")
    with pytest.raises(ValueError, match=r"got '#'; torchvision.models.list_models\(\) lists them"):
        torchvision_backbone("#")
    with pytest.raises(ValueError, match=r"expected a layer of resnet18, got 'layer9'; the nearest are layer\d"):
        torchvision_backbone("resnet18", layer="layer9")


def test_what_has_no_map_is_refused():
    with pytest.raises(ValueError, match="keeps a map of features up to its head, got vit_b_32, of whose 39 layers"):
        torchvision_backbone("vit_b_32")
    with pytest.raises(ValueError, match=r"gives a map .* got 'fc' of resnet18, which gives \(1, 1000\); choose an"):
        torchvision_backbone("resnet18", layer="fc")


def test_images_that_vanish_are_refused():
    with pytest.raises(
        ValueError, match=r"images that squeezenet1_1 can take, got 8 x 40 pixels \(height x width\): .*scale"
    ):
        torchvision_backbone("squeezenet1_1").map_size(8, 40)


def test_files_that_do_not_fit_are_refused(resnet, tmp_path):
    path = tmp_path / "weights.pth"

    def refused(content: object, sentence: str) -> None:
        torch.save(content, path)
        with pytest.raises(ValueError, match=sentence):
            torchvision_backbone("resnet18", str(path))

    whole = resnet.state_dict()
    refused({"state_dict": whole}, "expected a state dict, tensors by name, .* got something else; write it with")
    refused([1, 2], "expected a state dict, tensors by name, .* got something else; write it with")
    refused({}, "expected a state dict, tensors by name, .* got something else; write it with")
    refused({"conv1.weight": whole["conv1.weight"]}, r"bn1.weight is missing; .* more; give a file of")
    wrong = {**whole, "conv1.weight": torch.zeros(64, 1, 7, 7)}
    refused(wrong, r"got others: conv1.weight should be \(64, 3, 7, 7\) and is \(64, 1, 7, 7\); give a file")
    refused(
        {**whole, "layer1.2.conv1.weight": torch.zeros(1)},
        "got others: layer1.2.conv1.weight is not known; give a file",
    )


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none, 'default' or a file, got '.*absent.pth', which is no file; check the"):
        torchvision_backbone("resnet18", str(tmp_path / "absent.pth"))
    for content in (b"", b"weights", b"PK\x03\x04 and so on"):
        (tmp_path / "broken.pth").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"file of weights, got .*broken.pth, which can't be read so: .*; write it"
        ):
            torchvision_backbone("resnet18", str(tmp_path / "broken.pth"))
