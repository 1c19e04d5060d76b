import numpy as np
import pytest
import torch

from glimpse.models.cnn import POOLING, ConvolutionalNet

EXPORT = """
import sys
import numpy, onnxruntime, torch
from glimpse.models.cnn import ConvolutionalNet
from torch.export import Dim

torch.manual_seed(0)
for pooling in ("max", "mean"):
    net = ConvolutionalNet(5, 3, (4, 8), (1, 2), pooling).eval()
    net.mean.fill_(0.2)
    net.std.fill_(0.3)
    dynamic = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
    images = torch.randint(256, (2, 3, 21, 30), dtype=torch.uint8)
    program = torch.onnx.export(net, (images,), dynamo=True, opset_version=18, dynamic_shapes=dynamic, verbose=False)
    program.save(sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[1])
    for shape in ((2, 3, 21, 30), (5, 3, 40, 17)):
        images = torch.randint(256, shape, dtype=torch.uint8)
        logits = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
        numpy.testing.assert_allclose(logits, net(images).detach().numpy(), atol=1e-5)
"""


def pictures(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)


def build(channels: int = 1, pooling: str = "max") -> ConvolutionalNet:
    torch.manual_seed(0)
    net = ConvolutionalNet(5, channels, (4, 8), (1, 2), pooling).eval()
    net.mean.fill_(0.2)
    net.std.fill_(0.3)
    return net


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(20, 20), (9, 33), (1, 1)])
@pytest.mark.parametrize("pooling", POOLING)
def test_logits_are_of_the_pooled_map(pooling, height, width, channels):
    net, images = build(channels, pooling).double(), pictures(3, channels, height, width)
    maps = net.encoder((images.double() / 255 - 0.2) / 0.3).detach().numpy()
    pooled = maps.max((2, 3)) if pooling == "max" else maps.mean((2, 3))
    weight, bias = (part.detach().numpy() for part in net.classifier.parameters())
    np.testing.assert_allclose(net(images).detach().numpy(), pooled @ weight.T + bias, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLING)
def test_a_batch_mate_never_changes_an_answer(pooling):
    net, images = build(1, pooling).double(), pictures(4, 1, 13, 22)
    torch.testing.assert_close(torch.cat([net(image[None]) for image in images]), net(images))


def test_where_a_thing_is_does_not_matter():
    net, images = build().double(), torch.full((1, 1, 64, 64), 0.2, dtype=torch.float64)
    images[:, :, 20:28, 20:28] = pictures(1, 1, 8, 8) / 255
    torch.testing.assert_close(net(images.roll((8, -4), (2, 3))), net(images))


def test_every_weight_gets_gradient():
    net = build().train()
    torch.nn.functional.cross_entropy(net(pictures(4, 1, 20, 20)), torch.arange(4)).backward()
    assert all(part.grad is not None and part.grad.abs().max() > 0 for part in net.parameters())


def test_logits_are_float32_under_autocast():
    net, images = build(), pictures(3, 1, 20, 30)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, net(images), atol=0.05, rtol=0.05)
    assert not logits.equal(logits.bfloat16().float())


def test_it_exports_for_any_size(tmp_path, without_hook):
    without_hook(EXPORT, str(tmp_path / "model.onnx"))


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match=r"a pooling out of \('max', 'mean'\), got 'min'; choose one of them"):
        ConvolutionalNet(5, 1, pooling="min")
