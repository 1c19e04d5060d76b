import numpy as np
import pytest
import torch

from glimpse.models.mlp import FullyConnectedNet

EXPORT = """
import sys
import numpy, onnxruntime, torch
from glimpse.models.mlp import FullyConnectedNet
from torch.export import Dim

torch.manual_seed(0)
net = FullyConnectedNet(5, 3, 6, 9, 8, 2).eval()
images = torch.randint(256, (4, 3, 6, 9), dtype=torch.uint8)
dynamic = ({0: Dim("batch")},)
program = torch.onnx.export(net, (images[:2],), dynamo=True, opset_version=18, dynamic_shapes=dynamic, verbose=False)
program.save(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[1])
logits = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
numpy.testing.assert_allclose(logits, net(images).detach().numpy(), atol=1e-5)
"""


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 6, 9), (3, 5, 4), (1, 1, 1)])
@pytest.mark.parametrize("layers", [1, 3])
def test_logits_are_those_of_linear_layers_and_rectifiers(channels, height, width, layers):
    torch.manual_seed(0)
    net = FullyConnectedNet(4, channels, height, width, 7, layers).double()
    net.mean.fill_(0.2)
    net.std.fill_(0.3)
    images = torch.randint(256, (3, channels, height, width), dtype=torch.uint8)
    hidden = (images.numpy().reshape(3, -1) / 255 - 0.2) / 0.3
    linear = [part for part in net.hidden if isinstance(part, torch.nn.Linear)]
    assert len(linear) == layers
    for part in linear:
        hidden = np.maximum(hidden @ part.weight.detach().numpy().T + part.bias.detach().numpy(), 0)
    expected = hidden @ net.classifier.weight.detach().numpy().T + net.classifier.bias.detach().numpy()
    np.testing.assert_allclose(net(images).detach().numpy(), expected, rtol=1e-6, atol=1e-7)


def test_logits_are_float32_under_autocast():
    net = FullyConnectedNet(4, 1, 6, 6, 8, 1)
    images = torch.rand(3, 1, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, net(images), atol=0.05, rtol=0.05)
    assert not logits.equal(logits.bfloat16().float())


def test_it_exports_for_any_batch(tmp_path, without_hook):
    without_hook(EXPORT, str(tmp_path / "model.onnx"))


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=r"images of 6 x 9 pixels \(height x width\), got 9 x 6; a fully connected"):
        FullyConnectedNet(4, 1, 6, 9, 8, 1)(torch.zeros(1, 1, 9, 6))
    with pytest.raises(ValueError, match="expected images of 1 channels, got 3"):
        FullyConnectedNet(4, 1, 6, 9, 8, 1)(torch.zeros(1, 3, 6, 9))


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="layers of at least 1, got 1, 6, 6, 8 and 0; raise those below"):
        FullyConnectedNet(4, 1, 6, 6, 8, 0)
