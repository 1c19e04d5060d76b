from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glimpse.models.self_attention import STEMS, SelfAttention, positions
from glimpse.nn.attention import rollout_attention

EXPORT = """
import sys
import numpy, onnxruntime, torch
from glimpse.models.self_attention import SelfAttention
from torch.export import Dim

class Mapped(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        logits, weights = self.net(images)
        return logits, self.net.attention_map(weights, images.shape[2], images.shape[3])

torch.manual_seed(0)
net = Mapped(SelfAttention(5, 3, 4, 8, 2, 2)).eval()
net.net.mean.fill_(0.2)
net.net.std.fill_(0.3)
dynamic = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
images = torch.randint(256, (2, 3, 21, 30), dtype=torch.uint8)
program = torch.onnx.export(net, (images,), dynamo=True, opset_version=18, dynamic_shapes=dynamic, verbose=False)
program.save(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[1])
for shape in ((2, 3, 21, 30), (5, 3, 40, 17), (1, 3, 16, 16)):
    images = torch.randint(256, shape, dtype=torch.uint8)
    outputs = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    for output, expected in zip(outputs, net(images), strict=True):
        numpy.testing.assert_allclose(output, expected.detach().numpy(), atol=1e-5)
"""


def pictures(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)


def build(channels: int = 1, patch: int = 4, stem: str = "conv", layers: int = 2) -> SelfAttention:
    torch.manual_seed(0)
    net = SelfAttention(5, channels, patch, 8, 2, layers, stem=stem).eval()
    torch.nn.init.normal_(net.class_node)
    net.mean.fill_(0.2)
    net.std.fill_(0.3)
    return net


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 33), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("stem", "patch"), [("conv", 4), ("linear", 4), ("conv", 2), ("linear", 5), ("linear", 1)])
def test_the_graph_has_a_node_for_each_patch_and_one_for_the_class(stem, patch, channels, height, width):
    net = build(channels, patch, stem)
    logits, weights = net(pictures(3, channels, height, width))
    rows, columns = net.map_size(height, width)
    assert (rows, columns) == (-(-height // patch), -(-width // patch))
    nodes = rows * columns + 1
    assert logits.shape == (3, 5)
    assert [layer.shape for layer in weights] == [(3, 2, nodes, nodes)] * 2
    for layer in weights:
        assert layer.min() >= 0
        torch.testing.assert_close(layer.sum(-1), torch.ones(3, 2, nodes))


def test_a_layer_is_attention_and_two_linear_layers_on_normal_nodes():
    net = build(stem="linear", layers=1).double()
    images = pictures(2, 1, 8, 12)
    pixels = ((images.numpy() / 255 - 0.2) / 0.3).reshape(2, 2, 4, 3, 4).transpose(0, 1, 3, 2, 4).reshape(2, 6, 16)
    weight = {name: part.detach().numpy() for name, part in net.named_parameters()}

    def linear(x: Any, name: str) -> Any:
        return x @ weight[f"{name}.weight"].reshape(-1, x.shape[-1]).T + weight[f"{name}.bias"]

    def normal(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * weight[f"{name}.weight"] + weight[f"{name}.bias"]

    patches = linear(pixels, "stem") + positions(8, 2, 3).numpy()
    nodes = np.concatenate([np.broadcast_to(weight["class_node"], (2, 1, 8)), patches], 1)
    queries, keys, values = np.split(
        linear(normal(nodes, "layers.0.attention_norm"), "layers.0.attention.project"), 3, 2
    )
    graph, context = [], []
    for head in (slice(0, 4), slice(4, 8)):
        scores = np.exp(queries[..., head] @ keys[..., head].transpose(0, 2, 1) / 2)
        graph.append(scores / scores.sum(-1, keepdims=True))
        context.append(graph[-1] @ values[..., head])
    nodes = nodes + linear(np.concatenate(context, -1), "layers.0.attention.out")
    hidden = torch.from_numpy(linear(normal(nodes, "layers.0.mlp.0"), "layers.0.mlp.1"))
    nodes = nodes + linear(F.gelu(hidden).numpy(), "layers.0.mlp.3")
    logits, (edges,) = net(images)
    np.testing.assert_allclose(logits.detach().numpy(), linear(normal(nodes[:, 0], "norm"), "classifier"), atol=1e-5)
    np.testing.assert_allclose(edges.detach().numpy(), np.stack(graph, 1), atol=1e-6)


def test_positions_are_the_papers_along_each_axis():
    def wave(place: int, features: int) -> Any:
        angles = place / 10_000 ** (2 * np.arange(features // 2) / features)
        return [*np.sin(angles), *np.cos(angles)]

    for row, column in np.ndindex(3, 5):
        expected = wave(row, 8) + wave(column, 8)
        np.testing.assert_allclose(positions(16, 3, 5)[5 * row + column].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("stem", STEMS)
def test_what_hangs_over_an_edge_is_the_mean(stem):
    net = build(stem=stem).double()
    images = pictures(2, 1, 9, 14).double() / 255
    padded = F.pad(images, (0, 2, 0, 3), value=0.2)
    torch.testing.assert_close(net(images).logits, net(padded).logits)


@pytest.mark.parametrize("stem", STEMS)
def test_the_places_of_patches_matter(stem):
    net = build(stem=stem).double()
    images = pictures(2, 1, 16, 16)
    assert not net(images.roll(4, 3)).logits.allclose(net(images).logits, atol=1e-4)


@pytest.mark.parametrize("stem", STEMS)
def test_a_batch_mate_never_changes_an_answer(stem):
    net, images = build(3, stem=stem).double(), pictures(4, 3, 13, 22)
    torch.testing.assert_close(torch.cat([net(image[None]).logits for image in images]), net(images).logits)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 33), (1, 1)])
def test_the_map_is_the_class_nodes_row_of_the_rolled_out_attention(height, width):
    net = build()
    weights = net(pictures(3, 1, height, width)).weights
    attention = net.attention_map(weights, height, width)
    assert attention.shape == (3, *net.map_size(height, width))
    assert attention.min() >= 0
    torch.testing.assert_close(attention.sum((1, 2)), torch.ones(3))
    row = rollout_attention(weights)[:, 0, 1:]
    torch.testing.assert_close(attention.flatten(1) * row.sum(1, keepdim=True), row)


def test_the_map_lies_as_the_image_does():
    # One layer in which the class node looks at one patch alone.
    weights = torch.eye(13).repeat(1, 2, 1, 1)
    weights[:, :, 0, 0], weights[:, :, 0, 1 + 1 * 4 + 3] = 0.0, 1.0
    attention = build().attention_map((weights,), 12, 16)
    assert attention.nonzero().tolist() == [[0, 1, 3]]


@pytest.mark.parametrize("stem", STEMS)
def test_every_weight_gets_gradient(stem):
    net = build(stem=stem).train()
    F.cross_entropy(net(pictures(4, 1, 20, 20)).logits, torch.arange(4)).backward()
    assert all(part.grad is not None and part.grad.abs().max() > 0 for part in net.parameters())


@pytest.mark.parametrize("stem", STEMS)
def test_logits_and_weights_are_float32_under_autocast(stem):
    net, images = build(stem=stem), pictures(3, 1, 20, 30)
    with torch.autocast("cpu", torch.bfloat16):
        logits, weights = net(images)
    assert {logits.dtype, *(layer.dtype for layer in weights)} == {torch.float32}
    torch.testing.assert_close(logits, net(images).logits, atol=0.05, rtol=0.05)
    assert not logits.equal(logits.bfloat16().float())


def test_it_exports_for_any_size_with_its_map(tmp_path, without_hook):
    without_hook(EXPORT, str(tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stem": "mlp"}, r"a stem out of \('conv', 'linear'\), got 'mlp'; choose one of them"),
        ({"features": 10}, "features in a multiple of 4, got 10"),
        ({"heads": 3}, "heads that divide 64 features, got 3"),
        ({"layers": 0}, "a patch and layers of at least 1, got 8 and 0; raise those below"),
        ({"patch": 6}, "power of 2 from 2 on .* got a patch of 6 and 64 features; .* or choose the linear stem"),
        ({"patch": 1}, "power of 2 from 2 on .* got a patch of 1"),
        ({"patch": 16, "features": 4}, "half of which divides the features, got a patch of 16 and 4 features"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SelfAttention(5, **options)
